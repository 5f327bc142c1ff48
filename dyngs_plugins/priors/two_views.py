"""The fundamental matrix and the homography of pairs of positions, some of which are wrong."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

CONFIDENCE, ROUNDS = 0.999, 2000

Fit = tuple[Float[np.ndarray, "3 3"], Bool[np.ndarray, "k"]]
"""A matrix, and which pairs it explains."""


def fundamental_matrix(source: Float[np.ndarray, "k 2"], target: Float[np.ndarray, "k 2"], within: float) -> Fit | None:
    """The matrix with x'Fx = 0 for most pairs, to `within` pixels; None where there is none.

    By MAGSAC (Barath et al., 2019). OpenCV's stops with an error on some pairs that have a solution; then by plain RANSAC.
    """
    cv2.setRNGSeed(0)  # what RANSAC draws from: the same pairs give the same answer in every run
    try:
        found = cv2.findFundamentalMat(source, target, cv2.USAC_MAGSAC, within, CONFIDENCE, ROUNDS)
    except cv2.error:
        found = cv2.findFundamentalMat(source, target, cv2.FM_RANSAC, within, CONFIDENCE, ROUNDS)
    return _fit(*found)


def homography(source: Float[np.ndarray, "k 2"], target: Float[np.ndarray, "k 2"], within: float) -> Fit | None:
    """The homography that maps most source positions onto their targets, to `within` pixels; as above."""
    cv2.setRNGSeed(0)  # what RANSAC draws from: the same pairs give the same answer in every run
    try:
        found = cv2.findHomography(source, target, cv2.USAC_MAGSAC, within, maxIters=ROUNDS, confidence=CONFIDENCE)
    except cv2.error:
        found = cv2.findHomography(source, target, cv2.RANSAC, within, maxIters=ROUNDS, confidence=CONFIDENCE)
    return _fit(*found)


def _fit(matrix: np.ndarray | None, explained: np.ndarray | None) -> Fit | None:
    if matrix is None or matrix.shape != (3, 3) or explained is None:
        return None
    return matrix, explained.reshape(-1).astype(bool)
