"""4D Gaussian Splatting: the sheet's facts (section 9)."""

import copy

import pytest
import torch
import torch.nn.functional as F

from dyngs_plugins.density import DensityControl
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.hexplane import AXES, SPACE, TIME, HexPlane, HexPlaneConfig, roughness
from dyngs_plugins.types import Gaussians
from method_configs.fourdgs import full

SYNTHETIC = {"features": 32, "levels": (1, 2), "time_resolution": 50, "width": 64, "depth": 0}
NEU3D = {}
HYPERNERF = {"features": 16, "levels": (1, 2, 4), "time_resolution": 150, "width": 128}
TINY = {"features": 4, "levels": (1, 2), "space_resolution": 5, "time_resolution": 6, "width": 8}


def make(n: int = 6, **changes) -> tuple[HexPlane, Gaussians]:
    torch.manual_seed(0)
    field = HexPlane(HexPlaneConfig(**{**TINY, **changes}), num_frames=11)
    means = torch.randn(n, 3)
    field.start_from_points(means, torch.zeros(n), torch.Generator())
    gaussians = Gaussians(means, torch.randn(n, 4), torch.rand(n, 3), torch.rand(n), torch.rand(n, 3))
    return field, gaussians.replace(harmonics=torch.randn(n, 16, 3))


def stirred(**changes) -> tuple[HexPlane, Gaussians]:
    field, gaussians = make(**changes)
    for plane in field.planes:
        plane.data += 0.3 * torch.randn(plane.shape)
    return field, gaussians


@pytest.mark.parametrize(
    ("settings", "features", "planes", "network"),
    [
        (SYNTHETIC, 64, 2_887_680, 28_795),
        (NEU3D, 32, 2_365_440, 94_395),
        (HYPERNERF, 48, 7_354_368, 96_443),
    ],
)
def test_sizes_of_the_paper_s_profiles(settings, features, planes, network):
    field = HexPlane(HexPlaneConfig(**settings), num_frames=10)
    assert sum(p.numel() for p in field.planes) == planes
    assert sum(p.numel() for p in field.network.parameters()) == network
    assert field.look_up(torch.zeros(2, 3), torch.zeros(1)).shape == (1, 2, features)


def test_planes_of_space_and_of_time_and_how_they_start():
    field, gaussians = make()
    assert (SPACE, TIME) == ((0, 1, 3), (2, 4, 5))
    for level in range(2):
        planes = field.level(level)
        for i in SPACE:
            assert planes[i].min() >= 0.1
            assert planes[i].max() < 0.5
        for i in TIME:
            assert torch.equal(planes[i], torch.ones_like(planes[i]))
            assert planes[i].shape[2:] == (6, 5 * (level + 1))  # rows are times, of one resolution
    features = field.look_up(gaussians.means, torch.tensor([0.0, 0.6]))
    torch.testing.assert_close(features[0], features[1])
    assert field.regularisers(gaussians)["planes_sparse"] == 0.0


@pytest.mark.parametrize("time_map", ["raw", "symmetric"])
def test_rows_of_time_are_the_bilinear_look_up(time_map):
    """Against one grid_sample a plane, as the reference does."""
    field, gaussians = stirred(time_map=time_map)
    times = torch.tensor([0.0, 0.31, 1.0])
    t = times if time_map == "raw" else 2 * times - 1
    places = 2 * (gaussians.means - field.low) / (field.high - field.low) - 1
    points = torch.cat([places.expand(3, -1, -1), t[:, None, None].expand(3, len(places), 1)], dim=-1)
    expected = []
    for level in range(2):
        product = 1.0
        for plane, (columns, rows) in zip(field.level(level), AXES, strict=True):
            grid = points[..., [columns, rows]][None]
            product = product * F.grid_sample(plane, grid, align_corners=True, padding_mode="border")[0]
        expected.append(product.permute(1, 2, 0))
    torch.testing.assert_close(field.look_up(gaussians.means, times), torch.cat(expected, -1), atol=1e-5, rtol=1e-4)


def test_half_of_the_time_axis_learns_with_the_raw_map_and_all_of_it_with_the_symmetric():
    for time_map, untouched in (("raw", 2), ("symmetric", 0)):
        field, gaussians = make(time_map=time_map)
        field.look_up(gaussians.means, torch.linspace(0, 1, 30)).sum().backward()
        gradient = field.level(0)[2].grad
        assert int((gradient.abs().sum(dim=(0, 1, 3)) == 0).sum()) == untouched


def test_outside_the_box_and_the_clip_the_border_is_seen():
    field, gaussians = stirred()
    inside = field.look_up(torch.stack([field.low, field.high]), torch.tensor([0.0, 1.0]))
    outside = field.look_up(torch.stack([field.low - 5, field.high + 5]), torch.tensor([-1.0, 2.0]))
    torch.testing.assert_close(outside, inside)


@pytest.mark.parametrize("count", [1, 5])
def test_points_in_a_plane_far_away_or_a_single_one_have_a_box(count):
    field, _ = make()
    points = torch.cat([torch.rand(count, 2), torch.full((count, 1), 1000.0)], dim=1)
    field.start_from_points(points, torch.zeros(count), torch.Generator())
    sides = field.high - field.low
    assert float(sides.min()) > 0.005 * float(sides.max())
    assert (points >= field.low).all()
    assert (points <= field.high).all()
    assert torch.isfinite(field.look_up(points, torch.tensor([0.5]))).all()


