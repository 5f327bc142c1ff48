"""The facts that the sample scene promises, measured on the default settings."""

import numpy as np
import pytest

from dyngs_plugins.sample.cameras import OrbitPath, held_out_path, training_paths
from dyngs_plugins.sample.clip import SampleSettings
from dyngs_plugins.sample.ground_truth import carry, object_facts, surfaces
from dyngs_plugins.sample.raycast import cast, render_frame, shade, visible_from
from dyngs_plugins.sample.scene import build_scene
from dyngs_plugins.sample.shapes import Box, Plane

SETTINGS = SampleSettings()
TIMES = SETTINGS.times.tolist()


@pytest.fixture(scope="module")
def scene():
    return build_scene(SETTINGS.seed)


@pytest.fixture(scope="module")
def cameras():
    path = training_paths(SETTINGS.width, SETTINGS.height, 1)["camera0"]
    return [path.at(t) for t in TIMES]


@pytest.fixture(scope="module")
def seen(scene, cameras):
    return [surfaces(scene, camera, t) for camera, t in zip(cameras, TIMES, strict=True)]


@pytest.fixture(scope="module")
def ids(seen):
    return np.stack([s.object_id for s in seen])


@pytest.fixture(scope="module")
def facts(scene, cameras, ids):
    return {scene.objects[i].name: object_facts(scene, cameras, TIMES, ids, i) for i in scene.moving_ids}


def test_the_default_clip_is_large_enough():
    assert SETTINGS.frames >= 24
    assert (SETTINGS.width, SETTINGS.height) == (160, 120)


def test_two_objects_move_and_turn(facts):
    assert len(facts) >= 2
    for fact in facts.values():
        assert fact.image_motion > 15
        assert fact.rotation > 30


def test_the_objects_move_independently(scene):
    relative = [scene.objects[scene.moving_ids[0]].motion, scene.objects[scene.moving_ids[1]].motion]
    start, end = (np.linalg.inv(relative[0].at(t)) @ relative[1].at(t) for t in (0.0, 1.0))
    assert np.linalg.norm(end[:3, 3] - start[:3, 3]) > 1
    assert np.trace(start[:3, :3].T @ end[:3, :3]) < 1 + 2 * np.cos(np.deg2rad(30))


def test_one_object_is_out_of_sight_for_some_frames_and_seen_before_and_after(facts):
    hidden = [fact.hidden_frames for fact in facts.values() if fact.hidden_frames]
    assert len(hidden) == 1
    assert 2 <= len(hidden[0]) <= 6
    assert hidden[0][0] > 5
    assert hidden[0][-1] < SETTINGS.frames - 6


def test_the_hidden_object_is_behind_something_that_stands_still(scene, cameras, ids, facts):
    name, frame = next((name, fact.hidden_frames[0]) for name, fact in facts.items() if fact.hidden_frames)
    egg = next(thing for thing in scene.objects if thing.name == name)
    pixel = np.round(cameras[frame].project(egg.motion.at(TIMES[frame])[None, :3, 3])[0][0]).astype(int)
    occluder = scene.objects[ids[frame, pixel[1], pixel[0]]]
    assert occluder.name == "pillar"
    assert not occluder.moving


def test_the_moving_objects_fill_8_to_15_percent_of_the_image(scene, ids):
    assert 0.08 < np.isin(ids, scene.moving_ids).mean() < 0.15


def test_the_moving_objects_touch_the_ground_at_all_times(scene):
    for i in scene.moving_ids:
        thing = scene.objects[i]
        for t in (-0.02, *TIMES, 1.02):
            pose = thing.motion.at(t)
            lowest = pose[1, 3] + thing.shape.support(pose[1, :3])  # y points down: the largest y of the shape
            assert lowest == pytest.approx(0, abs=1e-12)


def test_a_box_stands_on_the_ground_with_four_corners(scene):
    crate = next(thing for thing in scene.objects if thing.moving and isinstance(thing.shape, Box))
    corners = np.array([[x, 1, z] for x in (-1, 1) for z in (-1, 1)]) * crate.shape.half
    for t in TIMES:
        pose = crate.motion.at(t)
        np.testing.assert_allclose((corners @ pose[:3, :3].T + pose[:3, 3])[:, 1], 0, atol=1e-12)


def inside(shape, points):
    """Points within a convex shape: rays that come through them from two opposite sides both meet it on their way."""
    way = np.broadcast_to([0.3, 0.5, 0.8], points.shape)
    return (shape.intersect(points - 9 * way, way) < 9) & (shape.intersect(points + 9 * way, -way) < 9)


