"""The same scenes through gsplat on CUDA and through the CPU: images within 2e-4, gradients within 1e-3 relative."""

from __future__ import annotations

import pytest
import torch

from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.backends import _numba_problem
from dyngs_plugins.raster.dense import ambiguous_pixels

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: gsplat's kernels run nowhere else"),
]
WIDTH, HEIGHT = 67, 45
CPU = "torch" if _numba_problem() is not None else "numba"


def run(scene, device, backend, keep, **options):
    leaves = {name: tensor.float().to(device).requires_grad_(name != "Ks") for name, tensor in scene.items()}
    arguments = {"quats": None, "scales": None, **leaves}
    image, alpha, info = rasterize(**arguments, width=WIDTH, height=HEIGHT, backend=backend, **options)
    info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(image.shape, generator=generator) * keep
    ((image * weights.to(device)).sum() + (alpha * weights[..., :1].to(device)).sum()).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    gradients["means2d"] = info["means2d"].grad
    if options.get("absgrad"):
        gradients["absgrad"] = info["means2d"].absgrad
    return image.detach().cpu(), alpha.detach().cpu(), {name: g.cpu().double() for name, g in gradients.items()}


def compare(scene, **options):
    double = {"quats": None, "scales": None, **scene}
    without = {name: value for name, value in options.items() if name != "absgrad"}
    _, _, info = rasterize(**double, width=WIDTH, height=HEIGHT, backend="dense", **without)
    names = ("means2d", "conics", "opacities", "radii", "depths")
    # CUDA's fast exponential is less exact than ours.
    close = ambiguous_pixels(*(info[name] for name in names), WIDTH, HEIGHT, alpha_tolerance=5e-4)
    assert close.double().mean() < 0.05
    keep = ~close[..., None]
    image, alpha, gradients = run(scene, "cpu", CPU, keep, **options)
    cuda_image, cuda_alpha, cuda_gradients = run(scene, "cuda", "gsplat", keep, **options)
    assert ((image - cuda_image) * keep).abs().max() < 2e-4
    assert ((alpha - cuda_alpha) * keep).abs().max() < 2e-4
    for name, expected in cuda_gradients.items():
        assert (gradients[name] - expected).norm() < 1e-3 * expected.norm(), name


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("opacity", [0.05, 0.4, 0.95])
def test_images_and_gradients(random_scene, mode, opacity):
    scene = random_scene(600, WIDTH, HEIGHT, opacity=opacity, lost=0.2, cameras=2)
    compare(scene, rasterize_mode=mode, render_mode="RGB+D", absgrad=True)


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_each_camera_has_its_own_means(random_scene, mode):
    scene = random_scene(300, WIDTH, HEIGHT, cameras=3)
    scene["means"] = (scene["means"] + 0.05 * torch.arange(3.0)[:, None, None]).float().double()
    compare(scene, rasterize_mode=mode, absgrad=True)


@pytest.mark.parametrize("channels", [1, 4, 17, 32])
def test_channels(random_scene, channels):
    compare(random_scene(300, WIDTH, HEIGHT, channels=channels))


def test_harmonics_and_covariances(random_scene):
    scene = random_scene(300, WIDTH, HEIGHT, cameras=2)
    variance = scene.pop("scales").square().mean(-1)
    del scene["quats"]
    scene["covars"] = torch.diag_embed(torch.stack([variance, 2 * variance, variance], -1)).float().double()
    scene["colors"] = torch.randn(300, 16, 3, generator=torch.Generator().manual_seed(0)).double()
    compare(scene, sh_degree=3)
