"""The robust fit of one inverse depth per pixel to correspondences in several views: the inner loop of `multiview.py`.

Given a, b and the observed x_j of the formula  x_j(d) = pi(a_j + d b_j), minimise over d the sum over views of
    rho( |x_j(d) - x_j|^2 / variance_j ),   rho(r) = r / (1 + r / 4)   (Geman-McClure).
First the best of some hypotheses, with costs cut off, then reweighted least squares: multiplied by its depth factor,
each residual is linear in d.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

_BLOCK = 8192  # pixels worked on at once: the temporaries stay in the processor's cache
_CUT_OFF = np.float32(9.0)  # squared residual in noise units beyond which a view's disagreement costs no more
_NEAREST = np.float32(1e-4)  # smallest depth factor: points behind a camera get huge residuals, not wrong signs


@dataclasses.dataclass(frozen=True)
class Correspondences:
    """What `views` cameras tell about `n` pixels. Planes instead of vectors, so that each is contiguous in memory."""

    a: Float[np.ndarray, "3 views n"]
    b: Float[np.ndarray, "3 views"]
    xy: Float[np.ndarray, "2 views n"]
    seen: Bool[np.ndarray, "views n"]

    def part(self, pixels: slice) -> Correspondences:
        """Some of the pixels."""
        a, xy = np.ascontiguousarray(self.a[..., pixels]), np.ascontiguousarray(self.xy[..., pixels])
        return Correspondences(a, self.b, xy, self.seen[:, pixels])

    def residual(self, d: Float[np.ndarray, "*n"]) -> tuple[Float[np.ndarray, "views n"], Float[np.ndarray, "views n"]]:
        """Squared pixels between observation and still point of inverse depth d, and the point's depth factor."""
        depth = self.a[2] + d * self.b[2, :, None]
        np.maximum(depth, _NEAREST, out=depth)
        squared = self._difference(0, d, depth)
        squared += self._difference(1, d, depth)
        return squared, depth

    def _difference(self, axis: int, d: Float[np.ndarray, "*n"], depth: Float[np.ndarray, "views n"]):
        """Squared difference along one image axis; in place, because this is where the time goes."""
        difference = self.a[axis] + d * self.b[axis, :, None]
        difference /= depth
        difference -= self.xy[axis]
        difference *= difference
        return difference


def fit_inverse_depth(
    observed: Correspondences,
    variance: Float[np.ndarray, "views n"],
    limits: tuple[float, float],
    hypotheses: int,
    iterations: int,
    start: Float[np.ndarray, "n"] | None = None,
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], Float[np.ndarray, "views n"]]:
    """Inverse depth, its standard deviation (inf where no view tells), and the residuals in pixels.

    Args:
        variance: of the observations, in squared pixels.
        limits: smallest and largest inverse depth.
        hypotheses: how many are tried, evenly spaced in the logarithm; not used with a `start`.
        start: inverse depths to refine.
    """
    count = variance.shape[1]
    disparity, deviation = np.empty(count, np.float32), np.empty(count, np.float32)
    residual = np.empty(variance.shape, np.float32)
    grid = np.geomspace(limits[0], limits[1], hypotheses).astype(np.float32)
    for first in range(0, count, _BLOCK):
        pixels = slice(first, first + _BLOCK)
        block = observed.part(pixels)
        weight = (block.seen / variance[:, pixels]).astype(np.float32)
        d = _best_hypothesis(block, weight, grid) if start is None else start[pixels]
        d, information = _refine(block, weight, d, limits, iterations)
        disparity[pixels] = d
        deviation[pixels] = np.where(information > 0, 1.0 / np.sqrt(np.maximum(information, 1e-12)), np.inf)
        residual[:, pixels] = np.sqrt(block.residual(d)[0])
    return disparity, deviation, residual


def _best_hypothesis(
    block: Correspondences, weight: Float[np.ndarray, "views n"], grid: Float[np.ndarray, "h"]
) -> Float[np.ndarray, "n"]:
    best_cost = np.full(weight.shape[1], np.inf, np.float32)
    best = np.full(weight.shape[1], grid[0], np.float32)
    for d in grid:
        squared, _ = block.residual(d)
        squared *= weight
        np.minimum(squared, _CUT_OFF, out=squared)
        cost = squared.sum(0)
        better = cost < best_cost
        np.copyto(best_cost, cost, where=better)
        np.copyto(best, d, where=better)
    return best


def _refine(
    block: Correspondences,
    weight: Float[np.ndarray, "views n"],
    d: Float[np.ndarray, "n"],
    limits: tuple[float, float],
    iterations: int,
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Reweighted least squares from `d`. Returns inverse depth and its information (1 / variance)."""
    slope = [block.b[k, :, None] - block.xy[k] * block.b[2, :, None] for k in (0, 1)]
    right = [block.xy[k] * block.a[2] - block.a[k] for k in (0, 1)]
    slope2, product = slope[0] ** 2 + slope[1] ** 2, slope[0] * right[0] + slope[1] * right[1]
    information = np.zeros_like(d)
    for _ in range(iterations):
        squared, depth = block.residual(d)
        squared *= weight
        squared *= 0.25
        squared += 1.0
        squared *= depth
        w = weight / (squared * squared)
        information = (w * slope2).sum(0)
        solution = np.clip((w * product).sum(0) / np.maximum(information, 1e-12), *limits)
        d = np.where(information > 1e-9, solution, d).astype(np.float32)
    return d, information
