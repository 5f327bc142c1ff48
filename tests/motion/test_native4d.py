"""Native 4D Gaussians: the sheet's golden values (section 9) and closed forms."""

import math

import pytest
import torch

from dyngs_plugins.motion.native4d import Native4D, Native4DConfig, cut, rotations_4d
from dyngs_plugins.raster.ewa import quats_to_rotations
from dyngs_plugins.types import Gaussians, principal_axes

LEFT, RIGHT = torch.tensor([[0.9, 0.1, 0.2, 0.3]]), torch.tensor([[0.8, -0.2, 0.1, 0.4]])
SCALES = torch.tensor([[0.1, 0.2, 0.3, 0.5]])


def make(n: int = 7, seed: int = 0, **changes) -> tuple[Native4D, Gaussians]:
    generator = torch.Generator().manual_seed(seed)
    field = Native4D(Native4DConfig(**{"sh_degree": 1, **changes}), num_frames=11)
    columns = dict(field.start_from_points(torch.zeros(n, 3), torch.rand(n, generator=generator), generator))
    columns = {name: c + 0.3 * torch.randn(c.shape, generator=generator) for name, c in columns.items()}
    return field, Gaussians(
        means=torch.randn(n, 3, generator=generator),
        quats=torch.randn(n, 4, generator=generator),
        scales=torch.rand(n, 3, generator=generator) + 0.1,
        opacities=torch.rand(n, generator=generator),
        colors=torch.rand(n, 3, generator=generator),
        columns=columns,
        harmonics=torch.randn(n, 4, 3, generator=generator),
    )


def test_golden_rotation():
    rotation = rotations_4d(LEFT, RIGHT)[0]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(4), atol=1e-6, rtol=0)
    assert float(torch.det(rotation)) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(rotation[3], torch.tensor([0.077898, 0.033385, -0.344977, 0.934777]), atol=2e-6, rtol=0)


def test_golden_slice():
    slices = cut(LEFT, RIGHT, SCALES)
    assert float(slices.variance) == pytest.approx(0.229268, abs=2e-6)
    torch.testing.assert_close(slices.velocity[0], torch.tensor([-0.148903, 0.111876, 0.150599]), atol=2e-6, rtol=0)
    c = slices.covars[0]
    torch.testing.assert_close(c.diagonal(), torch.tensor([0.020732, 0.063125, 0.063722]), atol=2e-6, rtol=0)
    off = torch.stack([c[0, 1], c[0, 2], c[1, 2]])
    torch.testing.assert_close(off, torch.tensor([-0.019779, -0.020683, 0.023392]), atol=2e-6, rtol=0)
    assert math.exp(-0.5 * 0.3**2 / float(slices.variance)) == pytest.approx(0.821785, abs=2e-6)


def test_the_slice_is_the_inverse_of_the_block_of_the_precision():
    generator = torch.Generator().manual_seed(0)
    left, right, scales = (torch.rand(20, 4, generator=generator, dtype=torch.float64) + 0.1 for _ in range(3))
    factor = rotations_4d(left, right) * scales[:, None]
    precision = torch.linalg.inv(factor @ factor.mT)
    expected = torch.linalg.inv(precision[:, :3, :3])
    torch.testing.assert_close(cut(left, right, scales).covars, expected, atol=2e-8, rtol=1e-6)


def test_equal_quaternions_turn_space_alone():
    slices = cut(LEFT, LEFT, SCALES)
    torch.testing.assert_close(slices.velocity, torch.zeros(1, 3), atol=1e-6, rtol=0)
    assert float(slices.variance) == pytest.approx(0.25)
    identity = torch.tensor([[1.0, 0, 0, 0]])
    torch.testing.assert_close(rotations_4d(identity, identity)[0], torch.eye(4))


def test_visibility_in_time():
    field, gaussians = make(seed=1)
    variance = field.slices(gaussians).variance
    # Gaussian i is seen at 2.4 and 2.5 standard deviations from its centre in time; 2.44775 is the limit.
    for deviations, lives in ((0.0, True), (2.44, True), (2.46, False)):
        centres = 0.5 + deviations * variance.sqrt()
        shifted = gaussians.replace(columns={**gaussians.columns, "time_means": centres})
        found = field.at(shifted, torch.tensor([0.5])).opacities[0]
        expected = gaussians.opacities * math.exp(-0.5 * deviations**2) * lives
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_the_share_integrates_to_that_of_a_normal_distribution():
    field, gaussians = make(seed=2)
    columns = {
        **gaussians.columns,
        "time_means": torch.full((7,), 0.5),
        "time_scales": torch.full((7,), math.log(0.05)),
    }
    gaussians = gaussians.replace(columns={**columns, "right_quats": gaussians.quats}, opacities=torch.ones(7))
    times = torch.linspace(0, 1, 2001)
    integral = torch.trapezoid(field.at(gaussians, times).opacities, times, dim=0)
    whole = math.sqrt(2 * math.pi) * 0.05 * math.erf(2.44775 / math.sqrt(2))  # what is culled is missing
    torch.testing.assert_close(integral, torch.full((7,), whole), atol=2e-5, rtol=0)


