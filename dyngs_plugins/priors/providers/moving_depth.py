"""Where moving regions stand in depth. One camera cannot see it: size and speed of what moves trade off against depth.

Two assumptions decide. Contact: a thing stands on, or touches, what lies below its lower border. Slowness: if a still
world nearly explains a region, it moves little compared with the camera, and its triangulated depth is nearly right.
They are weighed by their uncertainties; and nothing stands behind what it covers.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dyngs_plugins.priors.providers.completion import complete
from dyngs_plugins.priors.providers.multiview import StillFit

_ONE = 0.05  # relative uncertainty that has weight 1 in the completion


def moving_disparity(
    background: Float[np.ndarray, "h w"],
    moving: Bool[np.ndarray, "h w"],
    fit: StillFit,
    image: UInt8[np.ndarray, "h w 3"],
    contact_uncertainty: float = 0.25,
    smoothness: float = 4.0,
) -> Float[np.ndarray, "h w"]:
    """The disparity of the scene with its moving regions placed; elsewhere `background`.

    Args:
        background: completed disparity of the still world, also behind the regions.
        fit: the still fit, whose misfit tells how far the regions are from still.
        contact_uncertainty: relative standard deviation of the disparity that contact gives.
    """
    count, labels = cv2.connectedComponents(moving.astype(np.uint8))
    if count == 1:
        return background
    contact = background.copy()
    for label in range(1, count):
        region = labels == label
        contact[region] = contact_disparity(background, region, moving)
    # The misfit counts squared: what moves across epipolar lines moves as much along them, where it looks like depth.
    with np.errstate(invalid="ignore"):
        uncertainty = fit.deviation / fit.disparity * np.maximum(fit.misfit, 1.0) ** 2
    still_weight = np.where(fit.trust > 0, (_ONE / np.maximum(uncertainty, _ONE / 2)) ** 2, 0.0)
    contact_weight = (_ONE / contact_uncertainty) ** 2
    values = (still_weight * np.log(fit.disparity) + contact_weight * np.log(contact)) / (still_weight + contact_weight)
    weight = np.where(moving, still_weight + contact_weight, 1.0)
    data = np.where(moving, values, np.log(background)).astype(np.float32)
    placed = np.exp(complete(data, weight, image, smoothness, edge=20.0, regions=labels))
    return np.where(moving, np.maximum(placed, background), background).astype(np.float32)


def contact_disparity(
    background: Float[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
    moving: Bool[np.ndarray, "h w"],
    gap: int = 3,
) -> float:
    """Disparity of what lies just below the region's lower border; if that is out of sight, of what surrounds it.

    The upper part of the values counts: below an overhang one sees what lies behind.
    """
    below = np.zeros_like(region)
    below[gap:] = region[:-gap]
    below &= ~moving
    if below.sum() < 3:
        below = (cv2.dilate(region.astype(np.uint8), np.ones((2 * gap + 1,) * 2, np.uint8)) > 0) & ~moving
    if not below.any():
        return float(np.median(background[region]))
    return float(np.quantile(background[below], 0.7))
