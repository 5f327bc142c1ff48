"""Losses inside masks and on coefficients of motion, at their known values and on nothing at all."""

from __future__ import annotations

import pytest
import torch

from dyngs_plugins.loss_context import LossContext
from dyngs_plugins.losses import coherence, masks
from dyngs_plugins.objective import look_up

FULL = torch.ones(1, 4, 4, dtype=torch.bool)


def half() -> torch.Tensor:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    return mask


def test_dice_is_zero_when_equal_and_one_when_apart():
    assert float(masks.dice(half()[..., None].float(), half())) == pytest.approx(0.0)
    assert float(masks.dice((~half())[..., None].float(), half())) == pytest.approx(1.0)
    # Half the mask is found: 1 - 2 * 4 / (4 + 8).
    found = half()[..., None].float()
    found[:, :1] = 0
    assert float(masks.dice(found, half())) == pytest.approx(1 / 3)


def test_dice_looks_at_valid_pixels_only():
    everywhere = torch.ones(1, 4, 4, 1)
    assert float(masks.dice(everywhere, half(), valid=half())) == pytest.approx(0.0)


def test_colour_inside_the_mask_is_a_mean_over_its_pixels():
    prediction, target = torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 4, 3)
    target[:, 0, 0], target[:, 3, 3] = 0.8, 5.0
    assert float(masks.inside_mask(prediction, target, half())) == pytest.approx(0.1)


@pytest.mark.parametrize("loss", ["dice", "inside"])
def test_where_nothing_moves_there_is_no_loss_but_a_gradient(loss):
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    image = torch.rand(1, 4, 4, 3, requires_grad=True)
    value = masks.dice(image[..., :1], nothing) if loss == "dice" else masks.inside_mask(image, image + 1, nothing)
    value.backward()
    assert float(value) == 0.0
    assert image.grad.abs().sum() == 0


def test_coherence_by_hand():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    neighbours = torch.tensor([[1, 2], [0, 2], [1, 0]])
    coefficients = torch.tensor([[0.0, 0], [1, 1], [0, 4]])
    # Weights 1 - d / (2 d_max): row 0: 5/6, 1/2; row 1: 3/4, 1/2; row 2: 2/3, 1/2. Distances: 2, 4; 2, 4; 4, 4.
    expected = (2 * 5 / 6 + 4 / 2 + 2 * 3 / 4 + 4 / 2 + 4 * 2 / 3 + 4 / 2) / 6
    assert float(coherence.coherence(coefficients, points, neighbours)) == pytest.approx(expected, rel=1e-6)


def test_coherence_of_equal_coefficients_is_exactly_zero():
    equal = torch.randn(1, 7).expand(5, 7).clone().requires_grad_()
    neighbours = torch.tensor([[1, 2], [0, 2], [1, 3], [4, 0], [0, 1]])
    loss = coherence.coherence(equal, torch.zeros(5, 3), neighbours)
    loss.backward()
    assert float(loss) == 0.0
    assert torch.isfinite(equal.grad).all()


def test_losses_on_no_gaussians_are_zero_with_a_graph():
    empty = torch.zeros(0, 6, requires_grad=True)
    values = [
        coherence.coherence(empty, torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.long)),
        coherence.sparsity(empty),
        coherence.slowness(empty[None, :, :3], empty[None, :, :3]),
    ]
    sum(values).backward()
    assert [float(value) for value in values] == [0.0, 0.0, 0.0]


def test_slowness_and_sparsity_are_means():
    assert float(coherence.sparsity(torch.tensor([[1.0, -3.0]]))) == pytest.approx(2.0)
    now = torch.zeros(2, 3, 3)
    assert float(coherence.slowness(now, now + torch.tensor([0.3, 0.0, 0.0]))) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["motion_coherence", "motion_sparsity"])
def test_a_field_without_coefficients_is_told_what_to_use(name):
    from dyngs_plugins.gaussian_sets import GaussianSet
    from dyngs_plugins.motion.static import StaticMotion, StaticMotionConfig
    from dyngs_plugins.types import Render

    moving = GaussianSet("dynamic")
    moving.load_rows({column: torch.zeros(3, *value.shape[1:]) for column, value in moving.raw.items()})
    context = LossContext(
        render=Render({}, torch.zeros(1, 2, 2, 1), None),
        batch={},
        times=torch.zeros(1),
        camera_T_world=torch.eye(4)[None],
        num_frames=2,
        dynamic=moving,
        static=None,
        motion=StaticMotion(StaticMotionConfig(), 2),
        neighbours=lambda: torch.tensor([[1], [2], [0]]),
    )
    with pytest.raises(ValueError, match="StaticMotion has none. Use 'rigidity'"):
        look_up(name).function(context)


def one_set(starts_from: str) -> LossContext:
    """A set of its own before a 2x4 image whose left half surely moves; rendered as half opaque grey everywhere."""
    from dyngs_plugins.gaussian_sets import GaussianSet
    from dyngs_plugins.motion.static import StaticMotion, StaticMotionConfig
    from dyngs_plugins.types import Render

    motion = StaticMotion(StaticMotionConfig(), 2)
    motion.starts_from = starts_from  # type: ignore[assignment]
    alpha = torch.full((1, 2, 4, 1), 0.5)
    dynamic = torch.tensor([1, 1, -1, -1], dtype=torch.int8).expand(1, 2, 4)
    return LossContext(
        render=Render({"rgb": torch.full((1, 2, 4, 3), 0.5), "dynamic": alpha}, alpha, torch.ones(1, 2, 4, 1)),
        batch={"image": torch.zeros(1, 2, 4, 3), "dynamic": dynamic, "depth": torch.ones(1, 2, 4)},
        times=torch.zeros(1),
        camera_T_world=torch.eye(4)[None],
        num_frames=2,
        dynamic=GaussianSet("dynamic"),
        static=None,
        motion=motion,
        neighbours=lambda: torch.zeros(0, 0, dtype=torch.long),
        background=torch.tensor([1.0, 0.0, 0.0]),
    )


def test_what_moves_alone_is_seen_over_the_background():
    """Shape of Motion without a background: elsewhere the image is the background's colour and nothing is opaque."""
    context = one_set("tracks")
    assert context.only_moving
    expected = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]]).expand(1, 2, 4, 3)
    assert torch.equal(context.image, expected)
    assert float(look_up("mask").function(context)) == pytest.approx(0.25)  # alpha against the mask
    assert context.depth_valid.sum() == 4
    context.render.alpha[:, :, :2], context.render.alpha[:, :, 2:] = 1.0, 0.0
    assert float(look_up("mask").function(context)) == 0.0


def test_one_set_that_is_the_whole_scene_need_not_tell_what_moves():
    context = one_set("points")
    assert not context.only_moving
    assert torch.equal(context.image, context.batch["image"])
    assert float(look_up("mask").function(context)) == pytest.approx(0.25)  # alpha against 1, whatever the mask
    context.render.alpha[:] = 1.0
    assert float(look_up("mask").function(context)) == 0.0
    assert context.depth_valid.sum() == 8
