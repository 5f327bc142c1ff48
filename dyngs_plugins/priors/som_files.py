"""The files of Shape of Motion's layouts: one reader and one writer per kind, with the errors a user sees.

Pixel conventions: intrinsics put the centre of the first pixel at (0.5, 0.5); track coordinates count pixels with
integer centres, so ``xy = project(K, X) - 0.5``. Cameras are OpenCV (x right, y down, z forward). Readers return
numpy arrays. Writers write beside the file and rename, so that a file that exists is complete.

Source: Wang et al., "Shape of Motion: 4D Reconstruction from a Single Video", the reference's custom-video layout.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from dyngs_plugins.priors.clip_files import write_clip_json, write_eval_json
from dyngs_plugins.priors.files import atomic_file, check_size, existing, load_npy, map_shape
from dyngs_plugins.priors.pixels import UNREADABLE, opened
from dyngs_plugins.priors.som_cameras import SomCameras, read_cameras, write_cameras

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


# Readers -------------------------------------------------------------------------------------------------------------


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


def _write_array(path: Path, array: np.ndarray) -> None:
    with atomic_file(path) as file:
        np.save(file, array, allow_pickle=False)
