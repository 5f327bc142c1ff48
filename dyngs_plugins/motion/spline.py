"""SplineGS's field: every Gaussian follows a cubic Hermite spline with as many control points as its motion needs.

Control points are displacements from the Gaussian's centre, stored in units of ``scale``, so that moving or splitting a
Gaussian moves its whole path, and equal learning rates mean the same as in the paper, where they are places. Orientation
turns at a constant rate. Nothing is shared between Gaussians: smoothness comes from the splines alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import Optimizer

from dyngs_plugins.motion import hermite, hermite_control
from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.motion.bases_init import displacements
from dyngs_plugins.types import Gaussians

if TYPE_CHECKING:
    from dyngs_plugins.gaussian_sets import GaussianSet
    from dyngs_plugins.priors.lifting import Tracks3D


@dataclass
class HermiteSplineConfig(MotionFieldConfig):
    """Cubic Hermite splines with motion-adaptive control points."""

    _target: type = field(default_factory=lambda: HermiteSpline)
    num_control_points: int = 0
    """Control points of a path at first, and at most. 0: 12 (the paper's), or one per three frames in longer clips, at
    most 64; never more than there are frames."""
    scale: float = 0.01
    """Scene units per unit of the stored control points."""
    adapt_every: int = 100
    """Training steps from one pruning to the next."""
    adapt_start: int = 500
    """The first step (of the stage) that prunes."""
    prune_threshold: float = 1.0
    """A control point goes if that moves the path by no more than this, mean over training views; pixels."""
    prune_measure: hermite_control.Measure = "projection"
    """``projection``: seen by the training cameras (the paper). ``distance``: in space, for seen across."""
    prune_views: int = 24
    """At most this many views are looked at."""
    insert_every: int = 500
    """Steps from one insertion to the next; 0: never, as in the paper."""
    insert_gradient: float = 2e-4
    """A path gets a control point more if the root mean square of its gradient exceeds this (units of half the image's
    larger side, where the Gaussian is seen)."""
    stiffness: float = 1e-3
    """Weight of the control points' second differences in the fit to tracks."""


class HermiteSpline(MotionField):
    """Per Gaussian: ``control_points [capacity, 3]``, ``control_counts []`` and ``quat_rates [4]`` per unit of time."""

    starts_from = "tracks"

    def __init__(self, config: HermiteSplineConfig, num_frames: int):
        super().__init__()
        self.config = config
        self.num_frames = num_frames
        chosen = config.num_control_points or min(max(12, -(-num_frames // 3)), 64)
        self.capacity = max(hermite.FEWEST, min(chosen, num_frames))
        """Control points of a path at most."""
        self.cameras: hermite_control.FilmedTimes | None = None

    def columns(self) -> dict[str, tuple[int, ...]]:
        return {"control_points": (self.capacity, 3), "control_counts": (), "quat_rates": (4,)}

    def displacements(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        """Of every centre at every time, scene units."""
        columns = gaussians.columns
        counts = control_counts(columns["control_counts"])
        return self.config.scale * hermite.evaluate(columns["control_points"], counts, times)

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        return gaussians.means + self.displacements(gaussians, times)

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        quats = gaussians.quats + times.clamp(0, 1)[:, None, None] * gaussians.columns["quat_rates"]
        quats = torch.nn.functional.normalize(quats, dim=-1)
        return gaussians.replace(means=self.positions(gaussians, times), quats=quats)

    # --- starting -----------------------------------------------------------------------------------------------

    def initialise(self, tracks: Tracks3D, canonical_frame: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        moved, certainty = displacements(tracks, canonical_frame)
        times = torch.linspace(0, 1, moved.shape[1], dtype=torch.float64)
        control = hermite.fit(moved / self.config.scale, certainty, times, self.capacity, self.config.stiffness)
        return self._columns(control)

    def start_from_points(self, means, times, generator: torch.Generator) -> Mapping[str, Tensor]:
        return self._columns(means.new_zeros(means.shape[0], self.capacity, 3))

    def _columns(self, control: Float[Tensor, "n k 3"]) -> Mapping[str, Tensor]:
        n = control.shape[0]
        counts = control.new_full((n,), float(self.capacity))
        return {"control_points": control, "control_counts": counts, "quat_rates": control.new_zeros(n, 4)}

    # --- control points -----------------------------------------------------------------------------------------

    def know_cameras(self, camera_T_world: Tensor, K: Tensor, times: Tensor) -> None:
        inner = hermite_control.FilmedTimes(camera_T_world, K, times).between_ends()
        self.cameras = inner.at_most(self.config.prune_views) if len(inner.times) > 0 else None

    @torch.no_grad()
    def upkeep(self, gaussians: GaussianSet, optimizers: Mapping[str, Optimizer], stage: str, step: int) -> None:
        c = self.config
        if self.cameras is None or len(gaussians) == 0 or step < c.adapt_start or step % c.adapt_every != 0:
            return
        raw = gaussians.raw
        control, counts = raw["control_points"].data, control_counts(raw["control_counts"])
        cameras = hermite_control.FilmedTimes(*(value.to(control) for value in vars(self.cameras).values()))
        centres, measure = raw["means"].data, c.prune_measure
        new, new_counts = hermite_control.prune(control, counts, centres, c.scale, cameras, c.prune_threshold, measure)
        moments = _moments(optimizers.get(gaussians.group("control_points")), raw["control_points"])
        if c.insert_every > 0 and step % c.insert_every == 0 and "exp_avg_sq" in moments:
            pull = moments["exp_avg_sq"].sum(dim=(1, 2)).sqrt() / c.scale
            asks = pull * self._half_image_in_scene(centres, cameras) > c.insert_gradient
            new, new_counts = hermite_control.insert(new, new_counts, asks & (new_counts == counts))
        changed = new_counts != counts
        raw["control_points"].data[changed] = new[changed]
        raw["control_counts"].data.copy_(new_counts)
        for moment in moments.values():  # they belong to other knots
            moment[changed] = 0

    def _half_image_in_scene(self, centres: Tensor, cameras: hermite_control.FilmedTimes) -> Float[Tensor, "n"]:
        """Half the image's larger side at the Gaussians' mean depth, scene units."""
        third = cameras.camera_T_world[:, 2]
        depth = (centres @ third[:, :3].T + third[:, 3]).clamp_min(0)
        half = torch.maximum(cameras.K[:, 0, 2], cameras.K[:, 1, 2])  # principal points are near the middle
        return (depth * half / cameras.K[:, 0, 0]).mean(dim=1)


def control_counts(column: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The number of control points per Gaussian: whole numbers kept in a column of floats, as all columns are."""
    return column.detach().round().long()


def _moments(optimizer: Optimizer | None, parameter: Tensor) -> dict[str, Tensor]:
    """Adam's row-wise state of a parameter; empty before the first step."""
    state = {} if optimizer is None else optimizer.state.get(parameter, {})
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and value.ndim > 0}
