"""The scene frame: what it promises, when it degenerates, and where it comes from when tracks are missing."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from dyngs_plugins.priors.lifting import lift_tracks, project
from dyngs_plugins.priors.normalise import (
    IDENTITY,
    SceneNormalisation,
    normalise_clip,
    read_scene_norm,
    rotation_onto_z,
    scene_normalisation,
)
from dyngs_plugins.priors.som_files import write_disparity, write_mask


def random_cameras(count: int, seed: int = 0) -> torch.Tensor:
    """World-to-camera matrices of cameras around a common direction."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        q, r = np.linalg.qr(np.eye(3) + 0.3 * rng.normal(size=(3, 3)))
        pose[:3, :3] = q * np.sign(np.diag(r))
        pose[:3, 3] = rng.normal(size=3)
    poses[np.linalg.det(poses[:, :3, :3]) < 0, :3, 0] *= -1
    return torch.from_numpy(poses).float()


def test_centre_width_and_up(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    tracks = lift_tracks(views, 500, torch.Generator().manual_seed(0))
    frame = scene_normalisation(tracks, views.camera_T_world)
    points = frame.points(tracks.points[tracks.visible])
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    # The width is measured along the world's axes before turning, so it is 2 in the world's, not the scene's, axes.
    unturned = points @ frame.normalised_T_world[:3, :3]
    spread = torch.quantile(unturned, 0.95, dim=0) - torch.quantile(unturned, 0.05, dim=0)
    assert spread.max().item() == pytest.approx(2.0, abs=1e-4)
    up = -frame.cameras(views.camera_T_world)[:, 1, :3].mean(dim=0)
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0.0, 1.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_no_reprojection_changes(seed):
    cameras = random_cameras(6, seed)
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed)) * 3
    points[:, 2] += 8
    frame = scene_normalisation(points, cameras)
    K = torch.tensor([[300.0, 0, 160], [0, 310, 120], [0, 0, 1]])
    for camera, moved in zip(cameras, frame.cameras(cameras), strict=True):
        before, z = project(points, camera, K)
        after, z_scene = project(frame.points(points), moved, K)
        front = z > 1
        torch.testing.assert_close(after[front], before[front], atol=2e-2, rtol=1e-4)
        torch.testing.assert_close(z_scene * frame.scale, z, atol=1e-4, rtol=1e-4)


def test_the_world_is_recovered():
    frame = scene_normalisation(torch.randn(50, 3) * 4 + 10, random_cameras(3))
    points = torch.randn(20, 3)
    rigid, scaled = frame.normalised_T_world, frame.points(points)
    torch.testing.assert_close((scaled * frame.scale - rigid[:3, 3]) @ rigid[:3, :3], points, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.6, 0, -0.8), (1e-8, 0, -1), (0, 1e-4, 1)])
def test_any_up_turns_onto_z(direction):
    up = torch.tensor(direction, dtype=torch.float64)
    up = up / up.norm()
    rotation = rotation_onto_z(up)
    torch.testing.assert_close(rotation @ up, torch.tensor([0.0, 0, 1]).double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double(), atol=1e-7, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cameras_whose_up_is_parallel_to_z(sign):
    """Image up along +-z: the axis of the turn vanishes."""
    camera = torch.eye(4)
    camera[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -sign], [0, sign, 0]])
    frame = scene_normalisation(torch.randn(50, 3), camera[None])
    assert torch.isfinite(frame.normalised_T_world).all()
    up = -frame.cameras(camera[None])[0, 1, :3]
    torch.testing.assert_close(up, torch.tensor([0.0, 0, frame.scale]) / frame.scale, atol=1e-6, rtol=0)


def test_cameras_that_roll_all_the_way_round():
    camera = torch.eye(4)
    upside_down = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    frame = scene_normalisation(torch.randn(50, 3), torch.stack([camera, upside_down]))
    assert torch.isfinite(frame.normalised_T_world).all()


def test_points_that_say_nothing():
    with pytest.raises(ValueError, match="without points: found none"):
        scene_normalisation(torch.zeros(0, 3), torch.eye(4)[None])
    with pytest.raises(ValueError, match="20 points that all lie at one place"):
        scene_normalisation(torch.ones(20, 3), torch.eye(4)[None])