def test_no_two_objects_run_into_each_other(scene):
    random = np.random.default_rng(0).normal(size=(3000, 3))
    inward = -random / np.linalg.norm(random, axis=1, keepdims=True)
    assert inside(Box((1, 1, 1)), np.array([[0.9, 0.9, -0.9], [1.1, 0, 0], [0, 0, 0]])).tolist() == [True, False, True]
    for a in scene.moving_ids:
        shape, motion = scene.objects[a].shape, scene.objects[a].motion
        surface = -3 * inward + inward * shape.intersect(-3 * inward, inward)[:, None]
        for t in TIMES:
            world = surface @ motion.at(t)[:3, :3].T + motion.at(t)[:3, 3]
            for b, other in enumerate(scene.objects):
                if b != a and not isinstance(other.shape, Plane):
                    pose = other.motion.at(t)
                    local = (world - pose[:3, 3]) @ pose[:3, :3]
                    assert not inside(other.shape, local).any(), (scene.objects[a].name, other.name, t)


def test_the_background_has_relief(scene, seen):
    static = np.concatenate([s.depth[~np.isin(s.object_id, scene.moving_ids)] for s in seen[::6]])
    near, far = np.quantile(static, [0.05, 0.95])
    assert far / near > 1.8
    assert len(np.unique(seen[0].object_id)) >= 7


def test_the_held_out_camera_sees_what_the_training_camera_saw(scene, cameras):
    """Most of it, and nearly all of the moving objects: pixels whose surface point some training frame sees."""
    path, shares, moving_shares, moving_pixels = held_out_path(160, 120), [], [], []
    for t in TIMES[::6]:
        view = surfaces(scene, path.at(t), t)
        points, object_id = view.points.reshape(-1, 3), view.object_id.ravel()
        known = np.zeros(len(points), bool)
        for k in range(0, SETTINGS.frames, 3):
            there = carry(scene, points, object_id, t, TIMES[k])
            known |= visible_from(scene, cameras[k], TIMES[k], there)[2]
        moving = np.isin(object_id, scene.moving_ids)
        shares.append(known.mean())
        moving_shares.append(known[moving].mean())
        moving_pixels.append(moving.mean())
    assert np.mean(shares) > 0.94
    assert np.mean(moving_shares) > 0.97
    assert np.mean(moving_pixels) > 0.08


def test_colours_of_surface_points_never_change(scene, cameras, seen):
    first, last = 0, SETTINGS.frames - 1
    points, ids = seen[first].points.reshape(-1, 3), seen[first].object_id.ravel()
    carried = carry(scene, points, ids, TIMES[first], TIMES[last])
    visible = visible_from(scene, cameras[last], TIMES[last], carried)[2]
    assert (visible & np.isin(ids, scene.moving_ids)).sum() > 200

    def color(camera, t, where):
        origin = camera.world_T_camera[None, :3, 3]
        directions = (where - origin) / camera.project(where)[1][:, None]
        return shade(scene, t, cast(scene, t, origin, directions), origin, directions)

    before = color(cameras[first], TIMES[first], points[visible])
    after = color(cameras[last], TIMES[last], carried[visible])
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_textures_have_contrast_and_survive_sampling(scene, cameras, seen):
    """Neighbouring pixels of one surface differ little (not aliased), pixels some way off differ clearly."""
    image, ids = render_frame(scene, cameras[0], TIMES[0]).mean(-1), seen[0].object_id
    same = ids[:, :-1] == ids[:, 1:]
    assert np.abs(np.diff(image, axis=1))[same].mean() < 0.04
    for i in range(len(scene.objects)):
        assert image[ids == i].std() > 0.04, scene.objects[i].name
    assert image.min() > 0.0
    assert image.max() < 1.0


def test_seeds_change_the_paint_and_nothing_else():
    camera = OrbitPath(32, 24).at(0.2)
    a, b = build_scene(0), build_scene(1)
    np.testing.assert_array_equal(surfaces(a, camera, 0.2).depth, surfaces(b, camera, 0.2).depth)
    assert np.abs(render_frame(a, camera, 0.2, 1) - render_frame(b, camera, 0.2, 1)).mean() > 0.02


def test_a_still_scene_looks_the_same_at_all_times():
    scene = build_scene(still=True)
    assert scene.moving_ids == []
    moving = build_scene()
    assert len(scene.objects) == len(moving.objects)
    for still, thing in zip(scene.objects, moving.objects, strict=True):
        np.testing.assert_array_equal(still.motion.at(0.0), thing.motion.at(0.5))
        np.testing.assert_array_equal(still.motion.at(1.0), thing.motion.at(0.5))


def test_stopping_the_objects_repaints_nothing():
    """Every texture takes the next noise, so the order in which things are made is part of the scene."""
    for still, thing in zip(build_scene(still=True).objects, build_scene().objects, strict=True):
        assert still.texture == thing.texture
    seeds = [thing.texture.seed for thing in build_scene().objects if hasattr(thing.texture, "seed")]
    expected = np.random.SeedSequence(0).generate_state(16).tolist()[: len(seeds)]
    assert seeds == expected
