"""Every CPU backend against the float64 reference: images within 1e-5, all gradients within 5e-5 relative."""

from __future__ import annotations

import pytest
import torch

MODES = ["classic", "antialiased"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("n", "size", "opacity"),
    [(1, (45, 37), 0.5), (7, (16, 16), 0.9), (200, (45, 37), 0.05), (200, (45, 37), 0.3), (200, (45, 37), 0.95)],
)
def test_random_scenes(backend, random_scene, check_against_dense, n, size, opacity, mode):
    scene = random_scene(n, *size, opacity=opacity, seed=n, lost=0.2 if n > 7 else 0.0)
    check_against_dense(backend, scene, *size, rasterize_mode=mode)


def test_many_gaussians(backend, random_scene, check_against_dense):
    scene = random_scene(3000, 37, 25, radius=(1.0, 3.5))
    check_against_dense(backend, scene, 37, 25)


def test_opaque_gaussians_end_the_pixel(backend, random_scene, check_against_dense):
    scene = random_scene(300, 33, 21, opacity=0.99, radius=(6.0, 20.0))
    found = check_against_dense(backend, scene, 33, 21)
    assert (found.alpha > 0.999).any(), "the scene was meant to reach the end of the transmittance"


@pytest.mark.parametrize("mode", MODES)
def test_float64_is_exact(random_scene, check_against_dense, mode):
    scene = random_scene(150, 45, 37, lost=0.2)
    bars = {"render_bar": 1e-12, "gradient_bar": 1e-11}
    check_against_dense("torch", scene, 45, 37, dtype=torch.float64, rasterize_mode=mode, **bars)


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 32])
def test_channels(backend, random_scene, check_against_dense, channels):
    scene = random_scene(80, 35, 19, channels=channels)
    check_against_dense(backend, scene, 35, 19)


@pytest.mark.parametrize("render_mode", ["D", "RGB+D"])
def test_depth(backend, random_scene, check_against_dense, render_mode):
    check_against_dense(backend, random_scene(120, 35, 19), 35, 19, render_mode=render_mode)


@pytest.mark.parametrize("render_mode", ["ED", "RGB+ED"])
def test_expected_depth(backend, random_scene, check_against_dense, render_mode):
    scene = random_scene(200, 35, 19, radius=(6.0, 12.0))
    check_against_dense(backend, scene, 35, 19, render_mode=render_mode, min_alpha=0.5)


def test_without_background(backend, random_scene, check_against_dense):
    scene = random_scene(100, 35, 19)
    del scene["backgrounds"]
    check_against_dense(backend, scene, 35, 19)


@pytest.mark.parametrize("mode", MODES)
def test_covariances(backend, random_scene, check_against_dense, mode):
    scene = random_scene(120, 45, 37)
    factor = torch.randn(120, 3, 3, generator=torch.Generator().manual_seed(2)).double()
    scene["covars"] = (factor @ factor.mT * scene.pop("scales").square().mean(-1)[:, None, None]).float().double()
    del scene["quats"]
    check_against_dense(backend, scene, 45, 37, rasterize_mode=mode)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics(backend, random_scene, check_against_dense, degree):
    scene = random_scene(80, 35, 19, cameras=2)
    noise = torch.randn(80, 16, 3, generator=torch.Generator().manual_seed(3))
    scene["colors"] = (0.5 * noise).double()
    check_against_dense(backend, scene, 35, 19, sh_degree=degree)


def test_several_cameras_share_gaussians(backend, random_scene, check_against_dense):
    check_against_dense(backend, random_scene(120, 35, 19, cameras=3), 35, 19, render_mode="RGB+D")


@pytest.mark.parametrize("mode", MODES)
def test_each_camera_has_its_own_gaussians(backend, random_scene, check_against_dense, mode):
    scene = random_scene(80, 35, 19, cameras=3)
    others = [random_scene(80, 35, 19, seed=i) for i in range(3)]
    for name in ("means", "quats", "scales", "opacities", "colors"):
        scene[name] = torch.stack([other[name] for other in others])
    check_against_dense(backend, scene, 35, 19, rasterize_mode=mode)


def test_moving_means_with_shared_shapes(backend, random_scene, check_against_dense):
    scene = random_scene(80, 35, 19, cameras=3)
    steps = torch.linspace(0, 0.2, 3, dtype=torch.float64)[:, None, None]
    scene["means"] = (scene["means"] + steps).float().double()
    check_against_dense(backend, scene, 35, 19)


def test_each_camera_has_its_own_covariances_and_features(backend, random_scene, check_against_dense):
    scene = random_scene(60, 35, 19, cameras=2, channels=5)
    variance = scene.pop("scales").square().mean(-1)
    del scene["quats"]
    covars = torch.diag_embed(torch.stack([variance, 2 * variance, 0.5 * variance], -1))
    scene["covars"] = torch.stack([covars, 2 * covars]).float().double()
    scene["colors"] = torch.stack([scene["colors"], scene["colors"].flip(0)])
    check_against_dense(backend, scene, 35, 19)


def test_near_and_far_planes(backend, random_scene, check_against_dense):
    scene = random_scene(150, 35, 19)
    found = check_against_dense(backend, scene, 35, 19, near_plane=3.0, far_plane=6.0)
    depths = found.info["depths"][found.info["radii"] > 0]
    assert depths.min() >= 3.0
    assert depths.max() <= 6.0
    assert len(depths) < 120


def test_blur_and_radius_clip(backend, random_scene, check_against_dense):
    scene = random_scene(150, 35, 19)
    everything = check_against_dense(backend, scene, 35, 19, eps2d=0.1)
    found = check_against_dense(backend, scene, 35, 19, eps2d=0.1, radius_clip=5.0)
    assert 0 < (found.info["radii"] > 0).sum() < (everything.info["radii"] > 0).sum()
    assert found.info["radii"][found.info["radii"] > 0].min() > 5


def test_absgrad_sums_the_absolute_gradients_of_single_pixels(backend, random_scene, render):
    scene = random_scene(20, 13, 6, radius=(3.0, 8.0))
    total = torch.zeros(1, 20, 2, dtype=torch.float64)
    for x in range(13):
        for y in range(6):

            def one_pixel(outcome, x=x, y=y):
                on_image = torch.zeros_like(outcome.image)
                on_image[:, y, x] = 1.0
                return on_image, torch.zeros_like(outcome.alpha)

            total += render("dense", scene, 13, 6, one_pixel).gradients["means2d"].abs()

    def all_pixels(outcome):
        return torch.ones_like(outcome.image), torch.zeros_like(outcome.alpha)

    found = render(backend, scene, 13, 6, all_pixels, torch.float32, absgrad=True)
    error = (found.info["means2d"].absgrad.double() - total).norm() / total.norm()
    assert error < 5e-5
    assert (found.info["means2d"].absgrad >= found.gradients["means2d"].abs() * (1 - 1e-4)).all()