def test_views_and_their_priors_move_together(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    frame = normalise_clip(views, 500, seed=0)
    moved = frame.views(views)
    torch.testing.assert_close(moved.depth(2) * frame.scale, views.depth(2), atol=1e-4, rtol=1e-4)
    tracks = lift_tracks(moved, 200, torch.Generator().manual_seed(0))
    centers = frame.points(torch.from_numpy(np.stack([scene.center(t) for t in range(scene.frames)])).float())
    assert ((tracks.points - centers).norm(dim=-1)[tracks.visible] < 1.5 / frame.scale).all()


def test_the_frame_is_that_of_the_seed(sliding_square, square_with_gap):
    for scene, root in (sliding_square, square_with_gap):  # the second has fewer than ten frames
        first, again, other = (normalise_clip(scene.views(root), 300, seed) for seed in (1, 1, 2))
        assert first.scale == again.scale
        assert torch.equal(first.normalised_T_world, again.normalised_T_world)
        assert other.scale == pytest.approx(first.scale, rel=0.2)


def with_masks(views, path, value):
    write_mask(path, np.full((views.height, views.width), value))
    return replace(views, priors=replace(views.priors, mask_files=(path,) * len(views)))


def test_without_usable_tracks_the_frame_comes_from_less(sliding_square, tmp_path):
    scene, root = sliding_square
    views = scene.views(root)
    untracked = replace(views, priors=replace(views.priors, tracks=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # moving pixels are the first choice of a clip without tracks
        frame = normalise_clip(untracked, 500, 0)
    assert frame.scale == pytest.approx(normalise_clip(views, 500, 0).scale, rel=0.25)

    everything_static = with_masks(views, tmp_path / "none.png", False)
    with pytest.warns(UserWarning, match="background pixels of known depth.*0 visible tracks.*0 moving pixels"):
        frame = normalise_clip(everything_static, 500, 0)
    assert frame.scale > 1.5 * normalise_clip(views, 500, 0).scale  # the wall is wider than the square

    speck = np.zeros((views.height, views.width), bool)
    speck[10, 10:13] = True  # three pixels a frame are noise, not what moves
    write_mask(tmp_path / "speck.png", speck)
    noisy = replace(untracked, priors=replace(untracked.priors, mask_files=(tmp_path / "speck.png",) * len(views)))
    with pytest.warns(UserWarning, match="background pixels of known depth.*36 moving pixels"):
        assert normalise_clip(noisy, 500, 0).scale == pytest.approx(frame.scale, rel=0.2)

    write_disparity(tmp_path / "none.npy", np.zeros((views.height, views.width)))
    blind = replace(views, priors=replace(views.priors, depth_files=(tmp_path / "none.npy",) * len(views)))
    with pytest.warns(UserWarning, match="left in the frame of its camera files"):
        assert normalise_clip(blind, 500, 0) == IDENTITY


def test_the_reference_s_cache_is_read(tmp_path):
    frame = scene_normalisation(torch.randn(50, 3), random_cameras(3))
    for scale in (frame.scale, torch.tensor(frame.scale)):
        torch.save({"scale": scale, "transfm": frame.normalised_T_world}, tmp_path / "scene_norm_dict.pth")
        back = read_scene_norm(tmp_path / "scene_norm_dict.pth")
        assert back.scale == pytest.approx(frame.scale)
        torch.testing.assert_close(back.normalised_T_world, frame.normalised_T_world)


class Payload:
    def __reduce__(self):
        import os

        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "content",
    [
        {"scale": 1.0, "transfm": Payload()},
        {"scale": 1.0},
        {"scale": -1.0, "transfm": torch.eye(4)},
        {"scale": 1.0, "transfm": torch.eye(4) * 2},
    ],
)
def test_a_wrong_cache_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "scene_norm_dict.pth")
    with pytest.raises(ValueError, match="scene_norm_dict.pth: .*Delete the file; the frame is then computed anew"):
        read_scene_norm(tmp_path / "scene_norm_dict.pth")
    assert not (tmp_path / "executed").exists()


def test_identity_changes_nothing():
    cameras = random_cameras(3)
    torch.testing.assert_close(IDENTITY.cameras(cameras), cameras)
    assert SceneNormalisation(2.0, torch.eye(4)).points(torch.ones(1, 3)).tolist() == [[0.5, 0.5, 0.5]]


def test_normalising_leaves_nothing_in_memory(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    normalise_clip(views, 200, seed=0)
    assert views.cache.held == 0
