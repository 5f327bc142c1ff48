"""How shared SE(3) bases start: cluster the 3-D tracks by velocity, then solve one rigid motion per cluster and frame.

Source: Shape of Motion, supplementary "Initialization"; the sheet's section 2.1, steps 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.motion.kmeans import kmeans
from dyngs_plugins.motion.rigid_clusters import canonical_places, carry_ends, rigid_motions
from dyngs_plugins.motion.track_gaps import best_seen, interpolate_tracks, seen_span

if TYPE_CHECKING:
    from dyngs_plugins.priors.lifting import Tracks3D

Hidden = Literal["hold", "carry"]
"""What is taken to happen before and after the frames that show a track or a cluster: it stands still where it was seen
first or last (Shape of Motion's code), or it goes on as what moves like it does (``rigid_clusters.py``)."""

HIDDEN_CERTAINTY = 0.01
"""What a track's place counts in a fit where it was only interpolated, or held, between frames that show it."""


@dataclass(frozen=True)
class FittedBases:
    """The bases and each track's logits on them."""

    rots: Float[Tensor, "k t 6"]
    transls: Float[Tensor, "k t 3"]
    coefs: Float[Tensor, "n k"]
    canonical: Float[Tensor, "n 3"]
    """Where each track is in the canonical frame."""


def fit_bases(
    tracks: Tracks3D,
    canonical_frame: int,
    num_bases: int,
    min_cluster_size: int,
    generator: torch.Generator,
    hidden: Hidden = "hold",
) -> FittedBases:
    """Cluster tracks and solve each cluster's rigid motion; the motion at ``canonical_frame`` is the identity.

    Args:
        hidden: what is taken to happen before and after the frames that show a track or a cluster.
    """
    if tracks.points.shape[0] == 0:
        raise ValueError(
            "There is no 3-D track to start the motion bases from: found 0 tracks of moving points. "
            "Check that the masks mark what moves (white) and that the track files cover it."
        )
    completed, visible = interpolate_tracks(tracks.points, tracks.visible), tracks.visible
    known = None if hidden == "hold" else known_velocities(visible)
    labels = kmeans(unit_velocities(completed), num_bases, generator, known=known)
    labels = keep_large_clusters(labels, num_bases, min_cluster_size)
    weights = observation_weights(completed, visible, labels)
    clusters, motions = [labels == k for k in range(int(labels.max()) + 1)], []
    for own in clusters:
        reference = canonical_frame if hidden == "hold" else best_seen(visible[own])
        motions.append(rigid_motions(completed[own], weights[own], tracks.confidence[own], reference))
    canonical = completed[:, canonical_frame]
    if hidden == "carry":
        motions = [
            carry_ends(motions[k], motions[:k] + motions[k + 1 :], completed[own], visible[own])
            for k, own in enumerate(clusters)
        ]
        motions = [motion.relative_to(canonical_frame) for motion in motions]
        canonical = canonical_places(completed, visible, motions, clusters, canonical_frame)
    centres = torch.stack([canonical[own].median(dim=0).values for own in clusters])
    coefs = 10.0 * torch.exp(-torch.cdist(canonical, centres))
    rots, transls = torch.stack([m.rots for m in motions]), torch.stack([m.translation for m in motions])
    return FittedBases(rots, transls, coefs, canonical)


def known_velocities(visible: Bool[Tensor, "n t"]) -> Bool[Tensor, "n d"]:
    """Which of the `unit_velocities` were seen: held at its ends, a side that appears late would seem to wait."""
    span = seen_span(visible)
    return (span[:, 1:] & span[:, :-1]).repeat_interleave(3, dim=1)


def displacements(tracks: Tracks3D, canonical_frame: int) -> tuple[Float[Tensor, "n t 3"], Float[Tensor, "n t"]]:
    """How each track moves, relative to its place in the canonical frame, and what each of its points counts in a fit."""
    completed = interpolate_tracks(tracks.points, tracks.visible)
    certainty = torch.where(tracks.visible, tracks.confidence, torch.zeros_like(tracks.confidence))
    return completed - completed[:, canonical_frame, None], certainty.clamp_min(HIDDEN_CERTAINTY)


def unit_velocities(points: Float[Tensor, "n t 3"]) -> Float[Tensor, "n d"]:
    """Directions of motion between successive frames, flattened: what k-means clusters."""
    steps = points[:, 1:] - points[:, :-1]
    return (steps / (steps.norm(dim=-1, keepdim=True) + 1e-5)).flatten(1)


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
    relative = points.new_full(visible.shape, float("nan"))
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
    weights = weights * (visible.to(weights) + 1e-6)
    return torch.where(torch.isfinite(relative) & (relative <= bar), weights, torch.zeros_like(weights))
