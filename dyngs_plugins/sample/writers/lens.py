"""A camera with a lens, for layouts that store one, and what writers of images and arrays share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from dyngs_plugins.priors.files import atomic_file

from ..cameras import Camera

WEAK_LENS = (0.08, -0.03, 0.004, -0.006, 0.01)
"""k1, k2, p1, p2, k3 of a lens that bends the corners of an image by some per cent; no two terms are alike."""


@dataclass(frozen=True)
class LensCamera(Camera):
    """A camera whose images lie on disk as its lens drew them.

    Attributes:
        lens: k1, k2, p1, p2, k3, in OpenCV's order.
    """

    lens: tuple[float, float, float, float, float] = WEAK_LENS

    def directions(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
        """World-space ray directions through pixel coordinates (integer centres), with camera-space z = 1."""
        # OpenCV's default of five iterations would leave a tenth of a pixel in the corners.
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
        bent = np.ascontiguousarray(pixels + 0.5, np.float64)[:, None]
        plane = cv2.undistortPointsIter(bent, self.K, np.array(self.lens), np.eye(3), np.eye(3), stop)[:, 0]
        return np.column_stack([plane, np.ones(len(plane))]) @ self.world_T_camera[:3, :3].T

    def project(self, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
        """Pixel coordinates (integer centres) and z-depths of world points."""
        local = (points - self.world_T_camera[:3, 3]) @ self.world_T_camera[:3, :3]
        pixels = cv2.projectPoints(local, np.zeros(3), np.zeros(3), self.K, np.array(self.lens))[0][:, 0]
        return pixels - 0.5, local[:, 2]


def save_image(path: Path, pixels: UInt8[np.ndarray, "h w *c"]) -> None:
    """Write an image in the format of its suffix, complete or not at all."""
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    with atomic_file(path) as file:
        Image.fromarray(pixels).save(file, format="JPEG" if jpeg else "PNG", **({"quality": 95} if jpeg else {}))


def save_array(path: Path, array: Shaped[np.ndarray, "*n"]) -> None:
    """Write a ``.npy`` file of numbers, complete or not at all."""
    with atomic_file(path) as file:
        np.save(file, array, allow_pickle=False)
