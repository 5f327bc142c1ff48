"""Points from known cameras, cameras from known points, and whether tracks agree with both."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from dyngs_plugins.priors.cameras.bundle import Freedom, Reconstruction, adjust
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.rotation import interpolate_missing, inverse

MIN_SEEN = 12
"""A frame needs so many points that agree with it to have a pose of its own."""


def triangulate(
    cameras: Reconstruction, observations: Observations, scale: float = 1.0, steps: int = 6
) -> Reconstruction:
    """The cameras with one point for each track: linear (Hartley and Zisserman, 12.2), then refined robustly."""
    rays = (observations.xy - cameras.center) / cameras.focal
    whole = np.concatenate([cameras.rotation, cameras.translation[:, :, None]], axis=2)[observations.frame]
    rows = rays[:, :, None] * whole[:, 2:] - whole[:, :2]
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    products = np.add.reduceat(np.einsum("oki,okj->oij", rows, rows), observations.starts[:-1])
    points = np.linalg.eigh(products)[1][:, :, 0]
    linear = dataclasses.replace(cameras, points=points)
    nothing = np.zeros(len(cameras.rotation), bool)
    return adjust(linear, observations, Freedom(nothing, nothing), scale=scale, steps=steps).reconstruction


def not_beyond_infinity(scene: Reconstruction) -> Reconstruction:
    """Points whose rays part instead of meeting are put to infinity, where they show how badly they fit: most of them
    belong to tracks that move."""
    points = scene.points * np.column_stack([np.ones((len(scene.points), 3)), scene.points[:, 3] > 0])
    return dataclasses.replace(scene, points=points / np.linalg.norm(points, axis=1, keepdims=True))


def resect(
    scene: Reconstruction, observations: Observations, frames: Bool[np.ndarray, "n"], scale: float = 1.0,
    steps: int = 15, turns_only: bool = False,
) -> Reconstruction:  # fmt: skip
    """The poses of `frames` refined against points that stay as they are."""
    move = np.zeros_like(frames) if turns_only else frames
    free = Freedom(frames, move, focal=False, points=False)
    return adjust(scene, observations, free, scale=scale, steps=steps).reconstruction


def fill_between(scene: Reconstruction, known: Bool[np.ndarray, "n"]) -> Reconstruction:
    """The poses that are not `known` put between their known neighbours."""
    poses = interpolate_missing(scene.world_T_camera, known)
    rotation, translation = inverse(poses[:, :3, :3], poses[:, :3, 3])
    return dataclasses.replace(scene, rotation=rotation, translation=translation)


def agreeing_tracks(
    errors: Float[np.ndarray, "o"], observations: Observations, bound: float, share: float = 0.85
) -> Bool[np.ndarray, "m"]:
    """Tracks with at least `share` of their errors below `bound` and none above three times of it."""
    good = observations.per_track((errors < bound).astype(np.float64), np.add) / observations.lengths
    return (good >= share) & (observations.per_track(errors) < 3 * bound)


def supported_frames(
    errors: Float[np.ndarray, "o"], observations: Observations, bound: float, least: int = MIN_SEEN
) -> Bool[np.ndarray, "n"]:
    """Frames that enough points agree with, in number and as a share of what they see."""
    good = np.bincount(observations.frame[errors < bound], minlength=observations.num_frames)
    seen = np.bincount(observations.frame, minlength=observations.num_frames)
    return (good >= least) & (good >= 0.3 * seen)


def spread_tracks(observations: Observations, most: int, cells: int = 12) -> Bool[np.ndarray, "m"]:
    """At most about `most` tracks: the longest ones, but from all parts of the image and of the clip alike."""
    if observations.num_tracks <= most:
        return np.ones(observations.num_tracks, bool)
    middle = (observations.starts[:-1] + observations.starts[1:]) // 2
    xy, frame = observations.xy[middle], observations.frame[middle]
    low, high = observations.xy.min(0), observations.xy.max(0) + 1e-6
    place = ((xy - low) / (high - low) * cells).astype(int)
    time = (frame * cells) // max(observations.num_frames, 1)
    cell = (time * cells + place[:, 0]) * cells + place[:, 1]
    order = np.lexsort((-observations.lengths, cell))
    rank = np.arange(len(order)) - np.searchsorted(cell[order], cell[order])
    best = np.lexsort((-observations.lengths[order], rank))[:most]
    mask = np.zeros(observations.num_tracks, bool)
    mask[order[best]] = True
    return mask


def key_frames(observations: Observations, distance: float, least: int = 10, most: int = 24) -> Int[np.ndarray, "k"]:
    """Frames between which the tracks move by about `distance` pixels in the median, with both ends.

    Args:
        least, most: how many there are, if the clip has so many frames.
    """
    last = observations.num_frames - 1
    for _ in range(40):
        frames = _steps(observations, distance)
        if len(frames) < min(least, last + 1) and distance > 0.1:
            distance /= 1.3
        elif len(frames) > most:
            distance *= 1.25
        else:
            return frames
    return np.unique(np.linspace(0, last, min(most, last + 1)).round().astype(int))


def _steps(observations: Observations, distance: float) -> Int[np.ndarray, "k"]:
    frames, last = [0], observations.num_frames - 1
    for i in range(1, last + 1):
        a, b = observations.shared(frames[-1], i)
        moved = np.linalg.norm(observations.xy[a] - observations.xy[b], axis=1)
        few = len(a) < max(0.4 * len(observations.by_frame[frames[-1]]), MIN_SEEN)
        if few or np.median(moved) > distance:
            frames.append(i)
    return np.unique([*frames, last])
