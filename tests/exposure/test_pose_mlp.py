"""The path predicted from a pose: the facts of Deblur4DGS' sheet."""

import torch
from exposure_scenes import arguments, make_views, stir, twists

from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.pose_mlp import PosePathExposureConfig, PosePredictor


def test_every_path_starts_at_the_identity():
    assert torch.equal(PosePredictor()(twists(20).float()), torch.zeros(20, 2, 6))
    exposure = PosePathExposureConfig().setup(num_views=2, num_frames=5)
    instants = exposure.instants(*arguments(make_views()), mode="train")
    assert len(instants.time) == 22
    expected = make_views().camera_T_world.repeat_interleave(11, dim=0)
    torch.testing.assert_close(instants.camera_T_world, expected, atol=1e-7, rtol=0)


def test_shapes_are_the_papers():
    shapes = [tuple(p.shape) for p in PosePredictor().parameters() if p.ndim == 2]
    assert shapes == [(64, 66), *[(64, 64)] * 4, (64, 64), (6, 64), (64, 64), (6, 64)]


def test_the_ends_are_the_two_heads_and_the_way_between_is_straight():
    exposure = PosePathExposureConfig().setup(num_views=2, num_frames=5)
    stir(exposure, 0.05)
    camera = make_views().camera_T_world
    knots = exposure.predictor(se3.log(camera))
    path = exposure.motion(torch.arange(2), camera, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(path[:, [0, 2]], se3.exp(knots), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(path[:, 1, :3, 3], path[:, [0, 2], :3, 3].mean(1), atol=1e-6, rtol=1e-5)


def test_one_network_serves_all_frames_and_adds_two_groups():
    config = PosePathExposureConfig()
    exposure = config.setup(num_views=24, num_frames=24)
    assert list(exposure.param_groups()) == ["exposure_predictor"]
    assert set(exposure.param_groups()) <= set(config.rates())
    config.shutter.kind = "learned"
    exposure = config.setup(num_views=24, num_frames=24)
    assert set(exposure.param_groups()) == {"exposure_predictor", "exposure_shutter"}
    assert exposure.shutter.tau.shape == (24,)  # also the first and the last frame, unlike the reference's eight
