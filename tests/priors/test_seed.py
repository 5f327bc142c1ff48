"""Points to start from without depth: a cloud with or without colours, and random ones where the cameras look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.initialise import InitialiseConfig, start_scene, static_points
from dyngs_plugins.motion.bases import MotionBasesConfig
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.seed import UNSEEN, cloud_points, colors_from_images, focus_point, random_points
from dyngs_plugins.priors.views import ClipViews, Priors


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def clip(sliding_square) -> ClipViews:
    scene, root = sliding_square
    return scene.views(root)


@pytest.fixture
def bare(clip) -> ClipViews:
    """Images and cameras alone."""
    return replace(clip, priors=Priors(), keyframes=None)


def looking_at(focus: torch.Tensor, count: int = 8, distance: float = 4.0) -> torch.Tensor:
    """Cameras on a ring around a point, as camera_T_world."""
    poses = []
    for angle in torch.linspace(0, 2 * torch.pi, count + 1)[:-1]:
        center = focus + distance * torch.tensor([torch.cos(angle), 0.3, torch.sin(angle)])
        z = torch.nn.functional.normalize(focus - center, dim=0)
        x = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, -1.0, 0.0]), z), dim=0)
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = torch.stack([x, torch.linalg.cross(z, x), z], dim=1), center
        poses.append(torch.linalg.inv(pose))
    return torch.stack(poses)


def ring(clip: ClipViews, focus: torch.Tensor, **options) -> ClipViews:
    count = len(clip)
    return replace(clip, camera_T_world=looking_at(focus, count), priors=Priors(), keyframes=None, **options)


def seen_by(views: ClipViews, points: torch.Tensor) -> torch.Tensor:
    """How many views see each point."""
    size, votes = torch.tensor([views.width, views.height]), torch.zeros(len(points))
    for i in range(len(views)):
        pixels, z = project(points, views.camera_T_world[i], views.K[i])
        votes += (z > 0) & ((pixels >= -0.5) & (pixels <= size - 0.5)).all(dim=-1)
    return votes


def test_the_cloud_with_its_colours(bare):
    points, colors = torch.rand(50, 3), torch.randint(0, 255, (50, 3), dtype=torch.uint8)
    xyz, rgb = cloud_points(replace(bare, points=points, point_colors=colors), 20, generator())
    assert xyz.shape == (20, 3)
    rows = (xyz[:, None] == points).all(-1).float().argmax(1)
    assert torch.equal(rgb, colors[rows].float() / 255)
    assert len(cloud_points(replace(bare, points=points, point_colors=colors), 200, generator())[0]) == 50


def test_points_without_colours_take_those_of_the_images(clip, bare):
    scene_points, _, true = static_points(InitialiseConfig(num_static=300), clip, generator())
    rgb = colors_from_images(bare, scene_points)
    assert float((rgb - true).abs().median()) < 0.05  # other pixels of the same smooth wall, in other views
    behind = torch.tensor([[0.0, 0.0, -5.0]])
    assert (colors_from_images(bare, behind) == UNSEEN).all()


def test_the_focus_of_a_ring_and_of_parallel_cameras(bare):
    focus = torch.tensor([0.5, -1.0, 2.0])
    torch.testing.assert_close(focus_point(ring(bare, focus)), focus, atol=1e-4, rtol=0)
    side_by_side = torch.eye(4).repeat(len(bare), 1, 1)
    side_by_side[:, 0, 3] = torch.linspace(0, 1, len(bare))
    assert focus_point(replace(bare, camera_T_world=side_by_side)) is None
    turned_away = ring(bare, focus)
    flip = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    assert focus_point(replace(turned_away, camera_T_world=flip @ turned_away.camera_T_world)) is None


def test_random_points_lie_in_what_the_cameras_see_in_common(bare):
    focus = torch.tensor([0.5, -1.0, 2.0])
    views = ring(bare, focus)
    points, colors = random_points(views, 200, generator())
    assert points.shape == colors.shape == (200, 3)
    assert (seen_by(views, points) >= len(views) / 2).all()
    distance = (points - views.world_T_camera[:, None, :3, 3]).norm(dim=-1)
    assert float((points - focus).norm(dim=-1).max()) < 4.0
    assert float(distance.min()) > 0.5
    again, _ = random_points(views, 200, generator())
    assert torch.equal(again, points)
    x = [views.image(i) for i in range(len(views))]
    assert (colors.min() >= min(float(i.min()) for i in x)) & (colors.max() <= max(float(i.max()) for i in x))


def test_random_points_between_near_and_far(bare):
    views = replace(bare, camera_T_world=torch.eye(4).repeat(len(bare), 1, 1), near_far=(2.0, 6.0))
    depth = random_points(views, 300, generator())[0][:, 2]
    assert float(depth.min()) > 2.0 - 1e-4
    assert float(depth.max()) < 6.0 + 1e-4
    assert float(depth.median()) == pytest.approx(3.0, abs=0.3)  # even in disparity: 1 / (1/2 + 1/6) * 2


def test_random_points_of_parallel_cameras_lie_in_front(bare):
    still = replace(bare, camera_T_world=torch.eye(4).repeat(len(bare), 1, 1))
    points, _ = random_points(still, 100, generator())
    assert (seen_by(still, points) == len(still)).all()
    assert float(points[:, 2].min()) > 0.4


def test_auto_takes_depth_then_the_cloud_then_random_points(clip, bare):
    cloud = torch.rand(30, 3)
    config = InitialiseConfig(num_static=40)
    with_both = replace(clip, points=cloud)
    by_depth = static_points(config, clip, generator())
    for views in (with_both, replace(with_both, point_colors=torch.zeros(30, 3, dtype=torch.uint8))):
        assert torch.equal(static_points(config, views, generator())[0], by_depth[0])
    from_cloud = static_points(config, replace(bare, points=cloud), generator())
    assert sorted(from_cloud[0].tolist()) == sorted(cloud.tolist())
    assert not from_cloud[1].any()
    with pytest.warns(UserWarning, match="start from 40 RANDOM points"):
        assert len(static_points(config, bare, generator())[0]) == 40
    asked = replace_config(config, "points")
    assert sorted(static_points(asked, with_both, generator())[0].tolist()) == sorted(cloud.tolist())
    assert len(static_points(replace_config(config, "random"), with_both, generator())[0]) == 40
    with pytest.raises(ValueError, match="layout's point cloud, but this clip has none"):
        static_points(asked, clip, generator())
    with pytest.raises(ValueError, match="This clip has no depth"):
        static_points(replace_config(config, "depth"), bare, generator())


def replace_config(config: InitialiseConfig, kind) -> InitialiseConfig:
    return replace(config, static_points=kind)


def test_the_cloud_stands_in_for_depth_that_is_unknown_everywhere(bare):
    files = (None,) * len(bare)
    unknown = replace(bare, priors=Priors(depth_files=files), points=torch.rand(30, 3))
    with pytest.warns(UserWarning, match="no static pixel of known depth"):
        points = static_points(InitialiseConfig(num_static=40), unknown, generator())[0]
    assert len(points) == 30


def test_where_nothing_moves_the_dynamic_set_may_stay_empty(bare):
    dynamic, static = GaussianSet("dynamic"), GaussianSet("static")
    motion = StaticMotionConfig().setup(num_frames=bare.num_frames)
    views = replace(bare, points=torch.rand(30, 3))
    tracks, extents = start_scene(InitialiseConfig(), views, dynamic, static, motion)
    assert tracks is None
    assert (len(dynamic), len(static)) == (0, 30)
    assert extents.keys() == {"static"}
    moving = MotionBasesConfig(num_bases=2).setup(num_frames=bare.num_frames)
    with pytest.raises(ValueError, match="from point tracks, but the clip has none"):
        start_scene(InitialiseConfig(), views, GaussianSet("dynamic", moving.columns()), static, moving)


def test_where_nothing_moves_tracks_that_cannot_be_lifted_are_no_error(clip):
    motion = StaticMotionConfig().setup(num_frames=clip.num_frames)
    for priors in (
        replace(clip.priors, depth_files=None),
        replace(clip.priors, mask_files=None),
        replace(clip.priors, mask_files=(None,) * len(clip)),
    ):
        dynamic, static = GaussianSet("dynamic"), GaussianSet("static")
        views = replace(clip, priors=priors, points=torch.rand(30, 3))
        tracks, _ = start_scene(InitialiseConfig(num_static=50), views, dynamic, static, motion)
        assert tracks is None
        assert len(dynamic) == 0
        assert len(static) > 0
    moving = MotionBasesConfig(num_bases=2).setup(num_frames=clip.num_frames)
    with pytest.raises(ValueError, match="none could be lifted to 3-D: found 0 that lie on a moving mask"):
        start_scene(InitialiseConfig(), views, GaussianSet("dynamic", moving.columns()), static, moving)


def test_pixels_that_do_not_count_start_nothing(clip, tmp_path):
    """Without masks, alpha alone says which pixels are real."""
    Image.fromarray(np.zeros((clip.height, clip.width, 4), np.uint8)).save(tmp_path / "hidden.png")
    files = (tmp_path / "hidden.png",) * len(clip)
    hidden = replace(clip, priors=replace(clip.priors, mask_files=None, valid_files=files), points=torch.rand(30, 3))
    with pytest.warns(UserWarning, match="no static pixel of known depth"):
        assert len(static_points(InitialiseConfig(num_static=40), hidden, generator())[0]) == 30
