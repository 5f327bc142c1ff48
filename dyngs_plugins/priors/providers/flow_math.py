"""Small pure functions on flow fields: sampling, composing, round trips.

A flow field [h, w, 2] holds at (x, y) the displacement (dx, dy) in pixels; pixel centres are integers.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from jaxtyping import Float


@functools.lru_cache(maxsize=8)
def pixel_grid(height: int, width: int) -> Float[np.ndarray, "h w 2"]:
    """The (x, y) of every pixel; read-only, because it is shared."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.stack([x, y], axis=-1)
    grid.setflags(write=False)
    return grid


def sample(image: np.ndarray, xy: Float[np.ndarray, "*n 2"]) -> np.ndarray:
    """Bilinear values of `image` [h, w] or [h, w, c] at `xy`, clamped to the border. Any number of leading axes."""
    shape = xy.shape[:-1]
    count = int(np.prod(shape))
    channels = image.shape[2:]
    if count == 0:
        return np.zeros(shape + channels, np.float32)
    flat = np.ascontiguousarray(xy.reshape(count, 2), np.float32)
    source = image if image.dtype == np.uint8 else np.asarray(image, np.float32)
    rows = []
    limit = 32000  # cv2.remap takes maps with less than 2**15 rows
    for start in range(0, count, limit):
        part = flat[start : start + limit]
        values = cv2.remap(
            source, part[:, None, 0], part[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        rows.append(values.reshape((len(part), *channels)))
    return np.concatenate(rows).reshape(shape + channels)


def inside(xy: Float[np.ndarray, "*n 2"], size: tuple[int, int]) -> np.ndarray:
    """Whether points lie between the centres of the image's first and last pixels."""
    return (xy[..., 0] >= 0) & (xy[..., 1] >= 0) & (xy[..., 0] <= size[1] - 1) & (xy[..., 1] <= size[0] - 1)


def warp(image: np.ndarray, flow: Float[np.ndarray, "h w 2"]) -> np.ndarray:
    """`image` of the target frame, seen at the pixels of the source frame."""
    xy = pixel_grid(*flow.shape[:2]) + flow
    source = image if image.dtype == np.uint8 else np.asarray(image, np.float32)
    warped = cv2.remap(source, xy[..., 0], xy[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped.reshape(*flow.shape[:2], *image.shape[2:])  # OpenCV drops a last axis of one


def compose_flow(first: Float[np.ndarray, "h w 2"], second: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w 2"]:
    """The flow a -> c from the flows a -> b and b -> c."""
    return first + warp(second, first)


def round_trip_error(
    forward: Float[np.ndarray, "h w 2"], backward: Float[np.ndarray, "h w 2"]
) -> Float[np.ndarray, "h w"]:
    """How far a pixel is from itself after going forward and back, in pixels; infinite where it leaves the image."""
    error = np.linalg.norm(forward + warp(backward, forward), axis=-1)
    size = forward.shape[0], forward.shape[1]
    return np.where(inside(pixel_grid(*size) + forward, size), error, np.inf).astype(np.float32)
