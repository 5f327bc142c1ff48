"""SplineGS's field: the sheet's facts, fits to tracks, control points taken away and added, density control."""

import pytest
import torch

from dyngs_plugins.density import grow, keep_rows
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion import hermite, hermite_control
from dyngs_plugins.motion.hermite_control import FilmedTimes
from dyngs_plugins.motion.spline import HermiteSpline, HermiteSplineConfig
from dyngs_plugins.priors.lifting import Tracks3D
from dyngs_plugins.types import Gaussians

T, N = 12, 9
ZIGZAG = torch.tensor([1.0, -1.0]).repeat(6)[:, None]
"""What twelve control points can follow and eleven cannot."""


def make(seed: int = 0, counts=None, dtype=torch.float64, **chosen) -> tuple[HermiteSpline, Gaussians]:
    generator = torch.Generator().manual_seed(seed)
    field = HermiteSpline(HermiteSplineConfig(**chosen), num_frames=T)
    counts = torch.randint(4, field.capacity + 1, (N,), generator=generator) if counts is None else counts
    return field, Gaussians(
        means=torch.randn(N, 3, generator=generator, dtype=dtype),
        quats=torch.randn(N, 4, generator=generator, dtype=dtype),
        scales=torch.rand(N, 3, generator=generator, dtype=dtype),
        opacities=torch.rand(N, generator=generator, dtype=dtype),
        colors=torch.rand(N, 3, generator=generator, dtype=dtype),
        columns={
            "control_points": torch.randn(N, field.capacity, 3, generator=generator, dtype=dtype),
            "control_counts": counts.to(dtype),
            "quat_rates": 0.1 * torch.randn(N, 4, generator=generator, dtype=dtype),
        },
    )


def tracks_of(points: torch.Tensor, visible: torch.Tensor | None = None) -> Tracks3D:
    n, t, _ = points.shape
    visible = torch.ones(n, t, dtype=torch.bool) if visible is None else visible
    return Tracks3D(points, visible, ~visible, torch.ones(n, t), torch.rand(n, 3), torch.zeros(n, dtype=torch.long))


def started(field: HermiteSpline, tracks: Tracks3D, frame: int) -> Gaussians:
    n = len(tracks)
    columns = field.initialise(tracks, frame, torch.Generator())
    means = tracks.points[:, frame]
    return Gaussians(means, torch.ones(n, 4), torch.ones(n, 3), torch.ones(n), torch.rand(n, 3), columns)


def film(frames: int = T) -> FilmedTimes:
    """A camera that moves a little sideways, four units before the origin."""
    cameras = torch.eye(4).repeat(frames, 1, 1)
    cameras[:, 2, 3] = 4.0
    cameras[:, 0, 3] = torch.linspace(0, 0.3, frames)
    K = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]).repeat(frames, 1, 1)
    return FilmedTimes(cameras, K, torch.linspace(0, 1, frames))


# --- the field ------------------------------------------------------------------------------------------------------


def test_each_gaussian_is_evaluated_with_its_own_number_of_control_points():
    field, gaussians = make()
    times = torch.rand(5, dtype=torch.float64)
    found = field.positions(gaussians, times)
    for row in range(N):
        count = int(gaussians.columns["control_counts"][row])
        control = gaussians.columns["control_points"][row, :count]
        by_hand = gaussians.means[row] + 0.01 * hermite.weights(times, count) @ control
        torch.testing.assert_close(found[:, row], by_hand)


def test_what_lies_behind_the_count_does_not_matter():
    field, gaussians = make(counts=torch.full((N,), 5))
    times = torch.rand(5, dtype=torch.float64)
    before = field.positions(gaussians, times)
    gaussians.columns["control_points"][:, 5:] = float("nan")
    assert torch.equal(field.positions(gaussians, times), before)


@pytest.mark.parametrize("counts", [None, torch.full((N,), 12)])
def test_gradient_in_time_matches_finite_differences(counts):
    field, gaussians = make(counts=counts)
    times = torch.tensor([0.21, 0.55], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: field.at(gaussians, t).means, (times,))
    assert torch.autograd.gradcheck(lambda t: field.at(gaussians, t).quats, (times,))


def test_gradients_of_the_control_points():
    field, gaussians = make()
    control = gaussians.columns["control_points"].requires_grad_()
    times = torch.tensor([0.21, 0.55], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda c: field.positions(gaussians.replace(columns={**gaussians.columns, "control_points": c}), times),
        (control,),
    )


def test_orientation_turns_at_a_constant_rate_and_is_normalised():
    field, gaussians = make()
    quats = field.at(gaussians, torch.tensor([0.0, 0.5], dtype=torch.float64)).quats
    torch.testing.assert_close(quats[0], torch.nn.functional.normalize(gaussians.quats, dim=-1))
    half = gaussians.quats + 0.5 * gaussians.columns["quat_rates"]
    torch.testing.assert_close(quats[1], torch.nn.functional.normalize(half, dim=-1))


