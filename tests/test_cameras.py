"""Axes between nerfstudio and OpenCV, and the time of a camera that does not say it."""

import pytest
import torch
from nerfstudio.cameras.camera_utils import get_interpolated_poses_many

from dyngs_plugins.cameras import PathClock, TimedPath, camera_T_world_from_opengl


def walking_poses(n: int = 6) -> torch.Tensor:
    poses = torch.zeros(n, 3, 4)
    for i in range(n):
        angle = torch.tensor(0.1 * i)
        c, s = torch.cos(angle), torch.sin(angle)
        poses[i, :, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        poses[i, :, 3] = torch.tensor([0.2 * i, 0.05 * i**2, 1.0])
    return poses


def test_opengl_camera_looks_along_minus_z_and_up_is_minus_y_in_opencv():
    pose = torch.eye(4)[None, :3].clone()
    pose[0, :, 3] = torch.tensor([1.0, 2.0, 3.0])
    camera_T_world = camera_T_world_from_opengl(pose)[0]
    ahead = camera_T_world @ torch.tensor([1.0, 2.0, 1.0, 1.0])
    torch.testing.assert_close(ahead, torch.tensor([0.0, 0.0, 2.0, 1.0]))
    above = camera_T_world @ torch.tensor([1.0, 3.0, 3.0, 1.0])
    torch.testing.assert_close(above, torch.tensor([0.0, -1.0, 0.0, 1.0]))


def test_known_poses_get_their_own_times():
    poses, times = walking_poses(), torch.linspace(0, 1, 6)
    clock = PathClock([TimedPath(poses, times)])
    for pose, time in zip(poses, times, strict=True):
        assert clock.time_of(pose) == pytest.approx(float(time), abs=1e-5)


def test_the_hosts_interpolated_path_plays_forward():
    poses, times = walking_poses(), torch.linspace(0, 1, 6)
    K = torch.eye(3).repeat(6, 1, 1)
    between, _ = get_interpolated_poses_many(poses, K, steps_per_transition=5, order_poses=False)
    told = torch.tensor([PathClock([TimedPath(poses, times)]).time_of(pose) for pose in between])
    assert bool((told.diff() >= -1e-4).all())
    assert float(told[0]) == pytest.approx(0, abs=1e-4)
    assert float(told[-1]) == pytest.approx(1, abs=1e-4)
    segment = torch.linspace(0, 1, 5)
    expected = torch.cat([(i + segment) / 5 for i in range(5)])
    torch.testing.assert_close(told, expected, atol=0.01, rtol=0)


def test_a_camera_that_only_turns_still_tells_the_time():
    poses, times = walking_poses(), torch.linspace(0, 1, 6)
    poses[:, :, 3] = 0
    clock = PathClock([TimedPath(poses, times)])
    assert clock.time_of(poses[3]) == pytest.approx(0.6, abs=1e-4)


def test_a_camera_that_stands_still_gives_the_default():
    poses = torch.eye(4)[:3].expand(4, 3, 4).clone()
    assert PathClock([TimedPath(poses, torch.linspace(0, 1, 4))], default=0.25).time_of(poses[2]) == 0.25
    assert PathClock([], default=0.5).time_of(poses[0]) == 0.5


def test_the_nearer_of_two_paths_answers():
    poses, times = walking_poses(), torch.linspace(0, 1, 6)
    other = poses.clone()
    other[:, 1, 3] += 5.0
    clock = PathClock([TimedPath(poses, times), TimedPath(other, times.flip(0))])
    assert clock.time_of(poses[1]) == pytest.approx(0.2, abs=1e-4)
    assert clock.time_of(other[1]) == pytest.approx(0.8, abs=1e-4)
