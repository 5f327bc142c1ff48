"""Poses of held-out frames, against what the solved frames saw; nothing of the solved ones changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.cameras.bundle import Reconstruction
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.rotation import interpolate_missing, inverse
from dyngs_plugins.priors.cameras.structure import agreeing_tracks, resect, supported_frames, triangulate
from dyngs_plugins.priors.cameras.turning import points_on_rays


def locate_frames(
    tracks: Observations, world_T_camera: Float[np.ndarray, "k 4 4"], frames: Sequence[int],
    K: Float[np.ndarray, "3 3"], still: bool, noise: float = 1.0,
) -> tuple[Float[np.ndarray, "n 4 4"], Bool[np.ndarray, "n"]]:  # fmt: skip
    """Poses of all frames of `tracks`, of which `world_T_camera` belongs to `frames`, and which frames found a place.

    Points are triangulated from the solved frames alone. A frame that too few of them agree with is put between its
    neighbours.

    Args:
        still: the camera stands or only turns: points are directions, and only rotations are found.
    """
    known = np.zeros(tracks.num_frames, bool)
    known[list(frames)] = True
    poses = np.tile(np.eye(4), (tracks.num_frames, 1, 1))
    poses[known] = world_T_camera[np.argsort(frames)]
    poses = interpolate_missing(poses, known)
    rotation, translation = inverse(poses[:, :3, :3], poses[:, :3, 3])
    cameras = Reconstruction(rotation, translation, np.zeros((0, 4)), float(K[0, 0]), K[:2, 2])
    scene, seen = _structure(cameras, tracks, known, still, noise)
    for scale in (2.0 * noise, 0.5 * noise):  # first robustly from afar, then with little pull from what moves
        scene = resect(scene, seen, ~known, scale=scale, turns_only=still)
    found = known | supported_frames(scene.errors(seen), seen, 3 * noise)
    result = scene.world_T_camera
    if still:
        result[:, :3, 3] = poses[:, :3, 3]
    result[known] = poses[known]
    return interpolate_missing(result, found), found


def _structure(
    cameras: Reconstruction, tracks: Observations, known: Bool[np.ndarray, "n"], still: bool, noise: float
) -> tuple[Reconstruction, Observations]:
    """Points from the known frames that these agree on, and their observations in all frames."""
    count = np.bincount(tracks.track[known[tracks.frame]], minlength=tracks.num_tracks)
    tracks, _ = tracks.keep_tracks(count >= 2)
    if not tracks.num_tracks:
        return dataclasses.replace(cameras, points=np.zeros((0, 4))), tracks
    solved, _ = tracks.keep(known[tracks.frame])
    if still:
        points = points_on_rays(solved, cameras.rotation, cameras.focal, cameras.center, 0.0)
        scene = dataclasses.replace(cameras, points=points, translation=np.zeros_like(cameras.translation))
    else:
        scene = triangulate(cameras, solved, noise)
    agree = agreeing_tracks(scene.errors(solved), solved, 2 * noise)
    kept, old = tracks.keep_tracks(agree)
    return dataclasses.replace(scene, points=scene.points[old]), kept
