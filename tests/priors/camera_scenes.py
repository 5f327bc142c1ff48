"""Perfect point tracks of still and moving worlds before known cameras, for the camera solver's tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.rotation import rotation_of

SIZE = (240, 320)
CENTER = np.array([160.0, 120.0])


@dataclasses.dataclass(frozen=True)
class TrackedWorld:
    """Tracks, and the cameras that saw them."""

    tracks: Observations
    world_T_camera: np.ndarray
    focal: float
    moving: np.ndarray  # [m], in the order of the tracks


def path_of_centers(frames: int, length: float = 1.2) -> np.ndarray:
    """A curved walk of a camera."""
    s = np.linspace(0, 1, frames)
    return np.stack([length * (s - 0.5), 0.12 * np.sin(5 * s), 0.2 * np.cos(4 * s)], axis=1)


def looking_at(centers: np.ndarray, target: np.ndarray) -> np.ndarray:
    """world_T_camera of cameras that look at a point."""
    poses = []
    for center in centers:
        z = (target - center) / np.linalg.norm(target - center)
        x = np.cross([0.0, 1.0, 0.0], z)
        x /= np.linalg.norm(x)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.stack([x, np.cross(z, x), z], axis=1), center
        poses.append(pose)
    return np.stack(poses)


def turning(frames: int, degrees: float = 25.0) -> np.ndarray:
    """world_T_camera of a camera that turns in one place."""
    s = np.linspace(0, 1, frames)
    vectors = np.radians(degrees) * np.stack([0.2 * np.sin(4 * s), s - 0.5, 0.1 * s], axis=1)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = rotation_of(vectors)
    return poses


def tracked(
    world_T_camera: np.ndarray,
    points: np.ndarray,
    focal: float = 300.0,
    moving: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> TrackedWorld:
    """Tracks of `points` [m, 3], a share `moving` of which flies about, seen for 8 frames to all of them."""
    rng = np.random.default_rng(seed)
    n, m = len(world_T_camera), len(points)
    position = np.tile(points[:, None], (1, n, 1))
    flies = np.arange(m) < round(moving * m)
    drift = rng.normal(0, 0.6, (m, 1, 3)) * np.linspace(-1, 1, n)[:, None]
    wobble = 0.25 * np.sin(np.linspace(0, 7, n)[None, :, None] + rng.uniform(0, 6, (m, 1, 3)))
    position[flies] += (drift + wobble)[flies]
    rotation, center = world_T_camera[:, :3, :3], world_T_camera[:, :3, 3]
    q = np.einsum("nji,mnj->mni", rotation, position - center)
    xy = focal * q[..., :2] / q[..., 2:] + CENTER
    seen = (q[..., 2] > 0.1) & (xy > 0).all(-1) & (xy < SIZE[::-1]).all(-1)
    first, length = rng.integers(-n // 2, n, m), rng.integers(min(8, n // 2), n + 1, m)
    frame = np.arange(n)
    seen &= (frame >= first[:, None]) & (frame < (first + length)[:, None])
    seen[seen.sum(1) < 3] = False
    xy = xy + noise * rng.standard_normal(xy.shape)
    tracks = Observations.from_dense(xy, seen)
    order = np.lexsort((np.flatnonzero(seen.any(1)), seen.argmax(1)[seen.any(1)]))
    return TrackedWorld(tracks, world_T_camera, focal, flies[seen.any(1)][order])


def room(count: int = 700, seed: int = 1) -> np.ndarray:
    """Points in a box in front of the cameras."""
    return np.random.default_rng(seed).uniform([-3, -2, 3], [3, 2, 8], (count, 3))


def wall(count: int = 700, seed: int = 1) -> np.ndarray:
    """Points on a slanted plane."""
    points = np.random.default_rng(seed).uniform([-3, -2, 0], [3, 2, 0], (count, 3))
    points[:, 2] = 5.0 + 0.4 * points[:, 0]
    return points
