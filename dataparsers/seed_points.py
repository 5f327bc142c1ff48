"""Point clouds that layouts ship to start from: ``.npy``, PLY and COLMAP's, in the world of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped

from dataparsers.clip import SeedPoints
from dyngs_plugins.priors.colmap_files import read_points
from dyngs_plugins.priors.files import existing, load_npy
from dyngs_plugins.priors.ply_files import read_ply


def npy_points(path: Path) -> SeedPoints:
    """Points of a ``.npy`` file of shape (n, 3).

    Raises:
        FileNotFoundError, ValueError: missing, pickled (nothing is executed), of another shape, empty or not finite.
    """
    array = load_npy(existing(path, "point cloud", ""), "point cloud")
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{path}: an array of shape {array.shape}. Expected points of shape (n, 3). Write it again, "
                         "or remove it to start from random points.")  # fmt: skip
    return _checked(path, array, None)


def ply_points(path: Path) -> SeedPoints:
    """Vertices of a PLY file, ASCII or binary, with their colours if it has any.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, empty or not finite.
    """
    cloud = read_ply(path)
    return _checked(path, cloud.xyz, cloud.rgb)


def colmap_points(folder: Path) -> SeedPoints:
    """Points of a COLMAP model, text or binary.

    Raises:
        FileNotFoundError, ValueError: there are none, or the file is damaged.
    """
    points = read_points(folder)
    return _checked(folder / "points3D", points.xyz, points.rgb)


def _checked(path: Path, xyz: Shaped[np.ndarray, "n 3"], rgb: Shaped[np.ndarray, "n 3"] | None) -> SeedPoints:
    if len(xyz) == 0:
        raise ValueError(f"{path}: found 0 points, expected at least one. Remove it to start from random points.")
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.all():
        raise ValueError(f"{path}: {int((~finite).sum())} of {len(xyz)} points are not finite; the first is point "
                         f"{int(np.flatnonzero(~finite)[0])}. Write the file again without them.")  # fmt: skip
    colors = None if rgb is None else torch.from_numpy(np.array(rgb, np.uint8))
    return SeedPoints(torch.from_numpy(np.array(xyz, np.float32)), colors, f"{path.name} ({len(xyz)} points)")
