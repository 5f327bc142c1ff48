"""Cameras of the sample scene, and the one place that says where pixel centres are.

Two conventions meet here, and they differ by half a pixel:

- *Intrinsics* (``Camera.K``, every ``K`` and ``intrinsics`` on disk) are those of gsplat and nerfstudio: the image
  spans [0, width] x [0, height] and the centre of the first pixel is at (0.5, 0.5). A centred camera has
  ``cx = width / 2``.
- *Pixel coordinates* (tracks, flow, masks, and everything these functions take or return) count pixels as Shape of
  Motion's files do: the centre of the first pixel is (0, 0), and the image spans [-0.5, width - 0.5].

So ``pixel = (K @ point / z)[:2] - 0.5``. World and camera axes are OpenCV's: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at one instant.

    Attributes:
        width, height: image size in pixels.
        K: 3x3 intrinsics, pixel centres at +0.5.
        world_T_camera: 4x4 rigid pose, OpenCV axes.
    """

    width: int
    height: int
    K: Float[np.ndarray, "3 3"]
    world_T_camera: Float[np.ndarray, "4 4"]

    def directions(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
        """World-space ray directions through pixel coordinates (integer centres), with camera-space z = 1."""
        x = (pixels[:, 0] + 0.5 - self.K[0, 2]) / self.K[0, 0]
        y = (pixels[:, 1] + 0.5 - self.K[1, 2]) / self.K[1, 1]
        return np.stack([x, y, np.ones_like(x)], axis=1) @ self.world_T_camera[:3, :3].T

    def project(self, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
        """Pixel coordinates (integer centres) and z-depths of world points."""
        local = (points - self.world_T_camera[:3, 3]) @ self.world_T_camera[:3, :3]
        z = local[:, 2]
        x = self.K[0, 0] * local[:, 0] / z + self.K[0, 2] - 0.5
        y = self.K[1, 1] * local[:, 1] / z + self.K[1, 2] - 0.5
        return np.stack([x, y], axis=1), z

    def contains(self, pixels: Float[np.ndarray, "n 2"], z: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Whether a projection lies in front of the camera and between the outermost pixel centres.

        Half a pixel stricter than the image's border, so that whatever counts as inside can be sampled bilinearly.
        A pixel of the outermost row that was unprojected and comes back with a rounding error still counts.
        """
        low, high = -_ROUNDING, np.array([self.width - 1, self.height - 1]) + _ROUNDING
        return (z > 0) & (pixels >= low).all(axis=1) & (pixels <= high).all(axis=1)

    def pixel_grid(self) -> Float[np.ndarray, "n 2"]:
        """All pixel centres (x, y) in raster order."""
        y, x = np.mgrid[: self.height, : self.width]
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)


class CameraPath(Protocol):
    """A camera that moves."""

    def at(self, t: float) -> Camera:
        """The camera at time t."""
        ...


@dataclass(frozen=True)
class OrbitPath:
    """A camera that swings around a point of the scene while it looks at it.

    Angles are in degrees, time runs over [0,1] and may be exceeded a little (exposures reach beyond the first and
    last frame). Azimuth 0 looks along +z, a positive one stands further right; a positive elevation stands higher.

    Attributes:
        azimuth: offset of the whole path to the side.
        elevation: height angle in the middle of the path.
        sweep: azimuth travelled from t = 0 to t = 1.
        focal: focal length in units of the image's reference width (see :meth:`at`).
        shake: amplitude of the hand's tremor, in pixels of image motion.
        shake_period: time the tremor's slower part takes.
    """

    width: int
    height: int
    azimuth: float = 0.0
    elevation: float = 14.0
    radius: float = 5.3
    sweep: float = -11.0
    focal: float = 0.95
    target: tuple[float, float, float] = (0.0, -0.6, 5.0)
    shake: float = 0.0
    shake_period: float = 0.2

    def at(self, t: float) -> Camera:
        """The camera at time t."""
        azimuth = np.deg2rad(self.azimuth + self.sweep * (t - 0.5))
        elevation = np.deg2rad(self.elevation + 1.5 * np.sin(2.0 * np.pi * t))
        radius = self.radius + 0.2 * np.sin(np.pi * t)
        target = np.asarray(self.target) + np.array([0.1 * np.sin(np.pi * t), 0.0, 0.0])
        back = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)])
        pose = look_at(target + radius * back, target)
        # A portrait image takes its focal length from its height, so that it never looks past the scene.
        focal = self.focal * max(self.width, self.height * 4.0 / 3.0)
        pose[:3, :3] = pose[:3, :3] @ self._tremor(t, focal)
        K = np.array([[focal, 0.0, self.width / 2.0], [0.0, focal, self.height / 2.0], [0.0, 0.0, 1.0]])
        return Camera(self.width, self.height, K, pose)

    def _tremor(self, t: float, focal: float) -> Float[np.ndarray, "3 3"]:
        """A small rotation; two incommensurate frequencies per axis, so that no two exposures look alike."""
        phase = 2.0 * np.pi * t / self.shake_period
        yaw = np.sin(phase + 0.4) + 0.6 * np.sin(1.618 * phase + 2.1)
        pitch = 0.8 * np.sin(1.23 * phase + 1.3) + 0.5 * np.sin(2.05 * phase)
        return rotation_y(self.shake / focal * yaw) @ rotation_x(self.shake / focal * pitch)


def training_paths(
    width: int, height: int, count: int, shake: float = 0.0, shake_period: float = 0.2
) -> dict[str, OrbitPath]:
    """The simultaneous training cameras ``camera0`` ... by name. Further cameras stand to both sides of the first."""
    first = OrbitPath(width, height, shake=shake, shake_period=shake_period)
    paths = {}
    for i in range(count):
        side = (-1.0) ** i * 5.0 * ((i + 1) // 2)
        paths[f"camera{i}"] = replace(first, azimuth=side, elevation=first.elevation + 1.5 * (i % 3))
    return paths


def held_out_path(width: int, height: int) -> OrbitPath:
    """The evaluation camera: beside and above the first training camera, about eleven degrees away at all times.

    It stands a little closer and has a longer lens, so that it sees hardly anything the training camera never saw.
    """
    return OrbitPath(width, height, azimuth=9.0, elevation=21.0, radius=5.2, focal=1.12)


_ROUNDING = 1e-6  # pixels


def look_at(position: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """world_T_camera of an upright camera at ``position`` that looks at ``target``; the world's up is -y."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return pose


def rotation_x(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about x by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about y by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_z(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about z by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
