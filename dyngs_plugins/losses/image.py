"""Losses between rendered and observed images: colour, coverage, depth and depth gradients."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dyngs_plugins.losses.robust import masked_l1
from dyngs_plugins.raster.ssim import ssim


def photometric(
    prediction: Float[Tensor, "b h w 3"],
    target: Float[Tensor, "b h w 3"],
    valid: Bool[Tensor, "b h w"] | None = None,
    ssim_weight: float = 0.2,
) -> Float[Tensor, ""]:
    """``(1 - s) mean|I' - I| + s (1 - SSIM)``; pixels that are not valid are painted white in both images."""
    if valid is not None:
        kept = valid[..., None].to(prediction.dtype)
        prediction = torch.addcmul(1 - kept, prediction, kept)  # a third of the time of torch.where
        target = torch.addcmul(1 - kept, target, kept)
    l1 = (prediction - target).abs().mean()
    if ssim_weight == 0.0:
        return l1
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim(prediction, target))


def coverage(
    alpha: Float[Tensor, "b h w 1"],
    dynamic: Float[Tensor, "b h w 1"],
    observed: Float[Tensor, "b h w"] | None,
    valid: Bool[Tensor, "b h w"] | None,
) -> Float[Tensor, ""]:
    """``mean (alpha - 1)^2`` plus the trimmed L1 between the rendered and the observed moving mask (q = 0.98)."""
    loss = (alpha - 1).square().mean()
    if observed is not None:
        weight = None if valid is None else valid.to(alpha.dtype)
        loss = loss + masked_l1(dynamic, observed[..., None], weight, quantile=0.98)
    return loss


def disparity(depth: Tensor) -> Tensor:
    """``1 / (z + 1e-5)``, the scale on which depths are compared."""
    return (depth.clamp_min(0) + 1e-5).reciprocal()


def depth_l1(
    depth: Float[Tensor, "b h w 1"], observed: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Trimmed L1 of disparities over valid pixels (q = 0.98)."""
    # A disparity of 1e5 where nothing was rendered or observed must not set the trimming quantile.
    ours, theirs = disparity(depth), disparity(observed)[..., None]
    return masked_l1(ours, theirs, quantile=0.98, counted=valid)


def depth_gradient_l1(
    depth: Float[Tensor, "b h w 1"], observed: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Trimmed L1 (q = 0.95) of the forward differences of disparity in x plus the same in y.

    Only pixel pairs that are both valid count. Invariant to adding a constant to the disparities.
    """
    ours, theirs = disparity(depth[..., 0]), disparity(observed)
    losses = []
    for dim in (1, 2):
        n = valid.shape[dim]
        pairs = valid.narrow(dim, 1, n - 1) & valid.narrow(dim, 0, n - 1)
        slopes = torch.diff(ours, dim=dim)[..., None], torch.diff(theirs, dim=dim)[..., None]
        losses.append(masked_l1(*slopes, quantile=0.95, counted=pairs))
    return losses[0] + losses[1]
