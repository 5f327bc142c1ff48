"""Facts of a clip that opens, as ``dyngs inspect`` says them: frames, sizes, cameras, times, priors, points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from dataparsers.clip import Clip
from dataparsers.flow_folders import WAYS
from dyngs_plugins.priors.normalise import SceneNormalisation
from dyngs_plugins.priors.views import ClipViews

READ_VIEWS = 4
"""How many views are decoded to say how much of their pixels a prior covers."""
STILL = 1e-3
"""Cameras that move by less than this share of the way between all cameras stand still."""


@dataclass(frozen=True)
class Opened:
    """A clip that its loader could read, in the scene frame."""

    clip: Clip
    frame: SceneNormalisation
    train: ClipViews
    test: ClipViews


def facts(opened: Opened, cameras: bool = True) -> list[tuple[str, str]]:
    """Name and text of every line.

    Args:
        cameras: whether the clip's cameras are its own, and not made up to open it.
    """
    clip, train, test = opened.clip, opened.train, opened.test
    both = [train, test]
    seconds = f", {train.num_frames / clip.fps:.4g} s at {clip.fps:g} per second" if clip.fps else ", rate not stated"
    sizes = dict.fromkeys(f"{views.width}x{views.height}" for views in both)
    steps = torch.cat([views.frame_index for views in both]).unique()
    times = torch.cat([views.times for views in both])
    rows = [
        ("frames", f"{train.num_frames} time steps{seconds}; {len(train)} training and {len(test)} test images"),
        ("images", f"{' and '.join(sizes)} pixels{_background(train)}"),
        ("times", f"{float(times.min()):.4g} to {float(times.max()):.4g}, {len(steps)} of {train.num_frames} steps have "
                  "images"),
    ]  # fmt: skip
    rows += [("cameras", line) for line in (_cameras(opened) if cameras else ["none"])]
    rows += [("priors", line) for line in _priors(train, test)]
    points = clip.points
    if points is None or len(points.xyz) == 0:
        rows.append(("points", "none to start from"))
    else:
        colour = "with" if points.rgb is not None else "without"
        rows.append(("points", f"{len(points.xyz)} to start from, {colour} colours: {points.source or 'as stored'}"))
    if cameras:
        rows.append(("scene", f"1 scene unit is {opened.frame.scale:.4g} units of the files"))
    return rows


def _background(views: ClipViews) -> str:
    return f", composited over {views.background}" if views.background else ""


def _cameras(opened: Opened) -> list[str]:
    """Number, motion, field of view and lenses, per split."""
    centers = torch.cat([v.world_T_camera[:, :3, 3] for v in (opened.train, opened.test)])
    reach = float((centers - centers.mean(dim=0)).norm(dim=1).max())
    lines = []
    for name, views in (("train", opened.train), ("test", opened.test)):
        ways = [
            _longest(views.world_T_camera[views.camera_index == camera, :3, 3])
            for camera in views.camera_index.unique()
        ]
        moving = sum(way > STILL * max(reach, 1e-9) for way in ways)
        motion = "moving" if moving == len(ways) else "still" if moving == 0 else f"{moving} of them moving"
        fov = 2 * torch.atan(views.width / 2 / views.K[:, 0, 0]) * 180 / math.pi
        low, high = float(fov.min()), float(fov.max())
        field = f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
        lens = "pinholes" if views.distortion is None else "lenses (undistorted by our methods)"
        count = f"{len(ways)} camera{'s' if len(ways) > 1 else ''}"
        lines.append(f"{name}: {count}, {motion}, {field} degrees wide, {lens}")
    return lines


def _longest(centers: torch.Tensor) -> float:
    return float((centers - centers[:1]).norm(dim=1).max())


def _priors(train: ClipViews, test: ClipViews) -> list[str]:
    """Which kinds there are, for how many images, and how much of a few images' pixels they cover."""
    priors, lines = train.priors, []
    chosen = sorted({round(i * (len(train) - 1) / (READ_VIEWS - 1)) for i in range(READ_VIEWS)})
    if priors.depth_files is not None:
        known = sum(float((train.depth(i) > 0).float().mean()) for i in chosen) / len(chosen)
        lines.append(
            f"depth: {_coverage(priors.depth_files)} (stored as {priors.depth_kind}), {known:.0%} of the pixels"
        )
    if priors.mask_files is not None:
        moving = sum(float((train.dynamic(i) > 0).float().mean()) for i in chosen) / len(chosen)
        lines.append(f"masks: {_coverage(priors.mask_files)}, {moving:.1%} of the pixels move")
    if train.tracks is not None:
        lines.append("tracks: between the training images")
    lines += _flow(train)
    if priors.normal_files is not None:
        lines.append(f"normals: {_coverage(priors.normal_files)}")
    if priors.valid_files is not None:
        lines.append(f"alpha: {_coverage(priors.valid_files)} may say which pixels count")
    if test.priors.covisible_files is not None:
        lines.append(f"co-visibility: {_coverage(test.priors.covisible_files, 'test')}")
    lines += [f"{kind} made by {provider}" for kind, provider in priors.providers.items()]
    absent = [name for name, files in (("depth", priors.depth_files), ("masks", priors.mask_files),
                                       ("tracks", train.tracks)) if files is None]  # fmt: skip
    return [*lines, f"none: {', '.join(absent)}"] if absent else lines


def _flow(train: ClipViews) -> list[str]:
    """How many images have flow to which neighbour, and how much of it is visible in a few of them."""
    lines, priors = [], train.priors
    for way in WAYS:
        files = priors.flow_forward if way == "forward" else priors.flow_backward
        there = [i for i, file in enumerate(files or ()) if file is not None]
        if there:
            some = [there[round(i * (len(there) - 1) / (READ_VIEWS - 1))] for i in range(READ_VIEWS)]
            maps = [train.flow(i, way) for i in dict.fromkeys(some)]
            seen = sum(float(found.visible.float().mean()) for found in maps if found is not None) / len(maps)
            lines.append(f"flow, {way}: {len(there)} of {len(train)} training images, {seen:.0%} of the pixels visible")
    return lines


def _coverage(files: tuple[Path | None, ...], split: str = "training") -> str:
    return f"{sum(path is not None for path in files)} of {len(files)} {split} images"
