"""Cameras as the host wants them."""

import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_paths import get_spiral_path
from nerfstudio.cameras.cameras import Cameras

from dyngs_plugins.camera_paths import look_at
from dyngs_plugins.cameras import PathClock
from dyngs_plugins.host_cameras import rolled_for_spirals, views_of


def camera_looking(direction: tuple[float, float, float]) -> Cameras:
    """A camera at the origin with +z of the world up in its image."""
    pose = look_at(np.zeros(3), np.array(direction), np.array([0.0, 0.0, 1.0]))
    opengl = torch.from_numpy(pose[:3] * np.array([1.0, -1.0, -1.0, 1.0])).float()
    return Cameras(opengl[None], fx=100.0, fy=100.0, cx=50.0, cy=40.0, width=100, height=80, times=torch.zeros(1, 1))


@pytest.mark.parametrize("direction", [(0, 1, 0), (1, 0, 0), (-1, -1, 0.5), (0.3, -1, -0.9)])
def test_spirals_are_upright(direction):
    camera = camera_looking(direction)
    path = get_spiral_path(rolled_for_spirals(camera), steps=12, radius=0.1)
    ups, forward = path.camera_to_worlds[:, :3, 1], -path.camera_to_worlds[:, :3, 2]
    own_up, own_forward = camera.camera_to_worlds[0, :3, 1], -camera.camera_to_worlds[0, :3, 2]
    assert float((ups @ own_up).min()) > 0.99
    assert float((forward @ own_forward).min()) > 0.99


def test_a_camera_that_looks_down_is_left_as_it_is():
    camera = camera_looking((1, 0, 0))
    camera.camera_to_worlds = torch.eye(4)[None, :3]
    assert torch.equal(rolled_for_spirals(camera).camera_to_worlds, camera.camera_to_worlds)


def test_views_have_the_intrinsics_and_the_size_of_the_cameras():
    poses, size = torch.eye(4)[None, :3].repeat(2, 1, 1), torch.tensor([[100], [100]])
    fx, fy, cx, cy = torch.tensor([[[90.0], [91]], [[80], [81]], [[50], [51]], [[40], [41]]])
    cameras = Cameras(poses, fx, fy, cx, cy, width=size, height=size - 20, times=torch.tensor([[0.0], [1.2]]))
    views = views_of(cameras, PathClock([]), torch.device("cpu"))
    assert torch.equal(views.K, cameras.get_intrinsics_matrices())
    assert (views.height, views.width) == (80, 100)
    assert views.time.tolist() == [0.0, 1.0]
    given = views_of(cameras, PathClock([]), torch.device("cpu"), size=(30, 40))
    assert (given.height, given.width) == (30, 40)
