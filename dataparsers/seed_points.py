"""Point clouds that layouts ship to start from: ``.npy``, PLY and COLMAP's, in the world of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped

from dataparsers.clip import SeedPoints
from dyngs_plugins.priors.files import existing, load_npy


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
    import trimesh  # not at import time: every ns-* command imports this module

    existing(path, "point cloud", "")
    try:
        cloud = trimesh.load(str(path), file_type="ply", process=False)
        vertices = np.asarray(cloud.vertices, np.float64)  # type: ignore[union-attr]
        colors = getattr(cloud, "colors", None)
        if colors is None and hasattr(cloud, "visual"):
            colors = getattr(cloud.visual, "vertex_colors", None)  # type: ignore[union-attr]
    except Exception as error:  # the parser fails in many ways on a damaged file; each means the same
        raise ValueError(f"{path}: cannot be read as a PLY file ({type(error).__name__}: {error}). Write it again, or "
                         "remove it to start from random points.") from error  # fmt: skip
    rgb = None if colors is None or len(colors) != len(vertices) else np.asarray(colors)[:, :3]
    return _checked(path, vertices, rgb)


def colmap_points(folder: Path) -> SeedPoints:
    """Points of a COLMAP model, text or binary.

    Raises:
        FileNotFoundError, ValueError: there are none, or the file is damaged.
    """
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    readers = {"points3D.bin": colmap.read_points3D_binary, "points3D.txt": colmap.read_points3D_text}
    path = next((folder / name for name in readers if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: no points3D.bin and no points3D.txt. Export the COLMAP model again.")
    try:
        points = list(readers[path.name](str(path)).values())
        xyz, rgb = np.array([p.xyz for p in points]).reshape(-1, 3), np.array([p.rgb for p in points]).reshape(-1, 3)
    except Exception as error:  # as above
        raise ValueError(
            f"{path}: cannot be read as COLMAP's points ({type(error).__name__}: {error}). Export the model again."
        ) from error
    return _checked(path, xyz, rgb)


def _checked(path: Path, xyz: Shaped[np.ndarray, "n 3"], rgb: Shaped[np.ndarray, "n 3"] | None) -> SeedPoints:
    if len(xyz) == 0:
        raise ValueError(f"{path}: found 0 points, expected at least one. Remove it to start from random points.")
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.all():
        raise ValueError(f"{path}: {int((~finite).sum())} of {len(xyz)} points are not finite; the first is point "
                         f"{int(np.flatnonzero(~finite)[0])}. Write the file again without them.")  # fmt: skip
    colors = None if rgb is None else torch.from_numpy(np.array(rgb, np.uint8))
    return SeedPoints(torch.from_numpy(np.array(xyz, np.float32)), colors, f"{path.name} ({len(xyz)} points)")
