"""Blur as the mean of sharp images along a path of the camera within the exposure (BAD-NeRF, BAD-Gaussians).

Every training view has a path of its own: control poses that start at the identity, in the frame of its camera.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.exposure.path import PathExposure, PathExposureConfig
from dyngs_plugins.exposure.trajectories import KNOTS, Kind, poses_along


@dataclass
class CameraPathExposureConfig(PathExposureConfig):
    """A learned path of the camera during each exposure."""

    _target: type = field(default_factory=lambda: CameraPathExposure)
    trajectory: Kind = "linear"
    """linear: two control poses; bspline: four, a cubic B-spline; bezier: nine."""
    anchor: float = 1e-3
    """Weight of the middle pose's squared distance from the given one, which fixes the gauge of path and scene."""
    learning_rate: float = 1e-3
    """Of the control poses (BAD-Gaussians')."""

    def rates(self) -> dict[str, float]:
        return {**super().rates(), "exposure_knots": self.learning_rate}


class CameraPathExposure(PathExposure):
    """Parameters: ``knots [views, control poses, 6]``, twists [translation in scene units, rotation in radians]."""

    config: CameraPathExposureConfig

    def __init__(self, config: CameraPathExposureConfig, num_views: int, num_frames: int):
        super().__init__(config, num_views, num_frames)
        self.knots = nn.Parameter(torch.zeros(num_views, KNOTS[config.trajectory], 6))

    def motion(
        self, view_index: Int[Tensor, "j"], camera_T_world: Float[Tensor, "j 4 4"], u: Float[Tensor, "s"]
    ) -> Float[Tensor, "j s 4 4"]:
        return poses_along(self.config.trajectory, self.knots[view_index], u)

    def regularisers(self, view_index: Int[Tensor, "b"] | None) -> dict[str, Tensor]:
        penalties = super().regularisers(view_index)
        if view_index is not None and self.config.anchor > 0.0 and not self.config.pin_middle:
            middle = poses_along(self.config.trajectory, self.knots[view_index], self.knots.new_tensor([0.5]))[:, 0]
            off = (middle - torch.eye(4, device=middle.device))[:, :3]
            penalties["exposure_anchor"] = self.config.anchor * off.square().sum(dim=(1, 2)).mean()
        return penalties
