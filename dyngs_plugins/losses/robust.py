"""The trimmed, weighted L1 that Shape of Motion builds most of its losses from, safe on empty sets."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def nothing_observed(*tensors: Tensor) -> Float[Tensor, ""]:
    """Exactly 0, attached to the given tensors' graph so that ``backward`` works where nothing was observed."""
    return sum((tensor.sum() * 0.0 for tensor in tensors), start=torch.zeros((), device=tensors[0].device))


def upper_quantile(values: Float[Tensor, "n"], q: float) -> Float[Tensor, ""]:
    """The ``q`` quantile (lower neighbour) of any number of values; ``torch.quantile`` refuses over 16.7 million."""
    rank = int(q * (values.numel() - 1)) + 1
    return values.kthvalue(rank).values


def masked_l1(
    prediction: Float[Tensor, "*n c"],
    target: Float[Tensor, "*n c"],
    weight: Float[Tensor, "*n"] | None = None,
    quantile: float = 1.0,
) -> Float[Tensor, ""]:
    """``sum w e / (sum w + 1e-8)`` with ``e`` the mean absolute error over channels, after trimming outliers.

    Elements whose error exceeds the ``quantile`` of all errors are dropped (Shape of Motion's helper of most losses).
    Errors *equal* to the quantile stay, so that a constant error is not trimmed away entirely. Returns 0 with a graph
    for empty input or zero total weight.
    """
    if prediction.numel() == 0:
        return nothing_observed(prediction)
    error = (prediction - target).abs().mean(dim=-1).reshape(-1)
    kept = torch.ones_like(error) if weight is None else weight.reshape(-1).to(error)
    if quantile < 1.0:
        kept = kept * (error.detach() <= upper_quantile(error.detach(), quantile))
    return (kept * error).sum() / (kept.sum() + 1e-8)
