"""Folders that appear complete or not at all, and where files go that others keep."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_folder(out: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the name ``out`` at the end and vanishes on an error.

    It lies beside ``out``, so that the last step is a rename on one file system: a reader never sees half of it. What
    is at ``out`` by then is replaced; whether it may be is the caller's to check.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes private folders
        yield partial
        _move_into_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def place_for(folder: Path) -> Path:
    """Where files that belong into ``folder`` can be made: there, or in the user's cache where data is read-only.

    A place in the cache is the same for the same folder. ``DYNGS_CACHE`` (or ``XDG_CACHE_HOME``) moves the cache.
    """
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if os.access(existing, os.W_OK):
        return folder
    absolute = folder.absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyngs-plugins"
    digest = hashlib.sha256(str(absolute.parent).encode()).hexdigest()[:16]
    return Path(os.environ.get("DYNGS_CACHE") or home) / "copies" / digest / absolute.name


def torch_extensions_folder() -> Path:
    """Where torch keeps the kernels that it compiles. ``TORCH_EXTENSIONS_DIR`` moves it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cache / "torch_extensions").absolute()


def _move_into_place(partial: Path, out: Path) -> None:
    """Rename the finished folder to its name; an old one is moved aside first and removed last."""
    if not (out.exists() and any(out.iterdir())):
        os.replace(partial, out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    os.replace(out, aside)
    try:
        os.replace(partial, out)
    except OSError:
        os.replace(aside, out)
        raise
    shutil.rmtree(aside)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
