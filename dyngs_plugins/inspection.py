"""What a folder holds, as ``dyngs inspect`` says it: layout, frames, cameras, times, priors, splits, what is missing.

The folder is read by the dataparser of its layout, so that what is said here is what a training would see.
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dataparsers.auto import AutoDataParserConfig
from dataparsers.base import ClipDataParser, Layout
from dataparsers.checks import IMAGE_SUFFIXES
from dataparsers.clip import Clip
from dataparsers.protocols import Protocol
from dataparsers.registry import named_layout, recognise
from dyngs_plugins.priors.normalise import SceneNormalisation
from dyngs_plugins.priors.views import ClipViews

READ_VIEWS = 4
"""How many views are decoded to say how much of their pixels a prior covers."""
STILL = 1e-3
"""Cameras that move by less than this share of the way between all cameras stand still."""
USER_ERRORS = (ValueError, OSError)
_PHOTOGRAPHS = {"images", "JPEGImages", "rgb", "frames"}
"""Folders of images rather than of masks."""


@dataclass(frozen=True)
class Opened:
    """A clip that its loader could read, in the scene frame."""

    clip: Clip
    frame: SceneNormalisation
    train: ClipViews
    test: ClipViews


@dataclass(frozen=True)
class Inspection:
    """A folder's layout, and what its loader made of it."""

    root: Path
    layout: Layout
    why: str
    opened: Opened | None
    protocol: str
    """As asked for; empty: the layout's own choice."""
    problem: str
    """Why the loader could not read it; empty where it could."""
    warned: tuple[str, ...] = ()
    """What the loader warned of."""


def inspect_folder(
    root: Path, layout: str = "", protocol: str = "", options: Mapping[str, Any] | None = None
) -> Inspection:
    """Recognise a folder's layout and read it.

    Args:
        layout: a layout's command, to be used in place of the recognised one.
        options: of the layout's loader.

    Raises:
        FileNotFoundError, ValueError: no layout or several, or a name or option that does not exist.
    """
    if layout:
        chosen, why = named_layout(layout), "as told"
    else:
        found = recognise(root)
        chosen, why = found.layout, found.why
    if protocol:
        chosen.protocol(protocol)
    parser = chosen.config(data=root, protocol=protocol, **(options or {})).setup()
    assert isinstance(parser, ClipDataParser)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            clip, frame = parser.parsed()
        except USER_ERRORS as error:
            return Inspection(root, chosen, why, None, protocol, str(error))
    opened = Opened(clip, frame, frame.views(clip.train), frame.views(clip.evaluation))
    texts = dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning))
    return Inspection(root, chosen, why, opened, protocol, "", tuple(texts))


def report(inspection: Inspection) -> str:
    """Everything in words, for a terminal."""
    layout = inspection.layout
    rows: list[tuple[str, str]] = [("layout", f"{layout.title} ({layout.command}): {inspection.why}")]
    if inspection.opened is None:
        rows += [("files", line) for line in contents(inspection.root)]
        rows.append(("PROBLEM", inspection.problem))
    else:
        rows += _facts(inspection.opened)
        rows += [("protocol", line) for line in _protocols(inspection)]
        rows += [("method", line) for line in _methods(inspection)]
        rows += [("warning", text) for text in inspection.warned]
    lines, last = [], ""
    for name, text in rows:
        lines.append(f"{'' if name == last else name:9} {text}")
        last = name
    return "\n".join([str(inspection.root), *lines])


def contents(root: Path, most: int = 20) -> list[str]:
    """How many files of which kind lie in a folder and three levels below it, for folders that no loader could read."""
    lines = []
    for folder, files in _walk(root):
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in files)
        if kinds:
            place = "here" if folder == root else f"{folder.relative_to(root)}/"
            lines.append(f"{place}: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common(4))}")
    return lines[:most] + ([f"... and {len(lines) - most} more folders"] if len(lines) > most else [])


