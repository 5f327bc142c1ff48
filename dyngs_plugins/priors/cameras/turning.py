"""A camera that only turns: rotations without depth, from how directions move between frames."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.cameras.bundle import Adjusted, Freedom, Reconstruction, adjust
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.rotation import nearest_rotation

_MIN_SHARED = 8


def bearings(xy: Float[np.ndarray, "o 2"], focal: float, center: Float[np.ndarray, "2"]) -> Float[np.ndarray, "o 3"]:
    """Unit vectors along the rays of pixels."""
    rays = np.concatenate([(xy - center) / focal, np.ones((len(xy), 1))], axis=1)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def robust_turn(
    source: Float[np.ndarray, "k 3"], target: Float[np.ndarray, "k 3"], noise: float, rounds: int = 15
) -> Float[np.ndarray, "3 3"]:
    """The rotation that takes most of the source's directions to the target's.

    Args:
        noise: angle in radians from where on a pair of directions loses influence.
    """
    weight = np.ones(len(source))
    rotation = np.eye(3)
    for _ in range(rounds):
        rotation = nearest_rotation((target * weight[:, None]).T @ source)
        error = np.linalg.norm(source @ rotation.T - target, axis=1)
        width = max(noise, 1.5 * float(np.median(error)))
        weight = 1.0 / (1.0 + (error / width) ** 2)
    return rotation


def chained_turns(
    observations: Observations, focal: float, center: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "n 3 3"]:
    """camera_T_world rotations of all frames: the first is the identity, each next one is chained to it.

    A frame that shares too few tracks with the one before turns no further.
    """
    rotation = np.tile(np.eye(3), (observations.num_frames, 1, 1))
    rays = bearings(observations.xy, focal, center)
    for i in range(1, observations.num_frames):
        a, b = observations.shared(i - 1, i)
        turn = robust_turn(rays[a], rays[b], 0.5 / focal) if len(a) >= _MIN_SHARED else np.eye(3)
        rotation[i] = turn @ rotation[i - 1]
    return rotation


def points_on_rays(
    observations: Observations,
    rotation: Float[np.ndarray, "n 3 3"],
    focal: float,
    center: Float[np.ndarray, "2"],
    inverse_depth: float | Float[np.ndarray, "m"],
) -> Float[np.ndarray, "m 4"]:
    """Homogeneous points along the mean direction of each track, for cameras that all stand in the origin."""
    rays = np.einsum("oji,oj->oi", rotation[observations.frame], bearings(observations.xy, focal, center))
    mean = np.add.reduceat(rays, observations.starts[:-1])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    points = np.column_stack([mean, np.broadcast_to(inverse_depth, len(mean))])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def turning_camera(
    observations: Observations, focal: float, center: Float[np.ndarray, "2"], free_focal: bool, *,
    scale: float = 1.0, steps: int = 20,
) -> Adjusted:  # fmt: skip
    """The camera that turns in one place and explains the tracks best; the first frame is the origin.

    Its points are at infinity.
    """
    rotation = chained_turns(observations, focal, center)
    points = points_on_rays(observations, rotation, focal, center, 0.0)
    start = Reconstruction(rotation, np.zeros((observations.num_frames, 3)), points, focal, center)
    turns = all_but_first(observations.num_frames)
    return adjust(start, observations, Freedom(turns, np.zeros_like(turns), free_focal), scale=scale, steps=steps)


def all_but_first(count: int) -> Bool[np.ndarray, "n"]:
    """A mask of `count` frames with all but the first set: the first one fixes the world's axes and origin."""
    return np.arange(count) > 0
