"""The work of ``dyngs convert``: open, write beside, rename."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dyngs_plugins.convert import record
from dyngs_plugins.convert.colmap import write_colmap
from dyngs_plugins.convert.dnerf import write_dnerf
from dyngs_plugins.convert.llff import write_llff
from dyngs_plugins.convert.record import Converted, write_record
from dyngs_plugins.convert.som import write_som
from dyngs_plugins.convert.source import Source, opened
from dyngs_plugins.folders import complete_folder


@dataclass(frozen=True)
class Target:
    """A layout that can be written."""

    write: Callable[[Source, Path, record.Progress], Converted]
    loader: str
    """Command of the loader that reads it."""


TARGETS = {
    "llff": Target(write_llff, "llff-data"),
    "colmap": Target(write_colmap, "colmap-time-data"),
    "dnerf": Target(write_dnerf, "dyn-dnerf-data"),
    "som": Target(write_som, "som-data"),
}


def run(
    folder: Path,
    to: str,
    out: Path,
    layout: str = "",
    protocol: str = "",
    text: bool = False,
    downscale_factor: int | None = None,
) -> list[str]:
    """Convert a folder and say what was done, in lines.

    Raises:
        FileExistsError: ``out`` is a file, or is not empty.
        FileNotFoundError, ValueError: the source cannot be opened, the target cannot say it, or nothing can be written.
    """
    if text and to != "colmap":
        raise ValueError(f"--text is given with --to {to}; expected --to colmap, which alone is text or binary.")
    folder, out = folder.expanduser().resolve(), out.expanduser().resolve()
    _check_destination(folder, out)
    target = TARGETS[to]
    write = functools.partial(write_colmap, binary=not text) if to == "colmap" else target.write
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with opened(folder, out, layout, protocol, downscale_factor) as source, complete_folder(out) as partial:
            with Progress(*columns) as bar:
                converted = write(source, partial, lambda items, name: bar.track(items, description=name))
            write_record(partial, source, to, converted)
    except OSError as error:
        if error.errno is None:  # ours, with a message for users
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise ValueError(
            f"{out}: not converted: {error.strerror}{where}. Nothing of it is left behind. Check the space and the "
            "permissions of both folders, and try again."
        ) from error
    return _summary(source, converted, target, out)


def _check_destination(folder: Path, out: Path) -> None:
    if out == folder or folder in out.parents or out in folder.parents:
        raise ValueError(f"--out {out} and the source {folder} lie inside each other. Choose a folder beside the "
                         f"source, for example {folder.with_name(folder.name + '_converted')}.")  # fmt: skip
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out {out} is a file; expected a folder that is empty, or a free name.")
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"--out {out} is not empty; expected an empty folder, or a free name. Choose another.")


def _summary(source: Source, converted: Converted, target: Target, out: Path) -> list[str]:
    every = converted.files.values()
    counts = {split: sum(split in picture.splits for picture in every) for split in ("train", "test", "val")}
    split = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lines = [
        f"{source.root}: {source.layout.title} ({source.layout.command}), {source.why}",
        f"protocol {source.clip.protocol}",
        f"{len(converted.files)} images ({split}): {out}",
    ]
    lines += [f"note: {note}" for note in source.notes]
    lines += [f"changed: {change}" for change in converted.changed]
    lines += [f"the target cannot say: {lost}" for lost in converted.lost]
    return [*lines, f"Splits and sources of all images: {out / record.RECORD}. Its loader: {target.loader}"]
