"""Checkpoints as files: the one that a training is to go on from, looked at before anything is loaded, and the next one.

The host takes numbers out of the names of all files in ``--load-dir`` and opens what has the largest; a run's own folder
or a file that was cut off while it was written ends there in an error that names neither.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEP = re.compile(r"step-(\d+)\.ckpt")
"""What the host calls a checkpoint."""
CHECKPOINTS = "nerfstudio_models"
"""The folder of checkpoints in a run's folder."""


def check_load_dir(folder: Path, step: int | None) -> None:
    """Refuse a folder that the host could not resume from.

    Args:
        folder: of checkpoints, as ``--load-dir`` gives it.
        step: the one to load; None: the latest.

    Raises:
        FileNotFoundError, ValueError: with what was found, what was expected and what to try.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--load-dir {folder}: no such folder. Expected a run's folder of checkpoints, RUN/{CHECKPOINTS}."
        )
    found = {int(name[1]): path for path in folder.iterdir() if (name := STEP.fullmatch(path.name))}
    other = sorted(path.name for path in folder.iterdir() if not STEP.fullmatch(path.name))
    if not found or other:
        inside = folder / CHECKPOINTS
        hint = f"Pass --load-dir {inside}." if inside.is_dir() else f"Pass a run's {CHECKPOINTS}/."
        seen = f"found {len(found)} of them" + (f" and {', '.join(other[:4])}" if other else "")
        raise ValueError(f"--load-dir {folder}: expected step-NUMBER.ckpt and nothing else, {seen}. {hint}")
    wanted = max(found) if step is None else step
    if wanted not in found:
        raise FileNotFoundError(
            f"--load-step {wanted}: {folder} has no such checkpoint; it has those of steps "
            f"{', '.join(map(str, sorted(found)))}."
        )
    earlier = [str(path) for number, path in sorted(found.items()) if number < wanted]
    check_complete(found[wanted], f"Move it away to resume from {earlier[-1]}." if earlier else "Train anew.")


def check_complete(path: Path, what_to_try: str) -> None:
    """Refuse a checkpoint file that is missing, or was cut off while it was written (its end holds its table)."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint. Expected a file RUN/{CHECKPOINTS}/step-NUMBER.ckpt.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: {path.stat().st_size} bytes that are not a whole checkpoint; it was cut off while it was written, "
            f"or is another kind of file. {what_to_try}"
        )


@contextmanager
def folder_for_partial(folder: Path) -> Iterator[Path]:
    """An empty folder beside a folder of checkpoints, which vanishes at the end.

    Its name is always the same, so that what a killed process left is removed by the next one. Inside the folder of
    checkpoints the host would take it for one.
    """
    whole = folder.resolve()
    partial = whole.with_name(f".{whole.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_others(kept: Path) -> None:
    """Remove every checkpoint beside this one."""
    for path in kept.parent.glob("*.ckpt"):
        if path != kept:
            path.unlink(missing_ok=True)
