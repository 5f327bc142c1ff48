"""Density control and schedules: the sheet's facts 14 and 16, and that every column and moment stays aligned."""

import pytest
import torch

from dyngs_plugins.density import DensityControl, DensityControlConfig, grow, keep_rows, sampled
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.model import DynamicModelConfig
from dyngs_plugins.motion.bases import MotionBasesConfig
from dyngs_plugins.motion.spline import HermiteSplineConfig
from dyngs_plugins.raster.ewa import quats_to_rotations
from dyngs_plugins.stages import Decay, Schedule, Stage


def make_set(n: int = 6) -> tuple[GaussianSet, dict[str, torch.optim.Optimizer]]:
    """A set whose rows can be told apart in every column, after one Adam step."""
    gaussians = GaussianSet("dynamic", {"motion_coefs": (2,)})
    rows = torch.arange(float(n))
    gaussians.load_rows(
        {name: rows.reshape(n, *[1] * (p.ndim - 1)).expand(n, *p.shape[1:]) for name, p in gaussians.raw.items()}
    )
    optimizers = {group: torch.optim.Adam(ps, lr=0.0) for group, ps in gaussians.param_groups().items()}
    loss = sum((p * (p.detach() + 1)).sum() for p in gaussians.raw.values())
    loss.backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return gaussians, optimizers


def assert_aligned(gaussians: GaussianSet, optimizers) -> torch.Tensor:
    """Every column, and every moment, tells the same story of which row is which; returns it."""
    ids = gaussians.raw["means"][:, 0]
    for name, parameter in gaussians.raw.items():
        values = parameter.reshape(len(ids), -1)[:, 0]
        if name != "scales":
            torch.testing.assert_close(values, ids)
        optimizer = optimizers[gaussians.group(name)]
        assert optimizer.param_groups[0]["params"][0] is parameter
        moment = optimizer.state[parameter]["exp_avg"].reshape(len(ids), -1)[:, 0]
        fresh = moment == 0
        torch.testing.assert_close(moment[~fresh], 0.1 * (ids[~fresh] + 1))
    return ids


def test_grow_and_prune_keep_columns_and_moments_together():
    gaussians, optimizers = make_set()
    duplicate = torch.tensor([1, 0, 0, 0, 0, 0], dtype=torch.bool)
    split = torch.tensor([0, 0, 1, 0, 0, 1], dtype=torch.bool)
    grow(gaussians, optimizers, duplicate, split)
    assert assert_aligned(gaussians, optimizers).tolist() == [0, 1, 3, 4, 0, 2, 2, 5, 5]
    keep_rows(gaussians, optimizers, torch.tensor([1, 1, 0, 1, 1, 1, 1, 1, 0], dtype=torch.bool))
    assert assert_aligned(gaussians, optimizers).tolist() == [0, 1, 4, 0, 2, 2, 5]


def test_split_keeps_the_mean_and_divides_the_scales():
    gaussians, optimizers = make_set(1)
    before = torch.exp(gaussians.raw["scales"]).clone()
    grow(gaussians, optimizers, torch.tensor([False]), torch.tensor([True]))
    assert len(gaussians) == 2
    torch.testing.assert_close(torch.exp(gaussians.raw["scales"]), before.expand(2, 3) / 1.6)
    assert gaussians.raw["means"].abs().sum() == 0


