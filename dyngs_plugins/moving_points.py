"""Points that moving Gaussians start from where a field needs no tracks: from depth, a point cloud, or at random."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import ceil, nan
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dyngs_plugins.priors.lifting import unproject_map
from dyngs_plugins.priors.seed import cloud_points, random_points
from dyngs_plugins.priors.views import ClipViews

PointsFrom = Literal["auto", "depth", "points", "random"]


@dataclass(frozen=True)
class TimedPoints:
    """Points and when each was seen where it lies."""

    points: Float[Tensor, "n 3"]
    colors: Float[Tensor, "n 3"]
    times: Float[Tensor, "n"]
    """In [0, 1]; NaN where nothing says, and for what stands still."""


def moving_points(
    views: ClipViews, num: int, kind: PointsFrom, all_times: bool, whole_scene: bool, generator: torch.Generator
) -> TimedPoints:
    """About ``num`` points to start moving Gaussians from.

    Args:
        kind: ``depth``: unprojected depth. ``points``: the layout's point cloud. ``random``: anywhere in what the cameras
            see in common. ``auto``: the first of these that the clip has.
        all_times: take moving things at every time step (a canonical pose wants them at one, the middle).
        whole_scene: the points are of everything, not only of what moves (there is no set for the rest).

    Raises:
        ValueError: the clip lacks what the points are to come from.
    """
    has_depth, has_cloud = views.priors.depth_files is not None, views.points is not None and len(views.points) > 0
    if not whole_scene:
        if kind in ("points", "random"):
            raise ValueError(
                f"--pipeline.model.initialise.dynamic-points is '{kind}', which does not say what moves. Moving Gaussians "
                "beside static ones start from depth and masks: set it to 'auto' or 'depth', or let one set hold the "
                "whole scene: --pipeline.model.sets dynamic."
            )
        if not has_depth or views.priors.mask_files is None:
            raise ValueError(
                "Moving Gaussians beside static ones start from depth and masks, and the clip lacks "
                f"{'masks' if has_depth else 'depth'}. Make them with `dyngs process FOLDER --out CLIP`, or let "
                "one set hold the whole scene: --pipeline.model.sets dynamic."
            )
        return _from_depth(views, num, all_times, False, generator)
    if kind == "depth" or (kind == "auto" and has_depth):
        return _from_depth(views, num, all_times, True, generator)
    if kind == "points" and not has_cloud:
        raise ValueError(
            "The Gaussians were to start from the layout's point cloud, but this clip has none. Leave "
            "--pipeline.model.initialise.dynamic-points at 'auto', or add a COLMAP model or a point file to the clip."
        )
    if has_cloud and kind != "random":
        points, colors = cloud_points(views, num, generator)
    else:
        if kind == "auto":
            warnings.warn(
                f"The clip has neither depth nor a point cloud: the Gaussians start from {num} RANDOM points in what the "
                "cameras see in common.",
                stacklevel=2,
            )
        points, colors = random_points(views, num, generator)
    return TimedPoints(points, colors, torch.full((len(points),), nan))


def _from_depth(
    views: ClipViews, num: int, all_times: bool, whole_scene: bool, generator: torch.Generator
) -> TimedPoints:
    """Random pixels of known depth; with masks half of a whole scene's are of what moves, which fills few pixels."""
    if views.priors.depth_files is None:
        raise ValueError(
            "The Gaussians were to start from depth, but the clip has none. Make it with `dyngs process`, or leave "
            "--pipeline.model.initialise.dynamic-points at 'auto'."
        )
    used = range(len(views))
    if views.priors.mask_files is None:  # nothing says what moves
        parts = [_sample(views, [_known(views, i) for i in used], num, True, generator)]
    else:
        middle = _middle_step(views)
        taken = [all_times or int(views.frame_index[i]) == middle for i in used]
        moving = [_known(views, i) & (views.dynamic(i) == 1) & taken[i] for i in used]
        parts = [_sample(views, moving, num // 2 if whole_scene else num, True, generator)]
        if whole_scene:
            still = [_known(views, i) & (views.dynamic(i) == -1) for i in used]
            parts.append(_sample(views, still, num - len(parts[0].points), False, generator))
    found = TimedPoints(*(torch.cat([getattr(part, name) for part in parts]) for name in ("points", "colors", "times")))
    if len(found.points) == 0:
        raise ValueError(
            f"No pixel to start from: in {len(views)} views none that counts has a known depth. Check the masks (white = "
            "moving) and the depth."
        )
    return found


def _sample(
    views: ClipViews, chosen: list[Bool[Tensor, "h w"]], num: int, timed: bool, generator: torch.Generator
) -> TimedPoints:
    """At most ``num`` of the chosen pixels of the views, all with the same chance."""
    share = min(1.0, num / max(sum(int(pixels.sum()) for pixels in chosen), 1))
    points, colors, times = [torch.zeros(0, 3)], [torch.zeros(0, 3)], [torch.zeros(0)]
    for i, pixels in enumerate(chosen):
        places = pixels.flatten().nonzero().flatten()
        places = places[torch.randperm(len(places), generator=generator)[: ceil(share * len(places))]]
        if len(places) > 0:
            points.append(unproject_map(views, i).reshape(-1, 3)[places])
            colors.append(views.image(i).reshape(-1, 3)[places])
            times.append(torch.full((len(places),), float(views.times[i]) if timed else nan))
    keep = torch.randperm(sum(map(len, times)), generator=generator)[:num]
    return TimedPoints(torch.cat(points)[keep], torch.cat(colors)[keep], torch.cat(times)[keep])


def _middle_step(views: ClipViews) -> int:
    """The time step with views that is nearest to the middle of the clip."""
    steps = views.frame_index.unique()
    return int(steps[(steps - (views.num_frames - 1) / 2).abs().argmin()])


def _known(views: ClipViews, index: int) -> Bool[Tensor, "h w"]:
    known = views.depth(index) > 0
    return known if views.priors.valid_files is None else known & views.valid(index)
