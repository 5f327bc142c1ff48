"""Named losses: which tensors each needs rendered, how it is computed, and its weight and step window.

A method's config lists the terms it wants; everything else follows: the model renders exactly the channels that the
active terms need, and a stage switches terms on and off by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.exposure import se3
from dyngs_plugins.hooks import find
from dyngs_plugins.loss_context import LossContext
from dyngs_plugins.losses import coherence as coherence_losses
from dyngs_plugins.losses import image as image_losses
from dyngs_plugins.losses import masks as mask_losses
from dyngs_plugins.losses import motion as motion_losses
from dyngs_plugins.losses import tracks as track_losses
from dyngs_plugins.losses.robust import masked_l1


@dataclass
class LossTerm:
    """A loss's weight and the steps (of its stage) between which it is on."""

    weight: float = 1.0
    """Factor of the loss in the sum; 0 turns it off."""
    start: int = 0
    """First step at which it is on."""
    end: int | None = None
    """Step from which it is off again; None: never."""

    def active(self, step: int) -> bool:
        return self.weight != 0.0 and step >= self.start and (self.end is None or step < self.end)


@dataclass(frozen=True)
class Loss:
    """A named loss: a function of the context, and the channels it needs rendered."""

    function: Callable[[LossContext], Tensor]
    needs: frozenset[str]
    """Of ``dynamic`` (moving-mask channel), ``targets`` (track channels), ``depth``; and of the priors that batches
    hold only where asked for, ``flow`` and ``normals``."""


LOSSES: dict[str, Loss] = {}


def loss(name: str, *needs: str) -> Callable[[Callable[[LossContext], Tensor]], Callable[[LossContext], Tensor]]:
    """Register a function of :class:`LossContext` as the loss ``name``."""

    def register(function: Callable[[LossContext], Tensor]) -> Callable[[LossContext], Tensor]:
        LOSSES[name] = Loss(function, frozenset(needs))
        return function

    return register


def _zero(context: LossContext) -> Tensor:
    return context.render.alpha.sum() * 0.0


@loss("rgb")
def _rgb(context: LossContext) -> Tensor:
    return image_losses.photometric(context.render.channels["rgb"], context.image, context.valid)


@loss("rgb_l1")
def _rgb_l1(context: LossContext) -> Tensor:
    """The mean absolute difference of colours alone."""
    return image_losses.photometric(context.render.channels["rgb"], context.image, context.valid, 0.0)


@loss("mask", "dynamic")
def _mask(context: LossContext) -> Tensor:
    """Whether everything is covered, and by Gaussians that move where the mask says so."""
    dynamic, alpha = context.batch.get("dynamic"), context.render.alpha
    observed = None if dynamic is None else (dynamic > 0).to(alpha.dtype)
    if context.only_moving and observed is not None:
        return (alpha - observed[..., None]).square().mean()
    if context.static is None:  # one set holds all: there is nothing to tell apart
        observed = None
    return image_losses.coverage(alpha, context.render.channels["dynamic"], observed, context.valid)


@loss("track_2d", "targets")
def _track_2d(context: LossContext) -> Tensor:
    h, w = context.render.alpha.shape[1:3]
    return _zero(context) if context.tracks is None else track_losses.track_2d(context.tracks, max(h, w))


@loss("track_depth", "targets")
def _track_depth(context: LossContext) -> Tensor:
    return _zero(context) if context.tracks is None else track_losses.track_depth(context.tracks)


@loss("depth", "depth")
def _depth(context: LossContext) -> Tensor:
    if "depth" not in context.batch or context.render.depth is None:
        return _zero(context)
    return image_losses.depth_l1(context.render.depth, context.batch["depth"], context.depth_valid)


@loss("depth_gradient", "depth")
def _depth_gradient(context: LossContext) -> Tensor:
    if "depth" not in context.batch or context.render.depth is None:
        return _zero(context)
    return image_losses.depth_gradient_l1(context.render.depth, context.batch["depth"], context.depth_valid)


