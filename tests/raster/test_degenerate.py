"""Gaussians that training produces and nobody wants: the image and all gradients stay finite."""

from __future__ import annotations

import pytest
import torch

from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.semantics import installed_semantics
from dyngs_plugins.raster.tiles import splat_alphas

WIDTH, HEIGHT = 35, 19
NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")


def run(scene, backend, **options):
    leaves = {name: tensor.float().requires_grad_(name != "Ks") for name, tensor in scene.items()}
    image, alpha, info = rasterize(**leaves, width=WIDTH, height=HEIGHT, backend=backend, **options)
    info["means2d"].retain_grad()
    (image.square().sum() + alpha.sum()).backward()
    return image.detach(), alpha.detach(), info, {name: leaves[name].grad for name in NAMES}


def spoil(scene, **rows):
    """The scene with its first Gaussians' columns replaced."""
    scene = {name: tensor.clone() for name, tensor in scene.items()}
    for name, values in rows.items():
        values = torch.tensor(values, dtype=torch.float64)
        scene[name][: len(values)] = values
    return scene


CASES = {
    "nan mean": {"means": [[torch.nan, 0, 3]]},
    "infinite mean": {"means": [[0, -torch.inf, 3]]},
    "nan rotation": {"quats": [[torch.nan, 0, 0, 1]]},
    "nan scale": {"scales": [[0.1, torch.nan, 0.1]]},
    "infinite scale": {"scales": [[torch.inf, 0.1, 0.1]]},
    "nan opacity": {"opacities": [torch.nan]},
    "nan color": {"colors": [[0.1, torch.nan, 0.1]]},
    "zero rotation": {"quats": [[0.0, 0, 0, 0]]},
    "zero scale": {"scales": [[0.0, 0, 0]]},
    "needle": {"scales": [[3.0, 1e-9, 1e-9]]},
    "disc": {"scales": [[3.0, 3.0, 0.0]]},
    "huge": {"scales": [[1e4, 1e4, 1e4]]},
    "huger": {"scales": [[1e12, 1e12, 1e12]]},
    "hugest": {"scales": [[1e30, 1e30, 1e30]]},
    "far": {"means": [[1e20, -1e20, 1e20]]},
    "farthest": {"means": [[3e38, -3e38, 3e38]]},
    "at the camera": {"means": [[-0.1, 0.05, -0.3]]},
    "near plane": {"means": [[0.0, 0.0, -0.288], [0.01, 0.0, -0.2899]], "scales": [[0.5, 0.5, 0.5], [2.0, 2.0, 2.0]]},
    "opaque": {"opacities": [1.0, 1.0, 1.0]},
    "transparent": {"opacities": [0.0, 1e-30]},
}


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("case", CASES)
def test_everything_stays_finite(backend, random_scene, case, mode):
    scene = spoil(random_scene(40, WIDTH, HEIGHT), **CASES[case])
    image, alpha, info, gradients = run(scene, backend, rasterize_mode=mode, render_mode="RGB+ED")
    assert torch.isfinite(image).all()
    assert ((alpha >= 0) & (alpha < 1)).all()
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), f"gradient of {name}"
    assert torch.isfinite(info["means2d"].grad).all()


@pytest.mark.parametrize("case", [name for name in CASES if "nan" in name or "infinite" in name])
def test_a_gaussian_that_is_not_finite_is_not_there(backend, random_scene, case):
    scene = random_scene(40, WIDTH, HEIGHT)
    image, alpha, info, gradients = run(spoil(scene, **CASES[case]), backend)
    rows = ("means", "quats", "scales", "opacities", "colors")
    without = {name: tensor[1:] if name in rows else tensor for name, tensor in scene.items()}
    expected_image, expected_alpha, _, expected = run(without, backend)
    assert info["radii"][0, 0] == 0
    assert torch.equal(image, expected_image)
    assert torch.equal(alpha, expected_alpha)
    for name in NAMES:
        found = gradients[name]
        if name in rows:
            assert (found[0] == 0).all(), name
            found = found[1:]
        torch.testing.assert_close(found, expected[name], msg=name)


def test_rounding_that_makes_the_exponent_positive():
    """A conic that rounding has made indefinite: exp() would overflow, and infinity times zero is NaN."""
    values = [torch.tensor([v], requires_grad=True) for v in (300.0, 300.0, 1.0, -1.01, 1.0, 0.5)]
    dx, dy, *conic, opacity = values
    alphas = splat_alphas(dx[None], dy[None], conic, opacity, installed_semantics())
    assert alphas.item() == 0.0
    alphas.sum().backward()
    assert all(value.grad.item() == 0.0 for value in values)


def test_not_finite_for_one_camera_only(backend, random_scene):
    scene = random_scene(40, WIDTH, HEIGHT, cameras=2)
    scene["means"] = scene["means"].expand(2, -1, -1).clone()
    scene["means"][1, 0] = torch.nan
    _, _, info, gradients = run(scene, backend)
    assert info["radii"][0, 0] > 0
    assert info["radii"][1, 0] == 0
    assert gradients["means"][0, 0].abs().sum() > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_harmonics_of_a_gaussian_that_is_not_finite(backend, random_scene):
    scene = random_scene(40, WIDTH, HEIGHT)
    scene["colors"] = torch.randn(40, 16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scene["colors"][0, 5, 1] = torch.nan
    scene["means"][1] = torch.nan
    scene["means"][2] = torch.linalg.inv(scene["viewmats"])[0, :3, 3]
    scene["means"][3] = 3e38
    image, _, info, gradients = run(scene, backend, sh_degree=3)
    assert torch.isfinite(image).all()
    assert info["radii"][0, :4].tolist() == [0, 0, 0, 0]
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_camera_at_the_origin(backend, random_scene, mode):
    """Where unseen Gaussians are put aside must not be the camera's centre, where the projection divides by zero."""
    scene = random_scene(40, WIDTH, HEIGHT, lost=0.5)
    scene["viewmats"] = torch.eye(4, dtype=torch.float64)[None]
    scene["means"][:2] = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0]])
    image, _, info, gradients = run(scene, backend, rasterize_mode=mode)
    assert info["radii"][0, :2].tolist() == [0, 0]
    assert (info["radii"] > 0).any()
    assert torch.isfinite(image).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("case", ["needle", "disc", "huge", "near plane", "zero rotation", "zero scale", "opaque"])
def test_kernels_agree_with_pytorch(random_scene, backend, case):
    if backend == "torch":
        pytest.skip("this is the reference here")
    scene = spoil(random_scene(40, WIDTH, HEIGHT), **CASES[case])
    found, expected = run(scene, backend)[0], run(scene, "torch")[0]
    # Rounding may flip a decision at a few pixels.
    assert ((found - expected).abs() > 1e-4).double().mean() < 0.01
