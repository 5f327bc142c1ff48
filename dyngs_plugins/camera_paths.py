"""Camera paths with a time per frame: resampled, smoothed, frozen, or orbiting a point.

Cameras here are OpenCV ``world_T_camera`` matrices (x right, y down, z forward) in the frame of the trained scene.
The orbits are the trajectories of Shape of Motion's video tool (arc, lemniscate, spiral, wander), sized by one angle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

Array = np.ndarray


@dataclass(frozen=True)
class CameraPath:
    """Cameras along a path, each with the time of the scene that it sees."""

    world_T_camera: Float[Array, "n 4 4"]
    time: Float[Array, "n"]
    """In [0, 1], the first and the last frame of the clip; not decreasing."""
    vertical_fov: Float[Array, "n"]
    """Radians."""

    def __post_init__(self) -> None:
        count = len(self.time)
        if count == 0 or self.world_T_camera.shape != (count, 4, 4) or self.vertical_fov.shape != (count,):
            raise ValueError(
                "a camera path needs at least one camera, and as many poses [n, 4, 4] and fields of view as times: got "
                f"poses {self.world_T_camera.shape}, fields of view {self.vertical_fov.shape}, {count} times."
            )
        if (np.diff(self.time) < 0).any():
            raise ValueError("the times of a camera path must not decrease. Sort the cameras by time first.")

    def __len__(self) -> int:
        return len(self.time)

    @property
    def positions(self) -> Float[Array, "n 3"]:
        """Camera centres, scene units."""
        return self.world_T_camera[:, :3, 3]

    @property
    def forward(self) -> Float[Array, "n 3"]:
        """Unit optical axes."""
        return self.world_T_camera[:, :3, 2]


def resample(path: CameraPath, time: Float[Array, "m"]) -> CameraPath:
    """The path's camera at other times: positions and log-focal linear, rotations on the shortest arc.

    Times outside those of the path take its first or last camera.
    """
    known, first = np.unique(path.time, return_index=True)
    at = np.clip(time, known[0], known[-1])
    rotations = Rotation.from_matrix(path.world_T_camera[first, :3, :3])
    turned = Slerp(known, rotations)(at) if len(known) > 1 else Rotation.concatenate([rotations] * len(at))
    positions = np.stack([np.interp(at, known, axis) for axis in path.positions[first].T], axis=1)
    log_focal = np.interp(at, known, -np.log(np.tan(path.vertical_fov[first] / 2)))
    return CameraPath(rigid(turned.as_matrix(), positions), np.asarray(time, float), 2 * np.arctan(np.exp(-log_focal)))


def smooth(path: CameraPath, sigma: float) -> CameraPath:
    """Low-pass the poses of an evenly sampled path with a Gaussian of ``sigma`` frames; times stay.

    The path is continued beyond its ends by point reflection, so that a camera of constant velocity and turn rate is
    left as it was, and the ends stay in place.
    """
    if sigma < 0:
        raise ValueError(f"the smoothing width is {sigma} frames, expected 0 (none) or more.")
    reach = min(math.ceil(3 * sigma), len(path) - 1)
    if reach == 0:
        return path
    positions, rotations = path.positions, path.world_T_camera[:, :3, :3]
    before, after = slice(reach, 0, -1), slice(-2, -reach - 2, -1)
    positions = np.concatenate([2 * positions[0] - positions[before], positions, 2 * positions[-1] - positions[after]])
    rotations = np.concatenate(
        [
            rotations[0] @ rotations[before].swapaxes(1, 2) @ rotations[0],
            rotations,
            rotations[-1] @ rotations[after].swapaxes(1, 2) @ rotations[-1],
        ]
    )
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weight /= weight.sum()
    windows = [slice(i, i + len(weight)) for i in range(len(path))]
    mean_positions = np.stack([weight @ positions[window] for window in windows])
    mean_rotations = np.stack([mean_rotation(rotations[window], weight) for window in windows])
    return replace(path, world_T_camera=rigid(mean_rotations, mean_positions))


def average_camera(path: CameraPath) -> Float[Array, "4 4"]:
    """The camera at the mean position with the mean orientation."""
    weight = np.full(len(path), 1 / len(path))
    return rigid(mean_rotation(path.world_T_camera[:, :3, :3], weight)[None], path.positions.mean(0)[None])[0]


def mean_rotation(rotations: Float[Array, "n 3 3"], weight: Float[Array, "n"]) -> Float[Array, "3 3"]:
    """The rotation nearest to the weighted mean matrix (chordal mean)."""
    left, _, right = np.linalg.svd(np.tensordot(weight, rotations, axes=1))
    return left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right


def look_at_point(path: CameraPath, reference: Float[Array, "4 4"]) -> Float[Array, "3"]:
    """The point nearest to all optical axes (least squares), as Shape of Motion chooses what to look at.

    Where the axes are all but parallel, or meet behind the reference camera, there is no such point. Then it is the
    point of the reference camera's axis nearest to the scene's origin (its centre, in a normalised scene), one unit
    ahead at least.
    """
    across = np.eye(3) - path.forward[:, :, None] * path.forward[:, None, :]
    normal_matrix = across.mean(0)
    position, forward = reference[:3, 3], reference[:3, 2]
    # The smallest eigenvalue is the variance of the axes' directions: 1e-4 is a spread of about 0.6 degrees.
    if np.linalg.eigvalsh(normal_matrix)[0] > 1e-4:
        point = np.linalg.solve(normal_matrix, np.einsum("nij,nj->i", across, path.positions) / len(path))
        if (point - position) @ forward > 0:
            return point
    return position + max(float(-position @ forward), 1.0) * forward


def look_at(position: Float[Array, "3"], target: Float[Array, "3"], up: Float[Array, "3"]) -> Float[Array, "4 4"]:
    """The camera at ``position`` whose axis passes through ``target`` and whose image up is nearest to ``up``.

    Raises:
        ValueError: if the target is the position, or lies straight up or down from it.
    """
    forward = target - position
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9 * max(np.linalg.norm(forward) * np.linalg.norm(up), 1e-300):
        raise ValueError(f"a camera at {position} cannot look at {target} with {up} as its up direction.")
    forward = forward / np.linalg.norm(forward)
    right = right / np.linalg.norm(right)
    return rigid(np.stack([right, np.cross(forward, right), forward], axis=1)[None], position[None])[0]


def arc(reference: Float[Array, "4 4"], target: Float[Array, "3"], num: int, angle: float) -> Float[Array, "num 4 4"]:
    """Swing around ``target`` about the reference camera's up axis: to one side, the other, and back.

    Args:
        angle: whole width of the swing, radians.
    """
    up = -reference[:3, 1]
    turns = Rotation.from_rotvec(np.sin(_phases(num))[:, None] * (angle / 2) * up)
    return _looking([target + turn.apply(reference[:3, 3] - target) for turn in turns], target, up)


def lemniscate(
    reference: Float[Array, "4 4"], target: Float[Array, "3"], num: int, angle: float
) -> Float[Array, "num 4 4"]:
    """A lying figure eight (Bernoulli's) in the reference camera's image plane, looking at ``target``."""
    phase, reach = _phases(num), _reach(reference, target, angle)
    along = reach * np.cos(phase) / (1 + np.sin(phase) ** 2)
    offsets = along[:, None] * reference[:3, 0] + (along * np.sin(phase))[:, None] * reference[:3, 1]
    return _looking(reference[:3, 3] + offsets, target, -reference[:3, 1])


def spiral(
    reference: Float[Array, "4 4"],
    target: Float[Array, "3"],
    num: int,
    angle: float,
    turns: float = 2.0,
    depth_rate: float = 0.5,
) -> Float[Array, "num 4 4"]:
    """Circles in the image plane that also move to and fro in depth, ``depth_rate`` times as often."""
    phase = _phases(num) * turns
    offsets = np.stack([np.cos(phase), np.sin(phase), np.sin(depth_rate * phase)], axis=1)
    positions = reference[:3, 3] + _reach(reference, target, angle) * offsets @ reference[:3, :3].T
    return _looking(positions, target, -reference[:3, 1])


def wander(
    reference: Float[Array, "4 4"], target: Float[Array, "3"], num: int, angle: float
) -> Float[Array, "num 4 4"]:
    """A circle in the image plane without turning the camera: near things move against far ones."""
    phase = _phases(num)
    offsets = np.stack([np.sin(phase), np.cos(phase), np.zeros(num)], axis=1)
    positions = reference[:3, 3] + _reach(reference, target, angle) * offsets @ reference[:3, :3].T
    return rigid(np.repeat(reference[None, :3, :3], num, axis=0), positions)


ORBITS = {"arc": arc, "lemniscate": lemniscate, "spiral": spiral, "wander": wander}


def rigid(rotation: Float[Array, "n 3 3"], translation: Float[Array, "n 3"]) -> Float[Array, "n 4 4"]:
    """Rotations and translations as 4x4 matrices."""
    matrix = np.tile(np.eye(4), (len(rotation), 1, 1))
    matrix[:, :3, :3], matrix[:, :3, 3] = rotation, translation
    return matrix


def _phases(num: int) -> Float[Array, "num"]:
    """One closed turn; the end is the next turn's beginning and left out, so that the video loops."""
    return np.linspace(0, 2 * np.pi, num, endpoint=False)


def _reach(reference: Array, target: Array, angle: float) -> float:
    """How far to move for the target to be seen from ``angle / 2`` aside."""
    return float(np.linalg.norm(target - reference[:3, 3])) * math.tan(angle / 2)


def _looking(positions: Sequence[Array] | Array, target: Array, up: Array) -> Float[Array, "n 4 4"]:
    return np.stack([look_at(np.asarray(position), target, up) for position in positions])
