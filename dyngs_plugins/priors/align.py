"""A network's depth brought to the scale of the cameras: two numbers per image, found against triangulated points.

A network that sees one image knows depth at best up to a factor (metric models), at worst up to an affine map of
disparity (relative models). With D for the triangulated disparity and M for the network's, Shape of Motion's chain
(its preprocessing scripts; Wang et al., 2024) fits  D ~ a M + b  by medians:

    a = median((D - median D + e) / (M - median M + e)),   b = median(D - a M),   e = 1e-8

Many outliers on one side still bend a. So the formula is applied again to the points that it explains, until the set
of these points settles; on clean points that changes nothing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

_EPSILON = 1e-8
_ROUNDS = 10
_INLIER = 2.5 * 1.4826  # times the median absolute residual: 2.5 standard deviations of normal noise

Freedom = Literal["affine", "scale"]
"""What a model leaves open: "affine" for relative disparity, "scale" for metric depth."""


@dataclasses.dataclass(frozen=True)
class Alignment:
    """disparity = scale * model + shift, and how well it holds on the points that it was found with."""

    scale: float
    shift: float
    residual: float
    """Median of |aligned / triangulated - 1| over the points."""
    points: int

    @property
    def sound(self) -> bool:
        """Nearer for the model is nearer for the cameras."""
        return math.isfinite(self.scale) and math.isfinite(self.shift) and self.scale > 0


OWN_SCALE = Alignment(scale=1.0, shift=0.0, residual=float("nan"), points=0)
"""The model's own units: what is left where nothing was triangulated."""


def align_disparity(
    model: Float[np.ndarray, "*n"], reference: Float[np.ndarray, "*n"], good: Bool[np.ndarray, "*n"], freedom: Freedom
) -> Alignment:
    """The map from a model's disparity to the cameras' disparity, by the formula above.

    Args:
        model: disparity of the model in any unit, larger is nearer. Values that are not finite do not take part.
        reference: triangulated disparity 1/z in the cameras' units, above 0 where `good`.
        good: where `reference` may be trusted.
        freedom: "affine" fits scale and shift, "scale" the scale alone (median of D / M).

    Raises:
        ValueError: without a single usable point.
    """
    usable = good & np.isfinite(model) & np.isfinite(reference) & (reference > 0)
    usable &= (model > 0) | (freedom == "affine")
    if not usable.any():
        raise ValueError(
            "Depth cannot be aligned: no pixel has both a triangulated and a predicted depth. Expected some static, "
            "textured pixels with parallax. Check the masks and the poses."
        )
    m, d = model[usable].astype(np.float64), reference[usable].astype(np.float64)
    scale, shift = _robust_fit(m, d, freedom)
    residual = float(np.median(np.abs((scale * m + shift) / d - 1.0)))
    return Alignment(scale, shift, residual, int(usable.sum()))


def _robust_fit(m: Float[np.ndarray, "n"], d: Float[np.ndarray, "n"], freedom: Freedom) -> tuple[float, float]:
    """The formula, and again on what it explains."""
    inlier = np.ones(len(m), bool)
    scale, shift = 1.0, 0.0
    for _ in range(_ROUNDS):
        scale, shift = _fit(m[inlier], d[inlier], freedom)
        error = np.abs(scale * m + shift - d)
        now = error <= max(_INLIER * float(np.median(error[inlier])), 1e-12)
        if now.sum() < max(8, len(m) // 4) or (now == inlier).all():
            break
        inlier = now
    return scale, shift


def _fit(m: Float[np.ndarray, "n"], d: Float[np.ndarray, "n"], freedom: Freedom) -> tuple[float, float]:
    if freedom == "scale":
        return float(np.median(d / m)), 0.0
    ratio = (d - np.median(d) + _EPSILON) / _away_from_zero(m - np.median(m) + _EPSILON)
    scale = float(np.median(ratio))
    return scale, float(np.median(d - scale * m))


def _away_from_zero(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return np.where(values == 0, _EPSILON, values)


def apply_alignment(
    model: Float[np.ndarray, "h w"], alignment: Alignment, largest: float | None = None
) -> tuple[Float[np.ndarray, "h w"], int]:
    """The aligned disparity with 0 for unknown, and the number of pixels that became unknown.

    A shift can push far pixels to zero or below, where no depth is left. As in the reference's chain, values below
    the smaller of 1e-6 and the 1 % quantile become 0; so do values that are not finite. (The reference reads 0 as
    10^6 units away; here 0 is unknown.)

    Args:
        largest: values above this are cut to it: nearer than anything the cameras could have seen.
    """
    finite = np.isfinite(model)
    aligned = np.where(finite, alignment.scale * np.where(finite, model, 0.0) + alignment.shift, -np.inf)
    floor = min(1e-6, float(np.quantile(aligned[finite], 0.01))) if finite.any() else 0.0
    unknown = (aligned < floor) | (aligned <= 0)
    aligned = np.where(unknown, 0.0, aligned)
    if largest is not None:
        aligned = np.minimum(aligned, largest)
    return aligned.astype(np.float32), int(unknown.sum())
