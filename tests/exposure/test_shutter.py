"""Exposure times: fixed, learned (Deblur4DGS' facts), and estimated from flows (MoBGS' facts)."""

from __future__ import annotations

import pytest
import torch
from exposure_scenes import IDENTITY, Glide, arguments, cloud, make_scene, make_set, make_views

from dyngs_plugins.exposure.base import ExposureConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.flow_ratio import FlowRatio, half_exposure_of
from dyngs_plugins.exposure.latent_screw import LatentPathExposureConfig
from dyngs_plugins.exposure.pose_mlp import PosePathExposureConfig
from dyngs_plugins.exposure.shutter import Shutter, ShutterConfig
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.scene import DYNAMIC, STATIC, Scene, Views

PATHS = {
    "camera-path": CameraPathExposureConfig,
    "pose-path": PosePathExposureConfig,
    "latent-path": LatentPathExposureConfig,
}


def learned(*values: float) -> Shutter:
    shutter = Shutter(ShutterConfig("learned", half_exposure=0.5), len(values))
    shutter.tau.data[:] = torch.tensor(values)
    return shutter


def test_a_learned_shutter_is_clamped_and_starts_where_it_is_told():
    every = torch.arange(4)
    torch.testing.assert_close(learned(-3, 2, 0.3, 0.7).half_exposure(every), torch.tensor([0.1, 0.9, 0.3, 0.7]))
    assert bool((Shutter(ShutterConfig("learned", half_exposure=0.5), 4).half_exposure(every) == 0.5).all())


