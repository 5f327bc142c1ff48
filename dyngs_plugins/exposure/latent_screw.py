"""The camera's path in an exposure from a latent code that flows through time (MoBGS, Bui et al. 2025, BLCE).

Every training view has small networks of its own. A code of its blur, its pose and a learned vector is the start of an
ordinary differential equation, integrated by Euler's method; every state is decoded to a screw motion.
The middle state is replaced by the given camera, which is the anchor of the gauge and the sharp picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.encodings import frequency_encoding
from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.blur_score import blur_score
from dyngs_plugins.exposure.path import PathExposure, PathExposureConfig
from dyngs_plugins.exposure.shutter import ShutterConfig

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews

CODE = 32
HALF = CODE // 2
EMBEDDING = 8
BLUR_FREQUENCIES = 10
LONGEST_FLOW = 8.0
"""Nine cameras are unit steps apart, as in the paper; more share the same stretch, or their codes would grow without end."""


def screw_exp(
    axis: Float[Tensor, "*b 3"], moment: Float[Tensor, "*b 3"], angle: Float[Tensor, "*b 1"]
) -> Float[Tensor, "*b 4 4"]:
    """The screw motion about ``axis`` (of any length) by ``angle`` radians: the exponential of ``angle [moment, axis]``.

    An angle of 0 is the identity whatever the moment; a zero axis turns nothing.
    """
    unit = axis / (axis.norm(dim=-1, keepdim=True) + 1e-10)
    return se3.exp(torch.cat([angle * moment, angle * unit], dim=-1))


class PerViewLinear(nn.Module):
    """A linear layer for every training view."""

    def __init__(self, num_views: int, inputs: int, outputs: int, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_views, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(num_views, outputs))
        for weight in self.weight.data:
            nn.init.xavier_uniform_(weight, gain=gain)

    def of(self, view_index: Int[Tensor, "j"]) -> tuple[Float[Tensor, "j i o"], Float[Tensor, "j 1 o"]]:
        """Weight and bias of each view."""
        return self.weight[view_index].mT, self.bias[view_index][:, None]

    def forward(self, view_index: Int[Tensor, "j"], x: Float[Tensor, "j s i"]) -> Float[Tensor, "j s o"]:
        weight, bias = self.of(view_index)
        return torch.baddbmm(bias, x, weight)


class PerViewNetwork(nn.Module):
    """Two layers with a rectifier in between, for every training view."""

    def __init__(self, num_views: int, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.first = PerViewLinear(num_views, inputs, hidden)
        self.last = PerViewLinear(num_views, hidden, outputs)

    def forward(self, view_index: Int[Tensor, "j"], x: Float[Tensor, "j s i"]) -> Float[Tensor, "j s o"]:
        return self.last(view_index, self.first(view_index, x).relu())


class LatentCameras(nn.Module):
    """Blur, pose and view to the screw motions of ``count`` latent cameras."""

    def __init__(self, num_views: int, count: int):
        super().__init__()
        self.count = count
        self.step = min(1.0, LONGEST_FLOW / max(count - 1, 1))
        self.view_code = nn.Parameter(torch.zeros(num_views, CODE))
        self.blur_code = PerViewNetwork(num_views, 1 + 2 * BLUR_FREQUENCIES, CODE, CODE)
        self.pose_code = PerViewLinear(num_views, 12, CODE)
        self.start = PerViewLinear(num_views, 3 * CODE, CODE)
        self.blur_embedding = PerViewLinear(num_views, 1 + 2 * BLUR_FREQUENCIES, EMBEDDING)
        self.time_embedding = nn.Parameter(0.1 * torch.randn(num_views, count, EMBEDDING))
        self.turning = PerViewNetwork(num_views, HALF + 2 * EMBEDDING, CODE, HALF)
        self.moving = PerViewNetwork(num_views, HALF + 2 * EMBEDDING, CODE, HALF)
        # Nearly the identity at the start.
        self.axis = PerViewLinear(num_views, HALF, 3, gain=1e-5)
        self.moment = PerViewLinear(num_views, HALF, 3, gain=1e-5)
        self.angle = PerViewLinear(num_views, HALF, 1, gain=1e-5)

    def forward(
        self, view_index: Int[Tensor, "j"], blur: Float[Tensor, "j 1"], pose: Float[Tensor, "j 12"]
    ) -> Float[Tensor, "j s 4 4"]:
        waves = frequency_encoding(blur, BLUR_FREQUENCIES, base=torch.pi)[:, None]
        view_code = self.view_code[view_index][:, None]
        codes = [self.blur_code(view_index, waves), self.pose_code(view_index, pose[:, None]), view_code]
        start = self.start(view_index, torch.cat(codes, dim=-1))
        turn, move = self.flow(view_index, start, self.blur_embedding(view_index, waves))
        axis, angle = self.axis(view_index, turn), self.angle(view_index, turn)
        return screw_exp(axis, self.moment(view_index, move), angle)

    def flow(
        self, view_index: Int[Tensor, "j"], start: Float[Tensor, "j 1 code"], blur: Float[Tensor, "j 1 e"]
    ) -> tuple[Float[Tensor, "j s half"], Float[Tensor, "j s half"]]:
        """The codes of turning and of moving at every camera.

        Both flow apart through networks of one shape: they are stacked as if they were views, for half of the launches.
        """
        layers = [(*net.first.of(view_index), *net.last.of(view_index)) for net in (self.turning, self.moving)]
        first, first_bias, last, last_bias = (torch.cat(pair) for pair in zip(*layers, strict=True))
        of_code, of_moment = first.split([HALF, 2 * EMBEDDING], dim=1)
        moments = torch.cat([self.time_embedding[view_index], blur.expand(-1, self.count, -1)], dim=-1)
        driven = torch.baddbmm(first_bias, torch.cat([moments, moments]), of_moment)  # the same whatever the codes
        code = torch.cat(start.split(HALF, dim=-1))
        codes = [code]
        for now in driven.split(1, dim=1)[:-1]:
            hidden = torch.baddbmm(now, code, of_code).relu()
            code = code.add(torch.baddbmm(last_bias, hidden, last), alpha=self.step)
            codes.append(code)
        turn, move = torch.cat(codes, dim=1).chunk(2)
        return turn, move


@dataclass
class LatentPathExposureConfig(PathExposureConfig):
    """Latent cameras along a learned flow of codes, the middle one pinned to the given camera."""

    _target: type = field(default_factory=lambda: LatentPathExposure)
    shutter: ShutterConfig = field(default_factory=lambda: ShutterConfig("estimated", half_exposure=0.4, shortest=0.02))
    learning_rate: float = 1e-4
    """Of the networks."""

    def rates(self) -> dict[str, float]:
        return {**super().rates(), "exposure_latents": self.learning_rate}


class LatentPathExposure(PathExposure):
    """Parameters: those of :class:`LatentCameras`. Buffer: ``blur [views]``, the training images' blur scores."""

    config: LatentPathExposureConfig

    def __init__(self, config: LatentPathExposureConfig, num_views: int, num_frames: int):
        super().__init__(config, num_views, num_frames)
        self.latents = LatentCameras(num_views, config.num_instants)
        self.register_buffer("blur", torch.zeros(num_views))
        self.blur: Tensor

    def start_from(self, views: ClipViews) -> None:
        super().start_from(views)
        scores = torch.tensor([blur_score(views.image(i)) for i in range(len(views))])
        self.blur.copy_(scores.to(self.blur))

    def motion(
        self, view_index: Int[Tensor, "j"], camera_T_world: Float[Tensor, "j 4 4"], u: Float[Tensor, "s"]
    ) -> Float[Tensor, "j s 4 4"]:
        """At the latent cameras nearest to the moments ``u``."""
        pose = camera_T_world.detach()[:, :3].flatten(1)
        motions = self.latents(view_index, self.blur[view_index][:, None], pose)
        last = self.config.num_instants - 1
        middle = torch.eye(4, device=motions.device).expand(len(view_index), 1, 4, 4)
        motions = torch.cat([motions[:, : last // 2], middle, motions[:, last // 2 + 1 :]], dim=1)
        ends = self.config.sampling == "ends"
        place = u * last if ends else (u * (last + 1) - 0.5).clamp(0, last)
        return motions[:, place.round().long()]
