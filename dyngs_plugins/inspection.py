"""What a folder holds, as ``dyngs inspect`` says it: layout, frames, cameras, times, priors, splits, what is missing.

The folder is read by the dataparser of its layout, so that what is said here is what a training would see.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataparsers.auto import AutoDataParserConfig
from dataparsers.base import ClipDataParser, Layout
from dataparsers.checks import IMAGE_SUFFIXES
from dataparsers.protocols import Protocol
from dataparsers.registry import named_layout, recognise
from dyngs_plugins.inspection_facts import Opened, facts

USER_ERRORS = (ValueError, OSError)
_PHOTOGRAPHS = {"images", "JPEGImages", "rgb", "frames"}
"""Folders of images rather than of masks."""


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
    missing: str = ""
    """What it lacks to be trained on, where the loader could read the rest: cameras."""
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
    given = dict(options or {})
    try:
        opened, warned = _open(chosen, root, protocol, given)
    except USER_ERRORS as error:
        if isinstance(error, FileNotFoundError) and chosen.without_cameras:
            with contextlib.suppress(*USER_ERRORS):
                opened, _ = _open(chosen, root, protocol, given | dict(chosen.without_cameras))
                return Inspection(root, chosen, why, opened, protocol, "", missing=str(error))
        return Inspection(root, chosen, why, None, protocol, str(error))
    return Inspection(root, chosen, why, opened, protocol, "", warned=warned)


def _open(layout: Layout, root: Path, protocol: str, options: Mapping[str, Any]) -> tuple[Opened, tuple[str, ...]]:
    """The clip as its loader reads it, and what the loader warned of."""
    parser = layout.config(data=root, protocol=protocol, **options).setup()
    assert isinstance(parser, ClipDataParser)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        clip, frame = parser.parsed()
    texts = dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning))
    return Opened(clip, frame, frame.views(clip.train), frame.views(clip.evaluation)), tuple(texts)


def report(inspection: Inspection) -> str:
    """Everything in words, for a terminal."""
    layout = inspection.layout
    rows: list[tuple[str, str]] = [("layout", f"{layout.title} ({layout.command}): {inspection.why}")]
    if inspection.opened is None:
        rows += [("files", line) for line in contents(inspection.root)]
        rows.append(("PROBLEM", inspection.problem))
    else:
        rows += facts(inspection.opened, cameras=not inspection.missing)
        if inspection.missing:
            rows.append(("MISSING", inspection.missing))
        rows += [("protocol", line) for line in _protocols(inspection)]
        rows += [("method", line) for line in ([] if inspection.missing else _methods(inspection))]
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
