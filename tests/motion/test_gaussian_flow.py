"""Gaussian-Flow's field: the sheet's facts, fits to tracks, gradients, density control."""

import copy
import math

import pytest
import torch

from dyngs_plugins.density import grow, keep_rows
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.polynomial_fourier import PolynomialFourier, PolynomialFourierConfig, basis_at
from dyngs_plugins.priors.lifting import Tracks3D
from dyngs_plugins.types import Gaussians

T, N = 13, 7
WRITTEN_OUT = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]]


def make(seed: int = 0, size: float = 0.1, dtype=torch.float64, **settings) -> tuple[PolynomialFourier, Gaussians]:
    generator = torch.Generator().manual_seed(seed)
    field = PolynomialFourier(PolynomialFourierConfig(**settings), num_frames=T).eval()
    shapes = field.columns()
    return field, Gaussians(
        means=torch.randn(N, 3, generator=generator, dtype=dtype),
        quats=torch.randn(N, 4, generator=generator, dtype=dtype),
        scales=torch.rand(N, 3, generator=generator, dtype=dtype),
        opacities=torch.rand(N, generator=generator, dtype=dtype),
        colors=torch.rand(N, 3, generator=generator, dtype=dtype),
        columns={
            name: size * torch.randn(N, *shape, generator=generator, dtype=dtype) for name, shape in shapes.items()
        },
    )


def tracks_of(points: torch.Tensor) -> Tracks3D:
    n, t, _ = points.shape
    return Tracks3D(
        points=points,
        visible=torch.ones(n, t, dtype=torch.bool),
        invisible=torch.zeros(n, t, dtype=torch.bool),
        confidence=torch.ones(n, t),
        colors=torch.rand(n, 3),
        query_frame=torch.zeros(n, dtype=torch.long),
    )


def started(field: PolynomialFourier, points: torch.Tensor, frame: int) -> Gaussians:
    n = points.shape[0]
    columns = field.initialise(tracks_of(points), frame, torch.Generator())
    return Gaussians(points[:, frame], torch.ones(n, 4), torch.ones(n, 3), torch.ones(n), torch.rand(n, 3), columns)


def test_without_coefficients_nothing_moves():
    field, gaussians = make(size=0.0, color_terms=2)
    moved = field.at(gaussians, torch.linspace(0, 1, 5, dtype=torch.float64))
    torch.testing.assert_close(moved.means, gaussians.means.expand(5, N, 3))
    torch.testing.assert_close(moved.colors, gaussians.colors.expand(5, N, 3))
    unit = torch.nn.functional.normalize(gaussians.quats, dim=-1)
    torch.testing.assert_close(moved.quats, unit.expand(5, N, 4))


def test_the_function_of_time_written_out():
    field, gaussians = make(size=0.0, time_scale=1.0, time_offset=0.0)
    gaussians.columns["position_terms"][:, :, 0, :] = torch.tensor(WRITTEN_OUT, dtype=torch.float64)
    times = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    change = (field.positions(gaussians, times) - gaussians.means)[:, 0, 0]
    expected = torch.tensor([0.633333, 0.047917, 0.358333, 1.0], dtype=torch.float64)
    torch.testing.assert_close(change, expected, atol=1e-6, rtol=0)


