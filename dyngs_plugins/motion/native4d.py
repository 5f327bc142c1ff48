"""Native 4D Gaussians (Yang et al. 2024, "Real-time 4D Gaussian Splatting"): ellipsoids in space and time, cut at a time.

Two unit quaternions turn the axes of a Gaussian over (x, y, z, t). Given a time it is a 3-D Gaussian (Eq. 8 and 9 there)
that moves with a constant velocity and is visible for as long as it extends in time. Its colour changes with direction
and time ("4D spherindrical harmonics", Eq. 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log, pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.types import Gaussians

EARLIEST, LATEST = -0.1, 1.1
"""Between which times Gaussians whose points have none are centred at random."""
CULLED = 0.05
"""A Gaussian is not drawn at times where its share of its opacity is at most this."""


@dataclass
class Native4DConfig(MotionFieldConfig):
    """Gaussians over space and time; nothing is shared between them."""

    _target: type = field(default_factory=lambda: Native4D)
    sh_degree: int = 3
    """As the model's ``sh_degree``: the columns for colour in time have its shape."""
    time_order: int = 2
    """Cosines of the colour over time, beside the constant."""
    variance: float = 0.2
    """In time at the start, in units of the clip's length."""
    seen_variance: float = 0.2
    """The same for Gaussians of moving things, whose points were seen at a known time."""
    least_life: float = 0.0
    """Standard deviation in time, in frames, below which a Gaussian is treated as if it had this one; 0: any (the paper).
    Shorter ones fit single frames, and their velocity is not determined."""
    harmonics_every: int = 1000
    """Steps after which the colour uses one more cosine, once all degrees in direction are in use."""