def test_a_learned_shutter_comes_back_from_beyond_its_bounds():
    """Also from 0, where a shutter starts that is only told to be learned."""
    shutter = learned(0.0, -0.05, 1.0)
    optimizer = torch.optim.Adam([shutter.tau], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        (shutter.half_exposure(torch.arange(3)) - 0.4).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(shutter.tau.detach(), torch.full((3,), 0.4), atol=0.02, rtol=0)
    beyond = learned(0.0, 1.0)
    (beyond.half_exposure(torch.arange(2)) * torch.tensor([1.0, -1.0])).sum().backward()  # asks for still farther out
    assert beyond.tau.grad.tolist() == [0.0, 0.0]


def test_the_band_costs_nothing_inside_and_its_distance_outside():
    assert float(learned(0.5, 0.6, 0.75).band(torch.arange(3))) == 0.0
    assert float(learned(0.1).band(torch.arange(1))) == pytest.approx(0.04)
    assert float(learned(0.9).band(torch.arange(1))) == pytest.approx(0.015)


@pytest.mark.parametrize("kind", list(PATHS))
def test_moments_lie_evenly_around_the_frame_with_the_frame_in_the_middle(kind):
    """MoBGS: a half exposure of 0.4 with nine instants is -0.4, -0.3, ... 0.4 frames."""
    config: ExposureConfig = PATHS[kind](num_instants=9, shutter=ShutterConfig(half_exposure=0.4))
    exposure = config.setup(num_views=2, num_frames=11)
    instants = exposure.instants(*arguments(make_views()), mode="train")
    offsets = (instants.time.reshape(2, 9) - torch.tensor([[0.25], [0.75]])) * 10
    torch.testing.assert_close(offsets, torch.linspace(-0.4, 0.4, 9).expand(2, 9), atol=1e-5, rtol=0)
    start, end = (exposure.instants(*arguments(make_views()), mode=mode).time for mode in ("start", "end"))
    torch.testing.assert_close(torch.stack([start, end], 1), instants.time.reshape(2, 9)[:, [0, 8]])


def test_learning_the_shutter_alone_finds_it():
    """Deblur4DGS' check: with the velocity known, the half exposure converges to the true one within 5 %."""

    def scene_with(tau: float, kind) -> Scene:
        config = CameraPathExposureConfig(num_instants=9, shutter=ShutterConfig(kind, half_exposure=tau, band_weight=0))
        return make_scene(config, Glide((2.4, 0.3, 0.0)))

    truth = scene_with(0.3, "fixed").render(make_views(), mode="train").channels["rgb"].detach()
    scene = scene_with(0.5, "learned")
    optimizer = torch.optim.Adam([scene.exposure.shutter.tau], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (scene.render(make_views(), mode="train").channels["rgb"] - truth).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(scene.exposure.shutter.tau.detach(), torch.full((2,), 0.3), atol=0.015, rtol=0)


def test_only_the_product_of_shutter_and_velocity_is_seen_in_one_frame():
    """Twice the speed with half the exposure is the same picture: tau alone is not identified by blur."""
    images = []
    for factor in (1.0, 2.0):
        config = CameraPathExposureConfig(num_instants=9, shutter=ShutterConfig(half_exposure=0.4 / factor))
        scene = make_scene(config, Glide((factor * 1.2, 0.0, 0.0)))
        views = make_views()
        with torch.no_grad():  # the same place at the frame's own time
            scene.dynamic.raw["means"] -= torch.tensor([factor * 1.2, 0, 0]) * 0.25
        images.append(scene.render(views, mode="train").channels["rgb"][:1])
    torch.testing.assert_close(*images, atol=1e-6, rtol=1e-5)


def test_the_ratio_of_flows_is_the_half_exposure():
    between = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) + 3
    assert half_exposure_of(0.25 * between, between, 2) == pytest.approx(0.25)
    assert half_exposure_of(7 * 0.25 * between, 7 * between, 2) == pytest.approx(0.25)
    assert half_exposure_of(0.25 * between, between, 1) == pytest.approx(0.125)  # neighbours on one side only


def test_where_the_camera_stands_still_nothing_is_estimated():
    assert half_exposure_of(torch.rand(50, 2), torch.full((50, 2), 0.01), 2) is None
    assert half_exposure_of(torch.zeros(0, 2), torch.zeros(0, 2), 2) is None


@pytest.mark.parametrize("view", [0, 2, 4])
def test_a_camera_at_constant_speed_tells_the_exposure_also_at_the_ends_of_the_clip(view):
    """Latent cameras over +-0.25 of a frame: tau = 0.25 (MoBGS halves the first frame only, by a slip)."""
    step = torch.tensor([0.1, 0.03, 0.0])
    cameras = IDENTITY.repeat(5, 1, 1)
    cameras[:, :3, 3] = -torch.arange(5)[:, None] * step
    index = torch.arange(5)
    before, after = (index - 1).clamp_min(0), (index + 1).clamp_max(4)
    ratio = FlowRatio(cameras, before, after, after - before)
    config = CameraPathExposureConfig(num_instants=5, shutter=ShutterConfig("estimated", 0.4, observe_from=0))
    scene = Scene(
        [make_set(DYNAMIC, torch.zeros(0, 3)), make_set(STATIC, cloud(200), size=0.3)],
        StaticMotionConfig().setup(num_frames=5),
        config.setup(num_views=5, num_frames=5),
    )
    with torch.no_grad():
        scene.exposure.knots[:, 0, :3], scene.exposure.knots[:, 1, :3] = -0.25 * step, 0.25 * step
    scene.exposure._flow_ratio = ratio
    K = torch.tensor([[40.0, 0, 24], [0, 40, 18], [0, 0, 1]])[None]
    views = Views(cameras[view : view + 1], K, torch.tensor([view / 4]), 48, 36, torch.tensor([view]))
    assert float(scene.exposure.shutter.tau[view]) == pytest.approx(0.4)
    scene.exposure.observe(scene, views, step=7)  # not its turn
    assert float(scene.exposure.shutter.tau[view]) == pytest.approx(0.4)
    scene.exposure.observe(scene, views, step=10)
    assert float(scene.exposure.shutter.tau[view]) == pytest.approx(0.25, abs=0.01)
    assert float(scene.exposure.shutter.tau[(view + 1) % 5]) == pytest.approx(0.4)


def test_an_estimate_without_static_gaussians_says_that_nothing_is_estimated():
    config = CameraPathExposureConfig(shutter=ShutterConfig("estimated", half_exposure=0.3, observe_from=0))
    field = StaticMotionConfig().setup(num_frames=2)
    scene = Scene([make_set(DYNAMIC, cloud(5))], field, config.setup(num_views=2, num_frames=2))
    scene.exposure._flow_ratio = FlowRatio(IDENTITY.repeat(2, 1, 1), *(torch.arange(2),) * 3)
    with pytest.warns(UserWarning, match="'estimated', .* this method has none: every half exposure stays at 0.3"):
        scene.exposure.observe(scene, make_views(), step=0)


def test_exposures_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="half_exposure is -1"):
        ShutterConfig(half_exposure=-1)
    with pytest.raises(ValueError, match="shortest is 0.5 and longest 0.2"):
        ShutterConfig(shortest=0.5, longest=0.2)