def test_the_roughness_of_squares_is_four():
    rows = torch.arange(7.0).square()[:, None].expand(1, 3, 7, 4)
    assert roughness([rows]) == 4.0
    assert roughness([rows.transpose(2, 3)]) == 0.0
    assert roughness([rows, rows]) == 8.0


def test_regularisers_are_weighted_means_over_planes():
    field, gaussians = stirred(space_smoothness=2.0, time_smoothness=3.0, time_sparsity=5.0)
    found = field.regularisers(gaussians)
    space = [field.level(level)[i] for level in range(2) for i in (0, 1, 3)]
    time = [field.level(level)[i] for level in range(2) for i in (2, 4, 5)]
    second = lambda p: (p.diff(dim=2).diff(dim=2) ** 2).mean()  # noqa: E731
    torch.testing.assert_close(found["planes_space"], 2.0 * sum(second(p) for p in space))
    torch.testing.assert_close(found["planes_time"], 3.0 * sum(second(p) for p in time))
    torch.testing.assert_close(found["planes_sparse"], 5.0 * sum((1 - p).abs().mean() for p in time))


def test_changes_are_of_log_scales_logits_and_unnormalised_quats():
    field, gaussians = stirred()
    times = torch.tensor([0.2, 0.9])
    changes = field.network(field.look_up(gaussians.means, times), field.config.heads)
    moved = field.at(gaussians, times)
    torch.testing.assert_close(moved.means, gaussians.means + changes["means"])
    torch.testing.assert_close(moved.scales.log(), gaussians.scales.log() + changes["scales"])
    torch.testing.assert_close(moved.quats, F.normalize(gaussians.quats + changes["quats"], dim=-1))
    logits = torch.logit(gaussians.opacities) + changes["opacities"][..., 0]
    torch.testing.assert_close(moved.opacities, torch.sigmoid(logits), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved.harmonics, gaussians.harmonics + changes["colors"].unflatten(-1, (16, 3)))


@pytest.mark.parametrize("factor", [3.0, 30.0, 1000.0])
def test_planes_after_a_step_that_was_far_too_long_give_finite_numbers_and_derivatives(factor):
    field, gaussians = stirred()
    for plane in field.planes:
        plane.data *= factor
    moved = field.at(gaussians, torch.tensor([0.2, 0.9]))
    parts = [moved.means, moved.quats, moved.scales, moved.opacities, moved.harmonics]
    changes = field.network(field.look_up(gaussians.means, torch.tensor([0.2, 0.9])), ("scales",))["scales"]
    assert (float(changes.detach().abs().max()) > 89) == (factor > 3)  # where exp overflows
    sum(part.sum() for part in parts).backward()
    assert all(torch.isfinite(part).all() for part in parts)
    assert all(torch.isfinite(p.grad).all() for p in field.parameters() if p.grad is not None)


def test_heads_that_are_off_change_nothing():
    field, gaussians = stirred(heads=("means",))
    moved = field.at(gaussians, torch.tensor([0.2]))
    assert moved.opacities is gaussians.opacities
    assert moved.scales is gaussians.scales
    assert moved.harmonics is gaussians.harmonics
    assert "opacities" in field.network.heads  # built all the same


def test_depth_nought_is_depth_one():
    assert len(make(depth=0)[0].network.trunk) == len(make(depth=1)[0].network.trunk) == 1
    assert len(make(depth=2)[0].network.trunk) == 3


def test_the_box_is_kept_in_checkpoints():
    field, _ = make()
    other = HexPlane(copy.deepcopy(field.config), num_frames=11)
    other.load_state_dict(field.state_dict())
    assert torch.equal(other.low, field.low)
    assert torch.equal(other.high, field.high)


def test_the_method_s_schedule():
    config = full()
    model = config.pipeline.model
    coarse, fine = (stage for stage in model.stages(300, 4) if stage.steps > 0)
    assert (coarse.name, coarse.steps, coarse.moves_from) == ("coarse", 3000, 3000)
    assert (fine.steps, fine.moves_from, fine.resets_moments) == (14_000, 0, True)
    planes = config.optimizers["motion_planes"]["optimizer"].lr
    assert planes * fine.decays["motion_planes"].at(10_000) == pytest.approx((1.6e-3 * 1.6e-4) ** 0.5)
    assert set(model.losses) == {"rgb_l1"}


def test_growth_stops_at_many_and_culling_starts_at_many():
    control = full().pipeline.model.density["dynamic"]
    assert (control.max_gaussians, control.prune_above) == (360_000, 200_000)
    gaussians = GaussianSet("dynamic")
    rows = {name: torch.zeros(4, *p.shape[1:]) for name, p in gaussians.raw.items()}
    gaussians.load_rows({**rows, "opacities": torch.full((4,), -9.0)})
    for above, left in ((4, 4), (3, 0)):
        control.prune_above, control.start = above, 0
        density = DensityControl(control, num_frames=2)
        density.observe(torch.zeros(1, 4, 2), torch.ones(1, 4, dtype=torch.int32), 10, 10)
        density.step(gaussians, {}, 100)
        assert len(gaussians) == left
