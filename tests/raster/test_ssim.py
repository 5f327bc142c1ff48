"""SSIM: the fused kernels against convolutions in float64, and both against what is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dyngs_plugins.raster import ssim as ssim_module
from dyngs_plugins.raster.ssim import ssim, ssim_reference


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _smooth(shape: tuple[int, ...], seed: int, noise: float = 0.01) -> Tensor:
    """Slow waves: small variances of large numbers."""
    y, x = torch.meshgrid(torch.linspace(0, 3, shape[1]), torch.linspace(0, 4, shape[2]), indexing="ij")
    waves = 0.5 + 0.3 * torch.sin(x + seed) * torch.cos(y)
    return (waves[None, ..., None] + noise * _noise(shape, seed)).clamp(0, 1)


def _value_and_gradients(function, a: Tensor, b: Tensor, dtype: torch.dtype) -> list[Tensor]:
    a, b = (image.to(dtype).clone().requires_grad_() for image in (a, b))
    value = function(a, b)
    return [value.detach().double(), *(g.double() for g in torch.autograd.grad(3.0 * value, [a, b]))]


def _compare(a: Tensor, b: Tensor, bar: float, value_bar: float = 1e-6) -> None:
    expected = _value_and_gradients(ssim_reference, a, b, torch.float64)
    found = _value_and_gradients(ssim, a, b, torch.float32)
    assert abs(found[0] - expected[0]) < value_bar
    for gradient, exact in zip(found[1:], expected[1:], strict=True):
        assert (gradient - exact).norm() <= bar * exact.norm()


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the kernel is not used."""
    pytest.importorskip("numba")

    def unexpected(*_):
        raise AssertionError("ssim() should have used its kernels")

    monkeypatch.setattr(ssim_module, "_separable", unexpected)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("shape", [(1, 256, 256, 3), (2, 67, 45, 3), (1, 5, 300, 3), (1, 150, 4, 1), (3, 70, 60, 4)])
@pytest.mark.parametrize("image", [_noise, _smooth])
def test_gradients_agree_with_float64(image, shape: tuple[int, ...]):
    _compare(image(shape, 0), image(shape, 1), 1e-5)


@pytest.mark.usefixtures("fused")
def test_gradients_of_images_without_texture():
    """Where nothing but slow waves is left, float32 convolutions are off by 5e-4."""
    shape = (1, 160, 120, 3)
    _compare(_smooth(shape, 0, noise=0.0), _smooth(shape, 1, noise=0.0), 1e-5)


@pytest.mark.usefixtures("fused")
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 150), st.integers(1, 100), st.integers(1, 4), st.integers(0, 1000))
def test_any_size(batch: int, height: int, width: int, channels: int, seed: int):
    shape = (batch, height, width, channels)
    # Images smaller than the window are all edge: there the padding's zeros, not the mean, set the scale.
    _compare(_noise(shape, seed), _noise(shape, seed + 1), 3e-5, value_bar=1e-5)


@pytest.mark.usefixtures("fused")
def test_the_same_bits_for_any_number_of_threads():
    a, b = _noise((2, 130, 90, 3), 0), _noise((2, 130, 90, 3), 1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(_value_and_gradients(ssim, a, b, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shape", [(1, 64, 48, 3), (2, 5, 30, 3), (1, 12, 4, 7)])
def test_separable_convolutions_and_their_gradients_are_those_of_five(shape: tuple[int, ...]):
    a, b = _noise(shape, 0), _smooth(shape, 1)
    expected = _value_and_gradients(ssim_reference, a, b, torch.float64)
    for found, exact in zip(_value_and_gradients(ssim, a, b, torch.float64), expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("image", [_noise, _smooth])
def test_without_numba_in_single_precision(image, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ssim_module, "has_numba", lambda: False)
    _compare(image((1, 96, 80, 3), 0), image((1, 96, 80, 3), 1), 1e-3, value_bar=1e-5)


@pytest.mark.parametrize("function", [ssim, ssim_reference])
def test_equal_images_are_alike_and_black_and_white_are_not(function):
    image = _noise((1, 40, 50, 3), 0)
    torch.testing.assert_close(function(image, image), torch.tensor(1.0))
    white, black = torch.ones(1, 40, 50, 3), torch.zeros(1, 40, 50, 3)
    assert function(white, black) < 0.01


def test_the_window_is_that_of_3dgs():
    """A single bright pixel in the middle: E[a] is the window itself, sigma 1.5."""
    image = torch.zeros(1, 11, 11, 1, dtype=torch.float64)
    image[0, 5, 5, 0] = 1.0
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / 4.5)
    window = taps / taps.sum()
    u = window[:, None] * window
    c1, c2 = 1e-4, 9e-4
    # Against black: A = C1, B = C2, C = u^2 + C1, D = u - u^2 + C2.
    expected = (c1 * c2 / ((u * u + c1) * (u - u * u + c2))).mean()
    torch.testing.assert_close(ssim_reference(image, torch.zeros_like(image)), expected)
    torch.testing.assert_close(ssim(image.float(), torch.zeros(1, 11, 11, 1)), expected.float())


def test_no_gradient_is_computed_that_nobody_wants():
    a, b = _noise((1, 20, 20, 3), 0).requires_grad_(), _noise((1, 20, 20, 3), 1)
    ssim(a, b).backward()
    assert a.grad is not None
    assert b.grad is None
    assert not ssim(a.detach(), b).requires_grad


@pytest.mark.parametrize("channels", [3, 7])
def test_strided_and_wide_images(channels: int):
    a, b = _noise((1, channels, 30, 40), 0).movedim(1, -1), _noise((1, 30, 40, channels), 1)
    torch.testing.assert_close(ssim(a, b), ssim_reference(a, b))


@pytest.mark.parametrize("shapes", [((1, 8, 8, 3), (1, 8, 9, 3)), ((8, 8, 3), (8, 8, 3))])
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        ssim(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
