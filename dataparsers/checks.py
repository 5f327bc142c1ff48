"""What can be wrong with a clip's files, found before anything is decoded or trained.

Every error names the file, what was expected, what was found and what to try.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dyngs_plugins.priors.files import check_size, load_npy, map_shape
from dyngs_plugins.priors.pixels import UNREADABLE
from dyngs_plugins.priors.som_files import read_depth, read_disparity, read_track_pair
from dyngs_plugins.priors.track_windows import check_track_windows, holds_windows

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in name order, which is their order in time.

    Raises:
        ValueError: two images share a stem.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    stems = [path.stem for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if twice:
        raise ValueError(
            f"{folder}: {len(twice)} names are used by more than one image; the first is {twice[0]!r}. Masks, depths "
            "and tracks go by the name without suffix. Remove one of the images."
        )
    return files


def require_images(folder: Path, hint: str = "") -> list[Path]:
    """:func:`image_files`, with at least one of them."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Expected the clip's images. {hint}")
    files = image_files(folder)
    if not files:
        raise ValueError(f"{folder}: found 0 images. Expected at least one of {', '.join(IMAGE_SUFFIXES)}. {hint}")
    return files


def common_image_size(files: Sequence[Path]) -> tuple[int, int]:
    """(width, height) of images that all have one size, from their headers."""
    sizes = [image_size(path) for path in files]
    for path, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            raise ValueError(
                f"{path}: the image is {size[0]}x{size[1]}, expected {sizes[0][0]}x{sizes[0][1]} (width x height) like "
                f"{files[0].name}. Resize the images to one size and compute masks, depths and tracks again."
            )
    return sizes[0]


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from an image's header."""
    try:
        with Image.open(path) as image:
            return image.size
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}). Write this image again.") from error


def either_case(path: Path) -> Path:
    """``path``, or the file with its suffix in upper case where only that is there."""
    upper = path.with_name(path.name.removesuffix(path.suffix) + path.suffix.upper())
    return upper if not path.is_file() and upper.is_file() else path


def companions(images: Sequence[Path], folder: Path, suffix: str, what: str) -> tuple[Path, ...]:
    """The file of the same stem for every image, its suffix in lower or upper case.

    Raises:
        FileNotFoundError: some are missing; says how many, and the first.
    """
    files = tuple(either_case(folder / f"{image.stem}{suffix}") for image in images)
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]}: no such {what}; {len(missing)} of {len(files)} are missing. Expected one for every image "
            f"in {images[0].parent}, found {len(files) - len(missing)} in {folder}. Compute the missing ones (`dyngs "
            "process` fills gaps and keeps what exists), or remove the images without them."
        )
    return files


def check_masks(files: Sequence[Path], size: tuple[int, int]) -> None:
    """Raise when a mask's header says another (width, height) than its image's."""
    for path in files:
        width, height = image_size(path)
        check_size(path, "mask", (height, width), (size[1], size[0]))


def check_maps(files: Sequence[Path], size: tuple[int, int], kind: str) -> np.ndarray:
    """Read every depth or disparity map once: sizes from headers first, then the values.

    Returns:
        The largest known depth of each map (file units), 0 where nothing is known.
    """
    for path in files:
        shape = map_shape(load_npy(path, f"{kind} map", mmap=True).shape)
        check_size(path, f"{kind} map", shape, (size[1], size[0]))
    deepest = np.zeros(len(files))
    for i, path in enumerate(files):
        values = (read_disparity if kind == "disparity" else read_depth)(path)
        known = values[values > 0]
        if len(known):
            deepest[i] = 1.0 / known.min() if kind == "disparity" else known.max()
    return deepest


def check_tracks(folder: Path, names: Sequence[str]) -> None:
    """Raise unless the tracks of ``names`` are complete: one file per image (NAME.npz), or one per ordered pair of them
    with as many rows as its query frame's self pair.

    For pairs this works on the folder's listing: a file is opened only where its size is not that of its self pair.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Expected the tracks of {len(names)} training images. Run the "
                                "tracker again (`dyngs process` fills gaps and keeps what exists).")  # fmt: skip
    if holds_windows(folder):
        check_track_windows(folder, names)
        return
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder) if os.path.isfile(entry)}
    pairs = [(query, f"{query}_{target}.npy") for query in names for target in names]
    missing = [name for _, name in pairs if name not in sizes]
    if missing:
        raise FileNotFoundError(
            f"{folder / missing[0]}: no such track file; {len(missing)} of {len(pairs)} are missing. Expected one per "
            f"ordered pair of the {len(names)} training images, named QUERY_TARGET.npy (QUERY_QUERY.npy included). "
            "Run the tracker again for these pairs (`dyngs process` fills gaps and keeps what exists)."
        )
    for query in names:
        own = f"{query}_{query}.npy"
        rows = len(read_track_pair(folder / own))
        for target in names:
            name = f"{query}_{target}.npy"
            if sizes[name] != sizes[own]:
                read_track_pair(folder / name, rows)