@pytest.mark.parametrize(("frames", "capacity"), [(6, 6), (12, 12), (24, 12), (60, 20), (900, 64), (2, 4)])
def test_how_many_control_points_a_clip_gets(frames, capacity):
    assert HermiteSpline(HermiteSplineConfig(), num_frames=frames).capacity == capacity


# --- starting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control_points", [0, 5])
def test_constant_velocity_is_reproduced_exactly_from_tracks(control_points):
    field, _ = make(num_control_points=control_points)
    velocity = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    points = torch.randn(N, 1, 3) + torch.linspace(0, 1, T)[None, :, None] * velocity[:, None]
    gaussians = started(field, tracks_of(points), frame=4)
    times = torch.tensor([0.0, 0.123, 0.5, 0.77, 1.0])
    expected = points[:, 0] + times[:, None, None] * velocity
    torch.testing.assert_close(field.at(gaussians, times).means, expected, atol=2e-6, rtol=0)


def test_a_full_spline_passes_through_its_track():
    field, _ = make(stiffness=0.0)
    points = torch.randn(N, T, 3, generator=torch.Generator().manual_seed(2))
    gaussians = started(field, tracks_of(points), frame=0)
    found = field.positions(gaussians, torch.linspace(0, 1, T)).transpose(0, 1)
    torch.testing.assert_close(found, points, atol=1e-5, rtol=0)


def test_hidden_frames_hardly_count():
    field, _ = make(num_control_points=6)
    turn = torch.linspace(0, torch.pi, T)
    truth = torch.stack([turn.cos(), turn.sin(), turn], -1).repeat(N, 1, 1)
    visible = torch.ones(N, T, dtype=torch.bool)
    visible[:, 4:7] = False
    shown = torch.where(visible[..., None], truth, torch.full_like(truth, 50.0))
    found = field.positions(started(field, tracks_of(shown, visible), 0), torch.linspace(0, 1, T)).transpose(0, 1)
    assert (found - truth).norm(dim=-1).max() < 0.05


def test_fits_without_enough_observations_stay_finite():
    visible = torch.zeros(N, T, dtype=torch.bool)
    visible[:, 3] = True
    field, _ = make()
    tracks = tracks_of(torch.randn(N, T, 3), visible)
    gaussians = started(field, tracks, 3)
    moved = field.positions(gaussians, torch.linspace(0, 1, 9))
    torch.testing.assert_close(moved, gaussians.means.expand_as(moved), atol=1e-4, rtol=0)


# --- control points -------------------------------------------------------------------------------------------------


def test_a_straight_path_is_pruned_to_four_control_points_and_no_further():
    velocity = torch.randn(N, 1, 3, generator=torch.Generator().manual_seed(0))
    control, counts = 30 * torch.linspace(0, 1, 12)[None, :, None] * velocity, torch.full((N,), 12)
    centres, times = torch.zeros(N, 3), torch.linspace(0, 1, 20)
    path = hermite.evaluate(control, counts, times)
    for _ in range(12):
        control, counts = hermite_control.prune(control, counts, centres, 0.01, film(), 1e-2)
    assert counts.tolist() == [4] * N
    torch.testing.assert_close(hermite.evaluate(control, counts, times), path, atol=1e-4, rtol=0)


def test_pruning_keeps_what_the_cameras_would_see_and_drops_what_they_would_not():
    sideways = ZIGZAG * torch.tensor([1.0, 0.5, 0.0])
    control = torch.stack([100 * sideways, 0.1 * sideways])  # 1 and 0.001 scene units: 25 and 0.025 pixels
    counts = torch.full((2,), 12)
    control, counts = hermite_control.prune(control, counts, torch.zeros(2, 3), 0.01, film(), 1.0)
    assert counts.tolist() == [12, 11]
    assert torch.equal(control[0], 100 * sideways)
    assert control[1, 11].abs().sum() == 0


def test_motion_in_depth_counts_when_distances_are_measured():
    in_depth = (ZIGZAG * torch.tensor([0.0, 0.0, 60.0]))[None]
    on_axis = FilmedTimes(film().camera_T_world[:1].expand(T, 4, 4), film().K, film().times)
    for measure, count in (("projection", 11), ("distance", 12)):
        _, counts = hermite_control.prune(in_depth, torch.tensor([12]), torch.zeros(1, 3), 0.01, on_axis, 1.0, measure)
        assert counts.tolist() == [count]


def test_the_first_and_the_last_time_do_not_count():
    inner = film().between_ends()
    assert len(inner.times) == T - 2
    assert inner.times.min() > 0
    assert inner.times.max() < 1
    assert len(inner.at_most(4).times) == 4


def test_insertion_gives_one_more_and_keeps_the_path():
    field, gaussians = make(counts=torch.tensor([4, 5, 6, 7, 8, 9, 10, 11, 12]), dtype=torch.float32)
    smooth = torch.linspace(0, 1, 12)[None, :, None].expand(N, 12, 3).clone()
    counts = gaussians.columns["control_counts"].long()
    chosen = torch.arange(N) != 2
    control, more = hermite_control.insert(smooth, counts, chosen)
    assert more.tolist() == [5, 6, 6, 8, 9, 10, 11, 12, 12]
    assert torch.equal(control[2], smooth[2])
    times = torch.linspace(0, 1, 30)
    before, after = hermite.evaluate(smooth, counts, times), hermite.evaluate(control, more, times)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def moving_set(field: HermiteSpline, seed: int = 0) -> GaussianSet:
    _, gaussians = make(seed, counts=torch.full((N,), field.capacity), dtype=torch.float32)
    moving = GaussianSet("dynamic", field.columns())
    rows = {name: torch.zeros(N, *column.shape[1:]) for name, column in moving.raw.items()}
    moving.load_rows({**rows, "means": gaussians.means, "quats": gaussians.quats, **gaussians.columns})
    return moving


