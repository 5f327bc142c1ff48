"""Track metrics: 3-D end-point error and accuracy, PCK-T, and TAP-Vid's position, Jaccard and occlusion scores.

``p`` points over ``t`` frames. Every function takes a mask of the entries that count; a metric over no entry is NaN.

Sources: EPE and delta are Shape of Motion's 3-D metrics (Wang et al. 2024), PCK-T is DyCheck's (Gao et al. 2022),
AJ, <delta_avg and OA are TAP-Vid's (Doersch et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

TAPVID_THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pixels, for images resized to 256x256 (TAP-Vid)."""


@dataclass(frozen=True)
class EndPointError:
    """Distances between predicted and true 3-D points, in the units of the input."""

    mean: float
    median: float
    count: int
    """Entries measured; 0 means that mean and median are NaN."""


def end_point_error(
    prediction: Float[Tensor, "*n 3"], target: Float[Tensor, "*n 3"], mask: Bool[Tensor, "*n"] | None = None
) -> EndPointError:
    """EPE: mean and median Euclidean distance over the entries of the mask (all of them without one)."""
    distances = _distances(prediction, target, mask)
    if len(distances) == 0:
        return EndPointError(float("nan"), float("nan"), 0)
    # torch.median takes the lower of two middle values, and torch.quantile refuses large inputs.
    ordered = distances.sort().values
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return EndPointError(float(distances.mean()), float(median), len(distances))


def fraction_within(
    prediction: Float[Tensor, "*n d"],
    target: Float[Tensor, "*n d"],
    threshold: float,
    mask: Bool[Tensor, "*n"] | None = None,
) -> float:
    """delta accuracy: share of the entries that lie strictly closer than ``threshold`` (0.05 m and 0.10 m in SOM)."""
    distances = _distances(prediction, target, mask)
    return float((distances < threshold).double().mean()) if len(distances) else float("nan")


def pck_t(
    prediction: Float[Tensor, "*n 2"],
    target: Float[Tensor, "*n 2"],
    image_size: tuple[int, int],
    mask: Bool[Tensor, "*n"] | None = None,
    ratio: float = 0.05,
) -> float:
    """PCK-T: share of transferred key-points closer than ``ratio`` (5 %) of the longer image side.

    Args:
        image_size: width and height in pixels, at the scale of the coordinates.
    """
    return fraction_within(prediction, target, ratio * max(image_size), mask)


@dataclass(frozen=True)
class TapVidScores:
    """2-D track scores, each in [0, 1] or NaN where no entry defines it."""

    average_jaccard: float
    """AJ."""
    position_accuracy: float
    """<delta_avg: share of truly visible entries within a threshold, averaged over the thresholds."""
    occlusion_accuracy: float
    """OA."""


def tapvid_scores(
    prediction: Float[Tensor, "p t 2"],
    predicted_visible: Bool[Tensor, "p t"],
    target: Float[Tensor, "p t 2"],
    visible: Bool[Tensor, "p t"],
    evaluated: Bool[Tensor, "p t"] | None = None,
    thresholds: Sequence[float] = TAPVID_THRESHOLDS,
) -> TapVidScores:
    """Score 2-D tracks as TAP-Vid does.

    For each threshold, a true positive is an entry that is visible, predicted visible and close enough; a false
    positive is predicted visible but either occluded or too far. Jaccard = TP / (visible + false positives).

    Args:
        evaluated: entries that count. TAP-Vid leaves the query frame out ("strided"), or it and all earlier ones
            ("first"); use ``after_query`` or ``except_query``.
        thresholds: pixels, at the scale of the coordinates.
    """
    if evaluated is None:
        evaluated = torch.ones_like(visible)
    if not len(thresholds):
        raise ValueError("tapvid_scores needs at least one threshold in pixels, got none.")
    visible, claimed = visible & evaluated, predicted_visible & evaluated
    distance = (prediction.double() - target.double()).norm(dim=-1)
    within, jaccards = [], []
    for threshold in thresholds:
        # A NaN prediction compares false: not within.
        near = distance < threshold
        true_positives = (visible & claimed & near).sum()
        false_positives = (claimed & ~(visible & near)).sum()
        within.append(_ratio((visible & near).sum(), visible.sum()))
        jaccards.append(_ratio(true_positives, visible.sum() + false_positives))
    occlusion = _ratio(((visible == claimed) & evaluated).sum(), evaluated.sum())
    return TapVidScores(sum(jaccards) / len(jaccards), sum(within) / len(within), occlusion)


def except_query(query_frame: Shaped[Tensor, "p"], num_frames: int) -> Bool[Tensor, "p t"]:
    """TAP-Vid's "strided" mode: every frame but the one a point was queried in."""
    return torch.arange(num_frames, device=query_frame.device) != query_frame[:, None]


def after_query(query_frame: Shaped[Tensor, "p"], num_frames: int) -> Bool[Tensor, "p t"]:
    """TAP-Vid's "first" mode: the frames after the one a point was queried in."""
    return torch.arange(num_frames, device=query_frame.device) > query_frame[:, None]


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part) / float(whole) if int(whole) else float("nan")


def _distances(prediction: Tensor, target: Tensor, mask: Tensor | None) -> Float[Tensor, "k"]:
    if prediction.shape != target.shape:
        raise ValueError(
            f"predicted and true points must have the same shape, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    if mask is not None and mask.shape != target.shape[:-1]:
        raise ValueError(f"the mask must have one entry a point, {tuple(target.shape[:-1])}, got {tuple(mask.shape)}.")
    distances = (prediction.double() - target.double()).norm(dim=-1)
    return distances.flatten() if mask is None else distances[mask.bool()]