@loss("smooth_tracks")
def _smooth_tracks(context: LossContext) -> Tensor:
    if context.dynamic is None or context.num_frames < 3:
        return _zero(context)
    return motion_losses.smooth_tracks(context.neighbouring_positions)


@loss("motion_along_ray")
def _motion_along_ray(context: LossContext) -> Tensor:
    if context.dynamic is None or context.num_frames < 3:
        return _zero(context)
    centre = se3.invert(context.camera_T_world)[:, :3, 3]
    return motion_losses.motion_along_ray(context.neighbouring_positions, centre)


@loss("scale_variance")
def _scale_variance(context: LossContext) -> Tensor:
    sets = [s for s in (context.dynamic, context.static) if s is not None]
    parts = [motion_losses.scale_variance(s.raw["scales"]) for s in sets]
    return sum(parts[1:], start=parts[0])


@loss("rigidity")
def _rigidity(context: LossContext) -> Tensor:
    if context.dynamic is None or len(context.dynamic) < 2:
        return _zero(context)
    now = context.neighbouring_positions[1]
    return motion_losses.rigidity(context.dynamic.raw["means"], now, context.neighbours())


@loss("rgb_inside", "dynamic")
def _rgb_inside(context: LossContext) -> Tensor:
    """Colour where things surely move."""
    dynamic = context.batch.get("dynamic")
    if dynamic is None:
        return _zero(context)
    return mask_losses.inside_mask(context.render.channels["rgb"], context.batch["image"], dynamic > 0)


@loss("mask_dice", "dynamic")
def _mask_dice(context: LossContext) -> Tensor:
    dynamic = context.batch.get("dynamic")
    if dynamic is None:
        return _zero(context)
    return mask_losses.dice(context.render.channels["dynamic"], dynamic > 0, context.valid)


@loss("depth_l1", "depth")
def _depth_l1(context: LossContext) -> Tensor:
    """Depth itself, in scene units; ``depth`` compares its inverse."""
    if "depth" not in context.batch or context.render.depth is None:
        return _zero(context)
    observed = context.batch["depth"][..., None]
    return masked_l1(context.render.depth, observed, counted=context.depth_valid)


@loss("motion_coherence")
def _motion_coherence(context: LossContext) -> Tensor:
    if context.dynamic is None or len(context.dynamic) < 2:
        return _zero(context)
    coefficients = motion_coefficients(context, "motion_coherence")
    return coherence_losses.coherence(coefficients, context.dynamic.raw["means"], context.neighbours())


@loss("motion_sparsity")
def _motion_sparsity(context: LossContext) -> Tensor:
    if context.dynamic is None:
        return _zero(context)
    return coherence_losses.sparsity(motion_coefficients(context, "motion_sparsity"))


@loss("motion_slowness")
def _motion_slowness(context: LossContext) -> Tensor:
    """How far things move in a tenth of the time between two frames."""
    if context.dynamic is None:
        return _zero(context)
    later = (context.times + 0.1 / max(context.num_frames - 1, 1)).clamp(0, 1)
    now, then = context.motion.positions(context.moving, torch.cat([context.times, later])).chunk(2)
    return coherence_losses.slowness(now, then)


def motion_coefficients(context: LossContext, name: str) -> Float[Tensor, "n d"]:
    """The dynamic set's coefficients; a ValueError for a motion field that has none."""
    coefficients = context.motion.motion_coefficients(context.moving)
    if coefficients is None:
        raise ValueError(
            f"The loss '{name}' compares the coefficients of each Gaussian's motion, but {type(context.motion).__name__} "
            "has none. Use 'rigidity' and 'smooth_tracks' instead, which look at positions."
        )
    return coefficients


def look_up(name: str) -> Loss:
    """The loss of that name; a ValueError that suggests the nearest one otherwise."""
    return find(LOSSES, name, "loss")