def test_upkeep_prunes_at_its_times_and_forgets_the_moments_of_what_it_changed():
    field, _ = make(adapt_start=10, adapt_every=5)
    field.know_cameras(*vars(film()).values())
    moving = moving_set(field)
    moving.raw["control_points"].data *= torch.tensor([100.0] + [1e-3] * (N - 1))[:, None, None]
    group = moving.group("control_points")
    optimizers = {group: torch.optim.Adam([moving.raw["control_points"]], lr=0.0)}
    moving.raw["control_points"].square().sum().backward()
    optimizers[group].step()
    for step in (0, 5, 11):
        field.upkeep(moving, optimizers, "train", step)
        assert moving.raw["control_counts"].tolist() == [12.0] * N
    field.upkeep(moving, optimizers, "train", 15)
    assert moving.raw["control_counts"].tolist() == [12.0] + [11.0] * (N - 1)
    moments = optimizers[group].state[moving.raw["control_points"]]["exp_avg"]
    assert moments[0].abs().sum() > 0
    assert moments[1:].abs().sum() == 0


def test_upkeep_adds_where_the_images_pull():
    field, _ = make(adapt_start=0, adapt_every=5, insert_every=5, prune_threshold=-1.0, insert_gradient=1.0)
    field.know_cameras(*vars(film()).values())
    moving = moving_set(field)
    moving.raw["control_counts"].data.fill_(6.0)
    control = moving.raw["control_points"]
    optimizers = {moving.group("control_points"): torch.optim.Adam([control], lr=0.0)}
    (control[0] * 1e6).sum().backward()
    optimizers[moving.group("control_points")].step()
    field.upkeep(moving, optimizers, "train", 5)
    assert moving.raw["control_counts"].tolist() == [7.0] + [6.0] * (N - 1)


def test_without_cameras_no_control_point_is_lost():
    field, _ = make(adapt_start=0, adapt_every=1)
    moving = moving_set(field)
    field.upkeep(moving, {}, "train", 7)
    assert moving.raw["control_counts"].tolist() == [12.0] * N


# --- rows -----------------------------------------------------------------------------------------------------------


def test_density_control_keeps_the_columns_of_a_gaussian_together():
    field, _ = make()
    moving = moving_set(field)
    moving.raw["control_counts"].data = torch.arange(4.0, 4 + N)  # each row its own number of control points
    moving.raw["opacities"].data = moving.raw["control_counts"].data.clone()
    duplicate, split = torch.zeros(N, dtype=torch.bool), torch.zeros(N, dtype=torch.bool)
    duplicate[1], split[2] = True, True
    grow(moving, {}, duplicate, split)
    keep_rows(moving, {}, torch.arange(len(moving)) != 0)
    assert len(moving) == N + 1
    assert torch.equal(moving.raw["control_counts"], moving.raw["opacities"])
    paths = field.positions(moving.activated(), torch.rand(4))
    torch.testing.assert_close(paths[:, -1], paths[:, -2])  # the two copies of the split one


def test_moving_a_gaussian_moves_its_whole_path():
    field, gaussians = make()
    times = torch.rand(4, dtype=torch.float64)
    shift = torch.tensor([1.0, 2, 3], dtype=torch.float64)
    moved = field.positions(gaussians.replace(means=gaussians.means + shift), times)
    torch.testing.assert_close(moved, field.positions(gaussians, times) + shift)


def test_the_method_has_the_sheets_settings():
    from method_configs.splinegs import full

    config = full()
    model = config.pipeline.model
    rates = {group: entry["optimizer"].lr for group, entry in config.optimizers.items()}
    assert rates["dynamic_control_points"] == 10 * rates["dynamic_means"] == 8e-3
    assert (rates["dynamic_quat_rates"], rates["color_head"]) == (1e-4, 1e-4)
    assert "dynamic_control_points" not in model.decays
    assert config.pipeline.datamanager.frames_per_batch == 2
    weights = {name: term.weight for name, term in model.losses.items()}
    assert weights == {"rgb": 1.0, "rgb_l1": 0.2, "rgb_inside": 1.0, "depth_l1": 1.0, "mask_dice": 2.0}
    motion = model.motion
    assert (motion.scale, motion.adapt_every, motion.adapt_start, motion.prune_threshold) == (0.01, 100, 500, 1.0)
    for control in model.density.values():
        rounds = (control.stop - 1) // control.every - control.start // control.every
        assert (rounds, control.absolute_gradients, control.prune_opacity) == (12, True, 0.005)
