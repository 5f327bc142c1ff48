"""The exposure time from two flows: how far the picture moves within an exposure, over how far between frames.

MoBGS' latent camera-induced exposure estimation (Bui et al. 2025): the camera moves at a constant speed between frames,
so of the flow from the frame before to the frame after, the flow within the exposure has the exposure's share. Only what
stands still counts: its flow is the camera's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.raster import rasterize

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews
    from dyngs_plugins.scene import Scene, Views

STANDS_STILL = 0.25
"""Median flow between the neighbouring frames, in pixels, below which a ratio means nothing."""


def half_exposure_of(
    flow_within: Float[Tensor, "p 2"], flow_between: Float[Tensor, "p 2"], frames_between: int
) -> float | None:
    """The half exposure in frames: the median ratio of the flows' lengths, or None where the camera stands still.

    Args:
        flow_within: from the exposure's start to its end, at some pixels.
        flow_between: at the same pixels, over ``frames_between`` frames (2, or 1 at an end of the clip).
    """
    within, between = flow_within.norm(dim=-1), flow_between.norm(dim=-1)
    if between.numel() == 0 or float(between.median()) < STANDS_STILL:
        return None
    counted = between > torch.quantile(between[:: max(1, len(between) // 100_000)], 0.01)
    if not bool(counted.any()):
        return None
    return float((within[counted] / between[counted]).median()) * frames_between / 2


@dataclass(frozen=True)
class FlowRatio:
    """Cameras of all training views, and which were taken a frame before and after each by the same camera."""

    camera_T_world: Float[Tensor, "v 4 4"]
    before: Int[Tensor, "v"]
    """The view itself where there is none."""
    after: Int[Tensor, "v"]
    frames_between: Int[Tensor, "v"]

    @classmethod
    def of(cls, views: ClipViews) -> FlowRatio:
        """The neighbours in a clip."""
        known = {
            (int(c), int(f)): v for v, (c, f) in enumerate(zip(views.camera_index, views.frame_index, strict=True))
        }
        rows = [(int(c), int(f)) for c, f in zip(views.camera_index, views.frame_index, strict=True)]
        before = torch.tensor([known.get((c, f - 1), v) for v, (c, f) in enumerate(rows)])
        after = torch.tensor([known.get((c, f + 1), v) for v, (c, f) in enumerate(rows)])
        between = views.frame_index[after] - views.frame_index[before]
        return cls(views.camera_T_world, before, after, between)

    @torch.no_grad()
    def estimate(self, scene: Scene, views: Views, row: int, ends: Float[Tensor, "2 4 4"]) -> float | None:
        """The half exposure of one view of a batch from what the static Gaussians look like; None: it cannot be told.

        Args:
            ends: the camera at the start and the end of the exposure.
        """
        assert views.index is not None
        view, static = int(views.index[row]), scene.static
        if static is None or len(static) == 0 or int(self.frames_between[view]) == 0:
            return None
        gaussians = static.activated()
        neighbours = torch.stack([self.camera_T_world[self.before[view]], self.camera_T_world[self.after[view]]])
        pixels = [_project(gaussians.means, c, views.K[row]) for c in (*ends, *neighbours.to(ends))]
        flows = torch.cat([pixels[1] - pixels[0], pixels[3] - pixels[2]], dim=-1)
        image, alpha, _ = rasterize(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            flows,
            views.camera_T_world[row : row + 1],
            views.K[row : row + 1],
            views.width,
            views.height,
        )
        seen = image[0][alpha[0, ..., 0] > 0.5]
        return half_exposure_of(seen[:, :2], seen[:, 2:], int(self.frames_between[view]))


def _project(points: Float[Tensor, "n 3"], camera_T_world: Float[Tensor, "4 4"], K: Float[Tensor, "3 3"]) -> Tensor:
    seen = points @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
    z = seen[:, 2:].clamp_min(1e-2)
    return seen[:, :2] / z * torch.stack([K[0, 0], K[1, 1]]) + K[:2, 2]
