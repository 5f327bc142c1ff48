"""How a scene starts: the canonical frame, outlier tracks, isotropic scales, extents (sheet 2.1)."""

import pytest
import torch

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.initialise import (
    nearest_distances,
    rotate_z_to,
    select_tracks,
    start_dynamic,
    start_static,
)
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.priors.lifting import Tracks3D


def tracks(n: int = 40, t: int = 6) -> Tracks3D:
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(n, 1, 3, generator=generator)
    visible = torch.rand(n, t, generator=generator) > 0.4
    visible[:, 2] = True
    return Tracks3D(
        points=start + 0.1 * torch.arange(t)[None, :, None],
        visible=visible,
        invisible=~visible,
        confidence=torch.ones(n, t),
        colors=torch.rand(n, 3, generator=generator),
        query_frame=torch.zeros(n, dtype=torch.long),
    )


def test_far_and_never_visible_tracks_are_dropped():
    found = tracks()
    found.points[0] += 100.0
    found.visible[1] = False
    kept = select_tracks(found, 2)
    assert len(kept) <= 39 * 0.95 + 1
    assert float(kept.points.abs().max()) < 10


def test_dynamic_gaussians_start_on_their_tracks_with_isotropic_scales():
    motion = MotionBases(MotionBasesConfig(num_bases=2, min_cluster_size=3), num_frames=6)
    gaussians = GaussianSet("dynamic", motion.columns())
    used = start_dynamic(gaussians, motion, tracks(), 0.7, torch.Generator().manual_seed(0))
    assert len(gaussians) == len(used)
    torch.testing.assert_close(gaussians.raw["means"].data, used.points[:, 2])
    assert float(gaussians.raw["scales"].data.var(dim=1).max()) == 0.0
    torch.testing.assert_close(torch.sigmoid(gaussians.raw["opacities"].data), torch.full((len(used),), 0.7))
    torch.testing.assert_close(torch.sigmoid(gaussians.raw["colors"].data), used.colors, atol=2e-3, rtol=0)
    still = motion.positions(gaussians.activated(), torch.tensor([2 / 5]))[0]
    torch.testing.assert_close(still, gaussians.raw["means"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", ["hold", "carry"])
def test_gaussians_of_late_tracks_start_where_the_field_says(hidden):
    """All move alike. A field that carries what is hidden knows where the late ones were in the canonical frame, 2."""
    motion = MotionBases(MotionBasesConfig(num_bases=2, min_cluster_size=3, hidden=hidden), num_frames=6)
    gaussians = GaussianSet("dynamic", motion.columns())
    late = tracks()
    late.visible[:8] = torch.arange(6) > 3
    used = start_dynamic(gaussians, motion, late, 0.7, torch.Generator().manual_seed(0))
    off = (gaussians.raw["means"].data - used.points[:, 2]).norm(dim=1)[~used.visible[:, 2]]
    assert len(off) > 5
    expected = 0.0 if hidden == "carry" else 0.2 * 3**0.5
    torch.testing.assert_close(off, torch.full_like(off, expected), atol=0.01, rtol=0)


def test_static_extent_is_half_the_largest_width():
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.0, 1.0, 1.0])
    gaussians = GaussianSet("static")
    extent = start_static(gaussians, points, torch.zeros(2000, 3), torch.rand(2000, 3), 0.7)
    assert extent == pytest.approx(4.5, rel=0.05)
    assert len(gaussians) == 2000


def test_rotation_takes_z_to_the_normal():
    normals = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    normals = torch.cat([normals, torch.tensor([[0.0, 0, -1], [0, 0, 1]])])
    w, x, y, z = rotate_z_to(normals).unbind(-1)
    turned = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
    torch.testing.assert_close(turned, normals, atol=1e-5, rtol=0)
    torch.testing.assert_close(rotate_z_to(torch.zeros(1, 3)), torch.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_nearest_distances_of_few_points(n):
    distances = nearest_distances(torch.rand(n, 3))
    assert distances.shape == (n,)
    assert (distances > 0).all()
