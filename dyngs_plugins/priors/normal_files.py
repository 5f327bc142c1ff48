"""Files of surface normals: a unit vector per pixel in the camera's frame.

OpenCV's axes (x right, y down, z forward), towards the camera: a wall that faces it has (0, 0, -1). ``.npy`` of shape
[h, w, 3] or [3, h, w], with or without a leading axis of one; (0, 0, 0) is unknown. That is how networks' metric depths
become normals in MoBGS (Bui et al. 2026, code): differences of neighbouring points, down x right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.priors.files import atomic_file, existing, load_npy
from dyngs_plugins.priors.vector_maps import between_pixels, of_one_shape, rescaled_pixels

SPREAD = 0.2
"""Neighbouring normals whose components differ by at most this belong to one surface."""
_ADVICE = "Compute it again, or remove the folder to do without normals."


def check_normals(path: Path, size: tuple[int, int]) -> None:
    """Look at a file's header. ``size``: (width, height) of its image.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or of another shape than its image.
    """
    shape = load_npy(existing(path, "normal map", _ADVICE), "normal map", mmap=True).shape
    _check_shape(path, _pixels_first(path, shape), (size[1], size[0]))


def read_normals(path: Path) -> Float[Tensor, "h w 3"]:
    """Unit vectors at the stored size, 0 = unknown.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, not finite, not unit vectors, or turned away from the camera.
    """
    array = load_npy(existing(path, "normal map", _ADVICE), "normal map")
    height, width, last = _pixels_first(path, array.shape)
    array = array.reshape(array.shape[-3:])
    normals = array if last else np.ascontiguousarray(np.moveaxis(array, 0, -1))
    bad = int((~np.isfinite(normals)).any(axis=-1).sum())
    if bad:
        raise ValueError(f"{path}: {bad} of {height * width} normals are NaN or infinite. Expected finite unit vectors, "
                         f"0 for unknown. {_ADVICE}")  # fmt: skip
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = length[..., 0] > 1e-6
    middle = float(np.median(length[known])) if known.any() else 1.0
    if not 0.5 < middle < 1.5:
        raise ValueError(f"{path}: the vectors are {middle:.3g} long (median). Expected unit vectors with components from "
                         f"-1 to 1. Is this a picture of normals? {_ADVICE}")  # fmt: skip
    away = float((normals[..., 2][known] > 0).mean()) if known.any() else 0.0
    if away > 0.5:
        raise ValueError(
            f"{path}: {away:.0%} of the normals point away from the camera. Expected OpenCV's axes (x right, y down, z "
            "forward), towards the camera, so that z is negative where a surface is looked at. Write them with the "
            "other sign, or with y and z turned."
        )
    return torch.from_numpy(normals / np.maximum(length, 1e-6))


def normals_at(path: Path, xy: Float[Tensor, "*n 2"], size: tuple[int, int]) -> Float[Tensor, "*n 3"]:
    """Unit normals at pixels of images of ``size`` (height, width), 0 = unknown."""
    normals = read_normals(path)
    stored = (normals.shape[0], normals.shape[1])
    _check_shape(path, (*stored, True), size)
    known = normals.abs().sum(dim=-1) > 0
    vectors, found = between_pixels(normals, known, rescaled_pixels(xy, size, stored), SPREAD)
    return torch.nn.functional.normalize(vectors, dim=-1) * found[..., None]


def write_normals(path: Path, normals: Float[np.ndarray, "h w 3"]) -> None:
    """Write unit vectors of the camera's frame, towards the camera."""
    with atomic_file(path) as file:
        np.save(file, np.asarray(normals, np.float32), allow_pickle=False)


def _pixels_first(path: Path, shape: tuple[int, ...]) -> tuple[int, int, bool]:
    """Height, width, and whether the vectors' axis is the last."""
    axes = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(axes) == 3 and axes[2] == 3:
        return axes[0], axes[1], True
    if len(axes) == 3 and axes[0] == 3:
        return axes[1], axes[2], False
    raise ValueError(f"{path}: an array of shape {shape}. Expected normals [h, w, 3]. {_ADVICE}")


def _check_shape(path: Path, found: tuple[int, int, bool], size: tuple[int, int]) -> None:
    height, width, _ = found
    if not of_one_shape((height, width), size):
        raise ValueError(f"{path}: the normals are {width}x{height}, but the image is {size[1]}x{size[0]} (width x height), "
                         f"of another shape. Expected normals of the whole image. {_ADVICE}")  # fmt: skip