def loose_images(root: Path) -> list[Path]:
    """The images of one folder in or below ``root``, in the order of names: of the fullest that seems to hold photos."""
    found = {
        folder: sorted(folder / name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        for folder, files in _walk(root)
    }
    shown = {folder: files for folder, files in found.items() if _PHOTOGRAPHS & set(folder.relative_to(root).parts)}
    return max((shown if any(shown.values()) else found).values(), key=len, default=[])


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    for place, folders, files in os.walk(root):
        folder = Path(place)
        depth = len(folder.relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < 3 else []
        yield folder, files


# Facts of a clip that opens ------------------------------------------------------------------------------------------


def _facts(opened: Opened) -> list[tuple[str, str]]:
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
    rows += [("cameras", line) for line in _cameras(opened)]
    rows += [("priors", line) for line in _priors(train, test)]
    points = clip.points
    if points is None or len(points.xyz) == 0:
        rows.append(("points", "none to start from"))
    else:
        colour = "with" if points.rgb is not None else "without"
        rows.append(("points", f"{len(points.xyz)} to start from, {colour} colours: {points.source or 'as stored'}"))
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
    if priors.valid_files is not None:
        lines.append(f"alpha: {_coverage(priors.valid_files)} may say which pixels count")
    if test.priors.covisible_files is not None:
        lines.append(f"co-visibility: {_coverage(test.priors.covisible_files, 'test')}")
    lines += [f"{kind} made by {provider}" for kind, provider in priors.providers.items()]
    absent = [name for name, files in (("depth", priors.depth_files), ("masks", priors.mask_files),
                                       ("tracks", train.tracks)) if files is None]  # fmt: skip
    return [*lines, f"none: {', '.join(absent)}"] if absent else lines


def _coverage(files: tuple[Path | None, ...], split: str = "training") -> str:
    return f"{sum(path is not None for path in files)} of {len(files)} {split} images"


# Protocols and methods -----------------------------------------------------------------------------------------------


def _protocols(inspection: Inspection) -> list[str]:
    """Every protocol of the layout with its split in this folder; the one in use comes first."""
    opened = inspection.opened
    assert opened is not None
    said = opened.clip.protocol
    used = said.name if isinstance(said, Protocol) else inspection.protocol or inspection.layout.protocols[0].name
    prefix = "" if isinstance(said, Protocol) else f"{used}: "
    lines = [f"{prefix}{said} [in use]: {len(opened.train)} train, {len(opened.test)} test{_shared(opened)}"]
    for protocol in inspection.layout.protocols:
        if protocol.name == used:
            continue
        lines.append(f"{protocol.name}: {_split(inspection, protocol.name)}; tests on {protocol.tests}")
    return lines


def _shared(opened: Opened) -> str:
    shared = {p.resolve() for p in opened.train.image_files} & {p.resolve() for p in opened.test.image_files}
    return f"; {len(shared)} of the test images ARE training images" if shared else ""


def _split(inspection: Inspection, protocol: str) -> str:
    parser = inspection.layout.config(data=inspection.root, protocol=protocol).setup()
    assert isinstance(parser, ClipDataParser)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clip = parser.read()
    except USER_ERRORS as error:
        return f"not here ({' '.join(str(error).split())[:160]})"
    return f"{len(clip.train)} train, {len(clip.evaluation)} test"


def _methods(inspection: Inspection) -> list[str]:
    """What each method that is installed lacks here."""
    from nerfstudio.plugins.types import MethodSpecification

    from dyngs_plugins.papers import all_papers

    lines: dict[str, list[str]] = {}
    for record in all_papers():
        for value in vars(importlib.import_module(record.module)).values():
            if isinstance(value, MethodSpecification):
                name = str(value.config.method_name)
                lines.setdefault(_lacks(value.config, inspection), []).append(name)
    return [f"{', '.join(names)}: {said}" for said, names in lines.items()]


def _lacks(config: Any, inspection: Inspection) -> str:
    from dyngs_plugins.model import DynamicModelConfig
    from dyngs_plugins.observed import unfed_losses

    assert inspection.opened is not None
    parser, model, train = config.pipeline.datamanager.dataparser, config.pipeline.model, inspection.opened.train
    if not isinstance(parser, AutoDataParserConfig | inspection.layout.config):
        return f"reads another layout unless `{inspection.layout.command}` stands at the end of the command"
    if not isinstance(model, DynamicModelConfig):
        return "has what it needs"
    kinds = {"tracks": train.tracks, "depth": train.priors.depth_files, "masks": train.priors.mask_files}
    lacking = [name for name, files in kinds.items() if files is None]
    if lacking and model.starts_from == "tracks":
        return f"lacks {', '.join(lacking)}: make them with `dyngs process`"
    off = unfed_losses([name for name, term in model.losses.items() if term.weight], train)
    without = f" (losses that stay off: {', '.join(off)})" if off else ""
    return f"has what it needs{without}"