def test_sampled_children_are_drawn_from_their_parents():
    gaussians, _ = make_set(1)
    n = 30_000
    quat = torch.tensor([0.9, 0.1, -0.3, 0.2])
    scales = torch.tensor([0.5, 0.1, 0.02])
    rows = {name: torch.zeros(n, *p.shape[1:]) for name, p in gaussians.raw.items()}
    gaussians.load_rows(
        {**rows, "means": torch.ones(n, 3), "quats": quat.repeat(n, 1), "scales": scales.log().repeat(n, 1)}
    )
    generator = torch.Generator().manual_seed(0)
    grow(
        gaussians,
        {},
        torch.zeros(n, dtype=torch.bool),
        torch.ones(n, dtype=torch.bool),
        lambda c: sampled(c, generator),
    )
    assert len(gaussians) == 2 * n
    factor = quats_to_rotations(quat) * scales
    found = torch.cov(gaussians.raw["means"].data.T)
    torch.testing.assert_close(found, factor @ factor.T, atol=5e-3, rtol=0)
    torch.testing.assert_close(gaussians.raw["means"].data.mean(0), torch.ones(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.exp(gaussians.raw["scales"].data[0]), scales / 1.6)


def test_a_motion_field_has_its_say_before_the_children_are_drawn():
    gaussians, optimizers = make_set(2)
    gaussians.raw["scales"].data.fill_(0.0)
    gaussians.raw["opacities"].data.fill_(3.0)
    density = control(split="sample", prune_scale=1e9)
    observe(density, [1.0, 0.0])
    seen = {}

    def adapt(children, generator):
        seen.update(children)
        return {**children, "motion_coefs": children["motion_coefs"] + 7}

    density.step(gaussians, optimizers, 10, adapt)
    assert torch.equal(seen["means"], torch.zeros(2, 3))
    assert torch.equal(seen["scales"], torch.zeros(2, 3))
    assert gaussians.raw["motion_coefs"][:, 0].tolist() == [1, 7, 7]
    assert gaussians.raw["means"].data[1:].abs().min() > 0
    other, _ = make_set(2)
    other.raw["scales"].data.fill_(0.0)
    again = control(split="sample", prune_scale=1e9)
    observe(again, [1.0, 0.0])
    again.step(other, {}, 10, adapt)
    assert torch.equal(other.raw["means"].data, gaussians.raw["means"].data)  # the step alone decides what is drawn


def test_a_row_cannot_be_split_and_duplicated():
    gaussians, optimizers = make_set(1)
    with pytest.raises(ValueError, match="duplicated and split"):
        grow(gaussians, optimizers, torch.tensor([True]), torch.tensor([True]))


def control(**changes) -> DensityControl:
    defaults = {"every": 10, "start": 5, "stop": 1000, "reset_every": 500, "pause_growth": 1, "pause_culling": 1}
    return DensityControl(DensityControlConfig(**{**defaults, **changes}), num_frames=4)


def observe(density: DensityControl, grads: list[float], views: int = 2, width: int = 20, height: int = 10) -> None:
    gradient = torch.zeros(views, len(grads), 2)
    gradient[..., 0] = torch.tensor(grads) / (width / 2 * views)  # the statistic's own unit
    density.observe(gradient, torch.ones(views, len(grads), dtype=torch.int32), width, height)


def test_gradients_above_the_threshold_grow_large_ones_split():
    gaussians, optimizers = make_set(3)
    gaussians.raw["scales"].data = torch.log(torch.tensor([0.5, 0.001, 0.5]))[:, None].expand(3, 3).clone()
    gaussians.raw["opacities"].data.fill_(3.0)
    density = control()
    observe(density, [3e-4, 3e-4, 1e-4])
    assert density.step(gaussians, optimizers, 10) == {"duplicated": 1, "split": 1, "culled": 0}
    assert len(gaussians) == 5


def test_the_statistic_is_the_mean_over_views_that_see_a_gaussian():
    density = control()
    observe(density, [2.0, 4.0])
    observe(density, [4.0, 4.0])
    torch.testing.assert_close(density.grad_sum / density.seen, torch.tensor([3.0, 4.0]))
    assert density.screen_radius.tolist() == pytest.approx([1 / 20, 1 / 20])


def test_growth_respects_the_cap_and_takes_the_largest_gradients():
    gaussians, optimizers = make_set(4)
    gaussians.raw["opacities"].data.fill_(3.0)
    density = control(max_gaussians=5, prune_scale=1e9, split_scale=1e9, split_screen=1e9)
    observe(density, [1.0, 3.0, 2.0, 1.0])
    density.step(gaussians, optimizers, 10)
    assert gaussians.raw["means"][:, 0].tolist() == [0, 1, 2, 3, 1]


def test_transparent_gaussians_are_culled():
    gaussians, optimizers = make_set(3)
    gaussians.raw["opacities"].data = torch.logit(torch.tensor([0.05, 0.5, 0.09]))
    density = control()
    observe(density, [0.0, 0.0, 0.0])
    assert density.step(gaussians, optimizers, 10)["culled"] == 2
    assert gaussians.raw["means"][:, 0].tolist() == [1]


def test_nothing_is_culled_soon_after_a_reset_and_opacity_is_008():
    gaussians, optimizers = make_set(3)
    density = control(reset_every=20, pause_culling=15, pause_growth=100)
    observe(density, [0.0] * 3)
    density.step(gaussians, optimizers, 20)
    torch.testing.assert_close(torch.sigmoid(gaussians.raw["opacities"]), torch.full((3,), 0.08))
    observe(density, [0.0] * 3)
    assert density.step(gaussians, optimizers, 30)["culled"] == 0


def test_default_pauses_follow_the_number_of_frames():
    assert DensityControl(DensityControlConfig(), 80).pause_growth == 80
    assert DensityControl(DensityControlConfig(), 80).pause_culling == 240
    assert DensityControl(DensityControlConfig(), 800).pause_culling == 1000


def test_state_round_trip():
    density = control()
    observe(density, [1.0, 2.0])
    density.extent = 3.5
    other = control()
    other.load_state(density.state())
    torch.testing.assert_close(other.grad_sum, density.grad_sum)
    assert other.extent == 3.5


def test_scale_rate_decays_to_a_tenth_and_others_stay():
    stage = Stage("train", 10_000, decays={"static_scales": Decay(0.1, 5000)})
    names = ("static_scales", "static_means")
    groups = {name: torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]) for name in names}
    rates = {"static_scales": 5e-3, "static_means": 1.6e-4}
    schedule = Schedule([stage])
    for step, expected in ((0, 5e-3), (5000, 5e-4), (9000, 5e-4)):
        schedule.apply(step, groups, rates)
        assert groups["static_scales"].param_groups[0]["lr"] == pytest.approx(expected)
        assert groups["static_means"].param_groups[0]["lr"] == pytest.approx(1.6e-4)
        assert type(groups["static_scales"].param_groups[0]["lr"]) is float


