"""Penalties on how Gaussians move: smoothness, motion along the ray, local rigidity, shape."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dyngs_plugins.losses.robust import nothing_observed


def acceleration(x: Float[Tensor, "k t c"]) -> Float[Tensor, ""]:
    """``mean |2 x_t - x_{t-1} - x_{t+1}|_2``: 0 for trajectories linear in time (the sheet's A)."""
    if x.shape[1] < 3 or x.shape[0] == 0:
        return nothing_observed(x)
    return _norm(second_difference(x, 1)).mean()


def smooth_tracks(moved: Float[Tensor, "3 b n 3"]) -> Float[Tensor, ""]:
    """Half the mean norm of the second difference of the Gaussians' centres one frame before, at, and one frame after."""
    if moved.numel() == 0:
        return nothing_observed(moved)
    return 0.5 * _norm(second_difference(moved, 0)).mean()


def motion_along_ray(moved: Float[Tensor, "3 b n 3"], camera_centre: Float[Tensor, "b 3"]) -> Float[Tensor, ""]:
    """Mean squared displacement along the viewing ray, to both neighbouring frames; 0 for motion across the ray.

    The reference calls it an acceleration loss; it penalises velocity, and so does this one: depth along a ray is what
    a single camera cannot see.

    Args:
        moved: the Gaussians' centres one frame before, at, and one frame after.
    """
    if moved.numel() == 0:
        return nothing_observed(moved)
    ray = moved[1] - camera_centre[:, None]
    ray = ray / _norm(ray)[..., None]
    return 2 * (torch.diff(moved, dim=0) * ray).sum(-1).square().mean()


def scale_variance(log_scales: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean over Gaussians of the unbiased variance of their three log scales; 0 for isotropic Gaussians, which have one."""
    if log_scales.shape[0] == 0 or log_scales.shape[1] == 1:
        return nothing_observed(log_scales)
    # From pairs, so that equal scales give exactly 0: the variance of three numbers is a sixth of their squares' sum.
    return 0.5 * (log_scales - log_scales.roll(1, -1)).square().mean()


def rigidity(
    canonical: Float[Tensor, "n 3"], moved: Float[Tensor, "b n 3"], neighbours: Int[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Mean change of the distance between neighbouring Gaussians from the canonical frame to each time."""
    if canonical.shape[0] == 0:
        return nothing_observed(canonical)
    rest = _norm(canonical[neighbours] - canonical[:, None])
    now = _norm(moved[:, neighbours] - moved[:, :, None])
    return (now - rest).abs().mean()


class _Norm(torch.autograd.Function):
    """The plain norm has an undefined gradient at 0, which is exactly where a good fit ends up: here it is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = (x * x).sum(-1).clamp_min(1e-20).sqrt()
        ctx.save_for_backward(x, length)
        return length

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_length: Tensor) -> Tensor:  # type: ignore[override]
        x, length = ctx.saved_tensors
        return x * (d_length / length)[..., None]


def _norm(x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b"]:
    return _Norm.apply(x)  # type: ignore[return-value]


class _SecondDifference(torch.autograd.Function):
    """With a derivative in one piece: differentiating each of the three slices would fill three tensors with zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        return torch.diff(x, n=2, dim=dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        count = grad.shape[ctx.dim]
        shape = list(grad.shape)
        shape[ctx.dim] = count + 2
        d_x = grad.new_zeros(shape)
        d_x.narrow(ctx.dim, 0, count).add_(grad)
        d_x.narrow(ctx.dim, 1, count).sub_(grad, alpha=2)
        d_x.narrow(ctx.dim, 2, count).add_(grad)
        return d_x, None


def second_difference(x: Tensor, dim: int) -> Tensor:
    """``x_{t-1} - 2 x_t + x_{t+1}`` along an axis, which gets shorter by two."""
    return _SecondDifference.apply(x, dim)  # type: ignore[return-value]
