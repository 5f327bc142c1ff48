"""Which tracks move, before any pose is known: two views of a still world agree with one fundamental matrix.

Source: the epipolar score of MoSca (Lei et al., 2024), on sparse tracks: a track is still if its Sampson error never
exceeds a bound while it is seen. Where the camera hardly moves, or looks at a plane, a fundamental matrix has too much
freedom and may follow a moving object; so a pair is contradicted only by what its homography cannot explain either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.two_views import fundamental_matrix, homography

MIN_SHARED = 24
"""Pairs of frames with fewer tracks say nothing."""


def sampson_error(
    fundamental: Float[np.ndarray, "3 3"], source: Float[np.ndarray, "*k 2"], target: Float[np.ndarray, "*k 2"]
) -> Float[np.ndarray, "*k"]:
    """Distance in pixels of pairs from fulfilling x'Fx = 0, to first order (Hartley and Zisserman, 11.4.3)."""
    one = np.ones((*source.shape[:-1], 1))
    x, y = (np.concatenate([xy, one], axis=-1) for xy in (source, target))
    right, left = x @ fundamental.T, y @ fundamental
    slope = (right[..., :2] ** 2).sum(-1) + (left[..., :2] ** 2).sum(-1)
    return np.abs((y * right).sum(-1)) / np.sqrt(np.maximum(slope, 1e-24))


def transfer_error(
    homography: Float[np.ndarray, "3 3"], source: Float[np.ndarray, "k 2"], target: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "k"]:
    """Distance in pixels between the target points and the source points under a homography."""
    moved = np.hstack([source, np.ones((len(source), 1))]) @ homography.T
    return np.linalg.norm(moved[:, :2] / np.where(np.abs(moved[:, 2:]) < 1e-12, 1e-12, moved[:, 2:]) - target, axis=1)


def pair_error(
    source: Float[np.ndarray, "k 2"], target: Float[np.ndarray, "k 2"], noise: float = 1.0
) -> Float[np.ndarray, "k"] | None:
    """How far, in pixels, each pair of positions is from a still world; None where no model can be found."""
    if len(source) < MIN_SHARED:
        return None
    fundamental, plane = fundamental_matrix(source, target, noise), homography(source, target, noise)
    errors = []
    if fundamental is not None:
        errors.append(sampson_error(fundamental[0], source, target))
    if plane is not None:
        errors.append(transfer_error(plane[0], source, target))
    return np.minimum.reduce(errors) if errors else None


def still_tracks(
    observations: Observations, gaps: Sequence[int] = (2, 5, 10), bound: float = 2.0, noise: float = 1.0
) -> tuple[Bool[np.ndarray, "m"], Float[np.ndarray, "m"]]:
    """Tracks whose error never exceeds `bound` pixels, and the largest error of each.

    Args:
        gaps: numbers of frames between the frames of a pair.
        noise: errors in pixels that correct tracks have.
    """
    worst = np.zeros(observations.num_tracks)
    for gap in gaps:
        for i in range(0, observations.num_frames - gap, max(gap // 2, 1)):
            a, b = observations.shared(i, i + gap)
            error = pair_error(observations.xy[a], observations.xy[b], noise)
            if error is not None:
                np.maximum.at(worst, observations.track[a], error)
    return worst <= bound, worst


def motion_masks(
    observations: Observations, still: Bool[np.ndarray, "m"], size: tuple[int, int], reach: float = 0.04
) -> Iterator[Bool[np.ndarray, "h w"]]:
    """Per frame, the pixels whose surroundings hold more moving tracks than still ones.

    Args:
        size: height and width of the images.
        reach: standard deviation of the surroundings, as a share of the longer side.
    """
    sigma = reach * max(size)
    for places in observations.by_frame:
        votes = np.zeros((2, *size), np.float32)
        pixel = np.clip(observations.xy[places].astype(int), 0, np.array(size[::-1]) - 1)
        np.add.at(votes, (still[observations.track[places]].astype(int), pixel[:, 1], pixel[:, 0]), 1.0)
        moving, fixed = (cv2.GaussianBlur(v, (0, 0), sigma) for v in votes)
        yield moving > np.maximum(fixed, 0.2 / (2 * np.pi * sigma**2))
