"""Point clouds that layouts ship to start from, ``.npy`` or PLY, and random ones for those that ship none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dataparsers.clip import SeedPoints
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
                         "or remove it to start from other points.")  # fmt: skip
    return _checked(path, array, None)


def ply_points(path: Path) -> SeedPoints:
    """Vertices of a PLY file with their colours if it has any.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, empty or not finite.
    """
    cloud = read_ply(path)
    return _checked(path, cloud.xyz, cloud.rgb)


def require_in_sight(
    path: Path,
    points: SeedPoints,
    camera_T_world: Float[Tensor, "v 4 4"],
    K: Float[Tensor, "v 3 3"],
    size: tuple[int, int],
    share: float = 0.25,
) -> SeedPoints:
    """``points``, unless hardly any of them projects into any of the images: then they lie in another world.

    Args:
        size: width and height.
        share: how many must be seen.

    Raises:
        ValueError: fewer are.
    """
    chosen = points.xyz[:: max(1, len(points.xyz) // 2000)].double()
    seen = torch.zeros(len(chosen), dtype=torch.bool)
    for pose, intrinsics in zip(camera_T_world.double(), K.double(), strict=True):
        local = (chosen @ pose[:3, :3].T + pose[:3, 3]) @ intrinsics.T
        xy = local[:, :2] / local[:, 2:].clamp(min=1e-9)
        seen |= (local[:, 2] > 0) & (xy >= 0).all(-1) & (xy <= torch.tensor(size)).all(-1)
    if seen.double().mean() < share:
        raise ValueError(
            f"{path}: {seen.double().mean():.0%} of its points are in the sight of any camera, expected at least "
            f"{share:.0%}. The cloud lies in another world than the cameras. Write it in theirs, or remove it to start "
            "from other points."
        )
    return points


def frustum_points(
    world_T_camera: Float[Tensor, "v 4 4"],
    K: Float[Tensor, "v 3 3"],
    size: tuple[int, int],
    bounds: Float[Tensor, "v 2"],
    count: int = 20_000,
) -> SeedPoints:
    """Grey random points between near and far in the images' frusta, evenly in 1 / depth: the last resort.

    Args:
        size: width and height.
        bounds: near and far of each view, positive.
    """
    generator = torch.Generator().manual_seed(0)
    view = torch.randint(len(K), (count,), generator=generator)
    near, far = bounds.float()[view].T
    depth = 1 / torch.lerp(1 / near, 1 / far, torch.rand(count, generator=generator))
    pixels = torch.rand(count, 2, generator=generator) * torch.tensor(size)
    rays = torch.linalg.solve(K.float()[view], torch.cat([pixels, torch.ones(count, 1)], dim=1))
    pose = world_T_camera.float()[view]
    xyz = torch.einsum("nij,nj->ni", pose[:, :3, :3], rays * depth[:, None]) + pose[:, :3, 3]
    rgb = torch.full((count, 3), 128, dtype=torch.uint8)
    return SeedPoints(xyz, rgb, f"{count} random points between near and far in the cameras' frusta")


def _checked(path: Path, xyz: Shaped[np.ndarray, "n 3"], rgb: Shaped[np.ndarray, "n 3"] | None) -> SeedPoints:
    if len(xyz) == 0:
        raise ValueError(f"{path}: found 0 points, expected at least one. Remove it to start from other points.")
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.all():
        raise ValueError(f"{path}: {int((~finite).sum())} of {len(xyz)} points are not finite; the first is point "
                         f"{int(np.flatnonzero(~finite)[0])}. Write the file again without them.")  # fmt: skip
    colors = None if rgb is None else torch.from_numpy(np.array(rgb, np.uint8))
    return SeedPoints(torch.from_numpy(np.array(xyz, np.float32)), colors, f"{path.name} ({len(xyz)} points)")
