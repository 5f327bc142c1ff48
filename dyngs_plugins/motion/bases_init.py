"""How shared SE(3) bases start: cluster the 3-D tracks by velocity, then solve one rigid motion per cluster and frame.

Source: Shape of Motion, supplementary "Initialization"; the sheet's section 2.1, steps 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.motion.rotations import matrix_to_6d

if TYPE_CHECKING:
    from dyngs_plugins.priors.lifting import Tracks3D

HIDDEN_CERTAINTY = 0.01
"""What a track's place counts in a fit where it was only interpolated, or held, between frames that show it."""


@dataclass(frozen=True)
class FittedBases:
    """The bases and each track's logits on them."""

    rots: Float[Tensor, "k t 6"]
    transls: Float[Tensor, "k t 3"]
    coefs: Float[Tensor, "n k"]


def fit_bases(
    tracks: Tracks3D, canonical_frame: int, num_bases: int, min_cluster_size: int, generator: torch.Generator
) -> FittedBases:
    """Cluster tracks and solve each cluster's rigid motion; the motion at ``canonical_frame`` is the identity."""
    if tracks.points.shape[0] == 0:
        raise ValueError(
            "There is no 3-D track to start the motion bases from: found 0 tracks of moving points. "
            "Check that the masks mark what moves (white) and that the track files cover it."
        )
    completed = interpolate_tracks(tracks.points, tracks.visible)
    labels = kmeans(unit_velocities(completed), num_bases, generator)
    labels = keep_large_clusters(labels, num_bases, min_cluster_size)
    canonical = completed[:, canonical_frame]
    kept = int(labels.max()) + 1
    centres = torch.stack([canonical[labels == k].median(dim=0).values for k in range(kept)])
    weights = observation_weights(completed, tracks.visible, labels)
    rots, transls = [], []
    for k in range(kept):
        members = labels == k
        r, t = rigid_motions(completed[members], weights[members], tracks.confidence[members], canonical_frame)
        rots.append(r)
        transls.append(t)
    coefs = 10.0 * torch.exp(-torch.cdist(canonical, centres))
    return FittedBases(torch.stack(rots), torch.stack(transls), coefs)


def displacements(tracks: Tracks3D, canonical_frame: int) -> tuple[Float[Tensor, "n t 3"], Float[Tensor, "n t"]]:
    """How each track moves, relative to its place in the canonical frame, and what each of its points counts in a fit."""
    completed = interpolate_tracks(tracks.points, tracks.visible)
    certainty = torch.where(tracks.visible, tracks.confidence, torch.zeros_like(tracks.confidence))
    return completed - completed[:, canonical_frame, None], certainty.clamp_min(HIDDEN_CERTAINTY)


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


def unit_velocities(points: Float[Tensor, "n t 3"]) -> Float[Tensor, "n d"]:
    """Directions of motion between successive frames, flattened: what k-means clusters."""
    steps = points[:, 1:] - points[:, :-1]
    return (steps / (steps.norm(dim=-1, keepdim=True) + 1e-5)).flatten(1)


def kmeans(
    features: Float[Tensor, "n d"], k: int, generator: torch.Generator, restarts: int = 3, steps: int = 50
) -> Int[Tensor, "n"]:
    """Lloyd's algorithm from k-means++ seeds; the restart with the least within-cluster variance wins."""
    n = features.shape[0]
    k = min(k, n)
    best, best_cost = torch.zeros(n, dtype=torch.long, device=features.device), float("inf")
    for _ in range(restarts):
        centres = _plus_plus_seeds(features, k, generator)
        labels = torch.full((n,), -1, dtype=torch.long, device=features.device)
        distances = torch.cdist(features, centres)
        for _ in range(steps):
            new_labels = distances.argmin(dim=1)
            if torch.equal(new_labels, labels):
                break
            labels = new_labels
            sums = torch.zeros_like(centres).index_add_(0, labels, features)
            counts = torch.bincount(labels, minlength=k)[:, None]
            centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
            distances = torch.cdist(features, centres)
        cost = float(distances.min(dim=1).values.square().sum())
        if cost < best_cost:
            best, best_cost = labels, cost
    return best


def _plus_plus_seeds(features: Tensor, k: int, generator: torch.Generator) -> Tensor:
    n = features.shape[0]
    chosen = [int(torch.randint(n, (1,), generator=generator))]
    nearest = (features - features[chosen[0]]).square().sum(-1)
    for _ in range(1, k):
        probabilities = nearest + 1e-12  # all points equal: uniform
        chosen.append(int(torch.multinomial(probabilities.cpu(), 1, generator=generator)))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).square().sum(-1))
    return features[chosen]


