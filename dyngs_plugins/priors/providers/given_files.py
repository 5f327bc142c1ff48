"""Which file of a given folder belongs to which frame of a clip, and how its size is brought to the images'.

A folder may hold one file per image of the clip (same names), or one per image of the video (in order). Folders of
several cameras have one folder inside for each sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from dyngs_plugins.priors.files import DAMAGED, load_npy
from dyngs_plugins.priors.providers.inputs import FrameSequence


def files_of(kind: str, folder: str, frames: FrameSequence, suffixes: Sequence[str]) -> list[Path]:
    """The file of each frame: by name, else by order.

    Args:
        kind: for messages.
        folder: as the user gave it; a folder inside with the sequence's name is taken if there is one.
        suffixes: of the files that may be read, in lower case, with the dot.

    Raises:
        FileNotFoundError, ValueError: no folder, or files that match neither the names nor the number of the frames.
    """
    base = given_folder(kind, folder, frames)
    found = sorted(file for file in base.iterdir() if file.suffix.lower() in suffixes and not file.name.startswith("."))
    by_stem = {file.stem: file for file in found}
    if all(stem in by_stem for stem in frames.stems):
        return [by_stem[stem] for stem in frames.stems]
    if len(found) == len(frames):
        return found
    if len(found) > max(frames.frame_index):
        return [found[t] for t in frames.frame_index]
    missing = [stem for stem in frames.stems if stem not in by_stem]
    raise ValueError(
        f"{base}: {len(found)} files ({', '.join(suffixes)}) for {len(frames)} images of {frames.name}; {len(missing)} "
        f"names are missing ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}). Expected a file named as "
        f"each image, or one for each of the {max(frames.frame_index) + 1} images of the video in order."
    )


class GivenFiles:
    """What providers of files as given share; comes before the provider's kind among a class's bases."""

    kind: ClassVar[str]
    folder: str

    @property
    def settings(self) -> dict[str, Any]:
        """For the record: the folder by its name, because where it lies differs between machines."""
        return dataclasses.asdict(self) | {"folder": Path(self.folder).name}  # type: ignore[call-overload]

    def unavailable(self) -> str | None:
        """See :meth:`PriorProvider.unavailable`."""
        return None if self.folder else f"It needs to know where your files are: --settings {self.kind}.folder=FOLDER."

    def require_folder(self) -> None:
        """Raise FileNotFoundError when no folder is given."""
        reason = self.unavailable()
        if reason:
            raise FileNotFoundError(reason)


def given_folder(kind: str, folder: str, frames: FrameSequence) -> Path:
    """The folder of a setting, or the one of this sequence inside of it."""
    base = Path(folder).expanduser()
    if not base.exists():
        raise FileNotFoundError(
            f"{base}: no such folder. Give the folder of your files: --settings {kind}.folder=FOLDER."
        )
    inner = base / frames.name
    base = inner if inner.is_dir() else base
    if not base.is_dir():
        raise NotADirectoryError(f"{base}: a file; expected a folder with one file per image.")
    return base


def read_array(path: Path, what: str) -> np.ndarray:
    """The numbers of a .npy or of the only array of a .npz; never unpickles."""
    if path.suffix.lower() == ".npy":
        return load_npy(path, what, kinds="fiub")
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = list(stored)
            arrays = {
                name: stored[name] for name in names if stored[name].dtype.kind in "fiub" and stored[name].ndim >= 2
            }
    except DAMAGED as error:
        raise ValueError(
            f"{path}: cannot be read as a {what} ({error}). Expected a complete .npz of numbers."
        ) from error
    if len(arrays) != 1:
        raise ValueError(f"{path}: holds {', '.join(names) or 'nothing'}. Expected one array with a {what}.")
    return next(iter(arrays.values()))


def read_picture(path: Path, what: str) -> np.ndarray:
    """An image file at its own depth, without turning: [h, w] or [h, w, c] in RGB(A) order."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(f"{path}: cannot be decoded as a {what}. Expected a PNG, JPEG or TIFF file; write it again.")
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return cv2.cvtColor(image, order[image.shape[2]]) if image.ndim == 3 and image.shape[2] in order else image


def check_aspect(path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise when a map cannot be a copy of the image at another size.

    Args:
        size: height and width of the image.
    """
    height, width = shape[:2]
    if abs(width * size[0] - height * size[1]) > 0.02 * width * size[0] + max(size):
        raise ValueError(
            f"{path}: {width}x{height}, expected {size[1]}x{size[0]} like the images, or the same at another scale. Was "
            "it made from cropped or turned images?"
        )


def resized(values: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """A map at the images' size (height, width)."""
    if values.shape[:2] == tuple(size):
        return values
    return cv2.resize(values, (size[1], size[0]), interpolation=interpolation)
