"""Figures that tell at a glance whether a prior is sound, measured from the files however they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from dyngs_plugins.priors.prior_kinds import PriorKind
from dyngs_plugins.priors.providers.flow_math import warp
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.multiview import induced_flow, sampson_error

_MAX_FRAMES = 16  # figures are medians and means; more frames would only cost time
_ROUND_TRIP_PX = 1.5


def measure(name: str, inputs: PriorInputs, kind: PriorKind) -> dict[str, float]:
    """The figures of one kind of prior; empty for kinds without any."""
    functions: dict[str, Callable[[PriorInputs, PriorKind], dict[str, float]]] = {
        "flow": _flow,
        "masks": _masks,
        "depth": _depth,
        "tracks": _tracks,
    }
    return functions[name](inputs, kind) if name in functions else {}


def _sampled(inputs: PriorInputs) -> Iterable[int]:
    count = len(inputs.frames)
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, _MAX_FRAMES)).round()})


def _flow(inputs: PriorInputs, kind: PriorKind) -> dict[str, float]:
    """Share of pixels whose round trip closes, and the median distance to the epipolar lines in pixels."""
    visible, epipolar = [], []
    for i in _sampled(inputs):
        if i + 1 < len(inputs.frames):
            seen = inputs.flow_error(i, i + 1) < _ROUND_TRIP_PX
            visible.append(seen.mean())
            if seen.any():
                epipolar.append(np.median(sampson_error(inputs.frames, i, i + 1, inputs.flow(i, i + 1))[seen]))
    return {"visible": _mean(visible), "epipolar px": _mean(epipolar)}


def _masks(inputs: PriorInputs, kind: PriorKind) -> dict[str, float]:
    """Share of moving pixels, and the number of frames without any."""
    shares = [float(inputs.mask(i).mean()) for i in range(len(inputs.frames))]
    return {"moving": _mean(shares), "empty frames": float(sum(share == 0 for share in shares))}


def _depth(inputs: PriorInputs, kind: PriorKind) -> dict[str, float]:
    """Share of pixels without depth; on still pixels: pixels between flow and depth's own flow, and the relative
    difference of neighbouring frames' depths."""
    residual, consistency, unknown = [], [], []
    for i in _sampled(inputs):
        unknown.append(float((inputs.disparity(i) == 0).mean()))
        j = i + 1
        if j >= len(inputs.frames):
            continue
        disparity, flow = inputs.disparity(i), inputs.flow(i, j)
        still = ~inputs.mask(i) & (inputs.flow_error(i, j) < _ROUND_TRIP_PX) & (disparity > 0)
        if not still.any():
            continue
        difference = np.linalg.norm(induced_flow(inputs.frames, i, j, np.maximum(disparity, 1e-6)) - flow, axis=-1)
        residual.append(np.nanmedian(difference[still]))
        consistency.append(np.median(_disagreement(inputs, i, j)[still]))
    return {"reprojection px": _mean(residual), "frame to frame": _mean(consistency), "unknown": _mean(unknown)}


def _disagreement(inputs: PriorInputs, i: int, j: int) -> np.ndarray:
    """Relative difference between the depth of frame i moved into camera j and the depth of frame j found by flow."""
    height, width = inputs.frames.size
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ inputs.frames.inverse_K[i].T
    j_T_i = inputs.frames.target_T_source(i, j)
    depth = (rays @ j_T_i[2, :3]) / np.maximum(inputs.disparity(i), 1e-6) + j_T_i[2, 3]
    seen = warp(inputs.disparity(j), inputs.flow(i, j))
    return np.abs(depth * seen - 1.0)


def _tracks(inputs: PriorInputs, kind: PriorKind) -> dict[str, float]:
    """Points per frame, share of surely visible observations, and the median round trip over ten frames (pixels)."""
    count = len(inputs.frames)
    points, visible, trips = [], [], []
    for q in _sampled(inputs):
        t = q + 10 if q + 10 < count else max(q - 10, 0)
        rows = inputs.tracks(q, t)
        points.append(float(len(rows)))
        seen = _surely_visible(rows)
        visible += [float(seen.mean())] if len(rows) else []
        back = inputs.tracks(t, q)
        if len(back) and seen.any():
            queries = inputs.tracks(q, q)[seen, :2]
            trips.append(_round_trip(queries, rows[seen, :2], inputs.tracks(t, t)[:, :2], back))
    return {
        "points": _mean(points),
        "visible at 10": _mean(visible),
        "round trip px": _mean([trip for trip in trips if np.isfinite(trip)]),
    }


def _surely_visible(rows: np.ndarray) -> np.ndarray:
    logits = np.clip(rows[:, 2:], -30.0, 30.0)
    return np.prod(1.0 / (1.0 + np.exp(logits)), axis=1) > 0.5


def _round_trip(queries: np.ndarray, ends: np.ndarray, anchors: np.ndarray, back: np.ndarray) -> float:
    """Median distance in pixels between `queries` and where tracks of the other frame lead back to.

    The track that starts nearest to an end stands in for the way back, moved by the gap between the two; gaps over
    3 pixels do not count. NaN where there is no such track.
    """
    good = _surely_visible(back)
    if not good.any():
        return float("nan")
    gap = ends[:, None] - anchors[None, good]
    nearest = np.linalg.norm(gap, axis=-1).argmin(1)
    gap = gap[np.arange(len(ends)), nearest]
    close = np.linalg.norm(gap, axis=-1) < 3.0
    error = np.linalg.norm(back[good][nearest, :2] + gap - queries, axis=-1)[close]
    return float(np.median(error)) if close.any() else float("nan")


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
