"""Lifted points stand where the scene says, and nowhere else."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from dyngs_plugins.priors import lifting
from dyngs_plugins.priors.lifting import background_points, foreground_points, lift_tracks, project, sample_known
from dyngs_plugins.priors.som_files import write_disparity, write_mask, write_track_pair
from dyngs_plugins.priors.views import ClipViews, Priors


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_unproject_then_project_returns_the_pixel(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    for index in range(len(views)):
        world = lifting.unproject_map(views, index).reshape(-1, 3)
        pixels, z = project(world, views.camera_T_world[index], views.K[index])
        y, x = torch.meshgrid(torch.arange(views.height), torch.arange(views.width), indexing="ij")
        expected = torch.stack([x, y], -1).reshape(-1, 2).float()
        torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(z, views.depth(index).flatten(), atol=1e-4, rtol=0)


def test_lifted_tracks_lie_on_the_sliding_square(sliding_square):
    scene, root = sliding_square
    tracks = lift_tracks(scene.views(root), 600, generator())
    assert 300 < len(tracks) <= 600
    assert tracks.visible.float().mean() > 0.7
    centers = torch.from_numpy(np.stack([scene.center(t) for t in range(scene.frames)])).float()
    relative = tracks.points - centers  # constant in time where a point is seen
    assert (relative[tracks.visible][:, 2].abs() < 1e-3).all()
    home = relative[torch.arange(len(tracks)), tracks.query_frame]
    wandered = (relative - home[:, None]).norm(dim=-1)[tracks.visible]
    assert wandered.max() < 1e-3
    red = torch.tensor([205 / 255, 0, 0])
    torch.testing.assert_close(tracks.colors[:, 0], red[0].expand(len(tracks)), atol=0.01, rtol=0)


def test_flags_hold_only_on_the_moving_mask(sliding_square):
    scene, root = sliding_square
    views = scene.views(root, mask_erosion=7)
    tracks = lift_tracks(views, 600, generator())
    assert len(tracks) > 100
    for t in range(scene.frames):
        seen = tracks.visible[:, t]
        pixels, _ = project(tracks.points[seen, t], views.camera_T_world[t], views.K[t])
        _, inside = sample_known(torch.zeros(views.height, views.width, 1), views.dynamic(t) == 1, pixels)
        # A point on a pixel's centre may fall a rounding error to its other side, where a neighbour counts too.
        assert inside.float().mean() > 0.95
    assert not (tracks.visible & tracks.invisible).any()
    assert (tracks.confidence[~(tracks.visible | tracks.invisible)] == 0).all()


def test_held_out_frames_are_empty_rows_of_time(sliding_square):
    scene, root = sliding_square
    keep = tuple(t for t in range(scene.frames) if t not in (4, 9))
    tracks = lift_tracks(scene.views(root, keep=keep), 400, generator())
    assert tracks.points.shape[1] == scene.frames
    for t in (4, 9):
        assert not tracks.visible[:, t].any()
        assert not tracks.invisible[:, t].any()
        assert not tracks.confidence[:, t].any()
        assert not tracks.points[:, t].any()
        assert not (tracks.query_frame == t).any()
    assert tracks.visible[:, 5].any()
    assert torch.isfinite(tracks.points).all()


def test_a_frame_without_the_square(square_with_gap):
    scene, root = square_with_gap  # also a clip of fewer than ten frames
    tracks = lift_tracks(scene.views(root), 300, generator())
    assert len(tracks) > 100
    assert not (tracks.query_frame == 2).any()
    assert not tracks.visible[:, 2].any()
    assert not tracks.invisible[:, 2].any()  # nothing moving lies at the tracked pixel


def test_steps_use_some_frames_only(sliding_square):
    scene, root = sliding_square
    tracks = lift_tracks(scene.views(root), 300, generator(), step=4)
    used = tracks.visible.any(dim=0).nonzero().flatten().tolist()
    assert used == [0, 4, 8]
    assert set(tracks.query_frame.tolist()) == {0, 4, 8}


def test_the_generator_decides(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    first, again, other = (lift_tracks(views, 100, generator(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(first.points, again.points, atol=0, rtol=0)
    assert first.points.shape != other.points.shape or not torch.equal(first.points, other.points)


def test_no_track_survives_an_empty_mask(sliding_square, tmp_path):
    scene, root = sliding_square
    views = scene.views(root)
    write_mask(tmp_path / "none.png", np.zeros((views.height, views.width), bool))
    views = replace(views, priors=replace(views.priors, mask_files=(tmp_path / "none.png",) * len(views)))
    tracks = lift_tracks(views, 100, generator())
    assert tracks.points.shape == (0, scene.frames, 3)
    assert tracks.colors.shape == (0, 3)


def test_unknown_depth_clears_the_flags(sliding_square, tmp_path):
    scene, root = sliding_square
    views = scene.views(root)
    write_disparity(tmp_path / "none.npy", np.zeros((views.height, views.width)))
    files = (*views.priors.depth_files[:5], tmp_path / "none.npy", *views.priors.depth_files[6:])
    tracks = lift_tracks(replace(views, priors=replace(views.priors, depth_files=files)), 300, generator())
    assert len(tracks) > 50
    assert not tracks.visible[:, 5].any()
    assert tracks.visible[:, 4].any()


def test_two_cameras_share_the_clock_and_not_their_tracks(sliding_square):
    scene, root = sliding_square
    one, other = scene.views(root), scene.views(root, keep=(1, 3, 5))
    both = ClipViews(
        camera_T_world=torch.cat([one.camera_T_world, other.camera_T_world]),
        K=torch.cat([one.K, other.K]),
        width=one.width,
        height=one.height,
        frame_index=torch.cat([one.frame_index, other.frame_index]),
        camera_index=torch.tensor([0] * len(one) + [1] * len(other)),
        num_frames=scene.frames,
        image_files=one.image_files + other.image_files,
        priors=replace(
            one.priors,
            depth_files=one.priors.depth_files + other.priors.depth_files,
            mask_files=one.priors.mask_files + other.priors.mask_files,
            tracks=type(one.tracks)(
                one.tracks.folders + (root / "." / "masks" / ".." / "bootstapir" / "camera0",) * 3,
                one.tracks.names + other.tracks.names,
            ),
        ),
    )
    tracks = lift_tracks(both, 900, generator())
    counts = tracks.visible.sum(dim=1)
    assert counts.max() > 3
    share = len(tracks) // len(both)
    from_other = tracks.visible[-share:]  # queries are in view order
    assert set(from_other.any(dim=0).nonzero().flatten().tolist()) <= {1, 3, 5}


def test_sampling_needs_only_neighbours_that_count():
    values = torch.arange(12.0).reshape(3, 4, 1)
    known = torch.ones(3, 4, dtype=torch.bool)
    known[1, 2] = False
    xy = torch.tensor([[1.0, 1.0], [1.5, 1.0], [0.5, 0.5], [3.0, 2.0], [-4.0, 9.0], [2.0, 0.0], [2.0, 0.25]])
    sampled, sure = sample_known(values, known, xy)
    assert sampled[[0, 2, 3, 4, 5], 0].tolist() == [5.0, 2.5, 11.0, 8.0, 2.0]
    assert sure.tolist() == [True, False, True, True, True, True, False]


def test_lifting_5000_tracks_of_24_frames_takes_seconds(tmp_path):
    """24 frames of 160x120, 5000 tracks: 3 s on a 2-core machine; CPU time is measured, so that others do not count."""
    height, width, frames = 120, 160, 24
    mask = np.zeros((height, width), bool)
    mask[30:90, 40:120] = True
    y, x = np.nonzero(mask)
    rows = np.column_stack([x, y, np.full(len(x), -9.0), np.full(len(x), -9.0)])[::6]
    write_mask(tmp_path / "mask.png", mask)
    write_disparity(tmp_path / "disparity.npy", np.full((height, width), 0.4))
    write_track_pair(tmp_path / "tracks" / "any.npy", rows)
    for query, target in np.ndindex(frames, frames):
        os.link(tmp_path / "tracks" / "any.npy", tmp_path / "tracks" / f"{query}_{target}.npy")
    views = ClipViews(
        camera_T_world=torch.eye(4).repeat(frames, 1, 1),
        K=torch.tensor([[100.0, 0, 80], [0, 100, 60], [0, 0, 1]]).repeat(frames, 1, 1),
        width=width,
        height=height,
        frame_index=torch.arange(frames),
        camera_index=torch.zeros(frames, dtype=torch.long),
        num_frames=frames,
        image_files=(tmp_path / "mask.png",) * frames,
        priors=Priors(
            depth_files=(tmp_path / "disparity.npy",) * frames,
            mask_files=(tmp_path / "mask.png",) * frames,
            tracks=lifting_store(tmp_path / "tracks", frames),
        ),
    )
    start, threads = time.process_time(), torch.get_num_threads()
    tracks = lift_tracks(views, 5000, generator())
    spent = time.process_time() - start
    assert len(tracks) > 4000
    assert spent < 3.0 * threads, f"{spent:.1f} s of CPU time on {threads} threads"


def lifting_store(folder, frames):
    from dyngs_plugins.priors.tracks import SomTrackFiles

    return SomTrackFiles((folder,) * frames, tuple(str(t) for t in range(frames)))


# Background ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyframes", [(0, 3, 6, 9), None])
def test_background_points_lie_on_the_wall_and_face_the_camera(sliding_square, keyframes):
    scene, root = sliding_square
    views = replace(scene.views(root, mask_erosion=3), keyframes=keyframes)
    points, normals, colors = background_points(views, 2000, generator())
    assert 100 < len(points) <= 2000
    assert points.shape == normals.shape == colors.shape
    torch.testing.assert_close(points[:, 2], torch.full((len(points),), 4.0), atol=1e-3, rtol=0)
    known = normals.norm(dim=-1) > 0
    assert known.float().mean() > 0.7  # all but the image's border and the silhouette
    lengths = normals[known].norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert (normals[known][:, 2] < 0).all()  # the camera is at smaller z
    assert (normals[known][:, 2] < -0.99).float().mean() > 0.8


def test_key_frames_add_only_what_earlier_ones_do_not_cover(sliding_square):
    scene, root = sliding_square
    views = replace(scene.views(root, mask_erosion=3), keyframes=(0, 0, 0))
    first = background_points(replace(views, keyframes=(0,)), 4000, generator())[0]
    thrice = background_points(views, 4000, generator())[0]
    assert len(first) == 500  # an eighth
    assert len(thrice) < 1.4 * len(first)  # the rest of the box's border


def test_few_pixels_are_enough_in_a_small_image(sliding_square):
    """The reference skips frames with fewer than 64 pixels, which a small image may never have."""
    scene, root = sliding_square
    views = scene.views(root, mask_erosion=3)
    points, _, _ = background_points(replace(views, keyframes=(0,)), 40, generator())
    assert len(points) == 40


def test_background_falls_back_and_says_so(sliding_square, tmp_path):
    scene, root = sliding_square
    views = scene.views(root)
    write_mask(tmp_path / "all.png", np.ones((views.height, views.width), bool))
    masks = (tmp_path / "all.png", *views.priors.mask_files[1:])
    views = replace(views, keyframes=(0,), priors=replace(views.priors, mask_files=masks))
    with pytest.warns(UserWarning, match="No key-frame has enough static pixels"):
        points, _, _ = background_points(views, 300, generator())
    assert len(points) > 100
    nothing = replace(views, priors=replace(views.priors, mask_files=(tmp_path / "all.png",) * len(views)))
    with pytest.warns(UserWarning, match="there are no background points"):
        points, normals, colors = background_points(nothing, 300, generator())
    assert points.shape == normals.shape == colors.shape == (0, 3)


def test_foreground_points_lie_on_the_square(sliding_square):
    scene, root = sliding_square
    points = foreground_points(scene.views(root), 200, generator(), step=3)
    assert 150 < len(points) <= 204
    torch.testing.assert_close(points[:, 2], torch.full((len(points),), 2.5), atol=1e-3, rtol=0)


def test_no_warning_without_reason(sliding_square):
    scene, root = sliding_square
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lift_tracks(scene.views(root), 100, generator())
        background_points(scene.views(root, mask_erosion=3), 100, generator())
