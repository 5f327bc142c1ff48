"""What stands still according to pairs of images alone: epipolar geometry or a homography fitted to each pair's flow.

The camera's poses are not used, so this holds where they are wrong, where the camera only turns, and where it stands.
For a pair of frames either a homography explains the flow of what stands still (no parallax: F would be arbitrary, and
could be bent to explain what moves), or a fundamental matrix does. The flow that a still point nearest to the measured
flow would have is the homography's, or the nearest point on the epipolar line. What the measured flow differs from it,
in units of its noise and over several partners, is the evidence of motion (MoSca, Lei et al. 2024, takes the largest
Sampson error over partners; a mean over more partners is less easily fooled by one bad flow).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.providers.flow_math import inside, pixel_grid
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.multiview import FitSettings, neighbours, sampson_error, texture_noise
from dyngs_plugins.priors.providers.photometric import StillFlows
from dyngs_plugins.priors.two_views import fundamental_matrix, homography

_SAMPLES = 3000  # correspondences that a model is fitted to
_INLIER_PX = 1.0
_PLANAR_SHARE = 0.9  # a homography that explains this share of what F explains leaves no parallax worth the name
_MIN_POINTS = 50


@dataclasses.dataclass(frozen=True)
class PairGeometry:
    """How the still part of frame i moves into frame j. Pixels with integer centres."""

    matrix: Float[np.ndarray, "3 3"]
    planar: bool
    """Whether `matrix` is a homography; else it is a fundamental matrix F with q^T F p = 0."""

    def still_flow(self, flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w 2"]:
        """The flow of a still point that is nearest to the measured `flow`."""
        height, width = flow.shape[:2]
        p = np.concatenate([pixel_grid(height, width), np.ones((height, width, 1), np.float32)], axis=-1)
        mapped = p @ self.matrix.T.astype(np.float32)
        if self.planar:
            scale = np.where(np.abs(mapped[..., 2:]) > 1e-6, mapped[..., 2:], 1e-6)
            return (mapped[..., :2] / scale - p[..., :2]).astype(np.float32)
        normal = mapped[..., :2]
        distance = (normal * (p[..., :2] + flow)).sum(-1) + mapped[..., 2]
        length2 = np.maximum((normal**2).sum(-1), 1e-20)
        return (flow - normal * (distance / length2)[..., None]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class PairFit:
    """Evidence of motion in one frame, as in `StillFit`: misfit in noise units, and how far it may be trusted."""

    misfit: Float[np.ndarray, "h w"]
    trust: Float[np.ndarray, "h w"]


def pair_geometry(inputs: PriorInputs, i: int, j: int) -> PairGeometry:
    """The model of one pair, fitted once; the same at every call."""
    return inputs.remember(("pair", i, j), lambda: _fit_pair(inputs, i, j))


def pair_fit(inputs: PriorInputs, i: int, settings: FitSettings) -> PairFit:
    """How badly still points explain the flow from frame i to its neighbours, whatever the poses."""
    size = inputs.frames.size
    noise2 = settings.flow_noise_px**2 + texture_noise(inputs.image(i)) ** 2
    total, count = np.zeros(size, np.float32), np.zeros(size, np.float32)
    around = neighbours(len(inputs.frames), i, settings.offsets)
    for j in around:
        flow, error = inputs.flow(i, j), inputs.flow_error(i, j)
        seen = error < settings.max_round_trip_px
        residual2 = ((flow - pair_geometry(inputs, i, j).still_flow(flow)) ** 2).sum(-1)
        level = 1.2 * np.sqrt(np.median(residual2[seen])) if seen.any() else 1e3
        variance = noise2 + np.where(seen, 0.5 * error, 0.0) ** 2 + level**2
        total += np.minimum(residual2 / variance, 25.0) * seen
        count += seen
    misfit = np.sqrt(total / np.maximum(count, 1.0))
    return PairFit(misfit.astype(np.float32), (count / max(len(around), 1)).astype(np.float32))


def pairwise_still_flows(inputs: PriorInputs, i: int) -> StillFlows:
    """Of the still points that are nearest to the measured flow, whatever the poses."""
    return lambda j: [pair_geometry(inputs, i, j).still_flow(inputs.flow(i, j))]


def poses_explain_flow(inputs: PriorInputs, offset: int = 4, samples: int = 8) -> bool:
    """Whether the poses fit the flow of what stands still about as well as each pair's own geometry does."""
    frames, verdicts = inputs.frames, []
    for i in np.unique(np.linspace(0, len(frames) - 1, samples).round().astype(int)).tolist():
        j = i + offset if i + offset < len(frames) else i - offset
        if not 0 <= j < len(frames):
            continue
        flow = inputs.flow(i, j)
        seen = inputs.flow_error(i, j) < 1.0
        if seen.sum() < _MIN_POINTS:
            continue
        own = np.linalg.norm(flow - pair_geometry(inputs, i, j).still_flow(flow), axis=-1)
        posed = sampson_error(frames, i, j, flow)
        verdicts.append(np.median(posed[seen]) < 2.0 * np.median(own[seen]) + 0.5)
    return not verdicts or float(np.mean(verdicts)) >= 0.5


def _fit_pair(inputs: PriorInputs, i: int, j: int) -> PairGeometry:
    flow, size = inputs.flow(i, j), inputs.frames.size
    grid = pixel_grid(*size)
    places = np.flatnonzero((inputs.flow_error(i, j) < 1.0) & inside(grid + flow, size))
    if len(places) < _MIN_POINTS:
        return PairGeometry(np.eye(3), planar=True)
    places = places[np.linspace(0, len(places) - 1, min(len(places), _SAMPLES)).astype(int)]
    p = grid.reshape(-1, 2)[places].astype(np.float64)
    q = p + flow.reshape(-1, 2)[places]
    plane, epipolar = homography(p, q, _INLIER_PX), fundamental_matrix(p, q, _INLIER_PX)
    if epipolar is None:
        return PairGeometry(np.eye(3) if plane is None else plane[0], planar=True)
    if plane is not None and plane[1].sum() > _PLANAR_SHARE * epipolar[1].sum():
        return PairGeometry(plane[0], planar=True)
    return PairGeometry(epipolar[0], planar=False)
