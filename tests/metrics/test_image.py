"""Image metrics: closed forms, invariances, and two independent implementations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dyngs_plugins.metrics.image import (
    masked_psnr,
    masked_ssim,
    mean_defined,
    mean_scores,
    psnr,
    ssim,
    standard_deviations,
)

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def random_pair(seed: int = 0, height: int = 24, width: int = 31) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(height, width, 3, generator=generator)
    noise = 0.2 * torch.randn(height, width, 3, generator=generator)
    return (target + noise).clamp(0, 1), target


def some_mask(height: int = 24, width: int = 31, seed: int = 3) -> torch.Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) > 0.7


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), share=st.floats(0.01, 1.0), error=st.floats(1e-3, 0.5))
def test_uniform_error_gives_the_same_mpsnr_under_every_mask(seed: int, share: float, error: float):
    """The sheet's fact 17: an error of 0.1 everywhere is 20 dB, whatever the mask."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(9, 7, 3, generator=generator, dtype=torch.float64)
    mask = torch.rand(9, 7, generator=generator) < share
    mask[seed % 9, seed % 7] = True
    assert float(masked_psnr(target + error, target, mask)) == pytest.approx(-20 * math.log10(error), abs=1e-6)
    assert float(masked_psnr(target + 0.1, target, mask)) == pytest.approx(20.0, abs=1e-6)


def test_psnr_is_mpsnr_under_a_full_mask_and_ignores_what_is_masked():
    prediction, target = random_pair()
    expected = -10 * math.log10(float((prediction.double() - target.double()).square().mean()))
    assert float(psnr(prediction, target)) == pytest.approx(expected, abs=1e-9)
    mask = some_mask()
    spoiled = torch.where(mask[..., None], prediction, torch.tensor(float("nan")))
    assert float(masked_psnr(spoiled, target, mask)) == float(masked_psnr(prediction, target, mask))
    rows = (prediction.double() - target.double())[mask]
    assert float(masked_psnr(prediction, target, mask)) == pytest.approx(-10 * math.log10(float((rows**2).mean())))


def test_weights_count_as_fractions_of_a_pixel():
    target = torch.zeros(1, 2, 3)
    prediction = torch.tensor([[[0.1] * 3, [0.3] * 3]])
    expected = -10 * math.log10((0.5 * 0.01 + 1.0 * 0.09) / 1.5)
    assert float(masked_psnr(prediction, target, torch.tensor([[0.5, 1.0]]))) == pytest.approx(expected, abs=1e-5)


def test_equal_images():
    image, _ = random_pair()
    assert math.isinf(float(psnr(image, image)))
    assert float(ssim(image, image)) == pytest.approx(1.0, abs=1e-12)
    assert float(masked_ssim(image, image, some_mask())) == pytest.approx(1.0, abs=1e-12)


def test_empty_masks_are_undefined_and_left_out_of_the_mean():
    prediction, target = random_pair()
    nothing = torch.zeros(24, 31, dtype=torch.bool)
    assert math.isnan(float(masked_psnr(prediction, target, nothing)))
    assert math.isnan(float(masked_ssim(prediction, target, nothing)))
    assert math.isnan(float(masked_ssim(prediction, target, nothing, count_empty_windows=False)))
    assert mean_defined([float("nan"), 1.0, torch.tensor(3.0)]) == (2.0, 2)
    mean, count = mean_defined([float("nan")])
    assert math.isnan(mean)
    assert count == 0


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_agrees_with_two_other_implementations(data_range: float):
    from pytorch_msssim import ssim as msssim_ssim
    from torchmetrics.functional.image import structural_similarity_index_measure

    prediction, target = random_pair(height=40, width=53)
    batch = [image.permute(2, 0, 1)[None].double() for image in (prediction, target)]
    ours = float(ssim(prediction, target, data_range))
    assert ours == pytest.approx(float(msssim_ssim(*batch, data_range=data_range)), abs=1e-6)
    # torchmetrics averages over windows that hang over the (reflected) border too: cut those off its map.
    _, full_map = structural_similarity_index_measure(*batch, data_range=data_range, return_full_image=True)
    assert ours == pytest.approx(float(full_map[..., 5:-5, 5:-5].mean()), abs=1e-6)


def test_ssim_of_constant_images_is_its_luminance_term():
    a, b = 0.4, 0.6
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    value = ssim(torch.full((12, 15, 3), a), torch.full((12, 15, 3), b))
    assert float(value) == pytest.approx(expected, abs=1e-6)


