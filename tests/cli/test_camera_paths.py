"""Camera-path geometry: exact for constant motion, rigid always, and looking where it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dyngs_plugins.camera_paths import (
    ORBITS,
    CameraPath,
    average_camera,
    look_at,
    look_at_point,
    resample,
    rigid,
    smooth,
)


def steady_path(count: int = 9, turn: float = 0.8) -> CameraPath:
    """Constant velocity, constant turn rate, constant zoom rate."""
    share = np.linspace(0, 1, count)
    rotations = Rotation.from_rotvec(share[:, None] * np.array([0.1, turn, -0.2])) * Rotation.from_rotvec([0.3, 0, 0])
    positions = np.array([1.0, 2.0, 3.0]) + share[:, None] * np.array([0.5, -1.0, 0.25])
    return CameraPath(rigid(rotations.as_matrix(), positions), share, 2 * np.arctan(np.exp(0.3 * share) / 3))


def shaken(path: CameraPath, seed: int, amount: float = 0.05) -> CameraPath:
    rng = np.random.default_rng(seed)
    poses = path.world_T_camera.copy()
    poses[:, :3, 3] += amount * rng.standard_normal((len(path), 3))
    poses[:, :3, :3] = Rotation.from_rotvec(amount * rng.standard_normal((len(path), 3))).as_matrix() @ poses[:, :3, :3]
    return CameraPath(poses, path.time, path.vertical_fov)


def assert_rigid(poses: np.ndarray) -> None:
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-9)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (len(poses), 1)))


def test_resampling_is_exact_at_the_cameras_and_for_steady_motion():
    coarse, fine = steady_path(5), steady_path(41)
    again = resample(coarse, coarse.time)
    np.testing.assert_allclose(again.world_T_camera, coarse.world_T_camera, atol=1e-12)
    np.testing.assert_allclose(again.vertical_fov, coarse.vertical_fov, atol=1e-12)
    between = resample(coarse, fine.time)
    np.testing.assert_allclose(between.world_T_camera, fine.world_T_camera, atol=1e-9)
    np.testing.assert_allclose(between.vertical_fov, fine.vertical_fov, atol=1e-9)
    assert_rigid(between.world_T_camera)


def test_resampling_holds_the_ends_and_a_single_camera():
    path = steady_path(5)
    inner = CameraPath(path.world_T_camera[1:4], path.time[1:4], path.vertical_fov[1:4])
    held = resample(inner, np.array([0.0, 1.0]))
    np.testing.assert_allclose(held.world_T_camera, path.world_T_camera[[1, 3]], atol=1e-12)
    np.testing.assert_array_equal(held.time, [0.0, 1.0])
    alone = CameraPath(path.world_T_camera[:1], path.time[:1], path.vertical_fov[:1])
    np.testing.assert_allclose(resample(alone, np.linspace(0, 1, 4)).world_T_camera, path.world_T_camera[[0] * 4])


def test_smoothing_leaves_steady_motion_alone():
    path = steady_path(30)
    for sigma in (0.0, 1.0, 4.0, 100.0):
        np.testing.assert_allclose(smooth(path, sigma).world_T_camera, path.world_T_camera, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 100))
def test_smoothing_calms_a_shaken_camera_and_keeps_it_rigid(seed: int):
    path = shaken(steady_path(30), seed)
    calm = smooth(path, 3.0)
    assert_rigid(calm.world_T_camera)
    np.testing.assert_array_equal(calm.time, path.time)

    def jerk(poses: np.ndarray) -> float:
        return float(np.abs(np.diff(poses[:, :3], n=2, axis=0)).mean())

    assert jerk(calm.world_T_camera) < 0.3 * jerk(path.world_T_camera)
    np.testing.assert_allclose(calm.world_T_camera[[0, -1], :3, 3], path.world_T_camera[[0, -1], :3, 3], atol=1e-9)


def test_average_camera_of_a_symmetric_fan():
    angles = np.array([-0.4, -0.1, 0.1, 0.4])
    rotations = Rotation.from_rotvec(angles[:, None] * np.array([0.0, 1.0, 0.0])).as_matrix()
    positions = angles[:, None] * np.array([2.0, 0.0, 0.0]) + np.array([0.0, 5.0, 0.0])
    average = average_camera(CameraPath(rigid(rotations, positions), np.linspace(0, 1, 4), np.ones(4)))
    expected = np.eye(4)
    expected[1, 3] = 5.0
    np.testing.assert_allclose(average, expected, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 200))
def test_look_at_puts_the_target_on_the_axis_with_up_upwards(seed: int):
    position, target, up = np.random.default_rng(seed).standard_normal((3, 3))
    pose = look_at(position, target, up)
    assert_rigid(pose[None])
    seen = pose[:3, :3].T @ (target - pose[:3, 3])
    np.testing.assert_allclose(seen[:2], 0, atol=1e-9)
    assert seen[2] > 0
    up_seen = pose[:3, :3].T @ up
    assert abs(up_seen[0]) < 1e-9
    assert up_seen[1] < 0  # OpenCV: y is down


def test_look_at_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="cannot look at"):
        look_at(np.zeros(3), np.array([0.0, 0.0, 2.0]), np.array([0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="cannot look at"):
        look_at(np.ones(3), np.ones(3), np.array([0.0, 0.0, 1.0]))


def test_look_at_point_is_where_the_axes_meet():
    target, up = np.array([0.3, -0.2, 4.0]), np.array([0.0, -1.0, 0.0])
    poses = np.stack([look_at(np.array([x, 0.1 * x, 0.0]), target, up) for x in (-1.0, -0.3, 0.4, 1.0)])
    path = CameraPath(poses, np.linspace(0, 1, 4), np.ones(4))
    np.testing.assert_allclose(look_at_point(path, poses[0]), target, atol=1e-9)


def test_look_at_point_of_a_camera_that_does_not_turn_is_near_the_scene_centre():
    poses = rigid(np.tile(np.eye(3), (3, 1, 1)), np.array([[-1.0, 0, -5], [0, 0, -5], [1, 0, -5]]))
    path = CameraPath(poses, np.linspace(0, 1, 3), np.ones(3))
    np.testing.assert_allclose(look_at_point(path, poses[1]), [0, 0, 0], atol=1e-12)
    # The centre behind the camera: one unit ahead, never backwards.
    poses[:, 2, 3] = 2.0
    np.testing.assert_allclose(look_at_point(path, poses[1]), [0, 0, 3], atol=1e-12)


def test_look_at_point_ignores_a_crossing_behind_the_camera():
    """A camera that turns outwards: its axes meet behind it."""
    up = np.array([0.0, -1.0, 0.0])
    poses = np.stack([look_at(np.array([x, 0.0, 0.0]), np.array([2 * x, 0.0, 3.0]), up) for x in (-1.0, 0.0, 1.0)])
    path = CameraPath(poses, np.linspace(0, 1, 3), np.ones(3))
    assert look_at_point(path, poses[1])[2] > 0


@pytest.mark.parametrize("name", list(ORBITS))
@pytest.mark.parametrize("degrees", [5.0, 40.0])
def test_orbits_are_rigid_close_and_keep_the_target_in_sight(name: str, degrees: float):
    reference = look_at(np.array([1.0, -2.0, 0.5]), np.array([0.0, 3.0, 0.2]), np.array([0.0, 0.0, 1.0]))
    target = reference[:3, 3] + 4.0 * reference[:3, 2]
    poses = ORBITS[name](reference, target, 48, np.deg2rad(degrees))
    assert poses.shape == (48, 4, 4)
    assert_rigid(poses)
    # It moves in small steps, and the last step leads back to the start.
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0, append=poses[:1, :3, 3]), axis=1)
    assert steps.max() < 3 * steps.mean()
    assert steps.mean() > 1e-3
    seen = np.einsum("nji,nj->ni", poses[:, :3, :3], target - poses[:, :3, 3])
    assert (seen[:, 2] > 0).all()
    aside = np.rad2deg(np.arctan2(np.linalg.norm(seen[:, :2], axis=1), seen[:, 2]))
    limit = degrees / 2 if name == "wander" else 1e-6
    assert aside.max() <= limit + 1e-6


def test_arc_has_the_width_it_was_asked_for_and_the_distance_of_its_reference():
    reference, target = np.eye(4), np.array([0.0, 0.0, 4.0])
    poses = ORBITS["arc"](reference, target, 360, np.deg2rad(30))
    offsets = poses[:, :3, 3] - target
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 4.0)
    bearing = np.rad2deg(np.arctan2(offsets[:, 0], -offsets[:, 2]))
    assert bearing.max() == pytest.approx(15, abs=1e-3)
    assert bearing.min() == pytest.approx(-15, abs=1e-3)
    np.testing.assert_allclose(poses[0], reference, atol=1e-12)


def test_bad_paths_are_explained():
    path = steady_path(3)
    with pytest.raises(ValueError, match="must not decrease"):
        CameraPath(path.world_T_camera, path.time[::-1], path.vertical_fov)
    with pytest.raises(ValueError, match="as many poses"):
        CameraPath(path.world_T_camera[:2], path.time, path.vertical_fov)
    with pytest.raises(ValueError, match="at least one camera"):
        CameraPath(path.world_T_camera[:0], path.time[:0], path.vertical_fov[:0])
    with pytest.raises(ValueError, match="smoothing width"):
        smooth(path, -1.0)
