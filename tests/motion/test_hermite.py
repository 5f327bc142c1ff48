"""Cubic Hermite curves: weights, continuity, fits, and other numbers of control points."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dyngs_plugins.motion import hermite


def test_the_curve_written_out():
    times = torch.tensor([0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1], dtype=torch.float64)
    curve = hermite.weights(times, 5) @ torch.tensor([0.0, 1, 0, 2, 1], dtype=torch.float64)
    expected = torch.tensor([0, 0.496, 1, 0.28, 0, 0.728, 2, 1.544, 1], dtype=torch.float64)
    torch.testing.assert_close(curve, expected, atol=1e-12, rtol=0)


@given(count=st.integers(2, 20), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_weights_sum_to_one_and_reproduce_lines(count, seed):
    times = torch.rand(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = hermite.weights(times, count)
    torch.testing.assert_close(weights.sum(1), torch.ones(9, dtype=torch.float64))
    line = torch.linspace(-1, 2, count, dtype=torch.float64)
    torch.testing.assert_close(weights @ line, 3 * times - 1, atol=1e-14, rtol=0)


def test_a_parabola_is_off_by_its_ends_only():
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    curve = hermite.weights(times, 8) @ torch.linspace(0, 1, 8, dtype=torch.float64) ** 2
    error = (curve - times**2).abs()
    assert float(error.max()) == pytest.approx(3.0e-3, abs=5e-5)
    assert float(error[(times > 1 / 7) & (times < 6 / 7)].max()) < 1e-12


def test_the_curve_passes_through_its_control_points():
    times = torch.linspace(0, 1, 12, dtype=torch.float64)
    torch.testing.assert_close(hermite.weights(times, 12), torch.eye(12, dtype=torch.float64))


@pytest.mark.parametrize(("count", "error"), [(10, 3.8e-4), (8, 9.2e-3), (6, 3.2e-2), (4, 0.135)])
def test_errors_of_fits_to_a_sine(count, error):
    times = torch.linspace(0, 1, 12, dtype=torch.float64)
    sine = torch.sin(2 * torch.pi * times)
    control = hermite.fit(sine[None, :, None], torch.ones(1, 12), times, count, stiffness=0.0)[0, :, 0]
    assert float((hermite.weights(times, count) @ control - sine).abs().max()) == pytest.approx(error, rel=0.03)


def test_speed_is_continuous_across_knots():
    control = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for knot in (0.2, 0.4, 0.8):
        around = torch.tensor([knot - 1e-7, knot + 1e-7], dtype=torch.float64, requires_grad=True)
        (speed,) = torch.autograd.grad((hermite.weights(around, 6) @ control).sum(), around)
        assert float(speed[0]) == pytest.approx(float(speed[1]), abs=1e-4)


def test_a_curve_of_one_point_is_refused():
    with pytest.raises(ValueError, match="expected 2 or more"):
        hermite.weights(torch.zeros(1), 1)


def test_taking_away_what_was_added_gives_the_path_back():
    matrix = hermite.refit(7, 6) @ hermite.refit(6, 7)
    curve = hermite.weights(torch.linspace(0, 1, 50, dtype=torch.float64), 6)
    bent = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float((curve @ (matrix @ bent - bent)).abs().max()) < 0.1 * float(bent.abs().max())
    straight = torch.linspace(0, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(matrix @ straight, straight, atol=1e-12, rtol=0)
