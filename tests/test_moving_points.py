"""Points for fields without tracks: what counts, when it was seen, and what is said where nothing can be had."""

import dataclasses

import pytest
import torch

from dataparsers.auto import AutoDataParserConfig
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.initialise import InitialiseConfig, start_scene
from dyngs_plugins.motion.native4d import Native4D, Native4DConfig
from dyngs_plugins.moving_points import moving_points
from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.views import ClipViews


@pytest.fixture(scope="module")
def views(rig) -> ClipViews:
    """The rig's two cameras, ten frames each."""
    outputs = AutoDataParserConfig(data=rig).setup().get_dataparser_outputs("train")
    return ClipViews.from_dataparser_outputs(outputs)


def take(views: ClipViews, num: int = 500, kind="auto", all_times=False, whole_scene=True):
    return moving_points(views, num, kind, all_times, whole_scene, torch.Generator().manual_seed(0))


def lacking(views: ClipViews, **changes) -> ClipViews:
    return dataclasses.replace(views, priors=dataclasses.replace(views.priors, **changes))


def share_on_masks(views: ClipViews, points: torch.Tensor, view: int) -> float:
    pixels, z = project(points, views.camera_T_world[view], views.K[view])
    x, y = pixels.round().long().unbind(-1)
    seen = (z > 0) & (x >= 0) & (y >= 0) & (x < views.width) & (y < views.height)
    return float((views.dynamic(view)[y[seen], x[seen]] == 1).float().mean())


def test_moving_points_lie_on_the_masks_of_their_time(views):
    found = take(views, all_times=True, whole_scene=False)
    assert 400 < len(found.points) <= 500
    for view in (0, 4, 13):
        mine = found.times == views.times[view]
        assert mine.any()
        assert share_on_masks(views, found.points[mine], view) > 0.8
    assert len(found.times.unique()) == 10


@pytest.mark.parametrize("kind", ["points", "random"])
def test_points_that_do_not_say_what_moves_are_refused_beside_a_static_set(views, kind):
    with pytest.raises(ValueError, match=f"dynamic-points is '{kind}', which does not say what moves"):
        take(views, kind=kind, whole_scene=False)


def test_a_canonical_pose_takes_what_moves_from_the_middle_of_the_clip(views):
    found = take(views, whole_scene=False)
    assert found.times.unique().tolist() == pytest.approx([4 / 9])
    everything = take(views, num=3000)
    still = everything.times.isnan()  # what stands still was there at every time
    assert int(still.sum()) >= 1500
    assert everything.times[~still].unique().tolist() == pytest.approx([4 / 9])
    # A point of the wall may lie behind something that moves, seen from elsewhere.
    assert share_on_masks(views, everything.points[still], 9) < 0.2
    assert share_on_masks(views, everything.points[~still], 4) > 0.8


def test_without_masks_every_pixel_counts(views):
    assert len(take(lacking(views, mask_files=None), num=300).points) == 300


def test_a_cloud_and_random_points_say_nothing_of_time(views):
    bare = lacking(views, depth_files=None)
    with pytest.warns(UserWarning, match="RANDOM points"):
        assert take(bare).times.isnan().all()
    cloud = dataclasses.replace(bare, points=torch.randn(50, 3), point_colors=torch.zeros(50, 3, dtype=torch.uint8))
    found = take(cloud)
    assert len(found.points) == 50
    assert found.times.isnan().all()


def test_what_is_lacking_is_named(views):
    bare = lacking(views, depth_files=None)
    with pytest.raises(ValueError, match="the clip lacks depth.*--pipeline.model.sets dynamic"):
        take(bare, whole_scene=False)
    with pytest.raises(ValueError, match="the clip lacks masks"):
        take(lacking(views, mask_files=None), whole_scene=False)
    with pytest.raises(ValueError, match="start from depth, but the clip has none"):
        take(bare, kind="depth")
    with pytest.raises(ValueError, match="point cloud, but this clip has none"):
        take(bare, kind="points")


def test_a_scene_of_one_set_and_one_of_two(views):
    config = InitialiseConfig(num_dynamic=200, num_static=300, dynamic_from="frames")
    for has_static in (False, True):
        field = Native4D(Native4DConfig(sh_degree=0, time_order=0, seen_variance=0.01), num_frames=10)
        dynamic, static = GaussianSet("dynamic", field.columns()), GaussianSet("static") if has_static else None
        tracks, extents = start_scene(config, views, dynamic, static, field)
        assert tracks is None
        assert len(dynamic) == 200
        assert set(extents) == ({"dynamic", "static"} if has_static else {"dynamic"})
        seen = torch.exp(2 * dynamic.raw["time_scales"].data) < 0.1
        assert int(seen.sum()) == (200 if has_static else 100)
        centres = dynamic.raw["time_means"].data
        assert len(centres[seen].unique()) == 10
        assert share_on_masks(views, dynamic.raw["means"].data[seen & (centres == 0)], 0) > 0.8
