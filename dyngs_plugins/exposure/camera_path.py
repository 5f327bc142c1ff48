"""Blur as the mean of sharp images along a path of the camera within the exposure (BAD-NeRF, BAD-Gaussians).

Every training view has a path of its own: control poses that start at the identity, in the frame of its camera
(``world_T_camera`` times the path's motion). With an exposure time the scene moves meanwhile too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.exposure.base import ExposureConfig, ExposureModel, Mode
from dyngs_plugins.exposure.trajectories import KNOTS, Kind, poses_along
from dyngs_plugins.types import Instants, Render

GAMMA = 2.2
"""Of displays: linear light is the display value to this power."""


@dataclass
class CameraPathExposureConfig(ExposureConfig):
    """A learned path of the camera during each exposure."""

    _target: type = field(default_factory=lambda: CameraPathExposure)
    trajectory: Kind = "linear"
    """linear: two control poses; bspline: four, a cubic B-spline; bezier: nine."""
    num_instants: int = 9
    """Sharp images averaged; odd, so that the middle is one of them."""
    open_share: float = 0.0
    """How long the shutter is open, as a share of the time between two frames, for what moves; 0: the scene stands
    still during an exposure."""
    blend: Literal["display", "linear"] = "display"
    """Whether to average display values, as the papers do, or linear light, as film does."""
    anchor: float = 1e-3
    """Weight of the middle pose's squared distance from the given one, which fixes the gauge of path and scene."""


class CameraPathExposure(ExposureModel):
    """Parameters: ``knots [views, control poses, 6]``, twists [translation in scene units, rotation in radians]."""

    def __init__(self, config: CameraPathExposureConfig, num_views: int, num_frames: int):
        super().__init__()
        if config.num_instants < 1 or config.num_instants % 2 == 0:
            raise ValueError(
                f"num_instants is {config.num_instants}; expected an odd number, so that the sharp middle is one of the "
                "averaged images. Try 9."
            )
        self.config = config
        self.half_time = 0.5 * config.open_share / max(num_frames - 1, 1)
        """Half of the exposure, in the unit of time."""
        self.knots = nn.Parameter(torch.zeros(num_views, KNOTS[config.trajectory], 6))

    def path(self, view_index: Int[Tensor, "b"], u: Float[Tensor, "s"]) -> Float[Tensor, "b s 4 4"]:
        """The camera's motion ``given_T_moved`` at parameters u in [0, 1] of the views' exposures."""
        return poses_along(self.config.trajectory, self.knots[view_index], u)

    def instants(self, camera_T_world, K, time, view_index, mode: Mode) -> Instants:
        b = time.shape[0]
        count = self.config.num_instants if mode == "train" and view_index is not None else 1
        u = self._moments(mode, count).to(time)
        view = torch.arange(b, device=time.device).repeat_interleave(count)
        cameras = camera_T_world[:, None].expand(b, count, 4, 4)
        if view_index is not None:
            cameras = torch.linalg.inv(self.path(view_index, u)) @ cameras
        times = time[:, None] + (2 * u - 1) * self.half_time
        return Instants(
            camera_T_world=cameras.reshape(-1, 4, 4),
            K=K[view],
            time=times.clamp(0, 1).reshape(-1),
            weight=torch.full((b * count,), 1.0 / count, device=time.device),
            view=view,
            one_per_view=count == 1,
        )

    def _moments(self, mode: Mode, count: int) -> Float[Tensor, "s"]:
        if count > 1:
            return torch.linspace(0, 1, count)
        return torch.tensor([{"start": 0.0, "end": 1.0}.get(mode, 0.5)])

    def compose(self, render: Render, instants: Instants, views: int) -> Render:
        if instants.one_per_view:
            return render
        blended = super().compose(render, instants, views)
        if self.config.blend == "display":
            return blended
        linear = dict(render.channels) | {"rgb": render.channels["rgb"].clamp_min(1e-6) ** GAMMA}
        light = super().compose(Render(linear, render.alpha, None), instants, views).channels["rgb"]
        return Render(dict(blended.channels) | {"rgb": light ** (1 / GAMMA)}, blended.alpha, blended.depth, render.info)

    def regularisers(self, view_index: Int[Tensor, "b"] | None) -> dict[str, Tensor]:
        if view_index is None or self.config.anchor == 0.0:
            return {}
        middle = self.path(view_index, self.knots.new_tensor([0.5]))[:, 0]
        off = (middle - torch.eye(4, device=middle.device))[:, :3]
        return {"exposure_anchor": self.config.anchor * off.square().sum(dim=(1, 2)).mean()}
