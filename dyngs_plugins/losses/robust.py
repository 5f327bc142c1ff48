"""The trimmed, weighted L1 that Shape of Motion builds most of its losses from, safe on empty sets."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dyngs_plugins.raster.ssim import has_numba


def nothing_observed(*tensors: Tensor) -> Float[Tensor, ""]:
    """Exactly 0, attached to the given tensors' graph so that ``backward`` works where nothing was observed."""
    return sum((tensor.sum() * 0.0 for tensor in tensors), start=torch.zeros((), device=tensors[0].device))


def upper_quantile(values: Float[Tensor, "n"], q: float) -> Float[Tensor, ""]:
    """The ``q`` quantile (lower neighbour) of any number of values; ``torch.quantile`` refuses over 16.7 million."""
    rank = int(q * (values.numel() - 1)) + 1
    if values.is_cuda:  # PyTorch looks for a k-th value with one block of threads, for the largest ones with many
        return values.topk(values.numel() - rank + 1, sorted=False).values.min()
    return values.kthvalue(rank).values


def masked_l1(
    prediction: Float[Tensor, "*n c"],
    target: Float[Tensor, "*n c"],
    weight: Float[Tensor, "*n"] | None = None,
    quantile: float = 1.0,
    counted: Bool[Tensor, "*n"] | None = None,
) -> Float[Tensor, ""]:
    """``sum w e / (sum w + 1e-8)`` with ``e`` the mean absolute error over channels, after trimming outliers.

    Elements whose error exceeds the ``quantile`` of all errors are dropped (Shape of Motion's helper of most losses).
    Errors *equal* to the quantile stay, so that a constant error is not trimmed away entirely. Returns 0 with a graph
    for empty input or zero total weight. On the CPU it runs compiled where numba is installed.

    Args:
        weight: of each element in the sums; the quantile is taken over all elements whatever their weight.
        counted: elements that exist at all; the others count in nothing, the quantile included.
    """
    if prediction.numel() == 0:
        return nothing_observed(prediction)
    fits = prediction.device.type == "cpu" and prediction.dtype == target.dtype == torch.float32
    if fits and not target.requires_grad and not (weight is not None and weight.requires_grad) and has_numba():
        return _TrimmedL1.apply(prediction, target, weight, quantile, counted)  # type: ignore[return-value]
    return masked_l1_reference(prediction, target, weight, quantile, counted)


def masked_l1_reference(
    prediction: Float[Tensor, "*n c"],
    target: Float[Tensor, "*n c"],
    weight: Float[Tensor, "*n"] | None = None,
    quantile: float = 1.0,
    counted: Bool[Tensor, "*n"] | None = None,
) -> Float[Tensor, ""]:
    """`masked_l1` in PyTorch: any device, any floating type."""
    error = (prediction - target).abs()
    error = (error if error.shape[-1] == 1 else error.mean(dim=-1)).reshape(-1)  # a mean over one element is slow
    known, counts = error.detach(), [] if weight is None else [weight.reshape(-1).to(error)]
    if counted is not None:
        known = known[counted.reshape(-1)]
        if known.numel() == 0:
            return nothing_observed(prediction)
        counts.append(counted.reshape(-1))
    if quantile < 1.0:
        counts.append(error.detach() <= upper_quantile(known, quantile))
    if not counts:
        return error.sum() / (error.numel() + 1e-8)
    kept = math.prod(counts[1:], start=counts[0])
    return (kept * error).sum() / (kept.sum() + 1e-8)


class _TrimmedL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, weight, quantile: float, counted) -> Tensor:
        from dyngs_plugins.raster.kernels.trimmed import trimmed_l1

        channels = prediction.shape[-1]
        ours, theirs = (x.detach().broadcast_to(prediction.shape).reshape(-1, channels) for x in (prediction, target))
        n = ours.shape[0]
        weights = torch.ones(1) if weight is None else weight.reshape(-1).float()
        exists = torch.ones(n, dtype=torch.bool) if counted is None else counted.reshape(-1)
        errors, gradient = torch.empty(n), torch.empty(n, channels)
        arrays = [x.contiguous().numpy() for x in (ours, theirs, weights, exists)]
        loss = trimmed_l1(*arrays, quantile, errors.numpy(), gradient.numpy())
        ctx.gradient = gradient.view(prediction.shape)
        return prediction.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor):  # type: ignore[override]
        return ctx.gradient * d_loss, None, None, None, None
