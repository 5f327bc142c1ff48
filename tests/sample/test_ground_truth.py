"""Depth, flow, tracks and visibility against each other, by routes that do not share the code under test."""

import numpy as np
import pytest

from dyngs_plugins.sample.cameras import Camera
from dyngs_plugins.sample.ground_truth import query_pixels, surfaces, track
from dyngs_plugins.sample.raycast import visible_from
from dyngs_plugins.sample.scene import Scene, SceneObject, Still, build_scene
from dyngs_plugins.sample.shapes import Box, Plane
from dyngs_plugins.sample.som_writer import track_rows
from dyngs_plugins.sample.textures import NoisyChecker


def reproject(clip, view, k, target):
    """Pixels of frame k unprojected with its depth, moved with their objects, projected into frame ``target``."""
    camera, other = view.cameras[k], view.cameras[target]
    y, x = np.mgrid[: camera.height, : camera.width]
    rays = np.stack([x + 0.5, y + 0.5, np.ones_like(x)], -1) @ np.linalg.inv(camera.K).T
    points = np.concatenate([rays * view.depths[k][..., None], np.ones((*x.shape, 1))], -1) @ camera.world_T_camera.T
    times = clip.settings.times
    for i, thing in enumerate(clip.scene.objects):
        step = thing.motion.at(times[target]) @ np.linalg.inv(thing.motion.at(times[k]))
        rows = view.object_ids[k] == i
        points[rows] = points[rows] @ step.T
    local = points @ np.linalg.inv(other.world_T_camera).T
    image = local[..., :3] @ other.K.T
    return image[..., :2] / image[..., 2:] - 0.5, local[..., 2], np.stack([x, y], -1)


@pytest.mark.parametrize("sequence", ["camera0", "camera1"])
def test_flow_is_the_reprojection_of_depth_for_static_and_moving_points(clip, sequence):
    view = clip.training[sequence]
    for k in range(clip.settings.frames - 1):
        forward, _, pixels = reproject(clip, view, k, k + 1)
        np.testing.assert_allclose(view.flow_forward[k], forward - pixels, atol=1e-6)
        backward, _, pixels = reproject(clip, view, k + 1, k)
        np.testing.assert_allclose(view.flow_backward[k], backward - pixels, atol=1e-6)
    assert view.masks.any()
    assert not view.masks.all()


def test_normals_stand_on_the_surfaces_that_depth_describes(clip):
    """Neighbouring points of one object differ along the surface: at right angles to its normal, seen from the front."""
    for view in clip.training.values():
        camera, normals, ids = view.cameras[3], view.normals[3], view.object_ids[3]
        rays = camera.directions(camera.pixel_grid()) @ camera.world_T_camera[:3, :3]
        points = rays.reshape(*ids.shape, 3) * view.depths[3][..., None]
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1.0, atol=1e-9)
        assert ((normals * points).sum(-1) < 0).all()
        for axis in (0, 1):
            step = np.diff(points, axis=axis)
            middle = (np.delete(normals, 0, axis) + np.delete(normals, -1, axis)) / 2
            same = np.delete(ids, 0, axis) == np.delete(ids, -1, axis)
            sine = np.abs((step * middle).sum(-1)) / np.linalg.norm(step, axis=-1)
            assert np.quantile(sine[same], 0.97) < 0.02  # the rest are edges of boxes and caps of cylinders


