"""gsplat 1.4's stages, called one by one without the Gaussians that no pixel shows, against its own ``rasterization``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gsplat_on_cpu
import pytest
import torch
from torch import Tensor

from dyngs_plugins.raster.gsplat_stages import rasterize_without_faint
from dyngs_plugins.raster.inputs import RasterInputs
from dyngs_plugins.raster.semantics import installed_semantics

gsplat = pytest.importorskip("gsplat")
pytestmark = [
    pytest.mark.skipif(gsplat_on_cpu.problem() is not None, reason=str(gsplat_on_cpu.problem())),
    pytest.mark.skipif(installed_semantics().radius_rule != "three-sigma", reason="gsplat leaves them out itself"),
]
WIDTH, HEIGHT, N = 67, 45, 400
OPTIONS: dict[str, Any] = {"covars": None, "sh_degree": None, "near_plane": 0.01, "far_plane": 1e10, "eps2d": 0.3}
OPTIONS |= {"radius_clip": 0.0, "render_mode": "RGB", "rasterize_mode": "classic", "absgrad": False}


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    with gsplat_on_cpu.installed():
        yield


@pytest.fixture
def scene(random_scene) -> dict[str, Tensor]:
    """Seen by two cameras; two thirds are too faint, one at the very limit is not."""
    scene = random_scene(N, WIDTH, HEIGHT, cameras=2, lost=0.1)
    limit = torch.tensor(1.0 / 255.0)
    below = torch.linspace(0.0, 0.9999, 2 * N // 3) * limit
    scene["opacities"] = scene["opacities"].float()
    scene["opacities"][: len(below)] = below
    scene["opacities"][len(below)] = limit
    return {name: tensor.float() for name, tensor in scene.items()}


def both(scene: dict[str, Tensor], **options: Any):
    """Images, alphas, info and gradients: gsplat's, and those of its stages."""
    results = []
    for draw in (lambda i: gsplat.rasterization(**vars(i), packed=False), rasterize_without_faint):
        leaves = {name: tensor.clone().requires_grad_(name != "Ks") for name, tensor in scene.items()}
        given: dict[str, Any] = {"quats": None, "scales": None, "backgrounds": None, **leaves}
        inputs = RasterInputs(**{**OPTIONS, "width": WIDTH, "height": HEIGHT, **given, **options}).check()
        image, alpha, info = draw(inputs)
        info["means2d"].retain_grad()
        weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        ((image * weights).sum() + alpha.square().sum()).backward()
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        gradients["means2d"] = info["means2d"].grad
        if inputs.absgrad:
            gradients["absgrad"] = info["means2d"].absgrad
        results.append((image, alpha, info, gradients))
    return results


def assert_same(scene: dict[str, Tensor], **options: Any) -> None:
    """Not a bit of images and statistics differs, gradients are summed in another order, and the list is shorter."""
    (image, alpha, info, gradients), (our_image, our_alpha, our_info, our_gradients) = both(scene, **options)
    assert torch.equal(image, our_image)
    assert torch.equal(alpha, our_alpha)
    assert set(gradients) == set(our_gradients)
    for name, gradient in gradients.items():
        assert (gradient - our_gradients[name]).norm() <= 1e-6 * gradient.norm(), name
        assert torch.equal(gradient == 0, our_gradients[name] == 0), name
    assert set(our_info) | {"camera_ids", "gaussian_ids", "width", "height", "n_cameras"} == set(info)
    drawn = info["radii"] > 0
    assert torch.equal(info["radii"], our_info["radii"]), "statistics count what projects, faint or not"
    for name in ("means2d", "depths", "conics", "opacities"):
        assert torch.equal(info[name][drawn], our_info[name][drawn]), name
    shown = drawn & (info["opacities"] >= 1.0 / 255.0)
    expected = torch.where(shown, info["tiles_per_gauss"], 0)
    assert torch.equal(our_info["tiles_per_gauss"], expected)
    assert len(our_info["isect_ids"]) == expected.sum() < 0.6 * len(info["isect_ids"])


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("render_mode", ["RGB", "RGB+D", "RGB+ED"])
def test_nothing_changes_but_the_list(scene, mode, render_mode):
    assert_same(scene, rasterize_mode=mode, render_mode=render_mode, absgrad=True)


@pytest.mark.parametrize("render_mode", ["D", "ED"])
def test_depths(scene, render_mode):
    del scene["backgrounds"]
    assert_same(scene, render_mode=render_mode)


def test_more_channels_than_go_through_at_a_time(scene, random_scene):
    wide = random_scene(N, WIDTH, HEIGHT, channels=37, cameras=2)
    scene |= {name: wide[name].float() for name in ("colors", "backgrounds")}
    assert_same(scene, absgrad=True)


def test_harmonics_covariances_and_colors_of_each_camera(scene):
    variance = scene.pop("scales").square().mean(-1)
    del scene["quats"]
    scene["covars"] = torch.diag_embed(torch.stack([variance, 2 * variance, variance], -1))
    scene["colors"] = torch.randn(2, N, 16, 3, generator=torch.Generator().manual_seed(0))
    assert_same(scene, sh_degree=2)


def test_a_scene_of_which_nothing_is_seen(scene):
    scene["opacities"] = scene["opacities"].clamp(max=0.003)
    (image, *_), (our_image, _, info, gradients) = both(scene)
    assert torch.equal(image, our_image)
    assert len(info["isect_ids"]) == 0
    assert all(not gradient.any() for name, gradient in gradients.items() if name != "backgrounds")
