"""The same scenes through gsplat's kernels and through ours: images, gradients, statistics, relocation.

gsplat runs on a CUDA device where there is one. Everywhere, its kernels also run compiled for the CPU (`gsplat_on_cpu`),
held to tighter bounds: there they round as ours do, and only sums are taken in another order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gsplat_on_cpu
import pytest
import torch
from torch import Tensor

from dyngs_plugins.raster import gsplat_backend, rasterize
from dyngs_plugins.raster.ambiguous import ambiguous_pixels
from dyngs_plugins.raster.backends import _numba_problem
from dyngs_plugins.raster.mcmc import MAX_COPIES, relocated_opacities_and_scales

WIDTH, HEIGHT = 67, 45
OURS = "torch" if _numba_problem() is not None else "numba"


@dataclass(frozen=True)
class Place:
    """Where gsplat's kernels run, and how closely ours must agree: images absolutely, gradients relatively."""

    device: str
    image: float
    gradient: float
    alpha_tolerance: float


CUDA = Place("cuda", image=2e-4, gradient=1e-3, alpha_tolerance=5e-4)  # its fast exponential is less exact than ours
CPU = Place("cpu", image=5e-5, gradient=5e-5, alpha_tolerance=1e-5)
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
NO_COMPILER = pytest.mark.skipif(gsplat_on_cpu.problem() is not None, reason=str(gsplat_on_cpu.problem()))


@pytest.fixture(
    params=[
        pytest.param(CUDA, id="cuda", marks=[pytest.mark.cuda, NO_CUDA]),
        pytest.param(CPU, id="cpu", marks=NO_COMPILER),
    ]
)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param.device == "cuda":
        yield request.param
        return
    monkeypatch.setattr(gsplat_backend, "_require_cuda", lambda means: None)
    with gsplat_on_cpu.installed():
        yield request.param


def run(scene: dict[str, Tensor], device: str, backend: str, keep: Tensor, **options: Any):
    leaves = {name: tensor.float().to(device).requires_grad_(name != "Ks") for name, tensor in scene.items()}
    arguments: dict[str, Any] = {"quats": None, "scales": None, **leaves}
    image, alpha, info = rasterize(**arguments, width=WIDTH, height=HEIGHT, backend=backend, **options)
    info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(image.shape, generator=generator) * keep
    ((image * weights.to(device)).sum() + (alpha * weights[..., :1].to(device)).sum()).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    gradients["means2d"] = info["means2d"].grad
    if options.get("absgrad"):
        gradients["absgrad"] = info["means2d"].absgrad
    return image.detach().cpu(), alpha.detach().cpu(), info, {name: g.cpu().double() for name, g in gradients.items()}


def compare(place: Place, scene: dict[str, Tensor], min_alpha: float = 0.0, **options: Any) -> None:
    """Assert that gsplat's kernels and ours agree, pixels aside at which rounding may flip a decision."""
    double: dict[str, Any] = {"quats": None, "scales": None, **scene}
    without = {name: value for name, value in options.items() if name != "absgrad"}
    _, alpha, info = rasterize(**double, width=WIDTH, height=HEIGHT, backend="dense", **without)
    names = ("means2d", "conics", "opacities", "radii", "depths")
    close = ambiguous_pixels(*(info[name] for name in names), WIDTH, HEIGHT, alpha_tolerance=place.alpha_tolerance)
    assert close.double().mean() < 0.05
    keep = ~close[..., None] & (alpha >= min_alpha)
    image, alpha, info, gradients = run(scene, "cpu", OURS, keep, **options)
    gsplat_image, gsplat_alpha, gsplat_info, expected = run(scene, place.device, "gsplat", keep, **options)
    assert ((image - gsplat_image) * keep).abs().max() < place.image
    assert ((alpha - gsplat_alpha) * keep).abs().max() < place.image
    assert set(gradients) == set(expected)
    for name, gradient in expected.items():
        # The floor is for sums that nearly cancel, such as a background's over all pixels.
        assert (gradients[name] - gradient).norm() <= place.gradient * gradient.norm() + 2e-5, name
    # Strategies divide by the image's size, count what has a radius, and prune by the radius.
    differs = gsplat_info["radii"].cpu() != info["radii"]
    assert differs.double().mean() <= (0.005 if place is CUDA else 0), "radii are rounded up: few may differ by one"
    for name in ("width", "height", "n_cameras", "gaussian_ids", "camera_ids"):
        assert gsplat_info[name] == info[name]


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("opacity", [0.05, 0.4, 0.95])
def test_images_and_gradients(place, random_scene, mode, opacity):
    scene = random_scene(600, WIDTH, HEIGHT, opacity=opacity, lost=0.2, cameras=2)
    compare(place, scene, rasterize_mode=mode, render_mode="RGB+D", absgrad=True)


@pytest.mark.parametrize("render_mode", ["D", "ED", "RGB+ED"])
def test_depths(place, random_scene, render_mode):
    scene = random_scene(300, WIDTH, HEIGHT, cameras=2)
    if render_mode != "RGB+ED":
        del scene["backgrounds"]
    compare(place, scene, min_alpha=0.05, render_mode=render_mode)


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_each_camera_has_its_own_means(place, random_scene, mode):
    scene = random_scene(300, WIDTH, HEIGHT, cameras=3)
    scene["means"] = (scene["means"] + 0.05 * torch.arange(3.0)[:, None, None]).float().double()
    compare(place, scene, rasterize_mode=mode, absgrad=True)


@pytest.mark.parametrize("channels", [1, 4, 17, 32])
def test_channels(place, random_scene, channels):
    compare(place, random_scene(300, WIDTH, HEIGHT, channels=channels))


def test_harmonics_and_covariances(place, random_scene):
    scene = random_scene(300, WIDTH, HEIGHT, cameras=2)
    variance = scene.pop("scales").square().mean(-1)
    del scene["quats"]
    scene["covars"] = torch.diag_embed(torch.stack([variance, 2 * variance, variance], -1)).float().double()
    scene["colors"] = torch.randn(300, 16, 3, generator=torch.Generator().manual_seed(0)).double()
    compare(place, scene, sh_degree=3)


@pytest.mark.parametrize("copies", [1, 2, 7, 30, MAX_COPIES])
def test_relocation(place, copies):
    """Ours needs no CUDA and no table of binomials; the new opacities and scales are gsplat's."""
    from gsplat.relocation import compute_relocation

    opacities = torch.tensor([0.006, 0.1, 0.5, 0.9])
    scales = torch.tensor([[1.0, 2.0, 3.0]]).repeat(4, 1)
    binomials = torch.tensor([[float(math.comb(n, k)) for k in range(51)] for n in range(51)])
    on_device = (t.to(place.device) for t in (opacities, scales, torch.full((4,), copies), binomials))
    expected = compute_relocation(*on_device)
    found = relocated_opacities_and_scales(opacities, scales, torch.full((4,), copies))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), rtol=2e-4, atol=0)