def keep_large_clusters(labels: Int[Tensor, "n"], k: int, min_size: int) -> Int[Tensor, "n"]:
    """Renumber the clusters with more than ``min_size`` members as 0, 1, ...; the others' members become -1.

    The bar is lowered to a quarter of an even share where a clip has few tracks, and the largest cluster always stays:
    the reference crashes when every cluster is small.
    """
    counts = torch.bincount(labels, minlength=k)
    bar = min(min_size, labels.numel() // (4 * k))
    keep = counts > bar
    keep[counts.argmax()] = True
    renumbered = torch.full_like(counts, -1)
    renumbered[keep] = torch.arange(int(keep.sum()), device=labels.device)
    return renumbered[labels]


def observation_weights(
    points: Float[Tensor, "n t 3"], visible: Bool[Tensor, "n t"], labels: Int[Tensor, "n"]
) -> Float[Tensor, "n t"]:
    """How much each track's point counts in its cluster's rigid fit, per frame.

    ``exp(-d)`` of the distance to the cluster's per-axis median in units of the median distance, normalised to mean 1,
    times visibility; zero beyond the clip-wide 0.9 quantile of d.
    """
    relative = torch.full(visible.shape, float("nan"), device=points.device)
    weights = torch.zeros_like(relative)
    for k in range(int(labels.max()) + 1):
        members = labels == k
        cluster = points[members]
        distance = (cluster - cluster.median(dim=0, keepdim=True).values).norm(dim=-1)
        d = distance / distance.median(dim=0, keepdim=True).values.clamp_min(1e-9)
        w = torch.exp(-d)
        relative[members] = d
        weights[members] = w / w.mean(dim=0, keepdim=True).clamp_min(1e-12)
    finite = relative[torch.isfinite(relative)]
    bar = finite.kthvalue(max(1, int(0.9 * finite.numel()))).values if finite.numel() else relative.new_tensor(0.0)
    weights = weights * (visible.float() + 1e-6)
    return torch.where(torch.isfinite(relative) & (relative <= bar), weights, torch.zeros_like(weights))


def rigid_motions(
    points: Float[Tensor, "m t 3"],
    weights: Float[Tensor, "m t"],
    confidence: Float[Tensor, "m t"],
    canonical_frame: int,
) -> tuple[Float[Tensor, "t 6"], Float[Tensor, "t 3"]]:
    """The rigid motion of one cluster from the canonical frame to every frame.

    Frames with too little support (total weight below ``0.1 T``) are interpolated between their solved neighbours. The
    reference repeats the last solved transform there; interpolation keeps held-out frames on a smooth path.
    """
    t = points.shape[1]
    source = points[:, canonical_frame]
    pair = weights[:, canonical_frame, None] * weights * 0.5 * (confidence[:, canonical_frame, None] + confidence)
    rotation, translation = weighted_procrustes(source[None].expand(t, -1, -1), points.transpose(0, 1), pair.T)
    solved = pair.sum(dim=0) >= 0.1 * t
    solved[canonical_frame] = True
    identity = torch.eye(3, device=points.device)
    rotation[canonical_frame], translation[canonical_frame] = identity, 0.0
    rots, transls = matrix_to_6d(rotation), translation
    filled = interpolate_tracks(torch.cat([rots, transls], dim=-1)[None], solved[None])[0]
    return filled[:, :6], filled[:, 6:]


def weighted_procrustes(
    source: Float[Tensor, "*b m 3"], target: Float[Tensor, "*b m 3"], weights: Float[Tensor, "*b m"]
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3"]]:
    """The rigid transform minimising ``sum w |R x + t - y|^2`` (Kabsch 1976), a proper rotation (det +1).

    Zero total weight gives a well-defined but meaningless rotation; callers decide what to trust.
    """
    normalised = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    source_mean = (normalised[..., None] * source).sum(dim=-2, keepdim=True)
    target_mean = (normalised[..., None] * target).sum(dim=-2, keepdim=True)
    covariance = ((target - target_mean) * normalised[..., None]).transpose(-1, -2) @ (source - source_mean)
    u, _, vh = torch.linalg.svd(covariance.double())
    sign = torch.det(u @ vh)
    u = torch.cat([u[..., :, :2], u[..., :, 2:] * sign[..., None, None]], dim=-1)
    rotation = (u @ vh).to(source.dtype)
    translation = target_mean[..., 0, :] - (rotation @ source_mean[..., 0, :, None])[..., 0]
    return rotation, translation
