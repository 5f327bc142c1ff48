"""``poses_bounds.npy``: the cameras of LLFF's layout (Mildenhall et al., "Local Light Field Fusion", 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.files import atomic_file, check_poses, existing, load_npy

MAX_SHAPE_ERROR = 0.03
"""How much, relatively, the height of an image may differ from what its width says; at least 1.5 pixels of rounding."""


@dataclass(frozen=True)
class LlffCameras:
    """One camera per image, in the order of the sorted file names."""

    world_T_camera: Float[np.ndarray, "n 4 4"]
    """Camera-to-world, OpenCV axes."""
    hwf: Float[np.ndarray, "n 3"]
    """Height, width and focal length in pixels of that size, which need not be the size of the images in use."""
    bounds: Float[np.ndarray, "n 2"]
    """Near and far depth of the scene."""
    path: Path = Path("poses_bounds.npy")
    """The file that they are of, for errors."""

    def K(self, width: int, height: int) -> Float[np.ndarray, "n 3 3"]:
        """Intrinsics for images of their actual size; the principal point is the centre.

        The focal length is scaled by what the image really is, not by the nominal reduction: 1/8 of 3024 rows may be
        378 or 379.

        Raises:
            ValueError: the images are of another shape than the cameras.
        """
        expected = width * self.hwf[:, 0] / self.hwf[:, 1]
        odd = np.flatnonzero(np.abs(height - expected) > np.maximum(1.5, MAX_SHAPE_ERROR * expected))
        if len(odd):
            h, w, _ = self.hwf[odd[0]]
            raise ValueError(
                f"{self.path}: row {odd[0]} of {self.path.name} is of an image of {w:g}x{h:g}, but the images in use are "
                f"{width}x{height} (width x height), of another shape. Were they cropped, or turned by their camera's "
                "orientation tag? Use the images that the cameras were solved for."
            )
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
    path = existing(
        path, "LLFF camera file", "Expected the cameras there; LLFF's imgs2poses makes them from a COLMAP model."
    )
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
        row = int(np.flatnonzero(~(np.isfinite(hwf) & (hwf > 0)).all(axis=1))[0])
        raise ValueError(f"{path}: height, width and focal length of row {row} are {hwf[row].tolist()}. Expected finite "
                         "positive numbers: heights, widths or focal lengths are not positive. Solve the cameras "
                         "again.")  # fmt: skip
    return LlffCameras(poses.astype(np.float32), hwf, np.array(table[:, 15:], np.float64), path)


def write_poses_bounds(path: Path, cameras: LlffCameras) -> None:
    """Write ``poses_bounds.npy``, one row per image in the order of the sorted file names; see the reader."""
    right, down, forward, position = np.moveaxis(np.asarray(cameras.world_T_camera, np.float64)[:, :3], 2, 0)
    matrices = np.stack([down, right, -forward, position, cameras.hwf], axis=2)
    table = np.concatenate([matrices.reshape(len(matrices), 15), cameras.bounds], axis=1)
    with atomic_file(path) as file:
        np.save(file, table.astype(np.float64), allow_pickle=False)
