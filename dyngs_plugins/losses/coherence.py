"""Penalties on motions that are coefficients per Gaussian: alike among neighbours, few, slow (Gaussian-Flow)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.losses.robust import nothing_observed


def coherence(
    coefficients: Float[Tensor, "n d"], points: Float[Tensor, "n 3"], neighbours: Int[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Weighted mean of the L1 distance between the coefficients of neighbours; 0 when all are equal.

    The weight falls from 1 for the nearest places to 1/2 for the farthest of a Gaussian's neighbours
    (Gaussian-Flow, Eq. 10; by true distances, where its code compares distances from the origin).
    """
    if coefficients.shape[0] < 2 or neighbours.shape[1] == 0:
        return nothing_observed(coefficients)
    fixed = points.detach()
    distance = (fixed[neighbours] - fixed[:, None]).norm(dim=-1)
    weight = 1 - 0.5 * distance / distance.amax(dim=1, keepdim=True).clamp_min(1e-12)
    apart = (coefficients[neighbours] - coefficients[:, None]).abs().sum(dim=-1)
    return (weight * apart).mean()


def sparsity(coefficients: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean magnitude of the coefficients: what need not move stands still (Gaussian-Flow's "moving loss")."""
    return coefficients.abs().mean() if coefficients.numel() > 0 else nothing_observed(coefficients)


def slowness(now: Float[Tensor, "b n 3"], later: Float[Tensor, "b n 3"]) -> Float[Tensor, ""]:
    """Mean L1 distance that centres move in a short time (Gaussian-Flow, Eq. 9)."""
    return (later - now).abs().mean() if now.numel() > 0 else nothing_observed(now)
