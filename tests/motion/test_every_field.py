"""What every motion field must do: constant velocity, derivatives in time, rows that stay together, checkpoints."""

import copy

import pytest
import torch
from every_field import FRAMES, N, everything, paths, start, stir
from used_motions import smaller_motion_configs

from dyngs_plugins.density import grow, keep_rows
from dyngs_plugins.motion.static import StaticMotion

FIELDS = sorted(smaller_motion_configs())
every_field = pytest.mark.parametrize("name", FIELDS)
VELOCITY = torch.tensor([0.4, -0.2, 0.1])
MAY_DIFFER = {"means", "scales", "time_means", "time_scales"}
"""Columns in which the children of a split may differ from their parents."""


@every_field
def test_constant_velocity_is_reproduced_by_the_start_or_a_short_fit(name: str):
    points = paths(VELOCITY.expand(40, 3))
    field, gaussians = start(name, points)
    if isinstance(field, StaticMotion):
        pytest.skip("nothing moves")
    field, gaussians, points = field.double(), gaussians.double(), points.double()
    times = torch.linspace(0, 1, FRAMES, dtype=torch.float64)

    def error() -> torch.Tensor:
        moved = field.positions(gaussians.activated(), times).transpose(0, 1)
        return (moved - points).square().sum(-1).mean()

    if float(error().sqrt()) > 1e-4:
        # From no motion at all the derivatives of a symmetric target may cancel.
        stir(field, gaussians, 0.01)
        trained = [p for p in (*field.parameters(), *gaussians.raw.values()) if p.dtype.is_floating_point]
        optimizer = torch.optim.LBFGS(trained, max_iter=150, line_search_fn="strong_wolfe", tolerance_change=1e-12)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = error()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert float(error().sqrt()) < 1e-2 * float(VELOCITY.norm())


@every_field
def test_derivatives_in_time_agree_with_finite_differences(name: str):
    field, gaussians = start(name, paths(torch.randn(N, 3)))
    stir(field, gaussians)
    field, gaussians = field.double().eval(), gaussians.double()
    # Between the nodes of fields that are linear from one to the next.
    times = torch.tensor([0.137, 0.4219, 0.81], dtype=torch.float64, requires_grad=True)
    weights = torch.cos(torch.arange(everything(field.at(gaussians.activated(), times)).shape[1], dtype=torch.float64))

    def value(at: torch.Tensor) -> torch.Tensor:
        return everything(field.at(gaussians.activated(), at)) @ weights

    (found,) = torch.autograd.grad(value(times).sum(), times, allow_unused=True)
    step = 1e-6
    expected = (value(times + step) - value(times - step)).detach() / (2 * step)
    found = torch.zeros_like(times) if found is None else found
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert isinstance(field, StaticMotion) or float(expected.abs().min()) > 1e-4


@every_field
def test_several_times_at_once_are_those_times_one_by_one(name: str):
    field, gaussians = start(name, paths(torch.randn(N, 3)))
    stir(field, gaussians)
    field.eval()
    times = torch.tensor([0.0, 0.37, 1.0])
    at_once = everything(field.at(gaussians.activated(), times))
    one_by_one = torch.cat([everything(field.at(gaussians.activated(), time[None])) for time in times])
    torch.testing.assert_close(at_once, one_by_one, atol=1e-5, rtol=1e-5)
    positions = field.positions(gaussians.activated(), times)
    torch.testing.assert_close(positions, field.at(gaussians.activated(), times).means, atol=1e-5, rtol=1e-5)
    outside = field.positions(gaussians.activated(), torch.tensor([-0.5, 1.5]))
    torch.testing.assert_close(outside, positions[[0, 2]], atol=1e-5, rtol=1e-5)


@every_field
def test_density_control_keeps_the_columns_of_a_gaussian_together(name: str):
    field, gaussians = start(name, paths(torch.randn(N, 3)))
    for column, raw in gaussians.raw.items():  # every number says which row it is in
        if raw.dtype.is_floating_point and column not in ("scales", "time_scales"):
            raw.data = raw.data + torch.arange(N).reshape(N, *[1] * (raw.ndim - 1))
    before = {column: raw.data.clone() for column, raw in gaussians.raw.items()}
    duplicate, split = torch.arange(N) == 1, (torch.arange(N) == 2) | (torch.arange(N) == 5)
    generator = torch.Generator().manual_seed(0)
    grow(gaussians, {}, duplicate, split, lambda rows: field.split_children(rows, generator))
    kept = torch.ones(len(gaussians), dtype=torch.bool)
    kept[0] = kept[-1] = False
    keep_rows(gaussians, {}, kept)
    parents = torch.tensor([1, 3, 4, *range(6, N), 1, 2, 2, 5])
    children = torch.arange(len(parents)) >= len(parents) - 3
    for column, raw in gaussians.raw.items():
        rows = slice(None) if column not in MAY_DIFFER else ~children
        torch.testing.assert_close(raw.data[rows], before[column][parents][rows], msg=lambda m, c=column: f"{c}: {m}")
    moved = field.eval().at(gaussians.activated(), torch.tensor([0.2, 0.6]))
    assert moved.means.shape == (2, len(parents), 3)
    assert torch.isfinite(everything(moved)).all()


@every_field
def test_a_checkpoint_brings_everything_back(name: str):
    field, gaussians = start(name, paths(torch.randn(N, 3)))
    stir(field, gaussians)
    fresh = copy.deepcopy(smaller_motion_configs()[name]).setup(num_frames=FRAMES)
    fresh.load_state_dict(field.state_dict())
    times = torch.tensor([0.1, 0.7])
    expected = field.eval().at(gaussians.activated(), times)
    found = fresh.eval().at(gaussians.activated(), times)
    torch.testing.assert_close(everything(found), everything(expected))


@every_field
def test_no_gaussians_are_no_problem(name: str):
    field, gaussians = start(name, paths(torch.randn(N, 3)))
    keep_rows(gaussians, {}, torch.zeros(N, dtype=torch.bool))
    moved = field.eval().at(gaussians.activated(), torch.tensor([0.2, 0.6]))
    assert moved.means.shape == (2, 0, 3)
