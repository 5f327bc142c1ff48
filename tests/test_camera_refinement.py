"""Refined cameras: poses on the right-hand side, a focal factor, and what checkpoints say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "exposure"))

from exposure_pairs import exposure_configs  # noqa: E402
from exposure_scenes import make_scene, make_views, twists  # noqa: E402

from dyngs_plugins.camera_refinement import CameraRefinementConfig  # noqa: E402
from dyngs_plugins.exposure import se3  # noqa: E402
from dyngs_plugins.exposure.base import InstantExposureConfig  # noqa: E402


def test_without_a_wish_nothing_is_learned_or_changed():
    cameras = CameraRefinementConfig().setup(num_views=3)
    assert cameras.param_groups() == {}
    views = make_views()
    assert cameras.poses(views.camera_T_world, views.index) is views.camera_T_world
    assert cameras.intrinsics(views.K) is views.K
    assert cameras.regularisers(views.index) == {}


def test_every_group_has_a_rate():
    config = CameraRefinementConfig(poses=True, focal=True)
    assert set(config.setup(num_views=3).param_groups()) == set(config.rates())


def test_a_pose_moves_in_its_cameras_own_frame():
    cameras = CameraRefinementConfig(poses=True).setup(num_views=2)
    cameras.twists.data[:, 2] = 0.1
    given = se3.exp(twists(2, scale=0.7)).float()
    moved = torch.linalg.inv(cameras.poses(given, torch.arange(2)))
    world_T_camera = torch.linalg.inv(given)
    torch.testing.assert_close(
        moved[:, :3, 3], world_T_camera[:, :3, 3] + 0.1 * world_T_camera[:, :3, 2], atol=1e-6, rtol=1e-5
    )


def test_the_focal_factor_leaves_the_principal_point():
    cameras = CameraRefinementConfig(focal=True).setup(num_views=2)
    cameras.log_focal.data.fill_(0.5)
    K = make_views().K
    expected = K.clone()
    expected[:, [0, 1], [0, 1]] *= torch.tensor(0.5).exp()
    torch.testing.assert_close(cameras.intrinsics(K), expected)


@pytest.mark.parametrize("exposure", sorted(exposure_configs()))
def test_gradients_reach_poses_and_focal_length_through_every_exposure(exposure):
    scene = make_scene(exposure_configs()[exposure])
    scene.cameras = CameraRefinementConfig(poses=True, focal=True).setup(num_views=2)
    image = scene.render(scene.refined(make_views()), mode="train").channels["rgb"]
    (image * torch.linspace(0, 1, 48)[:, None]).sum().backward()
    for parameter in scene.cameras.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert float(parameter.grad.abs().sum()) > 0
    assert {"camera_twists", "camera_log_focal"} <= set(scene.param_groups())


def test_wrong_poses_and_a_wrong_focal_length_are_found():
    truth = make_scene(InstantExposureConfig())
    views = make_views()
    images = truth.render(views).channels["rgb"].detach()
    wrong = make_scene(InstantExposureConfig())
    wrong.cameras = CameraRefinementConfig(poses=True, focal=True).setup(num_views=2)
    off = torch.tensor([[0.02, 0.01, 0.0, 0.005, 0.0, 0.01], [-0.01, 0.02, 0.0, 0.0, 0.01, 0.0]])
    wrong.cameras.twists.data.copy_(off)
    wrong.cameras.log_focal.data.fill_(0.03)
    optimizer = torch.optim.Adam(wrong.cameras.parameters(), lr=2e-3)
    errors = []
    for _ in range(80):
        optimizer.zero_grad()
        error = (wrong.render(wrong.refined(views), mode="train").channels["rgb"] - images).square().mean()
        error.backward()
        optimizer.step()
        errors.append(float(error))
    assert errors[-1] < 0.02 * errors[0]
    assert float(wrong.cameras.log_focal.abs()) < 0.01


def test_views_that_did_not_train_keep_their_cameras():
    scene = make_scene(InstantExposureConfig())
    scene.cameras = CameraRefinementConfig(poses=True).setup(num_views=2)
    views = make_views(None)
    assert scene.refined(views) is views


def test_the_anchor_is_the_mean_square_of_the_batchs_corrections():
    cameras = CameraRefinementConfig(poses=True, anchor=0.5).setup(num_views=3)
    cameras.twists.data[1] = torch.tensor([1.0, 0, 0, 0, 0, 2.0])
    found = cameras.regularisers(torch.tensor([1, 2]))["camera_anchor"]
    assert float(found) == pytest.approx(0.5 * 5 / 2)


def test_a_checkpoint_of_another_clip_is_refused():
    state = CameraRefinementConfig(poses=True).setup(num_views=3).state_dict()
    CameraRefinementConfig(poses=True).setup(num_views=3).load_state_dict(state)
    with pytest.raises(ValueError, match="refined cameras of 3 training views; this clip has 5"):
        CameraRefinementConfig(poses=True).setup(num_views=5).load_state_dict(state)
