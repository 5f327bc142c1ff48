"""``poses_bounds.npy``: the cameras of LLFF's layout (Mildenhall et al., "Local Light Field Fusion", 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.files import atomic_file, check_poses, existing, load_npy


@dataclass(frozen=True)
class LlffCameras:
    """One camera per image, in the order of the sorted file names."""

    world_T_camera: Float[np.ndarray, "n 4 4"]
    """Camera-to-world, OpenCV axes."""
    hwf: Float[np.ndarray, "n 3"]
    """Height, width and focal length in pixels of that size, which need not be the size of the images in use."""
    bounds: Float[np.ndarray, "n 2"]
    """Near and far depth of the scene."""

    def K(self, width: int, height: int) -> Float[np.ndarray, "n 3 3"]:
        """Intrinsics for images of their actual size; the principal point is the centre.

        The focal length is scaled by what the image really is, not by the nominal reduction: 1/8 of 3024 rows may be
        378 or 379.
        """
        K = np.zeros((len(self.hwf), 3, 3), np.float32)
        K[:, 0, 0] = self.hwf[:, 2] * width / self.hwf[:, 1]
        K[:, 1, 1] = self.hwf[:, 2] * height / self.hwf[:, 0]
        K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = width / 2, height / 2, 1.0
        return K


def read_poses_bounds(path: Path, num_images: int | None = None) -> LlffCameras:
    """Read ``poses_bounds.npy``: per row a 3x5 matrix [down, right, back, position, hwf], then near and far.

    Args:
        num_images: how many rows there must be; None takes any number.

    Raises:
        FileNotFoundError, ValueError: missing, of another shape or length, or with poses that are not rigid.
    """
    path = existing(path, "LLFF camera file", "It is made from a COLMAP model by LLFF's imgs2poses.")
    table = load_npy(path, "LLFF camera file", mmap=True)
    if table.ndim != 2 or table.shape[1] != 17:
        raise ValueError(f"{path}: shape {table.shape}. Expected (number of images, 17): 3x5 matrix, near, far.")
    if num_images is not None and len(table) != num_images:
        raise ValueError(
            f"{path}: {len(table)} rows. Expected {num_images}, one per image in the order of the sorted names. Remove "
            "the images that COLMAP could not place, or write the file anew."
        )
    matrices = np.array(table[:, :15], np.float64).reshape(-1, 3, 5)
    down, right, back, position, hwf = np.moveaxis(matrices, 2, 0)
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3] = np.stack([right, down, -back, position], axis=2)
    check_poses(path, poses, "poses_bounds")
    if not (np.isfinite(hwf).all() and (hwf > 0).all()):
        raise ValueError(f"{path}: heights, widths or focal lengths are not positive; the first row has {hwf[0]}.")
    return LlffCameras(poses.astype(np.float32), hwf, np.array(table[:, 15:], np.float64))


def write_poses_bounds(path: Path, cameras: LlffCameras) -> None:
    """Write ``poses_bounds.npy``, one row per image in the order of the sorted file names; see the reader."""
    right, down, forward, position = np.moveaxis(np.asarray(cameras.world_T_camera, np.float64)[:, :3], 2, 0)
    matrices = np.stack([down, right, -forward, position, cameras.hwf], axis=2)
    table = np.concatenate([matrices.reshape(len(matrices), 15), cameras.bounds], axis=1)
    with atomic_file(path) as file:
        np.save(file, table.astype(np.float64), allow_pickle=False)
