"""The files of Shape of Motion's layouts: one reader and one writer per kind, with the errors a user sees.

Pixel conventions: intrinsics put the centre of the first pixel at (0.5, 0.5); track coordinates count pixels with
integer centres, so ``xy = project(K, X) - 0.5``. Cameras are OpenCV (x right, y down, z forward). Readers return
numpy arrays. Writers write beside the file and rename, so that a file that exists is complete.

Source: Wang et al., "Shape of Motion: 4D Reconstruction from a Single Video", the reference's custom-video layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from dyngs_plugins.priors.clip_files import write_clip_json, write_eval_json
from dyngs_plugins.priors.files import atomic_file, check_poses, check_size, existing, load_npy, map_shape
from dyngs_plugins.priors.pixels import UNREADABLE, opened
from dyngs_plugins.priors.safe_npy import ForbiddenGlobal, load_plain_dict

__all__ = [
    "SomCameras",
    "read_cameras",
    "read_depth",
    "read_disparity",
    "read_mask",
    "read_track_pair",
    "write_cameras",
    "write_clip_json",
    "write_depth",
    "write_disparity",
    "write_eval_json",
    "write_image",
    "write_mask",
    "write_track_pair",
]


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


# Readers -------------------------------------------------------------------------------------------------------------


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
            "dyngs_plugins.priors.som_files.write_cameras."
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


def read_disparity(path: Path, size: tuple[int, int] | None = None) -> Float[np.ndarray, "h w"]:
    """Read a disparity map (1 / z-depth, 0 = unknown). Values below 0 come from alignment and are made unknown (0).

    Args:
        size: expected (height, width), that of the image.

    Raises:
        FileNotFoundError, ValueError: missing, of another size, damaged, not finite, or mostly negative.
    """
    disparity = _read_map(path, "disparity map", size)
    negative = int((disparity < 0).sum())
    if negative > disparity.size // 2:
        raise ValueError(
            f"{path}: {negative} of {disparity.size} values are negative. Expected disparity 1/z with 0 for unknown. "
            "Is this a depth map with another sign, or a network's raw output that was never aligned to the scene?"
        )
    return np.maximum(disparity, 0.0)


def read_depth(path: Path, size: tuple[int, int] | None = None) -> Float[np.ndarray, "h w"]:
    """Read a z-depth map (file units, 0 or less = unknown); a trailing axis of one is dropped. Errors as above."""
    return np.maximum(_read_map(path, "depth map", size), 0.0)


def read_mask(path: Path, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "h w"]:
    """Read a mask: any colour channel (or palette index) above 0 is foreground. Alpha is ignored.

    Raises:
        FileNotFoundError, ValueError: missing, unreadable, or not of the image's ``size`` (height, width).
    """
    path = existing(path, "mask", "Every image needs a mask of the same name (PNG, any channel > 0 = moving).")
    try:
        with opened(path) as image:
            array = np.asarray(image)
            has_alpha = image.mode in ("RGBA", "LA")
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}). Write this mask again.") from error
    if array.ndim == 3:
        array = (array[..., :-1] if has_alpha else array).max(axis=-1)
    check_size(path, "mask", array.shape, size)
    return array > 0


def read_track_pair(path: Path, num_queries: int | None = None) -> Float[np.ndarray, "p 4"]:
    """Read ``{Q}_{T}.npy``: for each query pixel of frame Q its [x, y, occlusion logit, distance logit] in frame T.

    Args:
        num_queries: the number of query pixels of frame Q, known from its self pair; None takes any number.
    """
    path = existing(path, "track file", "Tracks are needed for every ordered pair of frames. Run `dyngs process`.")
    array = load_npy(path, "track file")
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{path}: shape {array.shape}. Expected (P, 4): x, y, occlusion logit, distance logit.")
    if num_queries is not None and array.shape[0] != num_queries:
        raise ValueError(
            f"{path}: {array.shape[0]} rows. Expected {num_queries}, one per query pixel, as in the self pair of the "
            "same query frame. The file is truncated or belongs to another run: delete the query frame's files and "
            "track it again."
        )
    return finite_tracks(path, array)


def finite_tracks(path: Path, rows: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 4"]:
    """``rows``, or a ValueError where some are NaN or infinite."""
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{path}: {len(bad)} of {len(rows)} tracks are not finite. Expected pixels and logits; a track "
                         "that was lost has a high occlusion logit. Track this pair of frames again.")  # fmt: skip
    return rows


# Writers -------------------------------------------------------------------------------------------------------------


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


def write_disparity(path: Path, disparity: Float[np.ndarray, "h w"]) -> None:
    """Write a disparity map (1 / z-depth in the units of the cameras, 0 = unknown)."""
    disparity = np.asarray(disparity, np.float32)
    if disparity.ndim != 2 or not np.isfinite(disparity).all() or (disparity < 0).any():
        raise ValueError(f"{path}: disparity must be [h, w], finite and not negative (0 = unknown).")
    _write_array(path, disparity)


def write_depth(path: Path, depth: Float[np.ndarray, "h w"]) -> None:
    """Write a z-depth map (units of the cameras, 0 = unknown)."""
    _write_array(path, np.asarray(depth, np.float32))


def write_mask(path: Path, mask: Bool[np.ndarray, "h w"]) -> None:
    """Write a mask as an 8-bit PNG of 0 and 255."""
    with atomic_file(path) as file:
        Image.fromarray(np.asarray(mask, bool).astype(np.uint8) * 255).save(file, format="PNG")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an 8-bit RGB image ``[h, w, 3]``; the suffix picks PNG or JPEG."""
    with atomic_file(path) as file:
        Image.fromarray(image).save(file, format="PNG" if path.suffix.lower() == ".png" else "JPEG", quality=95)


def write_track_pair(path: Path, rows: Float[np.ndarray, "p 4"]) -> None:
    """Write one ``{Q}_{T}.npy``."""
    rows = np.asarray(rows, np.float32)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"{path}: tracks must be [p, 4] (x, y, occlusion logit, distance logit), got {rows.shape}.")
    _write_array(path, rows)


# Helpers --------------------------------------------------------------------------------------------------------------


def _read_map(path: Path, what: str, size: tuple[int, int] | None) -> Float[np.ndarray, "h w"]:
    path = existing(path, what, "Every image needs one of the same name. Run `dyngs process`, or write it anew.")
    array = load_npy(path, what)
    array = array.reshape(map_shape(array.shape))
    check_size(path, what, array.shape, size)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"{path}: {bad} of {array.size} values are NaN or infinite. Expected a finite {what} with 0 for unknown. "
            f"Set the bad values to 0, or compute this {what} again."
        )
    return array


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


def _write_array(path: Path, array: np.ndarray) -> None:
    with atomic_file(path) as file:
        np.save(file, array, allow_pickle=False)
