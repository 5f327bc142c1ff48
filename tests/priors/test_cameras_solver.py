"""Perfect tracks give perfect cameras; what cannot be known is said."""

from __future__ import annotations

import numpy as np
import pytest
from camera_scenes import CENTER, SIZE, looking_at, path_of_centers, room, tracked, turning, wall

from dyngs_plugins.priors.cameras.bundle import Freedom, Reconstruction, adjust, tangent_basis
from dyngs_plugins.priors.cameras.focal import candidate_fovs, focal_of_fov, search_focal
from dyngs_plugins.priors.cameras.locate import locate_frames
from dyngs_plugins.priors.cameras.moving import motion_masks, pair_error, sampson_error, still_tracks
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.planes import plane_share
from dyngs_plugins.priors.cameras.rotation import (
    align_sim3,
    between,
    cross_matrix,
    interpolate_missing,
    rotation_of,
    trajectory_error,
    vector_of,
)
from dyngs_plugins.priors.cameras.solution import SolverSettings
from dyngs_plugins.priors.cameras.solver import solve_tracks
from dyngs_plugins.priors.cameras.structure import key_frames, spread_tracks, triangulate
from dyngs_plugins.priors.cameras.turning import all_but_first
from dyngs_plugins.priors.providers.cameras_tracks import cameras_of

FRAMES = 16
TARGET = np.array([0.0, 0.0, 5.0])


def walk(frames: int = FRAMES) -> np.ndarray:
    return looking_at(path_of_centers(frames), TARGET)


def cameras_at(world_T_camera: np.ndarray, focal: float) -> Reconstruction:
    rotation = world_T_camera[:, :3, :3].transpose(0, 2, 1)
    translation = -np.einsum("nij,nj->ni", rotation, world_T_camera[:, :3, 3])
    return Reconstruction(rotation, translation, np.zeros((0, 4)), focal, CENTER)


# Parts ---------------------------------------------------------------------------------------------------------------


def test_rotation_vectors_round_trip():
    vectors = np.random.default_rng(0).normal(0, 1, (50, 3))
    rotations = rotation_of(vectors)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(vector_of(rotations), vectors, atol=1e-9)
    np.testing.assert_allclose(rotation_of(np.zeros(3)), np.eye(3), atol=0)


def test_poses_between_others_move_at_constant_speed():
    first, last = walk()[[0, -1]]
    quarter, half = between(first, last, 0.25), between(first, last, 0.5)
    np.testing.assert_allclose(between(first, half, 0.5), quarter, atol=1e-12)
    np.testing.assert_allclose(between(first, last, 1.0), last, atol=1e-12)


def test_missing_poses_lie_between_their_neighbours_and_stand_at_the_ends():
    poses, known = walk(5), np.array([False, True, False, True, False])
    filled = interpolate_missing(poses, known)
    np.testing.assert_allclose(filled[[1, 3]], poses[[1, 3]])
    np.testing.assert_allclose(filled[2], between(poses[1], poses[3], 0.5), atol=1e-12)
    np.testing.assert_allclose(filled[[0, 4]], poses[[1, 3]])
    with pytest.raises(ValueError, match="no frame with a pose"):
        interpolate_missing(poses, np.zeros(5, bool))


def test_sim3_is_recovered_and_a_scaled_turned_path_has_no_error():
    poses = walk()
    rotation = rotation_of(np.array([0.3, -0.8, 0.2]))
    moved = poses[:, :3, 3] @ rotation.T * 2.5 + [1.0, -2.0, 0.5]
    scale, found, shift = align_sim3(poses[:, :3, 3], moved)
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    np.testing.assert_allclose(shift, [1.0, -2.0, 0.5], atol=1e-9)
    other = poses.copy()
    other[:, :3, 3] = moved
    error, length = trajectory_error(poses, other)
    assert error < 1e-9
    assert length == pytest.approx(2.5 * np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())


def test_observations_find_what_two_frames_share():
    seen = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], bool)
    xy = np.arange(32.0).reshape(4, 4, 2)
    tracks = Observations.from_dense(xy, seen)
    assert tracks.num_tracks == 3
    assert tracks.lengths.tolist() == [4, 2, 2]  # by first frame
    a, b = tracks.shared(0, 3)
    np.testing.assert_array_equal(tracks.xy[a], xy[[1, 2], 0])
    np.testing.assert_array_equal(tracks.xy[b], xy[[1, 2], 3])
    inner, old = tracks.of_frames(np.array([1, 2]))
    assert inner.num_frames == 2
    assert old.tolist() == [0, 2]
    assert inner.frame.tolist() == [0, 1, 0, 1]


