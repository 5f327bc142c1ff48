"""Defocus by a thin lens, as the mean of pinhole images from points of the lens: right at the edges of occluders too.

A pinhole at the lens point o sees the scene shifted; moving the principal point by ``f o / d`` with the focus distance d
keeps the plane at that depth in place, so that it alone stays sharp. What is left at depth z is a shift of
``f o (1/d - 1/z)`` pixels, which makes a disc of radius ``f a |1/z - 1/d|`` of a point (a: radius of the lens).

"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.exposure.base import Blend, ExposureConfig, ExposureModel, Mode, per_instant
from dyngs_plugins.types import Instants

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews

GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
CHOSEN_BLUR = 1.5
"""Pixels of blur radius that an aperture chosen from the clip makes of a point at a far or near depth."""


def lens_points(count: int) -> Float[Tensor, "m 2"]:
    """Points spread evenly over the unit disc on Vogel's spiral, centred so that defocus shifts no image."""
    index = torch.arange(count, dtype=torch.float32)
    radius, angle = torch.sqrt((index + 0.5) / count), index * GOLDEN_ANGLE
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return points - points.mean(dim=0)


def through_the_lens(
    camera_T_world: Float[Tensor, "*m 4 4"],
    K: Float[Tensor, "*m 3 3"],
    points: Float[Tensor, "*m 2"],
    inverse_focus: Float[Tensor, "*m"],
) -> tuple[Float[Tensor, "*m 4 4"], Float[Tensor, "*m 3 3"]]:
    """Cameras moved to points of their lens (scene units) with the principal points that keep the focus in place."""
    zero = torch.zeros_like(points[..., :1])
    offset = torch.cat([points, zero, zero], dim=-1)
    shift = torch.cat([points * inverse_focus[..., None] * torch.stack([K[..., 0, 0], K[..., 1, 1]], -1), zero], dim=-1)
    moved = camera_T_world - _in_last_column(offset)
    return moved, K + _in_last_column(shift)


def _in_last_column(column: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d d"]:
    d = column.shape[-1]
    return torch.cat([column.new_zeros(*column.shape, d - 1), column[..., None]], dim=-1)


@dataclass
class LensConfig(ExposureConfig):
    """A lens with a radius and a focus distance, both learned."""

    aperture: float = 0.0
    """Radius of the lens to start from, in scene units; 0: chosen so that the clip's depths blur a little."""
    focus_distance: float = 0.0
    """Depth in focus to start from, in scene units; 0: the clip's median disparity."""
    per_frame: bool = False
    """Whether every training view has a lens of its own, or all share one."""
    aperture_rate: float = 1e-2
    """Learning rate of the aperture's logarithm."""
    focus_rate: float = 2e-3
    """Learning rate of the inverse focus distance."""
    learn_aperture: bool = True
    learn_focus: bool = True

    def rates(self) -> dict[str, float]:
        return {"exposure_log_aperture": self.aperture_rate, "exposure_inverse_focus": self.focus_rate}


class Lens(ExposureModel):
    """Parameters: ``log_aperture [views or 1]`` (scene units) and ``inverse_focus [views or 1]`` (1 / scene units)."""

    def __init__(self, config: LensConfig, num_views: int, num_frames: int):
        super().__init__()
        for name, value in (("aperture", config.aperture), ("focus_distance", config.focus_distance)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; expected a length in scene units, or 0 to take it from the clip.")
        self.config = config
        count = num_views if config.per_frame else 1
        self.log_aperture = nn.Parameter(
            torch.full((count,), math.log(config.aperture or 1e-2)), requires_grad=config.learn_aperture
        )
        self.inverse_focus = nn.Parameter(
            torch.full((count,), 1.0 / (config.focus_distance or 1.0)), requires_grad=config.learn_focus
        )

    def lens_of(self, view_index: Int[Tensor, "j"]) -> tuple[Float[Tensor, "j"], Float[Tensor, "j"]]:
        """Radius and inverse focus distance of some training views."""
        row = view_index if self.config.per_frame else torch.zeros_like(view_index)
        return self.log_aperture[row].exp(), self.inverse_focus[row]

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        learned = {"log_aperture": self.config.learn_aperture, "inverse_focus": self.config.learn_focus}
        return {name: ps for name, ps in super().param_groups().items() if learned[name.removeprefix("exposure_")]}

    @torch.no_grad()
    def start_from(self, views: ClipViews) -> None:
        """Focus on the median disparity and open the lens a little, unless the config says where to start."""
        disparity = _disparities(views)
        if disparity is None:
            if self.config.focus_distance and self.config.aperture:
                return
            raise ValueError(
                "The lens is to start from the clip's depths, but the clip has neither depth nor a point cloud. Give "
                "both exposure settings focus_distance and aperture, in scene units, or add depth (`dyngs process`)."
            )
        low, middle, high = disparity.quantile(disparity.new_tensor([0.1, 0.5, 0.9])).tolist()
        if not self.config.focus_distance:
            self.inverse_focus.fill_(middle)
        if not self.config.aperture:
            reach = max(high - middle, middle - low, 0.05 * middle)
            self.log_aperture.fill_(math.log(CHOSEN_BLUR / (float(views.K[0, 0, 0]) * reach)))


def _disparities(views: ClipViews) -> Float[Tensor, "p"] | None:
    """Inverse depths all over the clip, from depth maps, else from the point cloud."""
    if views.priors.depth_files is not None:
        chosen = torch.linspace(0, len(views) - 1, min(len(views), 8)).round().long().tolist()
        depth = torch.cat([views.depth(i)[::4, ::4].flatten() for i in chosen])
    elif views.points is not None and len(views.points) > 0:
        rows = views.points[:: max(1, len(views.points) // 1000)]
        depth = (rows @ views.camera_T_world[:, 2, :3].T + views.camera_T_world[:, 2, 3]).flatten()
    else:
        return None
    depth = depth[depth > 0]
    return 1 / depth if depth.numel() else None


@dataclass
class DefocusExposureConfig(LensConfig):
    """Defocus as the mean of images from points of a lens."""

    _target: type = field(default_factory=lambda: DefocusExposure)
    num_points: int = 9
    """Points of the lens, each a render."""
    blend: Blend = "linear"
    """Whether to average linear light, as a lens does, or display values."""

    def __post_init__(self) -> None:
        if self.num_points < 2:
            raise ValueError(f"num_points is {self.num_points}; expected at least 2 points of the lens. Try 9.")


class DefocusExposure(Lens):
    """The mean of the images from ``num_points`` points of a lens; cameras that are no training views are pinholes."""

    config: DefocusExposureConfig

    def __init__(self, config: DefocusExposureConfig, num_views: int, num_frames: int):
        super().__init__(config, num_views, num_frames)
        self.blend = config.blend
        self.register_buffer("points", lens_points(config.num_points), persistent=False)
        self.points: Tensor

    def spread(self, instants: Instants, view_index: Int[Tensor, "b"] | None, mode: Mode) -> Instants:
        if view_index is None or mode != "train":
            return instants
        aperture, inverse_focus = self.lens_of(view_index[instants.view])
        count = self.config.num_points
        points = aperture[:, None, None] * self.points
        spread = per_instant(
            instants,
            count,
            instants.camera_T_world[:, None].expand(-1, count, 4, 4),
            instants.time[:, None].expand(-1, count),
        )
        cameras, K = through_the_lens(
            spread.camera_T_world, spread.K, points.reshape(-1, 2), inverse_focus.repeat_interleave(count)
        )
        return replace(spread, camera_T_world=cameras, K=K)