def test_pure_fourier_of_scale_one_ends_where_it_starts():
    field, gaussians = make(time_scale=1.0, time_offset=0.0)
    gaussians.columns["position_terms"][..., 0] = 0
    start, end = field.positions(gaussians, torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(start, end)


@pytest.mark.parametrize("learn_centre", [True, False])
def test_gradient_in_time_matches_finite_differences(learn_centre):
    field, gaussians = make(color_terms=2, learn_centre=learn_centre)
    times = torch.tensor([0.0, 0.21, 0.55], dtype=torch.float64, requires_grad=True)
    inside = times.detach().clone().clamp_min(1e-3).requires_grad_()
    for read in ("means", "quats", "colors"):
        assert torch.autograd.gradcheck(lambda t, read=read: getattr(field.at(gaussians, t), read), (inside,))
    field.at(gaussians, times).means.sum().backward()  # at tau = 0 too
    assert torch.isfinite(times.grad).all()


def test_the_gradient_of_the_centre_is_minus_that_of_tau():
    field, gaussians = make(time_scale=1.0)
    tau = torch.tensor([0.4], dtype=torch.float64)
    gaussians.columns["time_centres"].requires_grad_()
    out = field.positions(gaussians, tau).sum(dim=(0, 2))
    (by_centre,) = torch.autograd.grad(out.sum(), gaussians.columns["time_centres"])
    with torch.no_grad():
        ahead, behind = (field.positions(gaussians, tau + e).sum(dim=(0, 2)) for e in (1e-6, -1e-6))
    torch.testing.assert_close(by_centre, -(ahead - behind) / 2e-6, atol=1e-6, rtol=1e-5)


def test_floats_per_gaussian():
    field, _ = make(position_terms=4, rotation_terms=3, color_terms=2)
    sizes = {name: math.prod(shape) for name, shape in field.columns().items()}
    assert sizes == {"position_terms": 9 * 4, "rotation_terms": 12 * 3, "color_terms": 9 * 2, "time_centres": 1}


def test_equal_centres_are_as_good_as_none():
    field, gaussians = make(position_terms=3, rotation_terms=2)
    gaussians.columns["time_centres"].zero_()
    shared, _ = make(position_terms=3, rotation_terms=2, learn_centre=False)
    without = gaussians.replace(columns={k: v for k, v in gaussians.columns.items() if k != "time_centres"})
    times = torch.rand(4, dtype=torch.float64)
    torch.testing.assert_close(field.at(gaussians, times).means, shared.at(without, times).means)
    torch.testing.assert_close(field.at(gaussians, times).quats, shared.at(without, times).quats)


def test_positions_equals_at_means():
    field, gaussians = make(position_terms=2, rotation_terms=5)
    times = torch.rand(4, dtype=torch.float64)
    torch.testing.assert_close(field.positions(gaussians, times), field.at(gaussians, times).means)


def test_quaternions_are_normalised_after_the_addition():
    field, gaussians = make(size=1.0)
    quats = field.at(gaussians, torch.rand(3, dtype=torch.float64)).quats
    torch.testing.assert_close(quats.norm(dim=-1), torch.ones(3, N, dtype=torch.float64))


@pytest.mark.parametrize("terms", [2, 3, 8])
def test_constant_velocity_is_reproduced_exactly_from_tracks(terms):
    field, _ = make(position_terms=terms)
    velocity = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    points = torch.randn(N, 1, 3) + torch.linspace(0, 1, T)[None, :, None] * velocity[:, None]
    gaussians = started(field, points, frame=4)
    times = torch.tensor([0.0, 0.123, 0.5, 0.77, 1.0])
    expected = points[:, 0] + times[:, None, None] * velocity
    torch.testing.assert_close(field.at(gaussians, times).means, expected, atol=2e-5, rtol=0)


def test_a_sine_is_recovered_with_two_terms():
    field, _ = make(position_terms=2, time_scale=0.8)
    times = torch.linspace(0, 1, 101)
    path = torch.sin(2 * math.pi * 0.8 * times)[None, :, None] * torch.tensor([0.3, -0.2, 0.1])
    gaussians = started(field, path[:, ::4].repeat(2, 1, 1), frame=0)
    assert (field.positions(gaussians, times)[:, 0] - path[0]).abs().max() < 1e-3


def test_noise_on_training_times_falls_to_nothing():
    field, _ = make(jitter=0.1, jitter_steps=10_000)
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    sharp = field.dilated(times)
    shifts = {}
    for start in (0, 5000, 10_000):
        shifts[start] = []
        for step in range(start, start + 400):
            field.begin_step("train", step)
            found = field.train().dilated(times) - sharp
            torch.testing.assert_close(found, found[:1].expand(5))  # an exposure's instants keep their distances
            assert torch.equal(field.eval().dilated(times), sharp)
            shifts[start].append(float(found[0]))
    expected = 0.1 * field.config.time_scale / (T - 1)
    assert torch.tensor(shifts[0]).std() == pytest.approx(expected, rel=0.15)
    assert torch.tensor(shifts[5000]).std() == pytest.approx(expected / 2, rel=0.15)
    assert set(shifts[10_000]) == {0.0}


def test_noise_on_training_times_is_the_same_after_a_resume():
    field, gaussians = make(jitter=0.1)
    field.train()
    times = torch.tensor([0.2, 0.7], dtype=torch.float64)
    field.begin_step("train", 41)
    before = field.positions(gaussians, times)
    torch.rand(3)  # the global generator plays no part
    field.begin_step("train", 42)
    assert not torch.equal(field.positions(gaussians, times), before)
    field.begin_step("train", 41)
    assert torch.equal(field.positions(gaussians, times), before)


def test_density_control_keeps_the_columns_of_a_gaussian_together():
    field, _ = make(dtype=torch.float32)
    moving = GaussianSet("dynamic", field.columns())
    rows = {name: torch.randn(N, *column.shape[1:]) for name, column in moving.raw.items()}
    rows["time_centres"] = rows["means"][:, 0]  # each row knows its centre
    moving.load_rows(rows)
    duplicate, split = torch.zeros(N, dtype=torch.bool), torch.zeros(N, dtype=torch.bool)
    duplicate[1], split[2] = True, True
    grow(moving, {}, duplicate, split)
    keep_rows(moving, {}, torch.arange(len(moving)) != 0)
    assert len(moving) == N + 1
    torch.testing.assert_close(moving.raw["time_centres"], moving.raw["means"][:, 0])
    torch.testing.assert_close(moving.raw["position_terms"][-1], moving.raw["position_terms"][-2])


def test_a_checkpoint_restores_the_motion():
    field, _ = make(dtype=torch.float32)
    moving, other = (GaussianSet("dynamic", field.columns()) for _ in range(2))
    moving.load_rows({name: torch.randn(N, *column.shape[1:]) for name, column in moving.raw.items()})
    other.load_state_dict(copy.deepcopy(moving.state_dict()))
    times = torch.rand(3)
    ours, theirs = (field.at(s.activated(), times) for s in (moving, other))
    torch.testing.assert_close(ours.means, theirs.means)
    torch.testing.assert_close(ours.quats, theirs.quats)


def test_coefficients_are_zero_where_a_gaussian_stands_still():
    field, gaussians = make(size=0.0)
    assert field.motion_coefficients(gaussians).shape == (N, 9 * 3 + 12 * 3)
    assert float(field.motion_coefficients(gaussians).abs().sum()) == 0.0


def test_the_powers_have_a_derivative_at_zero():
    tau = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: basis_at(t, 4), (tau,))


def test_no_term_is_refused():
    with pytest.raises(ValueError, match="position_terms is 0"):
        make(position_terms=0)


def test_the_method_has_the_sheets_settings():
    from method_configs.gaussian_flow import full

    config = full()
    model, data = config.pipeline.model, config.pipeline.datamanager
    control = model.density["dynamic"]
    assert data.frames_per_batch == 8  # one optimizer step mixes eight times
    assert (control.reset_opacity, control.prune_opacity, control.stop) == (0.1, 0.001, 5000)
    assert not model.losses["motion_coherence"].active(5000)
    assert model.losses["motion_coherence"].active(5001)
    assert model.losses["motion_coherence"].weight == 0.1
    assert set(model.losses) >= {"rgb_l1"}
    assert "rgb" not in model.losses
    rates = {group: entry["optimizer"].lr for group, entry in config.optimizers.items()}
    for column in PolynomialFourier(model.motion, 2).columns():
        assert f"dynamic_{column}" in rates
    assert rates["dynamic_position_terms"] == 1.6e-4
    assert "dynamic_position_terms" not in model.decays  # the reference's stay constant
