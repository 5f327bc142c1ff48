"""Depth and label maps at the size of reduced images, made once beside the originals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from dataparsers.checks import image_size
from dyngs_plugins.folders import place_for
from dyngs_plugins.priors.files import atomic_file, check_size, load_npy, map_shape
from dyngs_plugins.priors.som_files import read_depth, write_depth

SMOOTH = 1.05
"""Depths of one block that differ by less than this factor are one surface."""


def reduced_depths(
    files: Sequence[Path], folder: Path, size: tuple[int, int], full: tuple[float, float], exact: bool = False
) -> tuple[Path, ...]:
    """z-depth maps of one ``size`` (width, height) in ``folder``; those that are there already are kept.

    Args:
        files: maps of the ``full`` size, or of ``size`` already.
        exact: whether the full size is known, and not computed from the reduced one.

    Raises:
        ValueError, OSError: a map is damaged or of another size, or the folder cannot be written.
    """
    shape = size[1], size[0]
    stored = [map_shape(load_npy(path, "depth map", mmap=True).shape) for path in files]
    if all(found == shape for found in stored):
        return tuple(files)
    for path, found in zip(files, stored, strict=True):
        _check_full(path, "depth map", found, size, full, exact)
    copies = _copies(folder, [path.name for path in files])
    for path, copy in zip(files, copies, strict=True):
        if not copy.is_file():
            try:
                write_depth(copy, reduce_depth(read_depth(path), shape))
            except OSError as error:
                raise _unwritable(folder, error) from error
    return copies


def reduce_depth(depth: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> Float[np.ndarray, "h2 w2"]:
    """A smaller z-depth map, 0 = unknown, without depths between a thing and what is behind it.

    Where a block of pixels is one surface its mean disparity is taken, which is exact on planes; elsewhere the lower
    median of its known depths, which one of its pixels really has.
    """
    (height, width), (rows, columns) = depth.shape, shape
    if height % rows or width % columns:
        return _nearest(depth, (columns, rows))
    blocks = depth.reshape(rows, height // rows, columns, width // columns).swapaxes(1, 2).reshape(rows, columns, -1)
    known = blocks > 0
    count = known.sum(axis=-1)
    ordered = np.sort(np.where(known, blocks, np.inf), axis=-1)
    median = np.take_along_axis(ordered, np.maximum(count - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    smooth = known.all(axis=-1) & (ordered[..., -1] < SMOOTH * ordered[..., 0])
    mean = 1.0 / np.maximum((1.0 / np.where(known, blocks, 1.0)).mean(axis=-1), 1e-12)
    return np.where(smooth, mean, np.where(count > 0, median, 0.0)).astype(np.float32)


def label_images(
    files: Sequence[Path], folder: Path, size: tuple[int, int], full: tuple[float, float], exact: bool = False
) -> tuple[Path, ...]:
    """8-bit PNGs, of one ``size`` (width, height), of ``.npy`` label maps; those that are there are kept.

    Args:
        files: maps of the ``full`` size, or of ``size`` already.
        exact: whether the full size is known, and not computed from the reduced one.

    Raises:
        ValueError, OSError: a map does not hold labels from 0 to 255, is of another shape than the images, or the
            folder cannot be written.
    """
    copies = _copies(folder, [f"{path.stem}.png" for path in files])
    for path, copy in zip(files, copies, strict=True):
        if not copy.is_file():
            labels = read_labels(path)
            _check_full(path, "label map", labels.shape, size, full, exact)
            try:
                with atomic_file(copy) as file:
                    Image.fromarray(_nearest(labels, size).astype(np.uint8)).save(file, format="PNG")
            except OSError as error:
                raise _unwritable(folder, error) from error
        width, height = image_size(copy)
        check_size(copy, "label image", (height, width), (size[1], size[0]))
    return copies


def read_labels(path: Path) -> Int[np.ndarray, "h w"]:
    """A label map: whole numbers, 0 = background.

    Raises:
        ValueError: damaged, pickled (nothing is executed), not two-dimensional, or not labels from 0 to 255.
    """
    labels = load_npy(path, "label map", mmap=True)
    labels = np.asarray(labels).reshape(map_shape(labels.shape))
    if labels.ndim != 2 or labels.size == 0:
        raise ValueError(f"{path}: an array of shape {labels.shape}. Expected labels of shape (height, width).")
    if not np.isfinite(labels).all() or (labels != np.floor(labels)).any() or labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"{path}: values from {labels.min()} to {labels.max()}. Expected whole numbers from 0 "
                         "(background) to 255. Is this a probability or a logit? Write the labels again.")  # fmt: skip
    return labels.astype(np.int64)


def _nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The value of the source pixel under each target pixel's centre."""
    (height, width), (columns, rows) = values.shape, size
    y = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    x = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    return values[y][:, x]


def _check_full(
    path: Path, what: str, shape: tuple[int, ...], size: tuple[int, int], full: tuple[float, float], exact: bool = False
) -> None:
    """Raise unless a map has the full size (where it is not exact, to the rounding of ``size``), or the size in use."""
    if len(shape) == 2 and shape == (size[1], size[0]):
        return
    slack = [1.0 if exact else max(1.0, full[axis] / size[axis]) for axis in (0, 1)]
    if len(shape) != 2 or abs(shape[1] - full[0]) >= slack[0] or abs(shape[0] - full[1]) >= slack[1]:
        check_size(path, what, shape, (round(full[1]), round(full[0])))


def _copies(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Each copy where it lies already, else where it can be made."""
    place = place_for(folder)
    return tuple(folder / name if (folder / name).is_file() else place / name for name in names)


def _unwritable(folder: Path, error: OSError) -> OSError:
    return OSError(
        f"{folder}: cannot be written ({error}). Reduced copies go beside the originals: copy the scene to a folder of "
        "your own, or train at the size that is there."
    )
