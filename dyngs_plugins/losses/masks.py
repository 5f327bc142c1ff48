"""Losses on what moves alone: colour inside the mask, and how well the rendered mask overlaps the observed one."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from dyngs_plugins.losses.robust import masked_l1, nothing_observed


def inside_mask(
    prediction: Float[Tensor, "b h w 3"], target: Float[Tensor, "b h w 3"], mask: Bool[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Mean L1 over the mask's pixels: small objects count as much as large ones (SplineGS, section 4.4)."""
    if not bool(mask.any()):
        return nothing_observed(prediction)
    return masked_l1(prediction, target, mask.to(prediction.dtype))


def dice(
    prediction: Float[Tensor, "b h w 1"], target: Bool[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, ""]:
    """``1 - 2 sum(p m) / (sum p + sum m)`` over valid pixels (Milletari et al. 2016): 0 when a full mask is met exactly.

    Unlike a mean over pixels it does not favour an empty prediction where little moves. 0 where nothing moves.
    """
    observed = target.to(prediction.dtype)[..., None]
    if valid is not None:
        counted = valid.to(prediction.dtype)[..., None]
        prediction, observed = prediction * counted, observed * counted
    if not bool((observed > 0).any()):
        return nothing_observed(prediction)
    return 1 - 2 * (prediction * observed).sum() / (prediction.sum() + observed.sum())
