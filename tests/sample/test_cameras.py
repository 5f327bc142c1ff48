"""Pixel conventions, and what the paths promise."""

import numpy as np
import pytest

from dyngs_plugins.sample.cameras import Camera, OrbitPath, held_out_path, look_at, training_paths
from dyngs_plugins.sample.ground_truth import surfaces
from dyngs_plugins.sample.scene import build_scene

TIMES = np.linspace(0, 1, 24)


def test_pixel_centres_are_integers_where_k_puts_them_at_a_half():
    K = np.array([[100.0, 0, 32.0], [0, 100.0, 24.0], [0, 0, 1]])
    camera = Camera(64, 48, K, np.eye(4))
    pixels, z = camera.project(np.array([[0.0, 0.0, 2.0], [0.1, -0.2, 4.0]]))
    assert pixels[0].tolist() == [31.5, 23.5]  # the optical axis passes between the middle pixels
    assert pixels[1].tolist() == pytest.approx([31.5 + 2.5, 23.5 - 5.0])
    assert z.tolist() == [2.0, 4.0]
    grid = camera.pixel_grid()
    assert grid[0].tolist() == [0, 0]
    assert grid[1].tolist() == [1, 0]
    assert grid[-1].tolist() == [63, 47]


def test_directions_undo_projection_and_have_unit_depth():
    camera = OrbitPath(64, 48).at(0.3)
    pixels = np.random.default_rng(0).uniform(-5, 60, size=(50, 2))
    directions = camera.directions(pixels)
    back, z = camera.project(camera.world_T_camera[:3, 3] + 3.7 * directions)
    np.testing.assert_allclose(back, pixels, atol=1e-9)
    np.testing.assert_allclose(z, 3.7, atol=1e-9)


def test_inside_is_between_the_outermost_pixel_centres():
    camera = OrbitPath(64, 48).at(0)
    pixels = np.array([[0.0, 0.0], [63.0, 47.0], [-0.01, 5.0], [63.01, 5.0], [5.0, 47.01], [5.0, 5.0]])
    z = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    assert camera.contains(pixels, z).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("shake", [0.0, 2.0])
def test_poses_are_rigid(shake):
    for t in TIMES:
        pose = OrbitPath(64, 48, shake=shake).at(t).world_T_camera
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        assert pose[3].tolist() == [0, 0, 0, 1]


def test_look_at_puts_the_target_on_the_axis_and_up_upwards():
    pose = look_at(np.array([1.0, -2.0, 0.5]), np.array([0.0, 0.0, 5.0]))
    camera = Camera(64, 48, np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]), pose)
    pixels, _ = camera.project(np.array([[0.0, 0.0, 5.0], [0.0, -0.5, 5.0]]))
    np.testing.assert_allclose(pixels[0], [31.5, 23.5], atol=1e-9)
    assert pixels[1, 1] < pixels[0, 1]  # -y is up, and up is towards smaller rows


def test_the_training_camera_travels_15_to_20_percent_of_the_depth():
    path = training_paths(160, 120, 1)["camera0"]
    centres = np.stack([path.at(t).world_T_camera[:3, 3] for t in TIMES])
    depth = np.median([surfaces(build_scene(), path.at(t), t).depth for t in (0.0, 0.5, 1.0)])
    assert 0.15 < np.linalg.norm(centres[-1] - centres[0]) / depth < 0.20
    # Smooth: no step differs from its neighbour by more than a third of a step.
    steps = np.diff(centres, axis=0)
    assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < np.linalg.norm(steps, axis=1).min() / 3


def test_up_is_not_near_the_z_axis_that_scene_normalisation_rotates_it_to():
    path = training_paths(160, 120, 1)["camera0"]
    up = -np.mean([path.at(t).world_T_camera[:3, 1] for t in TIMES], axis=0)
    assert abs(up[2]) / np.linalg.norm(up) < 0.5


def test_the_held_out_camera_stays_10_to_15_degrees_away():
    train, test = training_paths(160, 120, 1)["camera0"], held_out_path(160, 120)
    for t in TIMES:
        a, b = train.at(t).world_T_camera, test.at(t).world_T_camera
        assert 10 < np.rad2deg(np.arccos(a[:3, 2] @ b[:3, 2])) < 15
        assert np.linalg.norm(a[:3, 3] - b[:3, 3]) > 0.8


def test_simultaneous_cameras_are_all_different_and_see_surfaces_everywhere():
    scene, paths = build_scene(), training_paths(32, 24, 9)
    assert list(paths) == [f"camera{i}" for i in range(9)]
    paths["held out"] = held_out_path(32, 24)
    centres = np.stack([path.at(0.5).world_T_camera[:3, 3] for path in paths.values()])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 10 * np.eye(len(centres))
    assert distances.min() > 0.2
    for path in paths.values():
        for t in (0.0, 0.5, 1.0):
            assert np.isfinite(surfaces(scene, path.at(t), t).depth).all()


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (96, 54)])
def test_other_aspect_ratios_see_no_more_than_the_default_does(width, height):
    camera = OrbitPath(width, height).at(0.5)
    assert width / 2 / camera.K[0, 0] <= 0.5 / 0.95 + 1e-9
    assert height / 2 / camera.K[1, 1] <= 0.375 / 0.95 + 1e-9
