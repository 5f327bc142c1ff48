"""What COLMAP's files say, as data: cameras, images, points; see :mod:`dyngs_plugins.priors.colmap_files`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

CAMERA_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
"""Name and number of parameters, in the order of COLMAP's model numbers."""
NUM_PARAMETERS = dict(CAMERA_MODELS)

_LENSES = {  # which parameters are fx, fy, cx, cy, then k1, k2, k3, k4, p1, p2 (None: zero)
    "SIMPLE_PINHOLE": ((0, 0, 1, 2), (None,) * 6),
    "PINHOLE": ((0, 1, 2, 3), (None,) * 6),
    "SIMPLE_RADIAL": ((0, 0, 1, 2), (3, None, None, None, None, None)),
    "RADIAL": ((0, 0, 1, 2), (3, 4, None, None, None, None)),
    "OPENCV": ((0, 1, 2, 3), (4, 5, None, None, 6, 7)),
    "FULL_OPENCV": ((0, 1, 2, 3), (4, 5, 8, None, 6, 7)),
}
INVALID_POINT = -1
"""The point of an observation that belongs to none."""


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics; pixel centres at +0.5."""

    id: int
    model: str
    width: int
    height: int
    params: Float[np.ndarray, "p"]
    """In COLMAP's order for the model."""

    def K(self, width: int | None = None, height: int | None = None) -> Float[np.ndarray, "3 3"]:
        """Intrinsics for images of a size; that of the camera without one.

        Raises:
            ValueError: a lens that is no pinhole with a polynomial.
        """
        places, _ = self._lens()
        fx, fy, cx, cy = self.params[list(places)]
        sx = 1.0 if width is None else width / self.width
        sy = 1.0 if height is None else height / self.height
        return np.array([[fx * sx, 0.0, cx * sx], [0.0, fy * sy, cy * sy], [0.0, 0.0, 1.0]])

    def distortion(self) -> Float[np.ndarray, "6"]:
        """k1, k2, k3, k4, p1, p2 in nerfstudio's order: a polynomial of the squared radius, and tangential terms.

        Raises:
            ValueError: a lens that is no pinhole with a polynomial.
        """
        _, places = self._lens()
        return np.array([0.0 if place is None else self.params[place] for place in places])

    def _lens(self) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
        if self.model not in _LENSES:
            reason = (
                "a fisheye's rays bend too far for a pinhole with a polynomial"
                if "FISHEYE" in self.model
                else "its distortion is no polynomial"
            )
            raise ValueError(
                f"COLMAP camera {self.id} has the model {self.model}; expected one of {', '.join(_LENSES)}, because "
                f"{reason}. Undistort the images first (`colmap image_undistorter`) and use its model."
            )
        if self.model == "FULL_OPENCV" and np.abs(self.params[9:]).max() > 1e-8:
            raise ValueError(
                f"COLMAP camera {self.id} is FULL_OPENCV with k4 to k6 {self.params[9:].tolist()}; expected zeros, "
                "because only polynomials are undone here. Undistort the images first (`colmap image_undistorter`)."
            )
        return _LENSES[self.model]


@dataclass(frozen=True)
class ColmapImage:
    """One registered image: its pose, and what it observes."""

    id: int
    name: str
    """Relative to the image folder, with forward slashes."""
    camera_id: int
    camera_T_world: Float[np.ndarray, "4 4"]
    """OpenCV axes."""
    xys: Float[np.ndarray, "o 2"] = field(default_factory=lambda: np.zeros((0, 2)))
    """Keypoints, pixel centres at +0.5."""
    point_ids: Int[np.ndarray, "o"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The point of each keypoint, or INVALID_POINT."""

    @property
    def world_T_camera(self) -> Float[np.ndarray, "4 4"]:
        """Camera-to-world, OpenCV axes."""
        pose, rotation = np.eye(4), self.camera_T_world[:3, :3]
        pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ self.camera_T_world[:3, 3]
        return pose


@dataclass(frozen=True)
class ColmapPoints:
    """The sparse cloud."""

    ids: Int[np.ndarray, "n"]
    xyz: Float[np.ndarray, "n 3"]
    rgb: UInt8[np.ndarray, "n 3"]
    error: Float[np.ndarray, "n"]
    """Mean reprojection error in pixels."""
    tracks: tuple[Int[np.ndarray, "m 2"], ...]
    """Per point: image id and place in that image's keypoints."""

    def __len__(self) -> int:
        return len(self.ids)


def pose_from(
    path: Path, name: str, quaternion: Float[np.ndarray, "4"], translation: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "4 4"]:
    """camera_T_world of an image from its quaternion (w, x, y, z) and translation.

    Raises:
        ValueError: not finite, or no unit quaternion.
    """
    numbers = np.array([*quaternion, *translation], np.float64)
    length = float(np.linalg.norm(numbers[:4]))
    if not np.isfinite(numbers).all() or abs(length - 1.0) > 1e-2:
        raise ValueError(
            f"{path}: the pose of image {name!r} is {numbers.tolist()} (quaternion of length {length:.3g}, "
            "translation). Expected finite numbers and a unit quaternion. Export the model again."
        )
    w, x, y, z = numbers[:4] / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = numbers[4:]
    return pose


def quaternion_of(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4"]:
    """The unit quaternion (w, x, y, z) of a rotation, w not negative."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z]) * (1.0 if w >= 0 else -1.0)
