"""Where instants lie in an exposure, and which of them masks, depths and tracks are compared with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from exposure_scenes import IDENTITY, Glide, make_scene, make_set, make_views

from dyngs_plugins.exposure.base import per_instant
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.choice import choose
from dyngs_plugins.exposure.path import moments
from dyngs_plugins.exposure.shutter import Shutter, ShutterConfig
from dyngs_plugins.exposure.thin_lens import DefocusExposureConfig
from dyngs_plugins.scene import DYNAMIC, STATIC, Scene, Views


def test_middles_are_those_of_equal_shares():
    torch.testing.assert_close(moments("train", 5, "middles"), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(moments("train", 5, "ends"), torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    for sampling in ("middles", "ends"):
        found = torch.stack([moments(mode, 1, sampling) for mode in ("start", "mid", "end")])
        torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 0.5, 1.0]))


def test_instants_on_the_ends_are_as_wide_as_a_longer_exposure():
    """The same places as the middles of an exposure S / (S - 1) times as long."""
    for count in (3, 7, 11):
        ends, middles = (moments("train", count, sampling) - 0.5 for sampling in ("ends", "middles"))
        torch.testing.assert_close(ends, middles * count / (count - 1))


@pytest.mark.parametrize(("sampling", "error"), [("middles", 0.02), ("ends", 0.16)])
def test_how_long_an_exposure_seems_to_few_instants(sampling, error):
    """Against the mean of many instants, the shutter that fits best is right, or a seventh too short."""

    def image(tau: float, count: int, kind) -> torch.Tensor:
        shutter = ShutterConfig(half_exposure=tau)
        scene = make_scene(
            CameraPathExposureConfig(num_instants=count, sampling=kind, shutter=shutter), Glide((2.4, 0.3, 0.0))
        )
        return scene.render(make_views(), mode="train").channels["rgb"].detach()

    truth = image(0.3, 101, "middles")
    taus = torch.linspace(0.22, 0.38, 33)
    errors = torch.stack([(image(float(tau), 7, sampling) - truth).square().mean() for tau in taus])
    assert float(taus[errors.argmin()]) / 0.3 == pytest.approx(1 - (0 if sampling == "middles" else 1 / 7), abs=0.03)
    assert abs(float(taus[errors.argmin()]) / 0.3 - 1) <= error


def streak_of(exposure: Any) -> tuple[Scene, Views]:
    """A Gaussian that moves 4 pixels in the exposure of a camera that turns meanwhile."""
    means = torch.tensor([[-0.5, 0.0, 4.0]])
    scene = Scene([make_set(DYNAMIC, means), make_set(STATIC, means + 1)], Glide((1.0, 0.0, 0.0)), exposure)
    K = torch.tensor([[40.0, 0, 24], [0, 40, 18], [0, 0, 1]])[None]
    return scene, Views(IDENTITY[None], K, torch.tensor([0.5]), 48, 36, torch.tensor([0]))


@pytest.mark.parametrize("lens", [False, True])
def test_masks_and_depths_are_seen_from_the_middle_while_light_adds_up(lens):
    path = CameraPathExposureConfig(num_instants=5, shutter=ShutterConfig(half_exposure=0.8))
    parts = [path, DefocusExposureConfig(aperture=1e-7, focus_distance=4.0, num_points=3)] if lens else [path]
    exposure = choose(*parts).setup(num_views=1, num_frames=3)
    scene, views = streak_of(exposure)
    for parameter in exposure.parameters():
        if parameter.ndim == 3:
            parameter.data[:, 1, 3:] = 0.1
            parameter.data[:, 0, 3:] = -0.1
    needs = ("dynamic", "depth")
    blurred, sharp = (scene.render(views, mode=mode, needs=needs) for mode in ("train", "mid"))
    torch.testing.assert_close(blurred.channels["dynamic"], sharp.channels["dynamic"], atol=1e-4, rtol=1e-4)
    assert blurred.depth is not None
    assert sharp.depth is not None
    seen = sharp.alpha > 0.1
    torch.testing.assert_close(blurred.depth[seen], sharp.depth[seen], atol=1e-3, rtol=1e-3)
    assert float((blurred.channels["rgb"] - sharp.channels["rgb"]).detach().abs().max()) > 0.05
    assert float((blurred.alpha - sharp.alpha).detach().abs().max()) > 0.05


def test_weights_of_the_middle_sum_to_one_through_any_refinement():
    exposure = CameraPathExposureConfig(num_instants=3).setup(num_views=2, num_frames=5)
    views = make_views()
    instants = exposure.instants(views.camera_T_world, views.K, views.time, views.index, "train")
    assert instants.middle is not None
    assert instants.middle.tolist() == [0, 1, 0, 0, 1, 0]
    finer = per_instant(
        instants, 4, instants.camera_T_world[:, None].expand(-1, 4, 4, 4), instants.time[:, None].expand(-1, 4)
    )
    assert finer.middle is not None
    assert finer.middle.reshape(2, 12).sum(1).tolist() == [1, 1]
    assert exposure.instants(views.camera_T_world, views.K, views.time, views.index, "mid").middle is None


def test_a_shutter_on_a_path_that_runs_backward_is_found_when_it_may_be_reversed():
    """The camera turns one way and a point moves; the path is given the wrong way round, as blur alone allows."""

    def scene_with(tau: float, way: float, shutter: ShutterConfig) -> tuple[Any, Views]:
        exposure = CameraPathExposureConfig(num_instants=9, shutter=shutter).setup(num_views=1, num_frames=3)
        scene, views = streak_of(exposure)
        exposure.knots.data[:, 0, 3:], exposure.knots.data[:, 1, 3:] = -0.05 * way, 0.05 * way
        if exposure.shutter.config.kind == "learned":
            exposure.shutter.tau.data.fill_(tau)
        return scene, views

    scene, views = scene_with(0.4, 1.0, ShutterConfig(half_exposure=0.4))
    truth = scene.render(views, mode="train").channels["rgb"].detach()
    scene, views = scene_with(0.25, -1.0, ShutterConfig("learned", shortest=0.02, reversible=True, observe_from=0))
    shutter = scene.exposure.shutter

    def error() -> torch.Tensor:
        return (scene.render(views, mode="train").channels["rgb"] - truth).abs().mean(dim=(1, 2, 3))

    before = error()
    scene.exposure.observe(scene, views, 1, error)  # not its turn
    assert shutter.direction.tolist() == [1.0]
    for step in (10, 20):  # turned round once, and kept so
        scene.exposure.observe(scene, views, step, error)
        assert shutter.direction.tolist() == [-1.0]
    assert float(error()) < float(before)
    half = shutter.half_exposure(torch.tensor([0]))
    torch.testing.assert_close(shutter.reach(torch.tensor([0])), -half)


def test_paths_start_along_the_cameras_own_motion():
    """A camera that glides at a constant speed: the ends of an exposure of +-0.25 frames are on its way."""
    cameras = IDENTITY.repeat(5, 1, 1)
    cameras[:, :3, 3] = -torch.arange(5)[:, None] * torch.tensor([0.2, 0.05, -0.1])
    frames = torch.arange(5)
    views: Any = SimpleNamespace(camera_T_world=cameras, frame_index=frames, camera_index=torch.zeros(5))
    config = CameraPathExposureConfig(along_clip=True, shutter=ShutterConfig(half_exposure=0.25))
    exposure = config.setup(num_views=5, num_frames=5)
    K = torch.eye(3).repeat(5, 1, 1)
    exposure.start_from(views)
    for mode, moment in (("start", -0.25), ("mid", 0.0), ("end", 0.25)):
        found = exposure.instants(cameras, K, frames / 4, frames, mode).camera_T_world
        expected = -(frames + moment)[:, None] * torch.tensor([0.2, 0.05, -0.1])
        torch.testing.assert_close(found[:, :3, 3], expected, atol=1e-6, rtol=0)


def test_a_shared_shutter_is_one_parameter_that_all_views_pull_at():
    shutter = Shutter(ShutterConfig("learned", half_exposure=0.25, shared=True), 24)
    assert shutter.tau.shape == (1,)
    half = shutter.half_exposure(torch.tensor([0, 7, 23]))
    torch.testing.assert_close(half, torch.full((3,), 0.25))
    half.sum().backward()
    assert shutter.tau.grad is not None
    assert shutter.tau.grad.tolist() == [3.0]