def dense_masked_ssim(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The definition, window by window in plain loops; returns the map [h - 10, w - 10, c]."""
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    taps /= taps.sum()

    def one_pass(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Along the last axis."""
        count = values.shape[-1] - 10
        result, seen = np.zeros((*values.shape[:-1], count)), np.zeros((*values.shape[:-1], count), dtype=bool)
        for row in np.ndindex(*values.shape[:-1]):
            for start in range(count):
                window, unmasked = values[row][start : start + 11], valid[row][start : start + 11]
                if unmasked.any():
                    result[(*row, start)] = (window * taps)[unmasked].sum() * 11 / unmasked.sum()
                    seen[(*row, start)] = True
        return result, seen

    def mean(values: np.ndarray) -> np.ndarray:
        horizontal, seen = one_pass(values, mask)
        vertical, _ = one_pass(horizontal.T, seen.T)
        return vertical.T

    channels = []
    for c in range(3):
        x, y = prediction[..., c], target[..., c]
        mx, my = mean(x), mean(y)
        vx, vy = np.maximum(mean(x * x) - mx**2, 0), np.maximum(mean(y * y) - my**2, 0)
        cov = mean(x * y) - mx * my
        cov = np.sign(cov) * np.minimum(np.abs(cov), np.sqrt(vx * vy))
        channels.append(
            (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)),
        )
    return np.stack(channels, axis=-1)


def test_masked_ssim_is_dychecks_definition():
    prediction, target = random_pair(5, 22, 25)
    mask = some_mask(22, 25, seed=9)
    mask[:, :14] = False  # some windows see nothing
    expected = dense_masked_ssim(prediction.double().numpy(), target.double().numpy(), mask.numpy())
    assert float(masked_ssim(prediction, target, mask)) == pytest.approx(expected.mean(), abs=1e-9)
    assert float(masked_ssim(prediction, target, mask)) < 1.0

    # Windows start at columns 0..14; those that start at 3 or before end at column 13, wholly in the masked part.
    seen = np.zeros(expected.shape[:2], dtype=bool)
    for i, j in np.ndindex(*seen.shape):
        seen[i, j] = mask.numpy()[i : i + 11, j : j + 11].any()
    assert not seen[:, :4].any()
    assert (expected[~seen] == 1.0).all()
    without = masked_ssim(prediction, target, mask, count_empty_windows=False)
    assert float(without) == pytest.approx(expected[seen].mean(), abs=1e-9)
    assert float(without) < float(masked_ssim(prediction, target, mask))


def test_masked_ssim_with_a_full_mask_is_ssim_and_hides_what_is_masked():
    prediction, target = random_pair()
    full = torch.ones(24, 31, dtype=torch.bool)
    assert float(masked_ssim(prediction, target, full)) == float(ssim(prediction, target))
    mask = some_mask()
    spoiled = torch.where(mask[..., None], prediction, torch.tensor(float("nan")))
    assert float(masked_ssim(spoiled, target, mask)) == float(masked_ssim(prediction, target, mask))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 200))
def test_invariances(seed: int):
    """Both metrics are symmetric, and neither knows left from right nor up from down."""
    prediction, target = random_pair(seed, 13, 14)
    mask = some_mask(13, 14, seed)
    for metric in (masked_psnr, masked_ssim):
        value = float(metric(prediction, target, mask))
        assert float(metric(target, prediction, mask)) == pytest.approx(value, abs=1e-9, nan_ok=True)
    flipped = [tensor.flip(1) for tensor in (prediction, target, mask)]
    assert float(masked_ssim(*flipped)) == pytest.approx(
        float(masked_ssim(prediction, target, mask)), abs=1e-9, nan_ok=True
    )
    assert float(ssim(prediction.flip(0), target.flip(0))) == pytest.approx(float(ssim(prediction, target)), abs=1e-9)


def test_bad_shapes_are_explained():
    prediction, target = random_pair()
    with pytest.raises(ValueError, match=r"same shape.*\(24, 31, 3\) and \(12, 31, 3\)"):
        psnr(prediction, target[::2])
    with pytest.raises(ValueError, match=r"mask has shape \(31, 24\)"):
        masked_psnr(prediction, target, torch.ones(31, 24))
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(prediction[:10], target[:10])


def test_scores_are_averaged_over_the_images_that_define_them():
    """Nothing moves in the first image, and the second has no pixels that others see."""
    nan = float("nan")
    images = [{"psnr": 20.0, "psnr_dynamic": nan}, {"psnr": 22.0, "psnr_dynamic": 15.0, "lpips": 0.1}, {"psnr": 27.0}]
    assert mean_scores(images) == {"psnr": 23.0, "psnr_dynamic": 15.0, "lpips": 0.1}
    assert standard_deviations(images) == pytest.approx({"psnr": 13**0.5, "psnr_dynamic": 0.0, "lpips": 0.0})
    assert mean_scores([]) == standard_deviations([]) == {}


def test_calibration_on_a_public_4dgs_run():
    """Twenty D-NeRF bouncingballs renders of a public 4DGS run: mean of the per-image PSNR over 8-bit RGB."""
    import cv2

    folder = SHARED_DATA / "bouncingballs-4dgs"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the calibration images are not part of the repository")
    values = []
    for truth in sorted((folder / "gt").glob("*.png")):
        pair = []
        for path in (folder / "renders" / truth.name, truth):
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            assert image is not None, path
            pair.append(torch.from_numpy(image).double() / 255)
        values.append(psnr(*pair))
    mean, count = mean_defined(values)
    assert count == 20
    assert mean == pytest.approx(40.755, abs=5e-4)