def test_forward_then_backward_flow_returns_where_visible(clip):
    """Only where the target pixel lies well inside one object, because flow is sampled between pixels there."""
    view = clip.training["camera0"]
    forward, visible = view.flow_forward[2], view.flow_forward_visible[2]
    y, x = np.mgrid[: forward.shape[0], : forward.shape[1]]
    landed = np.stack([x, y], -1) + forward
    nearest = np.clip(np.round(landed).astype(int), 0, [forward.shape[1] - 1, forward.shape[0] - 1])
    ids = view.object_ids[3]
    calm = np.ones_like(ids, bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            calm &= np.roll(ids, (dy, dx), (0, 1)) == ids
    calm = calm[nearest[..., 1], nearest[..., 0]] & visible
    back = view.flow_backward[2][nearest[..., 1], nearest[..., 0]]
    assert calm.mean() > 0.5
    assert np.quantile(np.linalg.norm(forward + back, axis=-1)[calm], 0.99) < 0.3


@pytest.mark.parametrize("target", [0, 3, 6])
def test_visibility_agrees_with_the_depth_maps(clip, target):
    """A visible point is no deeper than the pixels around it, a hidden one no nearer (slivers between pixels aside)."""
    view = clip.training["camera0"]
    deepest, nearest = np.full_like(view.depths[target], 0), np.full_like(view.depths[target], np.inf)
    padded = np.pad(view.depths[target], 1, mode="edge")
    height, width = deepest.shape
    for dy in range(3):
        for dx in range(3):
            patch = padded[dy : dy + height, dx : dx + width]
            deepest, nearest = np.maximum(deepest, patch), np.minimum(nearest, patch)
    agree, hidden_count = [], 0
    for k, tracks in enumerate(view.tracks):
        inside = tracks.inside[target]
        x, y = np.round(tracks.xy[target][inside]).astype(int).T
        _, z = view.cameras[target].project(tracks.points[target][inside])
        visible = tracks.visible[target][inside]
        agree.append(np.where(visible, z <= deepest[y, x] * 1.01, z >= nearest[y, x] * 0.99))
        hidden_count += (~visible).sum()
        if k == target:
            assert tracks.visible[target].all()
    agree = np.concatenate(agree)
    assert agree.mean() > 0.99
    assert hidden_count >= 5


def test_tracks_are_projections_of_points_fixed_to_their_object(clip):
    times = clip.settings.times
    for view in clip.training.values():
        for k, tracks in enumerate(view.tracks):
            ids = view.object_ids[k][view.query_pixels[k][:, 1], view.query_pixels[k][:, 0]]
            assert set(ids) <= set(clip.scene.moving_ids)
            for i in clip.scene.moving_ids:
                motion = clip.scene.objects[i].motion
                poses = [np.linalg.inv(motion.at(t)) for t in times]
                local = np.stack([tracks.points[j][ids == i] @ p[:3, :3].T + p[:3, 3] for j, p in enumerate(poses)])
                np.testing.assert_allclose(local, np.broadcast_to(local[k], local.shape), atol=1e-9)
            for j, camera in enumerate(view.cameras):
                image = (tracks.points[j] - camera.world_T_camera[:3, 3]) @ camera.world_T_camera[:3, :3] @ camera.K.T
                np.testing.assert_allclose(tracks.xy[j], image[:, :2] / image[:, 2:] - 0.5, atol=1e-9)
            np.testing.assert_allclose(tracks.xy[k], view.query_pixels[k], atol=1e-9)


def test_masks_are_the_ids_of_moving_objects(clip):
    for view in (*clip.training.values(), clip.held_out):
        names = np.array([thing.name for thing in clip.scene.objects])[view.object_ids]
        np.testing.assert_array_equal(view.masks, (names == "crate") | (names == "egg"))


def test_query_pixels_are_on_the_grid_in_raster_order():
    mask = np.zeros((8, 10), bool)
    mask[2:7, 3:9] = True
    assert query_pixels(mask, 2).tolist() == [[x, y] for y in (2, 4, 6) for x in (4, 6, 8)]
    assert query_pixels(np.zeros((8, 10), bool), 2).shape == (0, 2)


def test_a_frame_without_moving_objects_has_empty_tracks(clip):
    view = clip.training["camera0"]
    seen = surfaces(clip.scene, view.cameras[0], 0.0)
    times = clip.settings.times.tolist()
    tracks = track(clip.scene, view.cameras, times, seen, query_pixels(np.zeros((48, 64), bool), 2))
    assert tracks.xy.shape == (7, 0, 2)
    assert track_rows(tracks, 3).shape == (0, 4)


def paint(seed=0):
    return NoisyChecker((0.2, 0.2, 0.2), (0.8, 0.8, 0.8), (0.5, 0.4, 0.3), 0.5, 0.5, 1, seed)


def test_a_known_scene_has_known_depths_and_occlusions():
    """A unit box at z = 4 before a wall at z = 10, camera in the origin with focal 100."""
    wall, box = np.eye(4), np.eye(4)
    wall[2, 3], box[2, 3] = 10, 4
    scene = Scene(
        (
            SceneObject("wall", Plane(), paint(), Still(wall)),
            SceneObject("box", Box((0.5, 0.5, 0.5)), paint(1), Still(box)),
        )
    )
    camera = Camera(64, 48, np.array([[100.0, 0, 32], [0, 100.0, 24], [0, 0, 1]]), np.eye(4))
    seen = surfaces(scene, camera, 0.0)
    half = 100 * 0.5 / 3.5  # the box's front face spans 28.6 pixels
    expected = (np.abs(np.arange(64) - 31.5) < half)[None] & (np.abs(np.arange(48) - 23.5) < half)[:, None]
    np.testing.assert_array_equal(seen.object_id == 1, expected)
    np.testing.assert_allclose(seen.depth, np.where(expected, 3.5, 10.0), atol=1e-12)
    points = np.array([[0.0, 0, 10], [1.2, 0, 10], [1.6, 0, 10], [0.3, 0.3, 3.5], [0, 0, 4.5], [9.0, 0, 10]])
    _, inside, visible = visible_from(scene, camera, 0.0, points)
    assert visible.tolist() == [False, False, True, True, False, False]
    assert inside.tolist() == [True, True, True, True, True, False]


def test_a_pixel_without_a_surface_is_an_error():
    camera = Camera(8, 6, np.array([[8.0, 0, 4], [0, 8.0, 3], [0, 0, 1]]), np.diag([-1.0, 1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="see no object"):
        surfaces(build_scene(), camera, 0.0)


def test_evaluation_tracks_follow_moving_and_static_points(clip):
    tracks, view = clip.evaluation_tracks, clip.training["camera0"]
    rows = np.arange(len(tracks.query_frame))
    assert tracks.visible[rows, tracks.query_frame].all()
    assert tracks.moving.sum() > 30
    assert (~tracks.moving).sum() > 10
    assert len(np.unique(tracks.object_id[tracks.moving])) == 2
    still = tracks.points[~tracks.moving]
    np.testing.assert_array_equal(still, np.broadcast_to(still[:, :1], still.shape))
    assert np.ptp(tracks.points[tracks.moving], axis=1).max(axis=1).min() > 0.3
    for k, camera in enumerate(view.cameras):
        np.testing.assert_allclose(camera.project(tracks.points[:, k])[0], tracks.xy[:, k], atol=1e-9)
