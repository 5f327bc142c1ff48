"""Cameras in Shape of Motion's layouts, ``droid_recon/SEQ.npy``: a pickled dictionary, read without running anything.

Cameras are OpenCV (x right, y down, z forward); intrinsics put the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.files import atomic_file, check_poses, existing
from dyngs_plugins.priors.safe_npy import ForbiddenGlobal, load_plain_dict


@dataclass(frozen=True)
class SomCameras:
    """Cameras of one sequence, as a SLAM system left them in ``droid_recon/SEQ.npy``."""

    world_T_camera: Float[np.ndarray, "t 4 4"]
    """Camera-to-world, OpenCV axes, one per image in the order of the sorted file names."""
    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy in pixels of ``image_shape``."""
    image_shape: tuple[int, int]
    """Height and width that the intrinsics belong to; often smaller than the images."""
    keyframes: list[int]
    """Places of the SLAM key-frames in the sorted image list."""

    def K(self, width: int, height: int) -> Float[np.ndarray, "3 3"]:
        """Intrinsics for images of another size: each axis is scaled on its own."""
        fx, fy, cx, cy = self.intrinsics
        sx, sy = width / self.image_shape[1], height / self.image_shape[0]
        return np.array([[fx * sx, 0.0, cx * sx], [0.0, fy * sy, cy * sy], [0.0, 0.0, 1.0]], np.float32)


def read_cameras(path: Path, num_images: int | None = None) -> SomCameras:
    """Read ``droid_recon/SEQ.npy``. A payload that asks for code is refused, never executed.

    Args:
        num_images: how many poses there must be (the number of images on disk); None takes any number.

    Raises:
        FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
    """
    path = existing(path, "camera file", "Run a SLAM or structure-from-motion step, or `dyngs process`.")
    try:
        content = load_plain_dict(path)
    except ForbiddenGlobal as error:
        raise ValueError(
            f"{path}: refused. Its pickle asks for `{error.name}`, which a camera file does not need and which could "
            "run code on this machine. It was NOT executed. Expected: a dictionary of numpy arrays and numbers "
            "(traj_c2w, intrinsics, img_shape, tstamps). Get the file from a source you trust, or write it anew with "
            "dyngs_plugins.priors.som_cameras.write_cameras."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{path}: not a camera file: {error}. Expected: a 0-d object array holding one dictionary, as written by "
            "np.save(path, {'traj_c2w': ..., 'intrinsics': ..., 'img_shape': ..., 'tstamps': ...})."
        ) from error
    missing = [key for key in ("traj_c2w", "intrinsics", "img_shape") if key not in content]
    if missing:
        raise ValueError(f"{path}: keys {missing} are missing; found {sorted(map(str, content))}. Expected traj_c2w, "
                         "intrinsics and img_shape. Solve the cameras again.")  # fmt: skip
    cameras = SomCameras(
        world_T_camera=_array(content["traj_c2w"], path, "traj_c2w").astype(np.float32),
        intrinsics=_numbers(content["intrinsics"], 4, float, path, "intrinsics (fx, fy, cx, cy)"),
        image_shape=_numbers(content["img_shape"], 2, int, path, "img_shape (height, width)"),
        keyframes=[int(t) for t in _finite(content.get("tstamps", []), path, "tstamps")],
    )
    _check_cameras(path, cameras, num_images)
    return cameras


def write_cameras(
    path: Path,
    world_T_camera: Float[np.ndarray, "t 4 4"],
    intrinsics: Sequence[float],
    image_shape: tuple[int, int],
    keyframes: Sequence[int],
) -> None:
    """Write ``droid_recon/SEQ.npy``: see :class:`SomCameras` for the arguments. Poses keep their precision."""
    poses = np.asarray(world_T_camera)
    keyframes = [int(k) for k in keyframes]
    content = {
        "traj_c2w": poses,
        "intrinsics": np.asarray(intrinsics, np.float64),
        "img_shape": np.asarray(image_shape, np.int64),
        "tstamps": np.asarray(keyframes, np.int64),
        "map_c2w": poses[keyframes],
    }
    with atomic_file(path) as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)


def _check_cameras(path: Path, cameras: SomCameras, num_images: int | None) -> None:
    poses = cameras.world_T_camera
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise ValueError(f"{path}: traj_c2w has shape {poses.shape}. Expected (T, 4, 4) camera-to-world matrices.")
    if num_images is not None and len(poses) != num_images:
        raise ValueError(
            f"{path}: {len(poses)} poses. Expected {num_images}, one per image of the sequence. Were images added or "
            "removed after the cameras were solved? Remove the extra images, or solve the cameras again."
        )
    if min(cameras.image_shape) <= 0 or min(cameras.intrinsics[:2]) <= 0 or not np.isfinite(cameras.intrinsics).all():
        raise ValueError(
            f"{path}: intrinsics {cameras.intrinsics} for img_shape {cameras.image_shape}. Expected positive focal "
            "lengths and sizes (fx, fy, cx, cy in pixels; img_shape is height, width)."
        )
    check_poses(path, poses, "traj_c2w")
    outside = [k for k in cameras.keyframes if not 0 <= k < len(poses)]
    if outside:
        raise ValueError(f"{path}: key-frames {outside[:5]} in tstamps lie outside 0..{len(poses) - 1}. Expected places "
                         "in the list of images. Solve the cameras again.")  # fmt: skip


def _numbers(value: Any, count: int, kind: type, path: Path, what: str) -> tuple:
    flat = _finite(value, path, what)
    if len(flat) != count:
        raise ValueError(f"{path}: {what} must be {count} numbers, found {len(flat)}: {flat.tolist()}. Solve the "
                         "cameras again.")  # fmt: skip
    return tuple(kind(v) for v in flat)


def _finite(value: Any, path: Path, what: str) -> Float[np.ndarray, "n"]:
    flat = _array(value, path, what).reshape(-1)
    if not np.isfinite(flat).all():
        raise ValueError(f"{path}: {what} holds {flat[~np.isfinite(flat)][0]}. Expected finite numbers, positive focal "
                         "lengths and sizes. Solve the cameras again.")  # fmt: skip
    return flat


def _array(value: Any, path: Path, what: str) -> np.ndarray:
    """Real numbers as float64."""
    try:
        array = np.asarray(value)
        if array.size and array.dtype.kind not in "fiu":
            raise TypeError(f"{array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
        raise ValueError(
            f"{path}: {what} must be numbers, found {shown} ({error}). Solve the cameras again."
        ) from error