class Native4D(MotionField):
    """Columns: ``time_means []``, ``time_scales []`` (log), ``right_quats [4]``, ``time_harmonics [order, k, 3]``.

    The set's ``quats`` are the left quaternions, its ``means`` the place at the time ``time_means``.
    """

    starts_from = "points"

    def __init__(self, config: Native4DConfig, num_frames: int):
        super().__init__()
        self.config = config
        self.least_variance = (config.least_life / max(num_frames - 1, 1)) ** 2
        self.active_order = config.time_order

    def columns(self) -> dict[str, tuple[int, ...]]:
        columns: dict[str, tuple[int, ...]] = {"time_means": (), "time_scales": (), "right_quats": (4,)}
        if self.config.time_order > 0:
            columns["time_harmonics"] = (self.config.time_order, (self.config.sh_degree + 1) ** 2, 3)
        return columns

    def start_from_points(self, means, times, generator: torch.Generator) -> Mapping[str, Tensor]:
        c, n = self.config, len(means)
        anywhere = EARLIEST + (LATEST - EARLIEST) * torch.rand(n, generator=generator)
        columns = {
            "time_means": torch.where(torch.isnan(times), anywhere, times),
            "time_scales": torch.where(torch.isnan(times), 0.5 * log(c.variance), 0.5 * log(c.seen_variance)),
            "right_quats": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1),
        }
        if c.time_order > 0:
            columns["time_harmonics"] = torch.zeros(n, *self.columns()["time_harmonics"])
        return columns

    def begin_step(self, stage: str, step: int) -> None:
        c = self.config
        if c.harmonics_every > 0:
            self.active_order = min(max(step // c.harmonics_every - c.sh_degree, 0), c.time_order)

    def slices(self, gaussians: Gaussians) -> Slices:
        """What of the Gaussians does not depend on the time they are cut at."""
        columns = gaussians.columns
        scales = torch.cat([gaussians.scales, torch.exp(columns["time_scales"])[:, None]], dim=-1)
        return cut(gaussians.quats, columns["right_quats"], scales, self.least_variance)

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        since = times.clamp(0, 1)[:, None] - gaussians.columns["time_means"]
        return gaussians.means + self.slices(gaussians).velocity * since[..., None]

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        slices = self.slices(gaussians)
        since = times.clamp(0, 1)[:, None] - gaussians.columns["time_means"]
        present = torch.exp(-0.5 * since.square() / slices.variance)
        return gaussians.replace(
            means=gaussians.means + slices.velocity * since[..., None],
            quats=gaussians.quats.expand(len(times), -1, -1),
            covars=slices.covars,
            opacities=torch.where(present > CULLED, gaussians.opacities * present, 0.0),
            **self._colors(gaussians, since.detach()),
        )

    def _colors(self, gaussians: Gaussians, since: Float[Tensor, "b n"]) -> dict[str, Tensor]:
        """Cosines over time do not depend on the direction: at one time the colour is ordinary spherical harmonics."""
        if self.active_order == 0:
            return {}
        constant = gaussians.harmonics
        change = gaussians.columns["time_harmonics"]
        if constant is None or constant.shape[-2] != change.shape[-2]:
            found = 0 if constant is None else round(constant.shape[-2] ** 0.5) - 1
            raise ValueError(
                f"--pipeline.model.sh-degree is {found} and --pipeline.model.motion.sh-degree is "
                f"{self.config.sh_degree}; set both to the same, or --pipeline.model.motion.time-order 0."
            )
        orders = torch.arange(1, self.active_order + 1, device=since.device)
        waves = torch.cos(2 * pi * since[..., None] * orders)  # [b, n, order]
        added = torch.einsum("bno,nokc->bnkc", waves, change[:, : self.active_order])
        return {"harmonics": constant + added}

    def split_children(self, children: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the children's centres in space and time from their parents, and shorten them in time too."""
        scales = torch.cat([children["scales"].expand(-1, 3), children["time_scales"][:, None]], dim=-1)
        draw = torch.randn(scales.shape, generator=generator).to(scales) * torch.exp(scales)
        offset = (rotations_4d(children["quats"], children["right_quats"]) @ draw[..., None])[..., 0]
        return {
            **children,
            "means": children["means"] + offset[:, :3],
            "time_means": children["time_means"] + offset[:, 3],
            "time_scales": children["time_scales"] - log(1.6),
        }


@dataclass(frozen=True)
class Slices:
    """4-D Gaussians conditioned on a time, but for the time."""

    velocity: Float[Tensor, "n 3"]
    """Scene units per length of the clip."""
    covars: Float[Tensor, "n 3 3"]
    """Of the place given the time: the same at all times."""
    variance: Float[Tensor, "n"]
    """Of the time."""


def rotations_4d(left: Float[Tensor, "n 4"], right: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4 4"]:
    """Rotations of (x, y, z, t) by a pair of quaternions (wxyz; normalised here).

    Equal quaternions turn space alone; then nothing moves.
    """
    return _rotations(left, right).permute(2, 0, 1)


def _rotations(left: Float[Tensor, "n 4"], right: Float[Tensor, "n 4"]) -> Float[Tensor, "4 4 n"]:
    """With the Gaussians along the last axis: operations over long rows take half the time of those over short ones."""
    left, right = F.normalize(left, dim=-1).T, F.normalize(right, dim=-1).T
    pairs = (left[:, None] * right).reshape(16, -1)
    return (UNIT_ROTATIONS.to(pairs) @ pairs).reshape(4, 4, -1)


def _unit_rotations() -> Float[Tensor, "16 16"]:
    a, b, c, d = torch.eye(4).unbind(-1)
    of_left = torch.stack([a, -b, -c, -d, b, a, -d, c, c, d, a, -b, d, -c, b, a], dim=-1).reshape(4, 1, 4, 4)
    of_right = torch.stack([a, b, c, d, -b, a, -d, c, -c, d, a, -b, -d, -c, b, a], dim=-1).reshape(1, 4, 4, 4)
    rotations = (of_left @ of_right).flip(2, 3)  # the real part belongs to time, which is the last axis here
    return rotations.reshape(16, 16).T.contiguous()


UNIT_ROTATIONS = _unit_rotations()
"""In each column the rotation by a pair of the units 1, i, j, k. A rotation is linear in either of its quaternions, so that
by any other pair is a sum of these."""


def cut(
    left: Float[Tensor, "n 4"],
    right: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 4"],
    least_variance: float = 0.0,
) -> Slices:
    """Condition zero-mean 4-D Gaussians on their time (Eq. 8 and 9)."""
    factor = _rotations(left, right) * scales.T
    space, time = factor[:3], factor[3]
    variance = time.square().sum(0).clamp_min(max(least_variance, 1e-12))
    across = (space * time).sum(1)
    velocity = across / variance
    covars = (space[:, None] * space).sum(2) - velocity[:, None] * across
    # Rounding may take the smallest axis below zero.
    covars = covars + 1e-9 * torch.eye(3, device=covars.device)[..., None]
    return Slices(velocity.T, covars.permute(2, 0, 1).contiguous(), variance)
