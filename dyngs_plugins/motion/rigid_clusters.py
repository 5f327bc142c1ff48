"""Rigid motions of clusters of tracks, also where a cluster, or a track, is not seen.

Things turn: sides that a clip shows late were hidden before, and the other way round. What was seen of the rest tells
where they were then. Shape of Motion's code holds tracks and motions at their ends instead, so that such sides stand
still where they were seen first or last, away from their thing; a second camera sees them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.motion.rotations import matrix_from_6d, matrix_to_6d
from dyngs_plugins.motion.track_gaps import interpolate_tracks, seen_span

NEARNESS = 0.01
"""What the distance to a cluster counts, against how well its motion fits, when a track is carried by one."""


@dataclass(frozen=True)
class RigidMotion:
    """Where a rigid motion takes points, from a reference frame to every frame."""

    rots: Float[Tensor, "t 6"]
    """First two columns of the rotations, of length 1 where the motion was solved."""
    translation: Float[Tensor, "t 3"]
    solved: Bool[Tensor, "t"]
    """Frames in which points were seen to move so; the others are interpolated, or held at the ends."""

    @cached_property
    def rotation(self) -> Float[Tensor, "t 3 3"]:
        return matrix_from_6d(self.rots)

    def back(self, points: Float[Tensor, "n 3"], frames: Int[Tensor, "n"]) -> Float[Tensor, "n 3"]:
        """Where points that are seen in some frames are in the reference frame."""
        return ((points - self.translation[frames])[:, None] @ self.rotation[frames])[:, 0]

    def path(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n t 3"]:
        """Points of the reference frame in every frame."""
        return torch.einsum("tij,nj->nti", self.rotation, points) + self.translation

    def relative_to(self, frame: int) -> RigidMotion:
        """The same motion from another reference frame."""
        rotation = self.rotation @ self.rotation[frame].T
        return RigidMotion(matrix_to_6d(rotation), self.translation - rotation @ self.translation[frame], self.solved)


def rigid_motions(
    points: Float[Tensor, "m t 3"],
    weights: Float[Tensor, "m t"],
    confidence: Float[Tensor, "m t"],
    reference: int,
) -> RigidMotion:
    """The rigid motion of one cluster from the frame ``reference`` to every frame.

    Frames with too little support (total weight below ``0.1 T``) are interpolated between their solved neighbours. The
    paper's code repeats the last solved transform there; interpolation keeps held-out frames on a smooth path.
    """
    t = points.shape[1]
    source = points[:, reference]
    pair = weights[:, reference, None] * weights * 0.5 * (confidence[:, reference, None] + confidence)
    rotation, translation = weighted_procrustes(source[None].expand(t, -1, -1), points.transpose(0, 1), pair.T)
    solved = pair.sum(dim=0) >= 0.1 * t
    solved[reference] = True
    identity = torch.eye(3, device=points.device)
    rotation[reference], translation[reference] = identity, 0.0
    filled = interpolate_tracks(torch.cat([matrix_to_6d(rotation), translation], dim=-1)[None], solved[None])[0]
    return RigidMotion(filled[:, :6], filled[:, 6:], solved)


def misfit(
    motion: RigidMotion | None, points: Float[Tensor, "n t 3"], seen: Bool[Tensor, "n t"], start: Int[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """Mean distance of tracks, where they are seen, from a rigid motion that they follow from frame ``start`` on.

    Without a motion: from standing still.
    """
    here = points[torch.arange(len(points), device=points.device), start]
    path = here[:, None] if motion is None else motion.path(motion.back(here, start))
    off = (path - points).norm(dim=-1)
    return (off * seen).sum(dim=1) / seen.sum(dim=1).clamp_min(1)


def carry_ends(
    own: RigidMotion, others: Sequence[RigidMotion], points: Float[Tensor, "m t 3"], visible: Bool[Tensor, "m t"]
) -> RigidMotion:
    """A cluster's motion, carried on by another cluster's before and after the frames that show it.

    By the one that fits the cluster's tracks best (see :func:`best_guide`); without any, the cluster waits where it was
    seen first or last.

    Args:
        points, visible: of the cluster's tracks.
    """
    guide = best_guide(others, points, visible)
    if guide is None:
        return own
    frames = torch.arange(visible.shape[1], device=visible.device)
    solved, both = frames[own.solved], frames[own.solved & guide.solved]
    rotation, translation = own.rotation.clone(), own.translation.clone()
    for joint, beyond in ((both[:1], frames < solved[0]), (both[-1:], frames > solved[-1])):
        for frame in joint.tolist():  # none, where the two were never solved at once
            onwards = guide.relative_to(frame)
            rotation[beyond] = (onwards.rotation @ own.rotation[frame])[beyond]
            translation[beyond] = (onwards.rotation @ own.translation[frame] + onwards.translation)[beyond]
    return RigidMotion(matrix_to_6d(rotation), translation, own.solved)


def best_guide(
    motions: Sequence[RigidMotion], points: Float[Tensor, "m t 3"], visible: Bool[Tensor, "m t"]
) -> RigidMotion | None:
    """The motion that fits tracks best, if it at least halves their distance from standing still.

    Judged in frames in which the motion was solved, which have to show half of the tracks twice.
    """
    best, bar = None, 0.5 * float(misfit(None, points, visible, visible.int().argmax(dim=1)).mean())
    for motion in motions:
        seen = visible & motion.solved
        judged = seen.sum(dim=1) > 1
        if 2 * int(judged.sum()) < len(points):
            continue
        off = float(misfit(motion, points, seen, seen.int().argmax(dim=1))[judged].mean())
        if off < bar:
            best, bar = motion, off
    return best


def canonical_places(
    points: Float[Tensor, "n t 3"],
    visible: Bool[Tensor, "n t"],
    motions: Sequence[RigidMotion],
    clusters: Sequence[Bool[Tensor, "n"]],
    canonical_frame: int,
) -> Float[Tensor, "n 3"]:
    """Where tracks are in the canonical frame; those that were only seen before or after it are carried there.

    Each by the cluster's motion that fits it best, from the nearest frame that shows it. Where motions fit equally
    well, as for a track of one frame, the nearer cluster decides.

    Args:
        points: completed between the frames that show them (see :func:`interpolate_tracks`).
        motions: of every cluster, from the canonical frame on.
        clusters: which tracks belong to each; some may belong to none.
    """
    (n, t), span = visible.shape, seen_span(visible)
    away = (torch.arange(t, device=points.device) - canonical_frame).abs()
    nearest = torch.where(span, away, away + t).argmin(dim=1)
    here = points[torch.arange(n, device=points.device), nearest]
    best, carried = points.new_full((n,), float("inf")), points[:, canonical_frame]
    for motion, own in zip(motions, clusters, strict=True):
        places = motion.back(here, nearest)
        off = misfit(motion, points, visible, nearest)
        off = off + NEARNESS * (places - places[own].median(dim=0).values).norm(dim=-1)
        carried = torch.where((off < best)[:, None], places, carried)
        best = torch.minimum(best, off)
    return torch.where(span[:, canonical_frame, None], points[:, canonical_frame], carried)


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
