"""Penalties on how Gaussians move: smoothness, motion along the ray, local rigidity, shape."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.losses.robust import nothing_observed


def acceleration(x: Float[Tensor, "k t c"]) -> Float[Tensor, ""]:
    """``mean |2 x_t - x_{t-1} - x_{t+1}|_2``: 0 for trajectories linear in time (the sheet's A)."""
    if x.shape[1] < 3 or x.shape[0] == 0:
        return nothing_observed(x)
    return _norm(2 * x[:, 1:-1] - x[:, :-2] - x[:, 2:]).mean()


def smooth_tracks(before: Tensor, now: Tensor, after: Tensor) -> Float[Tensor, ""]:
    """Half the mean norm of the second difference of the Gaussians' centres ``[b, n, 3]`` at neighbouring frames."""
    if now.numel() == 0:
        return nothing_observed(now)
    return 0.5 * _norm(2 * now - before - after).mean()


def motion_along_ray(
    before: Float[Tensor, "b n 3"],
    now: Float[Tensor, "b n 3"],
    after: Float[Tensor, "b n 3"],
    camera_centre: Float[Tensor, "b 3"],
) -> Float[Tensor, ""]:
    """Mean squared displacement along the viewing ray, to both neighbouring frames; 0 for motion across the ray.

    The reference calls it an acceleration loss; it penalises velocity, and so does this one: depth along a ray is what
    a single camera cannot see.
    """
    if now.numel() == 0:
        return nothing_observed(now)
    ray = now - camera_centre[:, None]
    ray = ray / _norm(ray)[..., None]
    return ((now - before) * ray).sum(-1).square().mean() + ((after - now) * ray).sum(-1).square().mean()


def scale_variance(log_scales: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean over Gaussians of the unbiased variance of their three log scales; 0 for isotropic Gaussians."""
    if log_scales.shape[0] == 0 or log_scales.shape[1] < 2:
        return nothing_observed(log_scales)
    # From pairs, so that equal scales give exactly 0; of whole columns, because reducing a short last axis is slow.
    columns = log_scales.unbind(-1)
    pairs = [(a - b).square() for i, a in enumerate(columns) for b in columns[:i]]
    return sum(pairs[1:], start=pairs[0]).mean() / (len(columns) * (len(columns) - 1))


def rigidity(
    canonical: Float[Tensor, "n 3"], moved: Float[Tensor, "b n 3"], neighbours: Int[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Mean change of the distance between neighbouring Gaussians from the canonical frame to each time."""
    if canonical.shape[0] == 0:
        return nothing_observed(canonical)
    rest = _norm(canonical[neighbours] - canonical[:, None])
    now = _norm(moved[:, neighbours] - moved[:, :, None])
    return (now - rest).abs().mean()


def _norm(x: Tensor) -> Tensor:
    # The plain norm has an undefined gradient at 0, which is exactly where a good fit ends up.
    return (x * x).sum(-1).clamp_min(1e-20).sqrt()
