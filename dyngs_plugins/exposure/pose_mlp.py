"""The camera's path in an exposure as a function of its pose (Deblur4DGS, Wu et al. 2024, section "camera motion").

One small network for all frames reads the frame's pose and gives both ends of a linear path. Its last layers start at
zero, so that every path starts at the identity. Unlike the reference, the path moves the camera (on its right-hand
side), not the world's points, and one order of [translation, rotation] is kept throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.encodings import frequency_encoding
from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.path import PathExposure, PathExposureConfig
from dyngs_plugins.exposure.trajectories import poses_along

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews

FREQUENCIES = 5
WIDTH = 64


class PosePredictor(nn.Module):
    """A pose's twist to the twists of the path's two ends: 66 -> 5 x 64 -> two heads 64 -> 6.

    Buffers ``centre [6]`` and ``spread [6]``: where the clip's twists lie and how wide. They are subtracted and divided
    out, or neighbouring frames, a hundredth of a radian apart, would look all the same to the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(6))
        self.register_buffer("spread", torch.ones(6))
        self.centre: Tensor
        self.spread: Tensor
        layers: list[nn.Module] = []
        for inputs in (6 * (1 + 2 * FREQUENCIES), *[WIDTH] * 4):
            layers += [nn.Linear(inputs, WIDTH), nn.LeakyReLU(0.01)]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.01), nn.Linear(WIDTH, 6)) for _ in range(2)
        )
        for head in self.heads:
            last = head[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def know(self, twists: Float[Tensor, "v 6"]) -> None:
        """Take centre and spread from a clip's poses; translation and rotation have one spread each."""
        apart = (twists - twists.mean(dim=0)).reshape(-1, 2, 3)
        spread = apart.square().mean(dim=(0, 2)).sqrt()
        self.centre.copy_(twists.mean(dim=0))
        # A camera on a tripod has none; its rounding errors must not be blown up to one.
        self.spread.copy_(torch.where(spread > 1e-4, spread, 1.0).repeat_interleave(3))

    def forward(self, twist: Float[Tensor, "b 6"]) -> Float[Tensor, "b 2 6"]:
        features = self.trunk(frequency_encoding((twist - self.centre) / self.spread, FREQUENCIES, base=torch.pi))
        return torch.stack([head(features) for head in self.heads], dim=1)


@dataclass
class PosePathExposureConfig(PathExposureConfig):
    """A linear path of the camera that a small network predicts from its pose."""

    _target: type = field(default_factory=lambda: PosePathExposure)
    num_instants: int = 11
    learning_rate: float = 5e-4
    """Of the network."""

    def rates(self) -> dict[str, float]:
        return {**super().rates(), "exposure_predictor": self.learning_rate}


class PosePathExposure(PathExposure):
    """Parameters: those of one :class:`PosePredictor` for all views."""

    config: PosePathExposureConfig

    def __init__(self, config: PosePathExposureConfig, num_views: int, num_frames: int):
        super().__init__(config, num_views, num_frames)
        self.predictor = PosePredictor()

    def start_from(self, views: ClipViews) -> None:
        super().start_from(views)
        self.predictor.know(se3.log(views.camera_T_world))

    def motion(
        self, view_index: Int[Tensor, "j"], camera_T_world: Float[Tensor, "j 4 4"], u: Float[Tensor, "s"]
    ) -> Float[Tensor, "j s 4 4"]:
        return poses_along("linear", self.predictor(se3.log(camera_T_world.detach())), u)