def test_tangents_are_orthonormal_to_their_point():
    points = np.random.default_rng(0).normal(size=(40, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    basis = tangent_basis(points)
    np.testing.assert_allclose(np.einsum("mij,mik->mjk", basis, basis), np.tile(np.eye(3), (40, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.einsum("mij,mi->mj", basis, points), 0.0, atol=1e-12)


def test_points_are_triangulated_exactly_and_far_ones_have_no_depth():
    poses = walk()
    near, far = tracked(poses, room()), tracked(poses, room() * [1e7, 1e7, 1e7])
    scene = triangulate(cameras_at(poses, near.focal), near.tracks)
    assert scene.errors(near.tracks).max() < 1e-6
    scene = triangulate(cameras_at(poses, far.focal), far.tracks)
    assert scene.errors(far.tracks).max() < 1e-6
    assert np.abs(scene.points[:, 3]).max() < 1e-6


def test_adjustment_returns_to_the_truth_and_finds_the_focal_length():
    poses = walk()
    world = tracked(poses, room())
    rng = np.random.default_rng(0)
    start = triangulate(cameras_at(poses, world.focal), world.tracks)
    wrong = Reconstruction(
        rotation_of(rng.normal(0, 0.01, (FRAMES, 3))) @ start.rotation,
        start.translation + rng.normal(0, 0.02, (FRAMES, 3)), start.points, 330.0, CENTER,
    )  # fmt: skip
    free = all_but_first(FRAMES)
    found = adjust(wrong, world.tracks, Freedom(free, free, True), scale=3.0, steps=80, tolerance=1e-9).reconstruction
    assert found.focal == pytest.approx(world.focal, rel=1e-4)
    error, length = trajectory_error(found.world_T_camera, poses)
    assert error < 1e-4 * length


# Still and moving ----------------------------------------------------------------------------------------------------


def test_sampson_error_of_a_still_world_is_zero_and_moving_points_exceed_the_bound():
    """Fact 17 of MoSca's sheet."""
    poses = walk()
    world = tracked(poses, room(), moving=0.3)
    i, j = 3, 9
    a, b = world.tracks.shared(i, j)
    j_T_i = np.linalg.inv(poses[j]) @ poses[i]
    K = np.array([[world.focal, 0, CENTER[0]], [0, world.focal, CENTER[1]], [0, 0, 1.0]])
    fundamental = np.linalg.inv(K).T @ cross_matrix(j_T_i[:3, 3]) @ j_T_i[:3, :3] @ np.linalg.inv(K)
    error = sampson_error(fundamental, world.tracks.xy[a], world.tracks.xy[b])
    moving = world.moving[world.tracks.track[a]]
    assert error[~moving].max() < 1e-6
    assert np.median(error[moving]) > 2.0
    estimated = pair_error(world.tracks.xy[a], world.tracks.xy[b])
    assert estimated is not None
    assert np.percentile(estimated[~moving], 95) < 0.5


def test_tracks_that_move_are_told_from_still_ones_without_poses():
    world = tracked(walk(), room(), moving=0.3, noise=0.2)
    still, worst = still_tracks(world.tracks, gaps=(2, 5))
    assert still[~world.moving].mean() > 0.95
    assert still[world.moving].mean() < 0.25
    assert (worst[still] <= 2.0).all()


def test_masks_cover_moving_tracks():
    poses = walk()
    points = room()
    points[:210] = np.random.default_rng(0).uniform([-0.6, -0.6, 4], [0.6, 0.6, 4.5], (210, 3))
    world = tracked(poses, points, moving=0.3)
    xy, frame = world.tracks.xy, world.tracks.frame
    masks = np.stack(list(motion_masks(world.tracks, ~world.moving, SIZE)))
    hit = masks[frame, np.minimum(xy[:, 1].astype(int), 239), np.minimum(xy[:, 0].astype(int), 319)]
    moving = world.moving[world.tracks.track]
    assert hit[moving].mean() > 0.6
    assert hit[~moving].mean() < 0.25
    assert not np.stack(list(motion_masks(world.tracks, np.ones_like(world.moving), SIZE))).any()


# Whole solutions -----------------------------------------------------------------------------------------------------


def test_perfect_tracks_give_exact_poses_when_the_focal_length_is_given():
    world = tracked(walk(12), room(300))
    solution = solve_tracks(world.tracks, SIZE, world.focal, SolverSettings())
    error, length = trajectory_error(solution.scene.world_T_camera, world.world_T_camera)
    assert error < 1e-3 * length
    assert not solution.still
    assert solution.solved.all()
    assert solution.median_error < 1e-2
    assert solution.scene.focal == world.focal


def test_focal_search_finds_the_true_one_in_its_range_and_within_a_step_of_the_candidates():
    """Fact 10 of MoSca's sheet, with triangulation in place of a depth prior."""
    world = tracked(walk(8), room(180))
    fovs = candidate_fovs(4)
    found = search_focal(world.tracks, SIZE, fovs=fovs)
    assert found.observable
    best = int(np.argmin(found.energies))
    assert abs(best - int(np.argmin(np.abs(np.log(np.array(found.candidates) / world.focal))))) <= 1
    assert found.best.reconstruction.focal == pytest.approx(world.focal, rel=0.02)


def test_a_focal_length_that_nothing_tells_is_assumed():
    """Sliding sideways before a wall that faces the camera: every focal length fits (fact 10: the fall-back)."""
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 3] = np.linspace(-0.6, 0.6, 6)
    points = room(150)
    points[:, 2] = 5.0
    found = search_focal(tracked(poses, points).tracks, SIZE, fovs=candidate_fovs(3))
    assert not found.observable
    assert found.best.reconstruction.focal == pytest.approx(focal_of_fov(53.0, SIZE))


def test_a_third_of_the_tracks_may_move_and_the_result_is_the_same_each_time():
    world, settings = tracked(walk(10), room(400), moving=0.3, noise=0.2), SolverSettings(rounds=1)
    first, second = (solve_tracks(world.tracks, SIZE, world.focal, settings) for _ in range(2))
    error, length = trajectory_error(first.scene.world_T_camera, world.world_T_camera)
    assert error < 0.01 * length
    np.testing.assert_array_equal(first.scene.world_T_camera, second.scene.world_T_camera)
    assert first.still_share < 0.85


def test_a_camera_that_only_turns_is_found_out_and_its_rotations_are_right():
    world = tracked(turning(FRAMES), room(), moving=0.2, noise=0.2)
    solution = solve_tracks(world.tracks, SIZE, world.focal, SolverSettings())
    assert solution.still
    assert any("only turns" in note for note in solution.notes)
    np.testing.assert_allclose(solution.scene.translation, 0.0)
    turned = solution.scene.rotation @ solution.scene.rotation[0].T
    truth = world.world_T_camera[:, :3, :3].transpose(0, 2, 1) @ world.world_T_camera[0, :3, :3]
    angles = np.linalg.norm(vector_of(turned @ truth.transpose(0, 2, 1)), axis=1)
    assert np.degrees(angles).max() < 0.1


def test_a_camera_on_a_tripod_stands():
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    world = tracked(poses, room(), moving=0.3, noise=0.1)
    solution = solve_tracks(world.tracks, SIZE, None, SolverSettings())
    cameras = cameras_of(solution)
    assert cameras.still
    assert cameras.interpolated == ()
    np.testing.assert_array_equal(cameras.world_T_camera, poses)
    assert any("stands still" in note for note in cameras.notes)
    assert any("assumed" in note for note in cameras.notes)


def test_a_wall_is_said_to_be_one():
    world = tracked(walk(), wall(), noise=0.1)
    solution = solve_tracks(world.tracks, SIZE, world.focal, SolverSettings(rounds=1))
    assert plane_share(world.tracks) > 0.9
    assert plane_share(tracked(walk(), room()).tracks) < 0.9
    assert any("one plane" in note for note in cameras_of(solution).notes)
    error, length = trajectory_error(solution.scene.world_T_camera, world.world_T_camera)
    assert error < 0.02 * length


def test_a_frame_without_tracks_is_interpolated_and_listed():
    world = tracked(walk(), room(300))
    tracks = world.tracks.keep(world.tracks.frame != 7)[0].keep_long(3)
    cameras = cameras_of(solve_tracks(tracks, SIZE, world.focal, SolverSettings(rounds=1)))
    assert cameras.interpolated == (7,)
    assert any("1 of 16 frames" in note for note in cameras.notes)
    error, length = trajectory_error(cameras.world_T_camera, world.world_T_camera)
    assert error < 0.02 * length


def test_too_few_tracks_are_refused_with_advice():
    world = tracked(walk(), room(10))
    with pytest.raises(ValueError, match="expected at least 24"):
        solve_tracks(world.tracks, SIZE, None, SolverSettings())


def test_held_out_frames_are_located_and_the_others_stay():
    world = tracked(walk(), room(), moving=0.2)
    held = np.zeros(FRAMES, bool)
    held[[3, 8, 15]] = True
    frames = np.flatnonzero(~held)
    K = np.array([[world.focal, 0, CENTER[0]], [0, world.focal, CENTER[1]], [0, 0, 1.0]])
    poses, found = locate_frames(world.tracks, world.world_T_camera[frames], frames.tolist(), K, still=False)
    np.testing.assert_array_equal(poses[frames], world.world_T_camera[frames])
    np.testing.assert_allclose(poses, world.world_T_camera, atol=1e-3)
    assert found.all()


def test_held_out_frames_of_a_turning_camera_get_their_rotation():
    world = tracked(turning(FRAMES), room())
    frames = [i for i in range(FRAMES) if i != 6]
    K = np.array([[world.focal, 0, CENTER[0]], [0, world.focal, CENTER[1]], [0, 0, 1.0]])
    poses, _ = locate_frames(world.tracks, world.world_T_camera[frames], frames, K, still=True)
    np.testing.assert_allclose(poses, world.world_T_camera, atol=1e-4)


def test_key_frames_keep_both_ends_and_their_number():
    frames = key_frames(tracked(walk(40), room()).tracks, 8.0, least=6, most=12)
    assert frames[0] == 0
    assert frames[-1] == 39
    assert 6 <= len(frames) <= 12


def test_tracks_are_thinned_evenly():
    tracks = tracked(walk(), room()).tracks
    mask = spread_tracks(tracks, 200)
    assert mask.sum() == 200
    assert len(np.unique(tracks.frame[mask[tracks.track]])) == FRAMES
    assert tracks.lengths[mask].mean() > tracks.lengths.mean()
