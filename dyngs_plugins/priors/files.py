"""What all file readers and writers share: atomic writing, and errors that name file, expected, found, what to try."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, TypeGuard

import numpy as np
from jaxtyping import Float


def existing(path: Path, what: str, hint: str) -> Path:
    """``path``, or a FileNotFoundError that says what it should have been and which part of it does exist."""
    path = Path(path)
    if path.is_file():
        return path
    found = f"The folder holds {_listing(path.parent)}." if path.parent.is_dir() else f"No folder {path.parent}."
    if os.path.lexists(path):
        found = "A folder has its name." if path.is_dir() else "A link has its name, and leads to no file."
    raise FileNotFoundError(f"{path}: no such {what}. {found} {hint or 'Restore it from where the data came from.'}")


def optional_file(path: Path, what: str) -> bool:
    """Whether there is such a file; what has its name but cannot be read is not taken for nothing.

    Raises:
        FileNotFoundError: a folder, or a link that leads nowhere.
    """
    return os.path.lexists(path) and existing(path, what, "Restore the file, or remove what has its name.").is_file()


def inside(folder: Path, name: object, owner: Path) -> Path:
    """The path of a name that a file gives, which must stay in ``folder``.

    Args:
        owner: the file that gives the name, for errors.

    Raises:
        ValueError: not a name, an absolute one, or one that leaves the folder.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{owner}: found {name!r} as the name of a file; expected text. Write this file again.")
    normal = os.path.normpath(name.replace("\\", "/"))
    if os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir:
        raise ValueError(f"{owner}: it names {name!r}, which lies outside of {folder}. Expected the name of a file in it. "
                         "Put the file there and correct the name.")  # fmt: skip
    return folder / normal


def whole(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value out of JSON is a whole number from ``least`` on that fits into an index."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 31


def number(value: object) -> float:
    """A number out of JSON as a float; neither text nor true, which ``float`` would take.

    Raises:
        TypeError, OverflowError: something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


DAMAGED = (
    ValueError, KeyError, EOFError, OSError, SyntaxError, TokenError, MemoryError, OverflowError, TypeError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises on damaged files of arrays, alone or in archives."""


def load_npy(path: Path, what: str, mmap: bool = False, kinds: str = "fiu") -> np.ndarray:
    """A numeric ``.npy`` array (float32 unless memory-mapped); never unpickles.

    Args:
        kinds: numpy's letters of what counts as numbers; "b" for yes and no.
    """
    try:
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(
            f"{path}: cannot be read as a {what} ({error}). Expected a complete .npy file of numbers; this one is "
            "truncated or of another kind. Delete it and compute it again."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        kind = getattr(array, "dtype", type(array).__name__)
        raise ValueError(f"{path}: cannot be read as a {what}. Expected numbers, found {kind}.")
    return array if mmap else array.astype(np.float32, copy=False)


def check_size(path: Path, what: str, shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    """Raise when a file's (height, width) is not that of its image."""
    if size is not None and tuple(shape) != tuple(size):
        found = f"{shape[1]}x{shape[0]}" if len(shape) == 2 else f"an array of shape {tuple(shape)}"
        raise ValueError(
            f"{path}: the {what} is {found}, expected {size[1]}x{size[0]} (width x height) like its image. "
            f"Resize it, or compute it again from the images in use."
        )


def map_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a stored map without axes of length one around (height, width)."""
    if len(shape) == 3 and 1 in (shape[0], shape[2]):
        return shape[:2] if shape[2] == 1 else shape[1:]
    return shape


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when it is complete; its folder is made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_poses(path: Path, poses: Float[np.ndarray, "t 4 4"], what: str) -> None:
    """Raise unless every pose is finite and rigid: an orthonormal rotation of determinant 1 above [0, 0, 0, 1]."""
    poses = np.asarray(poses, np.float64)
    finite = np.isfinite(poses).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(f"{path}: {len(bad)} poses of {what} are not finite; the first is pose {bad[0]}. Solve again.")
    rotations = poses[:, :3, :3]
    error = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bottom = np.abs(poses[:, 3] - [0.0, 0.0, 0.0, 1.0]).max(axis=1)
    bad = np.flatnonzero((error > 1e-3) | (np.linalg.det(rotations) < 0) | (bottom > 1e-5))
    if len(bad):
        i = bad[0]
        raise ValueError(
            f"{path}: pose {i} of {what} is not rigid (deviation from orthonormal {error[i]:.2g}, determinant "
            f"{np.linalg.det(rotations[i]):.3g}, last row {poses[i, 3].tolist()}); {len(bad)} of {len(poses)} are "
            "like that. Expected rotation and translation only, OpenCV axes. Is a scale or a mirrored axis baked in?"
        )


def _listing(folder: Path, count: int = 4) -> str:
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return f"{len(names)} entries ({', '.join(names[:count])}{', ...' if len(names) > count else ''})"
