"""Does the image itself contradict a still world? Colours of neighbours, fetched by flow and by a still scene's depth.

Residuals of flow are large where objects move and also where flow is wrong: on surfaces without texture, in
reflections, at the image border. There a still surface explains the colours just as well as the flow does. Comparing
the two leaves the pixels where only motion explains what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.providers.completion import complete
from dyngs_plugins.priors.providers.flow_math import inside, pixel_grid, warp
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.multiview import FitSettings, StillFit, induced_flow, neighbours, still_fit

_WINDOW = (5, 5)
_MARGIN = 3  # pixels at the border whose window would leave the image
_LARGEST = 6.0  # colour errors beyond this many noise units say no more


StillFlows = Callable[[int], Sequence[Float[np.ndarray, "h w 2"]]]
"""For a neighbour j: flows to it that still points might have, NaN where there is none."""


def colour_contradiction(
    inputs: PriorInputs, i: int, settings: FitSettings, offsets: tuple[int, ...], image_noise: float,
    still_flows: StillFlows,
) -> Float[np.ndarray, "h w"]:  # fmt: skip
    """How much worse still points explain the colours around a pixel than flow does, in noise units; 0 if static.

    Args:
        offsets: neighbours at +- these many frames are compared.
        image_noise: standard deviation of a colour difference in CIELAB units.
        still_flows: where still points would go.
    """
    lab = _lab(inputs, i)
    tolerance = np.sqrt(image_noise**2 + (0.35 * _gradient(lab)) ** 2)
    total, count = np.zeros(tolerance.shape, np.float32), np.zeros(tolerance.shape, np.float32)
    for j in neighbours(len(inputs.frames), i, offsets):
        other = _lab(inputs, j)
        flow_error, comparable = _colour_error(lab, other, inputs.flow(i, j), tolerance)
        still_error = np.full_like(flow_error, np.inf)
        for flow in still_flows(j):
            error, seen = _colour_error(lab, other, np.nan_to_num(flow, nan=1e4), tolerance)
            still_error = np.minimum(still_error, np.where(seen, error, _LARGEST))
        valid = comparable & (inputs.flow_error(i, j) < settings.max_round_trip_px)
        total += np.clip(still_error - flow_error, -1.0, 4.0) * valid
        count += valid
    result = total / np.maximum(count, 1.0)
    border = _MARGIN + 1
    result[:border], result[-border:], result[:, :border], result[:, -border:] = 0.0, 0.0, 0.0, 0.0
    return result


def posed_still_flows(inputs: PriorInputs, i: int, settings: FitSettings) -> StillFlows:
    """Of two still surfaces: each pixel's own best fit, and the completion of the trusted pixels around it."""
    fit = still_fit(inputs, i, settings)
    surfaces = (fit.disparity, trusted_surface(inputs, i, fit))
    return lambda j: [induced_flow(inputs.frames, i, j, disparity) for disparity in surfaces]


def trusted_surface(inputs: PriorInputs, i: int, fit: StillFit) -> Float[np.ndarray, "h w"]:
    """The disparity of well-explained pixels, completed over the others at half resolution."""
    weight = ((fit.misfit < 1.2) & (fit.trust > 0.2)) / (1.0 + (fit.deviation / fit.disparity / 0.05) ** 2)
    weight = cv2.erode(weight.astype(np.float32), np.ones((3, 3), np.uint8))
    height, width = fit.disparity.shape
    half = (max(width // 2, 2), max(height // 2, 2))

    def shrink(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, half, interpolation=cv2.INTER_AREA)

    small_weight = shrink(weight)
    if not (small_weight > 1e-3).any():
        return fit.disparity
    values = shrink(fit.disparity * weight) / np.maximum(small_weight, 1e-6)
    completed = complete(values, small_weight, shrink(inputs.image(i)))
    return cv2.resize(completed, (width, height))


def _lab(inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w 3"]:
    def make() -> np.ndarray:
        lab = cv2.cvtColor(inputs.image(i).astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        return cv2.GaussianBlur(lab, (0, 0), 0.7)

    return inputs.remember(("lab", i), make)


def _gradient(lab: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Colour change per pixel of displacement."""
    dx, dy = (cv2.Sobel(lab, cv2.CV_32F, x, y, scale=0.125) for x, y in ((1, 0), (0, 1)))
    return np.sqrt(_sum_of_squares(dx) + _sum_of_squares(dy))


def _sum_of_squares(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    return cv2.transform(image * image, np.ones((1, 3), np.float32))


def _colour_error(lab, other, flow, tolerance):
    """Mean colour difference in a window, in units of `tolerance`, and whether the window lies inside both images."""
    height, width = tolerance.shape
    difference = np.sqrt(_sum_of_squares(warp(other, flow) - lab)) / tolerance
    error = cv2.boxFilter(np.minimum(difference, _LARGEST), -1, _WINDOW)
    landing = pixel_grid(height, width) + flow - _MARGIN
    return error, inside(landing, (height - 2 * _MARGIN, width - 2 * _MARGIN))
