"""How many control points a curve needs: taken away where no camera sees the difference, added where the images ask.

Motion-adaptive control points pruning (SplineGS, section 4.2), and its inverse, which the paper does not have: a curve
that is still pulled about at its full number of knots gets one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.losses.tracks import project
from dyngs_plugins.motion import hermite

Measure = Literal["projection", "distance"]


@dataclass(frozen=True)
class FilmedTimes:
    """The training cameras at their times: where a change of a curve could be seen."""

    camera_T_world: Float[Tensor, "v 4 4"]
    K: Float[Tensor, "v 3 3"]
    times: Float[Tensor, "v"]

    def between_ends(self) -> FilmedTimes:
        """Without the first and the last time, through which every curve passes whatever its control points."""
        inner = (self.times > self.times.min()) & (self.times < self.times.max())
        return FilmedTimes(self.camera_T_world[inner], self.K[inner], self.times[inner])

    def at_most(self, count: int) -> FilmedTimes:
        """An even share of the views."""
        if len(self.times) <= count:
            return self
        rows = torch.linspace(0, len(self.times) - 1, count).round().long().to(self.times.device)
        return FilmedTimes(self.camera_T_world[rows], self.K[rows], self.times[rows])


def difference_in_pixels(
    before: Float[Tensor, "v n 3"], after: Float[Tensor, "v n 3"], views: FilmedTimes, measure: Measure
) -> Float[Tensor, "n"]:
    """How far apart two versions of each Gaussian's path are, mean over the views in front of which it is.

    ``projection`` compares where they are seen (the paper). ``distance`` takes the whole distance in space for seen
    across, so that a motion in depth counts although no training camera sees it.
    """
    rotation, translation = views.camera_T_world[:, :3, :3], views.camera_T_world[:, :3, 3]
    old = before @ rotation.transpose(1, 2) + translation[:, None]
    depth, focal = old[..., 2], views.K[:, None, 0, 0]
    if measure == "distance":
        pixels = focal * (after - before).norm(dim=-1) / depth.clamp_min(1e-6)
    else:
        new = after @ rotation.transpose(1, 2) + translation[:, None]
        pixels = (project(new, views.K[:, None]) - project(old, views.K[:, None])).norm(dim=-1)
    seen = depth > 1e-3
    return torch.where(seen, pixels, torch.zeros_like(pixels)).sum(0) / seen.sum(0).clamp_min(1)


@torch.no_grad()
def prune(
    control: Float[Tensor, "n k 3"],
    counts: Int[Tensor, "n"],
    centres: Float[Tensor, "n 3"],
    scale: float,
    views: FilmedTimes,
    threshold: float,
    measure: Measure = "projection",
) -> tuple[Float[Tensor, "n k 3"], Int[Tensor, "n"]]:
    """One control point less for every curve that this moves by at most ``threshold`` pixels.

    Args:
        control: control points of displacements from ``centres``, in units of ``scale``.
        views: where the difference is looked at.

    Returns:
        The control points and the counts; rows that keep theirs are unchanged.
    """
    control, new_counts = control.clone(), counts.clone()
    for count in torch.unique(counts).tolist():
        if count <= hermite.FEWEST:
            continue
        rows = (counts == count).nonzero().flatten()
        old = control[rows, :count]
        fewer = _refitted(old, count - 1)
        before = centres[rows] + scale * _curve(old, views.times)
        after = centres[rows] + scale * _curve(fewer, views.times)
        accepted = difference_in_pixels(before, after, views, measure) <= threshold
        padding = (0, 0, 0, control.shape[1] - count + 1)
        control[rows[accepted]] = torch.nn.functional.pad(fewer[accepted], padding)
        new_counts[rows[accepted]] = count - 1
    return control, new_counts


@torch.no_grad()
def insert(
    control: Float[Tensor, "n k 3"], counts: Int[Tensor, "n"], chosen: Tensor
) -> tuple[Float[Tensor, "n k 3"], Int[Tensor, "n"]]:
    """One control point more for the chosen rows that have room, on the curve nearest to the old one."""
    control, new_counts = control.clone(), counts.clone()
    capacity = control.shape[1]
    for count in torch.unique(counts[chosen]).tolist():
        if count >= capacity:
            continue
        rows = (chosen & (counts == count)).nonzero().flatten()
        more = _refitted(control[rows, :count], count + 1)
        control[rows] = torch.nn.functional.pad(more, (0, 0, 0, capacity - count - 1))
        new_counts[rows] = count + 1
    return control, new_counts


def _refitted(control: Float[Tensor, "m k 3"], count: int) -> Float[Tensor, "m j 3"]:
    matrix = hermite.refit(control.shape[1], count).to(control)
    return torch.einsum("jk,mkd->mjd", matrix, control)


def _curve(control: Float[Tensor, "m k 3"], times: Float[Tensor, "v"]) -> Float[Tensor, "v m 3"]:
    return torch.einsum("vk,mkd->vmd", hermite.weights(times, control.shape[1]), control)
