"""Losses between rendered point correspondences and observed 2-D tracks (Shape of Motion, Eq. 8 and 9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.losses.robust import masked_l1


@dataclass(frozen=True)
class TrackPredictions:
    """Rendered and observed positions of the tracked pixels of a batch, flattened over views, targets and pixels."""

    points: Float[Tensor, "m 3"]
    """Rendered positions in the target cameras' coordinates (alpha-composited)."""
    K: Float[Tensor, "m 3 3"]
    xy: Float[Tensor, "m 2"]
    """Observed pixel (integer centres)."""
    depth: Float[Tensor, "m"]
    """Observed z-depth at the tracked pixel in the target frame; 0 unknown."""
    weight: Float[Tensor, "m"]
    """Confidence, times the interval weight; 0 where not visible."""


def project(points: Float[Tensor, "*m 3"], K: Float[Tensor, "*m 3 3"]) -> Float[Tensor, "*m 2"]:
    """Pixel coordinates (centres at +0.5) of camera-frame points; z is clamped to 1e-6 from below."""
    xy, z = points.split([2, 1], dim=-1)
    focal = K.diagonal(dim1=-2, dim2=-1)[..., :2]
    return focal * xy / z.clamp_min(1e-6) + K[..., :2, 2]


def interval_weight(frame_gap: Tensor, num_frames: int) -> Tensor:
    """``exp(-2 |t_i - t_j| / T)``: distant targets count less.

    The reference normalises this factor away (an outer product followed by a division by the sum); here each
    observation keeps its own, as the paper intends.
    """
    return torch.exp(frame_gap.abs() * (-2.0 / max(num_frames, 1)))


def track_2d(tracks: TrackPredictions, image_size: int) -> Float[Tensor, ""]:
    """Trimmed, weighted L1 (q = 0.98) of projected against observed positions, over the image's larger side.

    Two per cent of the *visible* observations are trimmed: where a point is hidden it is far from what was rendered, and
    would fill that share alone.
    """
    projected = project(tracks.points, tracks.K) - 0.5
    return masked_l1(projected, tracks.xy, tracks.weight, quantile=0.98, counted=tracks.weight > 0) / image_size


def track_depth(tracks: TrackPredictions) -> Float[Tensor, ""]:
    """Weighted L1 of disparities between rendered track points and the observed depth at the target pixel."""
    known, z = tracks.depth > 0, tracks.points[:, 2:]
    observed = torch.where(known, tracks.depth, 1.0).reciprocal()
    predicted = z.clamp_min(1e-6).reciprocal()
    # Without the guard a pixel that renders nothing (z at the clamp) would dominate with a disparity of 1e6.
    weight = tracks.weight * known * (z[:, 0].detach() > 1e-3)
    return masked_l1(predicted, observed[:, None], weight)
