"""The motion pre-fit: bases and centres against lifted 3-D tracks, all frames at once, before anything is rendered.

Source: Shape of Motion's "initial optimisation"; the sheet's section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.losses.motion import acceleration
from dyngs_plugins.losses.robust import masked_l1
from dyngs_plugins.losses.tracks import project
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.priors.lifting import Tracks3D
from dyngs_plugins.priors.views import ClipViews


@dataclass(frozen=True)
class PrefitTarget:
    """What the dynamic Gaussians' trajectories are fitted to; row i belongs to Gaussian i."""

    points: Float[Tensor, "n t 3"]
    visible_weight: Float[Tensor, "n t"]
    """Confidence where visible: these points are compared in 3-D."""
    hidden_weight: Float[Tensor, "n t"]
    """Confidence where surely hidden: only their projection is known (the depth there is the occluder's)."""
    camera_T_world: Float[Tensor, "t 4 4"]
    K: Float[Tensor, "t 3 3"]

    @classmethod
    def from_tracks(cls, tracks: Tracks3D, views: ClipViews, device: torch.device) -> PrefitTarget:
        """Pair tracks with the cameras of the frames (of the clip's first camera; other cameras' stay unprojected)."""
        first = (views.camera_index == views.camera_index.min()).nonzero().flatten()
        frames = torch.arange(views.num_frames)
        # A held-out frame has no camera here; its neighbour's will do, since it has no observations either.
        nearest = first[(frames[:, None] - views.frame_index[first]).abs().argmin(dim=1)]
        camera_T_world, K = views.camera_T_world[nearest], views.K[nearest]
        hidden = tracks.confidence * tracks.invisible
        if int(views.camera_index.max()) > int(views.camera_index.min()):
            hidden = torch.zeros_like(hidden)
        target = cls(tracks.points, tracks.confidence * tracks.visible, hidden, camera_T_world, K)
        return cls(**{name: value.to(device) for name, value in vars(target).items()})


def prefit_losses(
    target: PrefitTarget, gaussians: GaussianSet, motion: MotionField, progress: float
) -> dict[str, Float[Tensor, ""]]:
    """The pre-fit's weighted losses; ``progress`` in [0, 1] is how far the stage has come.

    Smoothness weighs 0.01 for the first 40 %, then rises linearly to 0.1.
    """
    t = target.points.shape[1]
    times = torch.linspace(0, 1, t, device=target.points.device)
    moved = motion.positions(gaussians.activated(), times).transpose(0, 1)  # [n, T, 3]
    smoothness = 0.01 + 0.09 * max(0.0, (progress - 0.4) / 0.6)
    losses = {
        "prefit_3d": masked_l1(moved, target.points, target.visible_weight),
        "prefit_2d": 0.5 * _reprojection(moved, target),
        "prefit_smooth_tracks": 0.5 * smoothness * acceleration(moved),
        "prefit_along_ray": 0.1 * _along_ray(moved, target.camera_T_world),
    }
    losses.update(motion.prefit_regularisers(gaussians.activated(), smoothness))
    return losses


def _reprojection(moved: Float[Tensor, "n t 3"], target: PrefitTarget) -> Float[Tensor, ""]:
    """Distance in the image of points that are hidden, in units of the focal length, without the worst 5 %."""
    focal = target.K[:, 0, 0].clamp_min(1e-6)

    def pixels(points: Tensor) -> Tensor:
        rotation, translation = target.camera_T_world[:, :3, :3], target.camera_T_world[:, :3, 3]
        camera = torch.einsum("tij,ntj->nti", rotation, points) + translation
        return project(camera, target.K) / focal[:, None]

    # Of what was observed: where nothing is known of a point, its place says nothing, and would be trimmed instead.
    known = (target.visible_weight > 0) | (target.hidden_weight > 0)
    return masked_l1(pixels(moved), pixels(target.points), target.hidden_weight, quantile=0.95, counted=known)


def _along_ray(moved: Float[Tensor, "n t 3"], camera_T_world: Float[Tensor, "t 4 4"]) -> Float[Tensor, ""]:
    rotation, translation = camera_T_world[:, :3, :3], camera_T_world[:, :3, 3]
    centre = -(rotation.transpose(1, 2) @ translation[..., None])[..., 0]
    ray = torch.nn.functional.normalize(moved - centre, dim=-1)
    step = moved[:, 1:] - moved[:, :-1]
    if step.numel() == 0:
        return moved.sum() * 0.0
    return (step * ray[:, :-1]).sum(-1).square().mean() + (step * ray[:, 1:]).sum(-1).square().mean()
