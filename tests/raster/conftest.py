"""Random scenes, the backends under test, and the comparison with the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.ambiguous import ambiguous_pixels
from dyngs_plugins.raster.backends import _numba_problem

Scene = dict[str, Tensor]


@pytest.fixture(params=["torch", "numba"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a CPU backend; every test that takes it runs once for each."""
    if request.param == "numba" and (problem := _numba_problem()) is not None:
        pytest.skip(f"the numba backend cannot be imported: {problem}")
    with _one_thread() if request.param == "torch" else nullcontext():
        yield request.param


@contextmanager
def _one_thread() -> Iterator[None]:
    """For PyTorch on small tensors: they gain nothing from threads, which on a busy machine wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _look(angle: float, offset: float) -> Tensor:
    """World to camera: a small turn about a tilted axis and a small step aside."""
    axis = torch.tensor([0.3, 1.0, 0.2], dtype=torch.float64)
    x, y, z = (axis / axis.norm()).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = torch.linalg.matrix_exp(angle * cross)
    view[:3, 3] = torch.tensor([offset, -0.5 * offset, 0.3], dtype=torch.float64)
    return view


def _random_scene(
    n: int,
    width: int,
    height: int,
    *,
    seed: int = 0,
    channels: int = 3,
    cameras: int = 1,
    opacity: float = 0.3,
    radius: tuple[float, float] = (2.0, 9.0),
    lost: float = 0.0,
) -> Scene:
    """Gaussians in view of the first camera; every number fits in float32, no two depths are close.

    Args:
        opacity: median of the opacities.
        radius: of the Gaussians at three standard deviations, pixels.
        lost: share of the Gaussians that is behind the camera or off screen.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    focal = 0.9 * max(width, height)
    K = torch.tensor([[focal, 0, width / 2 + 0.3], [0, focal * 1.03, height / 2 - 0.2], [0, 0, 1]], dtype=torch.float64)
    views = torch.stack([_look(0.05 + 0.08 * i, 0.1 + 0.07 * i) for i in range(cameras)])
    # One depth per stratum: ties would make the order, and so the image, a matter of rounding.
    z = 2.0 + 6.0 * (torch.randperm(n, generator=generator) + 0.4 + 0.2 * uniform(n)) / n
    pixel = uniform(n, 2) * torch.tensor([width, height])
    strayed = uniform(n) < lost
    z = torch.where(strayed & (uniform(n) < 0.5), -z, z)
    pixel = torch.where(strayed[:, None], pixel + 3 * max(width, height), pixel)
    points = torch.cat([(pixel - K[:2, 2]) / K.diagonal()[:2] * z[:, None], z[:, None]], dim=-1)
    low, high = radius
    spread = (low + (high - low) * uniform(n)) / 3 * z.abs() / focal
    scene = {
        "means": (points - views[0, :3, 3]) @ views[0, :3, :3],
        "quats": torch.randn(n, 4, generator=generator, dtype=torch.float64),
        "scales": spread[:, None] * (0.35 + 0.65 * uniform(n, 3)),
        "opacities": torch.sigmoid(
            torch.logit(torch.tensor(opacity, dtype=torch.float64)) + 1.2 * (2 * uniform(n) - 1)
        ),
        "colors": uniform(n, channels),
        "viewmats": views,
        "Ks": K.expand(cameras, 3, 3),
        "backgrounds": uniform(cameras, channels),
    }
    return {name: tensor.float().double().contiguous() for name, tensor in scene.items()}


@pytest.fixture(scope="session")
def random_scene() -> Callable[..., Scene]:
    return _random_scene


@dataclass
class Outcome:
    """One rendering and the gradients of a weighted sum of it."""

    image: Tensor
    alpha: Tensor
    info: dict[str, Any]
    gradients: dict[str, Tensor] = field(default_factory=dict)


def _render(
    backend: str,
    scene: Scene,
    width: int,
    height: int,
    weights: Callable[[Outcome], tuple[Tensor, Tensor]] | None = None,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> Outcome:
    """Render; with `weights` (of image and alpha), also differentiate, with respect to everything but Ks."""
    with _one_thread() if backend == "dense" else nullcontext():
        return _render_with_gradients(backend, scene, width, height, weights, dtype, **options)


def _render_with_gradients(
    backend: str,
    scene: Scene,
    width: int,
    height: int,
    weights: Callable[[Outcome], tuple[Tensor, Tensor]] | None,
    dtype: torch.dtype,
    **options: Any,
) -> Outcome:
    leaves = {name: tensor.detach().to(dtype).requires_grad_(name != "Ks") for name, tensor in scene.items()}
    arguments = {"quats": None, "scales": None, **leaves}
    image, alpha, info = rasterize(width=width, height=height, backend=backend, **arguments, **options)
    outcome = Outcome(image, alpha, info)
    if weights is not None:
        info["means2d"].retain_grad()
        on_image, on_alpha = weights(outcome)
        ((image * on_image.to(image)).sum() + (alpha * on_alpha.to(alpha)).sum()).backward()
        outcome.gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        outcome.gradients["means2d"] = info["means2d"].grad
    outcome.image, outcome.alpha = image.detach(), alpha.detach()
    return outcome


@pytest.fixture(scope="session")
def render() -> Callable[..., Outcome]:
    return _render


def _random_weights(outcome: Outcome, keep: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    on_image = torch.randn(outcome.image.shape, generator=generator, dtype=torch.float64)
    on_alpha = torch.randn(outcome.alpha.shape, generator=generator, dtype=torch.float64)
    return on_image * keep, on_alpha * keep


def _check_against_dense(
    backend: str,
    scene: Scene,
    width: int,
    height: int,
    *,
    dtype: torch.dtype = torch.float32,
    render_bar: float = 1e-5,
    gradient_bar: float = 5e-5,
    min_alpha: float = 0.0,
    **options: Any,
) -> Outcome:
    """Assert that a backend agrees with the float64 reference in image, alpha and every gradient.

    Pixels at which rounding may flip a decision are left out, in the image and (with zero weight) in the gradients;
    they must be fewer than 1 %. `min_alpha` leaves out emptier pixels, where expected depth divides by next to nothing.
    `render_bar` is absolute, for depth as for colours.
    """
    kept: list[Tensor] = []

    def weights(outcome: Outcome) -> tuple[Tensor, Tensor]:
        names = ("means2d", "conics", "opacities", "radii", "depths")
        ambiguous = ambiguous_pixels(*(outcome.info[name].detach() for name in names), width, height)
        assert ambiguous.double().mean() < 0.01, "too many pixels are a matter of rounding: choose another scene"
        kept.append((~ambiguous)[..., None] & (outcome.alpha.detach() >= min_alpha))
        return _random_weights(outcome, kept[0])

    expected = _render("dense", scene, width, height, weights, **options)
    found = _render(backend, scene, width, height, lambda o: _random_weights(o, kept[0]), dtype, **options)
    assert found.image.dtype == dtype
    assert found.image.shape == expected.image.shape
    for name in ("image", "alpha"):
        difference = (getattr(found, name).double() - getattr(expected, name)) * kept[0]
        assert difference.abs().max() <= render_bar, f"{name} is off by {difference.abs().max():.1e}"
    assert found.gradients.keys() == expected.gradients.keys()
    for name, reference in expected.gradients.items():
        error = (found.gradients[name].double() - reference).norm() / reference.norm().clamp(min=1e-12)
        assert error <= gradient_bar, f"gradient of {name} is off by {error:.1e} (relative)"
    return found


@pytest.fixture(scope="session")
def check_against_dense() -> Callable[..., Outcome]:
    return _check_against_dense