def test_motion_is_uniform():
    field, gaussians = make()
    times = torch.tensor([0.0, 0.25, 0.5, 1.0])
    means = field.positions(gaussians, times)
    torch.testing.assert_close(means[1] - means[0], (means[3] - means[0]) / 4, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(means[2] - means[0], 0.5 * field.slices(gaussians).velocity, atol=1e-5, rtol=1e-4)


def test_numbers_of_a_gaussian_and_the_start():
    field = Native4D(Native4DConfig(), num_frames=11)
    own = sum(math.prod(shape) for shape in field.columns().values())
    assert own + 3 + 4 + 3 + 1 + 16 * 3 == 161
    times = torch.cat([torch.full((500,), float("nan")), torch.full((5,), 0.3)])
    columns = field.start_from_points(torch.zeros(505, 3), times, torch.Generator().manual_seed(0))
    assert torch.exp(2 * columns["time_scales"]) == pytest.approx(torch.full((505,), 0.2))  # a fifth of the clip
    field.config.seen_variance = 0.01
    columns = field.start_from_points(torch.zeros(505, 3), times, torch.Generator().manual_seed(0))
    assert torch.exp(2 * columns["time_scales"][[0, 504]]).tolist() == pytest.approx([0.2, 0.01])
    assert columns["time_means"][500:].tolist() == pytest.approx([0.3] * 5)
    unknown = columns["time_means"][:500]
    assert -0.1 <= float(unknown.min()) < 0.0
    assert 1.0 < float(unknown.max()) <= 1.1


def test_at_its_own_time_a_colour_is_the_sum_of_its_groups():
    field, gaussians = make()
    centre = gaussians.columns["time_means"]
    change = gaussians.columns["time_harmonics"]
    found = torch.stack([field.at(gaussians, t[None].clamp(0, 1)).harmonics[0, i] for i, t in enumerate(centre)])
    inside = (centre >= 0) & (centre <= 1)
    assert inside.any()
    expected = gaussians.harmonics + change[:, 0] + change[:, 1]
    torch.testing.assert_close(found[inside], expected[inside], atol=1e-5, rtol=1e-5)
    half = field.at(gaussians, torch.tensor([0.5]))
    wave = 2 * math.pi * (0.5 - centre)
    expected = gaussians.harmonics + sum(torch.cos((o + 1) * wave)[:, None, None] * change[:, o] for o in range(2))
    torch.testing.assert_close(half.harmonics[0], expected, atol=1e-5, rtol=1e-5)


def test_orders_of_time_come_after_degrees_of_direction():
    field = Native4D(Native4DConfig(), num_frames=11)
    orders = []
    for step in (0, 3999, 4000, 5000, 20_000):
        field.begin_step("train", step)
        orders.append(field.active_order)
    assert orders == [0, 0, 1, 2, 2]


def test_colours_of_another_degree_are_refused():
    field, gaussians = make()
    with pytest.raises(ValueError, match="sh-degree is 0 and --pipeline.model.motion.sh-degree is 1"):
        field.at(gaussians.replace(harmonics=None), torch.tensor([0.5]))


def test_children_are_drawn_in_space_and_time_and_are_shorter():
    field, gaussians = make(n=1)
    n = 40_000
    children = {
        "means": gaussians.means.repeat(n, 1),
        "quats": gaussians.quats.repeat(n, 1),
        "scales": gaussians.scales.log().repeat(n, 1),
        **{name: column.repeat(n, *[1] * (column.ndim - 1)) for name, column in gaussians.columns.items()},
    }
    found = field.split_children(children, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found["time_scales"], children["time_scales"] - math.log(1.6))
    drawn = torch.cat([found["means"] - children["means"], (found["time_means"] - children["time_means"])[:, None]], 1)
    scales = torch.cat([gaussians.scales, torch.exp(gaussians.columns["time_scales"])[:, None]], 1)
    factor = (rotations_4d(gaussians.quats, gaussians.columns["right_quats"]) * scales[:, None])[0]
    expected = factor @ factor.T
    torch.testing.assert_close(torch.cov(drawn.T), expected, atol=0.03 * float(expected.diagonal().max()), rtol=0)


def test_the_least_life_bounds_variance_and_keeps_covariances_positive():
    field, gaussians = make(least_life=2.0)
    columns = {**gaussians.columns, "time_scales": torch.full((7,), -12.0)}
    slices = field.slices(gaussians.replace(columns=columns))
    assert float(slices.variance.min()) >= (2.0 / 10) ** 2 * (1 - 1e-6)
    assert float(torch.linalg.eigvalsh(slices.covars).min()) >= -1e-6


def test_exported_axes_give_the_covariances_back():
    field, gaussians = make()
    covars = field.slices(gaussians).covars
    quats, scales = principal_axes(covars)
    factor = quats_to_rotations(quats) * scales[:, None]
    torch.testing.assert_close(factor @ factor.mT, covars, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(quats.norm(dim=-1), torch.ones(7))
