"""Gradients of a blurred image reach the exposure, its shutter and the field; those of the sharp middle no shutter."""

import torch
from exposure_motions import can_move
from exposure_pairs import VIEW, each_pair, modules_of, opens_a_shutter, rendered, scene_of
from torch import Tensor

from dyngs_plugins.exposure.shutter import Shutter
from dyngs_plugins.scene import Scene

RAMP = torch.linspace(0, 1, VIEW.width)[:, None] + torch.linspace(0, 1, VIEW.height)[:, None, None]
"""Weights under which light that moves within the image counts."""


def loss(scene: Scene, mode: str = "train") -> Tensor:
    return (rendered(scene, mode=mode).square() * RAMP).sum()


def amount(gradient: Tensor | None) -> float:
    """How large; 0 for none, an error for what is no number."""
    if gradient is None:
        return 0.0
    assert torch.isfinite(gradient).all()
    return float(gradient.abs().sum())


@each_pair()
def test_gradients_reach_every_parameter_of_the_exposure(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    loss(scene).backward()
    of_shutters = {id(p) for shutter in modules_of(scene.exposure, Shutter) for p in shutter.parameters()}
    for name, parameter in scene.exposure.named_parameters():
        if id(parameter) not in of_shutters:
            assert amount(parameter.grad) > 0, name


@each_pair()
def test_gradients_reach_the_field_and_what_it_moves(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    loss(scene).backward()
    assert amount(scene.dynamic.raw["means"].grad) > 0
    own = [*scene.motion.parameters(), *(scene.dynamic.raw[column] for column in scene.motion.columns())]
    assert sum(amount(tensor.grad) for tensor in own) > 0 or not can_move(motion)


def half_exposures(scene: Scene) -> list[Tensor]:
    """Every shutter's, of the views, as tensors that take gradients whatever kind of shutter it is."""
    found = []
    for shutter in modules_of(scene.exposure, Shutter):
        found.append(shutter.half_exposure(VIEW.index).detach().requires_grad_())
        shutter.half_exposure = lambda index, half=found[-1]: half
    return found


@each_pair(opens_a_shutter, can_move)
def test_gradients_of_what_moves_reach_every_shutter(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    learned = [p for shutter in modules_of(scene.exposure, Shutter) for p in shutter.parameters()]
    for parameter, gradient in zip(learned, torch.autograd.grad(loss(scene), learned) if learned else (), strict=True):
        assert amount(gradient) > 0, parameter.shape
    for half in half_exposures(scene):
        (gradient,) = torch.autograd.grad(loss(scene), half)
        assert (gradient != 0).all()


@each_pair(opens_a_shutter)
def test_the_sharp_middle_knows_nothing_of_the_exposure_time(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    for half in half_exposures(scene):
        (gradient,) = torch.autograd.grad(loss(scene, "mid"), half, allow_unused=True)
        assert amount(gradient) == 0.0
