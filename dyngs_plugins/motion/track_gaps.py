"""Frames in which a point track is not seen: between others, and before or after all that show it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def interpolate_tracks(points: Float[Tensor, "n t c"], visible: Bool[Tensor, "n t"]) -> Float[Tensor, "n t c"]:
    """Fill the frames where a track is not visible: linear between its visible frames, held at the ends.

    A track that is never visible is returned unchanged.
    """
    n, t = visible.shape
    frames = torch.arange(t, device=points.device).expand(n, t)
    before = torch.where(visible, frames, -1).cummax(dim=1).values
    after = torch.where(visible, frames, t).flip(1).cummin(dim=1).values.flip(1)
    never = ~visible.any(dim=1, keepdim=True)
    left = torch.where(before >= 0, before, after.clamp_max(t - 1))
    right = torch.where(after < t, after, before.clamp_min(0))
    left, right = torch.where(never, frames, left), torch.where(never, frames, right)
    span = (right - left).clamp_min(1)
    fraction = ((frames - left).clamp_min(0) / span).clamp(0, 1)[..., None]
    rows = torch.arange(n, device=points.device)[:, None]
    return points[rows, left] * (1 - fraction) + points[rows, right] * fraction


def seen_span(visible: Bool[Tensor, "n t"]) -> Bool[Tensor, "n t"]:
    """The frames from the first to the last one that shows each track."""
    return (visible.int().cummax(dim=1).values & visible.int().flip(1).cummax(dim=1).values.flip(1)).bool()


def best_seen(visible: Bool[Tensor, "n t"]) -> int:
    """The frame in which most tracks are visible."""
    return int(visible.sum(dim=0).argmax())
