"""Every motion field on a few Gaussians: at no special place, at rest, and at one speed. Each is made once and copied."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from exposure_scenes import FRAMES, cloud, rows, stir
from torch import Tensor
from used_motions import smaller_motion_configs

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.priors.lifting import Tracks3D
from dyngs_plugins.scene import DYNAMIC
from dyngs_plugins.types import Gaussians

TIMES = torch.linspace(0, 1, 13, dtype=torch.float64)
"""Closer than the nodes in time of the fields that have some."""
Moved = tuple[MotionField, GaussianSet]


def can_move(name: str) -> bool:
    """Whether a field has any numbers of its own to say a motion with."""
    field = copy.deepcopy(smaller_motion_configs()[name]).setup(num_frames=FRAMES)
    return bool(field.columns()) or any(True for _ in field.parameters())


def tracks_at(means: Tensor, velocity: Tensor) -> Tracks3D:
    """Tracks of points that are at ``means`` half-way through the clip; ``velocity`` in scene units per clip."""
    n = len(means)
    points = means[:, None] + (torch.linspace(0, 1, FRAMES) - 0.5)[None, :, None] * velocity
    seen = torch.ones(n, FRAMES, dtype=torch.bool)
    return Tracks3D(points, seen, ~seen, seen.float(), torch.full((n, 3), 0.5), torch.zeros(n, dtype=torch.long))


def start(config: MotionFieldConfig, means: Tensor, velocity: Tensor, size: float = 0.15) -> Moved:
    """A field and the set it moves as a scene would start them: from tracks, or from where they are at half time."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    field = copy.deepcopy(config).setup(num_frames=FRAMES)
    if field.starts_from == "points":
        columns = field.start_from_points(means, torch.full((len(means),), 0.5), generator)
    else:
        columns = field.initialise(tracks_at(means, velocity), FRAMES // 2, generator)
    gaussians = GaussianSet(DYNAMIC, field.columns())
    gaussians.load_rows({**rows(means, size), **columns})
    return field, gaussians


# At no special place --------------------------------------------------------------------------------------------------


def stirred(name: str) -> Moved:
    return copy.deepcopy(_stirred(name))


@functools.cache
def _stirred(name: str) -> Moved:
    field, gaussians = start(smaller_motion_configs()[name], cloud(12), torch.tensor([0.4, 0.1, 0.0]))
    stir(field, 0.02)
    generator = torch.Generator().manual_seed(0)
    if field.starts_from == "points":
        for column in field.columns():
            raw = gaussians.raw[column]
            raw.data += 0.02 * torch.randn(raw.shape, generator=generator)
    return field, gaussians


# At rest --------------------------------------------------------------------------------------------------------------


def at_rest(name: str) -> Moved:
    """No motion, by the field's own means: tracks that stand still, or a start from points without any change."""
    return copy.deepcopy(_at_rest(name))


@functools.cache
def _at_rest(name: str) -> Moved:
    field, gaussians = start(starting_still(smaller_motion_configs()[name]), cloud(12), torch.zeros(3))
    last(gaussians, 7.0)
    return field, gaussians


def last(gaussians: GaussianSet, log_length: float) -> None:
    """Have Gaussians that come and go stay for many lengths of the clip."""
    if "time_scales" in gaussians.raw:
        gaussians.raw["time_scales"].data.fill_(log_length)


def starting_still(config: MotionFieldConfig) -> MotionFieldConfig:
    """The config with its start without any change, if it has one."""
    config = copy.deepcopy(config)
    if hasattr(config, "zero_start"):
        config.zero_start = True
    return config


# At one speed ---------------------------------------------------------------------------------------------------------


def gliding(name: str, velocity: tuple[float, float, float], size: float) -> Moved:
    """Gaussians in the plane 4 before the origin, all at one velocity (scene units per clip), and otherwise unchanged.

    They do not cover each other: each is at a height of its own. Fields that cannot move anything leave them there.
    """
    return copy.deepcopy(_gliding(name, velocity, size))


@functools.cache
def _gliding(name: str, velocity: tuple[float, float, float], size: float) -> Moved:
    places = torch.tensor([[-0.1, -0.5, 4.0], [0.2, 0.0, 4.0], [0.1, 0.5, 4.0]])
    speed = torch.tensor(velocity) * can_move(name)
    field, gaussians = (
        part.double() for part in start(starting_still(smaller_motion_configs()[name]), places, speed, size)
    )
    last(gaussians, 1.5)
    target = seen(gaussians.activated(), size).detach().repeat(len(TIMES), 1, 1)
    target[..., :3] = places + (TIMES - 0.5)[:, None, None] * speed

    def error() -> Tensor:
        return (seen(field.at(gaussians.activated(), TIMES), size) - target).square().sum(-1).mean()

    fit(field, gaussians, error, 5e-3 * float(torch.tensor(velocity).norm()))
    return field.float(), gaussians.float()


def fit(field: MotionField, gaussians: GaussianSet, error: Callable[[], Tensor], enough: float) -> None:
    """Train what moves the Gaussians, but not where they are and what colour they have, unless it is right already."""
    trained = [*field.parameters(), *(raw for name, raw in gaussians.raw.items() if name not in ("means", "colors"))]
    optimizer = torch.optim.LBFGS(trained, max_iter=20, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = error()
        loss.backward()
        return loss

    for attempt in range(20):
        left = float(error().detach().sqrt())
        if left < enough:
            return
        if attempt == 0:
            stir(field, 0.02)  # from no motion at all the derivatives of a symmetric target may cancel
        optimizer.step(closure)
    raise ValueError(f"{type(field).__name__} could not be made to move straight on: it is {left:.3g} scene units off.")


def seen(gaussians: Gaussians, size: float) -> Tensor:
    """What a render depends on, side by side: places, shapes in units of ``size``, opacities and colours."""
    parts = [gaussians.means, gaussians.covariances().flatten(-2) / size**2, gaussians.opacities[..., None]]
    parts.append(gaussians.colors)
    whole = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*whole, -1) for part in parts], dim=-1)
