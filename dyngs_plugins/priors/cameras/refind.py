"""Find points again in frames where their tracks were lost, once cameras are known.

A reconstructed point is projected into a frame that does not have it, and its patch is looked for there from the
nearest frame that saw it. This joins the short pieces of a point's track, and ties a path that comes back to its start.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dyngs_plugins.priors.cameras.bundle import Reconstruction
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.tracking import GreyImages, TrackingSettings, klt_round_trip, likeness
from dyngs_plugins.priors.providers.inputs import PriorInputs


@dataclasses.dataclass(frozen=True)
class RefindSettings:
    """Lengths in pixels."""

    max_frames: int = 40
    """The frame that saw a point may be so many frames away."""
    max_miss: float = 6.0
    """How far from its projection a point may be found."""
    per_frame: int = 700
    min_likeness: float = 0.8
    """Normalised correlation of the two patches."""


def find_again(
    inputs: PriorInputs, scene: Reconstruction, observations: Observations, tracking: TrackingSettings,
    settings: RefindSettings | None = None,
) -> Observations:  # fmt: skip
    """The observations with those that were found in more frames."""
    settings = RefindSettings() if settings is None else settings
    grey = GreyImages(inputs, keep=len(inputs.frames))
    parts = [(observations.track, observations.frame, observations.xy)]
    for t in range(observations.num_frames):
        track, source, guess = _candidates(scene, observations, t, inputs.frames.size, tracking.border, settings)
        for s in np.unique(source):
            at = np.flatnonzero(source == s)
            start = observations.xy[track[at, 1]] - 0.5
            end, good = klt_round_trip(grey(int(s)), grey(t), start, guess[at] - 0.5, tracking)
            good &= np.linalg.norm(end + 0.5 - guess[at], axis=1) < settings.max_miss
            good[good] &= likeness(grey(int(s)), grey(t), start[good], end[good]) > settings.min_likeness
            parts.append((track[at[good], 0], np.full(int(good.sum()), t), end[good] + 0.5))
    track, frame, xy = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Observations.of(track, frame, xy, observations.num_frames)


def _candidates(
    scene: Reconstruction, observations: Observations, t: int, size: tuple[int, int], border: int, settings: RefindSettings
) -> tuple[Int[np.ndarray, "k 2"], Int[np.ndarray, "k"], Float[np.ndarray, "k 2"]]:  # fmt: skip
    """Tracks that frame t does not have but should see (track, place of the nearest observation), the frame of that
    observation, and the projection into frame t."""
    away = np.abs(observations.frame - t)
    nearest = observations.per_track(away.astype(np.float64), np.minimum)
    first = np.full(observations.num_tracks, len(observations))
    at = np.flatnonzero(away == nearest[observations.track])
    np.minimum.at(first, observations.track[at], at)
    points = scene.points
    q = points[:, :3] @ scene.rotation[t].T + points[:, 3:] * scene.translation[t]
    xy = scene.focal * q[:, :2] / np.where(np.abs(q[:, 2:]) < 1e-9, 1e-9, q[:, 2:]) + scene.center
    good = (nearest > 0) & (nearest <= settings.max_frames) & (q[:, 2] > 0) & (points[:, 3] > 0)
    good &= (xy > border + 1).all(1) & (xy < np.array(size[::-1]) - border - 1).all(1)
    chosen = np.flatnonzero(good)
    chosen = chosen[np.argsort(-observations.lengths[chosen], kind="stable")[: settings.per_frame]]
    return np.column_stack([chosen, first[chosen]]), observations.frame[first[chosen]], xy[chosen]
