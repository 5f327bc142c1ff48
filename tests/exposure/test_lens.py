"""Defocus by points of a lens and by circles of confusion: thin-lens optics in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from exposure_scenes import IDENTITY, arguments, make_scene, make_set, make_views

from dyngs_plugins.exposure.base import InstantExposureConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.choice import choose
from dyngs_plugins.exposure.circle import CircleExposureConfig
from dyngs_plugins.exposure.thin_lens import DefocusExposureConfig, lens_points, through_the_lens
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.sample.blur import circle_of_confusion
from dyngs_plugins.scene import DYNAMIC, STATIC, Scene, Views

FOCAL, APERTURE, FOCUS = 500.0, 0.05, 4.0


def test_what_lies_in_focus_stays_and_the_rest_shifts_by_the_lens_equation():
    """f (1/focus - 1/z) o pixels; at f = 500, a = 0.05, focus 4: 6.25 px at 2, 3.125 at 8, 6.25 at infinity."""
    for depth, radius in ((4.0, 0.0), (2.0, 6.25), (8.0, 3.125), (1e9, 6.25)):
        point = torch.tensor([0.3 * depth, -0.1 * depth, depth, 1.0])
        K = torch.tensor([[FOCAL, 0, 0], [0, FOCAL, 0], [0, 0, 1]])
        camera, shifted = through_the_lens(IDENTITY, K, torch.tensor([APERTURE, 0.0]), torch.tensor(1 / FOCUS))
        seen = shifted @ (camera @ point)[:3]
        shift = seen[:2] / seen[2] - FOCAL * point[:2] / point[2]
        assert float(shift[0]) == pytest.approx(FOCAL * APERTURE * (1 / FOCUS - 1 / depth), abs=1e-3)
        assert float(shift[0].abs()) == pytest.approx(radius, abs=1e-3)
        assert float(shift[1]) == pytest.approx(0.0, abs=1e-4)
        assert circle_of_confusion(FOCAL, APERTURE, depth, FOCUS) == pytest.approx(radius, abs=1e-3)


def test_intrinsics_have_gradients_as_a_change_of_the_cameras_axes():
    """Against finite differences of the image in focal length and principal point."""
    scene, weights = make_scene(InstantExposureConfig()), torch.linspace(0, 1, 48)

    def seen(K: torch.Tensor) -> torch.Tensor:
        views = Views(IDENTITY[None], K[None], torch.zeros(1), 48, 36)
        return (scene.render(views).channels["rgb"] * weights[:, None]).sum()

    K = torch.tensor([[40.0, 0, 24], [0, 40, 18], [0, 0, 1]])
    (found,) = torch.autograd.grad(seen(K.requires_grad_()), K)
    for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)):
        step = torch.zeros(3, 3)
        step[i, j] = 0.05
        with torch.no_grad():
            expected = float(seen(K + step) - seen(K - step)) / 0.1
        assert float(found[i, j]) == pytest.approx(expected, rel=0.05, abs=0.05), (i, j)


def test_points_fill_the_disc_evenly():
    points = lens_points(400)
    radius = points.norm(dim=-1)
    assert float(radius.max()) <= 1.01
    assert float((radius < 0.5).float().mean()) == pytest.approx(0.25, abs=0.02)  # a quarter of the area
    torch.testing.assert_close(points.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    assert float(points.square().mean()) == pytest.approx(0.25, rel=0.02)  # a disc's variance along an axis


def point_scene(exposure, depth: float) -> tuple[Scene, Views]:
    """A small bright Gaussian at a depth, seen by a camera of focal length 200."""
    means = torch.tensor([[0.0, 0.0, depth]])
    sets = [
        make_set(DYNAMIC, torch.zeros(0, 3)),
        make_set(STATIC, means, size=0.01 * depth, color=torch.ones(1, 3) * 0.9),
    ]
    scene = Scene(sets, StaticMotionConfig().setup(num_frames=1), exposure.setup(num_views=1, num_frames=1))
    K = torch.tensor([[200.0, 0, 24.5], [0, 200, 24.5], [0, 0, 1]])[None]
    return scene, Views(IDENTITY[None], K, torch.zeros(1), 49, 49, torch.zeros(1).long())


def spread_of(image: torch.Tensor) -> tuple[float, float]:
    """Total light, and its variance along x in squared pixels."""
    light = image[0, ..., 0].sum(0)
    x = torch.arange(len(light)) + 0.5
    centre = (light * x).sum() / light.sum()
    return float(light.sum()), float((light * (x - centre) ** 2).sum() / light.sum())


@pytest.mark.parametrize("depth", [2.0, 3.0, 4.0, 8.0])
@pytest.mark.parametrize("kind", ["defocus", "circle"])
def test_a_point_becomes_a_disc_of_the_thin_lens_radius_with_the_same_light(kind, depth):
    exposure = {
        "defocus": DefocusExposureConfig(aperture=0.1, focus_distance=4.0, num_points=200, blend="display"),
        "circle": CircleExposureConfig(aperture=0.1, focus_distance=4.0),
    }[kind]
    scene, views = point_scene(exposure, depth)
    light, variance = spread_of(scene.render(views, mode="train").channels["rgb"].detach())
    sharp_light, sharp_variance = spread_of(scene.render(views, mode="mid").channels["rgb"].detach())
    radius = 2 * math.sqrt(max(variance - sharp_variance, 0.0))
    expected = float(circle_of_confusion(200.0, 0.1, depth, 4.0))
    assert radius == pytest.approx(expected, rel=0.06, abs=0.05)
    assert light == pytest.approx(sharp_light, rel=0.06)


@pytest.mark.parametrize("kind", [DefocusExposureConfig, CircleExposureConfig])
def test_aperture_and_focus_are_learned_from_blur(kind):
    def scene_with(aperture: float, focus: float) -> Scene:
        scene = make_scene(kind(aperture=aperture, focus_distance=focus))
        for gaussians in scene.gaussian_sets():  # small, and at many depths
            gaussians.raw["scales"].data[:] = math.log(0.05)
            gaussians.raw["means"].data[:, 2] = torch.linspace(2, 8, len(gaussians))
        return scene

    truth = scene_with(0.2, 4.0).render(make_views(), mode="train").channels["rgb"].detach()
    scene = scene_with(0.1, 5.0)
    lens = scene.exposure
    optimizer = torch.optim.Adam(
        [{"params": [lens.log_aperture], "lr": 0.05}, {"params": [lens.inverse_focus], "lr": 0.005}]
    )
    for _ in range(60):
        optimizer.zero_grad()
        (scene.render(make_views(), mode="train").channels["rgb"] - truth).square().mean().backward()
        optimizer.step()
    assert float(1 / lens.inverse_focus.detach()) == pytest.approx(4.0, rel=0.05)
    assert float(lens.log_aperture.detach().exp()) == pytest.approx(0.2, rel=0.1)


def test_a_lens_is_shared_or_each_frames_own():
    assert DefocusExposureConfig().setup(num_views=5, num_frames=5).log_aperture.shape == (1,)
    lens = DefocusExposureConfig(per_frame=True).setup(num_views=5, num_frames=5)
    assert lens.log_aperture.shape == lens.inverse_focus.shape == (5,)
    assert set(lens.param_groups()) == set(DefocusExposureConfig().rates())
    fixed = DefocusExposureConfig(learn_aperture=False).setup(num_views=5, num_frames=5)
    assert list(fixed.param_groups()) == ["exposure_inverse_focus"]


def test_a_camera_path_carries_its_lens():
    path, lens = (
        CameraPathExposureConfig(num_instants=3),
        DefocusExposureConfig(num_points=4, aperture=0.1, focus_distance=4),
    )
    exposure = choose(lens, path).chosen().setup(num_views=2, num_frames=5)  # in whatever order they are named
    exposure.parts[0].knots.data[:, 0, 0], exposure.parts[0].knots.data[:, 1, 0] = -0.1, 0.1
    instants = exposure.instants(*arguments(make_views()), mode="train")
    assert len(instants.time) == 2 * 3 * 4
    torch.testing.assert_close(instants.weight, torch.full((24,), 1 / 12))
    assert instants.view.tolist() == [0] * 12 + [1] * 12
    moved = instants.camera_T_world[:12].reshape(3, 4, 4, 4)
    torch.testing.assert_close(instants.K[:12, 0, 2].reshape(3, 4).mean(1), torch.full((3,), 24.0))
    torch.testing.assert_close(moved[:, :, 0, 3].mean(1), torch.tensor([0.1, 0.0, -0.1]), atol=1e-6, rtol=0)
    assert exposure.blend == "linear"
    assert set(exposure.param_groups()) == {"exposure_knots", "exposure_log_aperture", "exposure_inverse_focus"}


def test_two_lenses_are_refused():
    with pytest.raises(ValueError, match="parameters of one name"):
        choose(DefocusExposureConfig(), CircleExposureConfig()).chosen().setup(num_views=1, num_frames=1)
    with pytest.raises(ValueError, match="aperture is -0.1"):
        DefocusExposureConfig(aperture=-0.1).setup(num_views=1, num_frames=1)
