"""Cubic Hermite splines with a number of control points per curve (SplineGS, Park et al. 2025, Eq. 3 to 5).

A curve has ``m`` control points at equally spaced times of [0, 1] and passes through them. Its slopes there follow from
the neighbours (Catmull-Rom; one-sided at the ends), so that it is smooth, local, and reproduces straight lines exactly.
It is linear in the control points: everything here is a small matrix times them. Curves with different ``m`` lie side
by side in one table ``[n, capacity, c]``, padded behind each curve's own ``count``.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

FEWEST = 4
"""Control points that a curve keeps: the smallest number that can bend twice."""


def weights(times: Float[Tensor, "b"], count: int, capacity: int | None = None) -> Float[Tensor, "b k"]:
    """What each control point of a ``count``-point curve contributes at each time (clamped to [0, 1]); rows sum to 1.

    Differentiable in the times.

    Args:
        capacity: pad the rows with zeros to this length; None: ``count``.

    Raises:
        ValueError: a curve of less than two points.
    """
    if count < 2:
        raise ValueError(f"A spline of {count} control point(s) was asked for; expected 2 or more.")
    x = times.clamp(0, 1) * (count - 1)
    left = x.detach().floor().long().clamp(0, count - 2)
    u = (x - left)[:, None]
    eye = torch.eye(count, dtype=times.dtype, device=times.device)
    here, there = eye[left], eye[left + 1]
    values = (1 + 2 * u) * (1 - u) ** 2 * here + u**2 * (3 - 2 * u) * there
    slopes = u * (1 - u) ** 2 * here + u**2 * (u - 1) * there
    found = values + slopes @ _slopes(count).to(times)
    return found if capacity is None else torch.nn.functional.pad(found, (0, capacity - count))


@lru_cache(maxsize=128)
def _slopes(count: int) -> Float[Tensor, "k k"]:
    """The matrix from control points to the slopes there, per step from one to the next."""
    eye = torch.eye(count, dtype=torch.float64)
    following = torch.cat([eye[1:], eye[-1:]])
    preceding = torch.cat([eye[:1], eye[:-1]])
    halved = torch.full((count, 1), 0.5, dtype=torch.float64)
    halved[0] = halved[-1] = 1.0
    return halved * (following - preceding)


def evaluate(
    control: Float[Tensor, "n k c"], counts: Int[Tensor, "n"], times: Float[Tensor, "b"]
) -> Float[Tensor, "b n c"]:
    """Every curve at every time; what lies behind a curve's count is never touched."""
    n, capacity, channels = control.shape
    present = torch.unique(counts).tolist()
    if len(present) <= 1:  # one matrix product for all
        count = present[0] if present else capacity
        flat = control[:, :count].transpose(0, 1).reshape(count, n * channels)
        return (weights(times, count) @ flat).reshape(len(times), n, channels)
    table = torch.stack([weights(times, count, capacity) for count in present])  # [kinds, b, capacity]
    kind = torch.searchsorted(torch.tensor(present, device=counts.device), counts)
    return torch.bmm(table[kind], control).transpose(0, 1)


def fit(
    points: Float[Tensor, "n t c"],
    certainty: Float[Tensor, "n t"],
    times: Float[Tensor, "t"],
    count: int,
    stiffness: float = 1e-3,
) -> Float[Tensor, "n k c"]:
    """The control points of the weighted least-squares curves through points at given times.

    Args:
        certainty: weight of each point's squared distance.
        stiffness: weight of the control points' squared second differences, relative to the mean certainty: it settles
            curves with less observations than control points, and leaves straight lines alone.
    """
    basis = weights(times.double(), count)
    bend = torch.eye(count, dtype=torch.float64, device=points.device).diff(n=2, dim=0)
    scale = certainty.double().mean(dim=1).clamp_min(1e-12)
    weighted = certainty.double()[..., None] * basis
    normal = weighted.transpose(1, 2) @ basis + stiffness * scale[:, None, None] * (bend.T @ bend)
    # Straight lines have no stiffness: without any observation they would be undetermined.
    normal = normal + 1e-12 * scale[:, None, None] * torch.eye(count, dtype=torch.float64, device=points.device)
    right = weighted.transpose(1, 2) @ points.double()
    return torch.linalg.solve(normal, right).to(points)


@lru_cache(maxsize=256)
def refit(old: int, new: int) -> Float[Tensor, "new old"]:
    """The matrix from ``old`` control points to the ``new`` ones whose curve is nearest to theirs.

    Nearest at the old curve's knots when points are taken away (SplineGS, Eq. 7), at the new knots when points are
    added; there is nothing in it that depends on the curve.
    """
    knots = torch.linspace(0, 1, max(old, new), dtype=torch.float64)
    return torch.linalg.pinv(weights(knots, new)) @ weights(knots, old)