def test_the_outlook_says_what_a_training_will_do():
    schedule = Schedule([Stage("prefit", 300, renders=False), Stage("train", 1200)])
    every = "Schedule: 300 prefit (renders nothing) + 1200 train = 1500 steps"
    assert schedule.outlook(0, 1500) == f"{every}."
    assert schedule.outlook(0, 500) == f"{every}, stopping at step 500."
    assert schedule.outlook(500, 1000) == f"{every}, going on at step 500."
    assert "No image is rendered before that" in schedule.outlook(0, 300)
    assert "No image" not in schedule.outlook(0, 301)
    assert "Nothing is left to do" in schedule.outlook(1500, 0)
    assert Schedule([Stage("train", 5)]).outlook(0, 5) == "Schedule: 5 steps."


def test_a_field_without_a_prefit_has_no_such_stage():
    config = DynamicModelConfig(motion=HermiteSplineConfig(), prefit_steps=300, prefit_rates={"dynamic_means": 1e-3})
    assert [stage.steps for stage in config.stages(24, 4) if stage.name == "prefit"] == [0]
    config.motion = MotionBasesConfig()
    assert [stage.steps for stage in config.stages(24, 4) if stage.name == "prefit"] == [300]


def test_stages_follow_each_other_and_freeze_what_they_do_not_train():
    schedule = Schedule(
        [Stage("fit", 3, groups=("a",), learning_rates={"a": 0.5}), Stage("empty", 0), Stage("train", 5)]
    )
    assert schedule.total_steps == 8
    assert [schedule.at(step)[0].name for step in (0, 2, 3, 7, 100)] == ["fit", "fit", "train", "train", "train"]
    assert schedule.at(4)[1] == 1
    parameters = {name: torch.nn.Parameter(torch.zeros(1)) for name in "ab"}
    optimizers = {name: torch.optim.Adam([p]) for name, p in parameters.items()}
    schedule.apply(0, optimizers, {"a": 1.0, "b": 1.0})
    assert (parameters["a"].requires_grad, parameters["b"].requires_grad) == (True, False)
    assert optimizers["a"].param_groups[0]["lr"] == 0.5
    schedule.apply(3, optimizers, {"a": 1.0, "b": 1.0})
    assert parameters["b"].requires_grad
    assert optimizers["a"].param_groups[0]["lr"] == 1.0
