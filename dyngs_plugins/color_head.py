"""What turns rasterized colour channels into an image: nothing, or a small network that decodes features per pixel.

A head says which further columns every Gaussian carries, what is splatted in place of its colour, and what an image is
made of afterwards. It works on each sharp instant, before an exposure averages them: a network is not linear.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dyngs_plugins.config import ComponentConfig
from dyngs_plugins.exposure import se3
from dyngs_plugins.raster.harmonics import SH_C0
from dyngs_plugins.types import Gaussians, Instants


class ColorHead(nn.Module, ABC):
    """Between the rasterizer and the exposure: features in, colours out."""

    lost_in_export: str = ""
    """What of the colours a file of plain Gaussians cannot hold; empty where it holds all."""

    def columns(self) -> dict[str, tuple[int, ...]]:
        """The row-wise columns that every set of Gaussians gets: name to the shape of one row."""
        return {}

    def start(self, colors: Float[Tensor, "n 3"]) -> Mapping[str, Tensor]:
        """The values that :meth:`columns` start from, for Gaussians of the given colours in [0, 1]."""
        return {}

    @abstractmethod
    def features(
        self, gaussians: Gaussians, colors: Float[Tensor, "*b n 3"], times: Float[Tensor, "b"], moves: bool
    ) -> Float[Tensor, "*b n c"]:
        """What is splatted for one set of Gaussians.

        Args:
            gaussians: the set, with its columns.
            colors: theirs, as seen from the instants' cameras.
            times: of the instants.
            moves: whether it is the set that changes with time.
        """

    @abstractmethod
    def behind(self, background: Float[Tensor, "3"]) -> Float[Tensor, "c"]:
        """The features of a background of the given colour."""

    @abstractmethod
    def decode(self, features: Float[Tensor, "b h w c"], instants: Instants) -> Float[Tensor, "b h w 3"]:
        """The images of splatted features."""

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """The head's own parameters by parameter-group name."""
        parameters = list(self.parameters())
        return {"color_head": parameters} if parameters else {}


@dataclass
class ColorHeadConfig(ComponentConfig):
    """A colour head and its settings; ``setup()`` builds it."""

    _target: type = field(default_factory=lambda: PlainColors)


class PlainColors(ColorHead):
    """Colours are splatted as they are."""

    def __init__(self, config: ColorHeadConfig):
        super().__init__()

    def features(self, gaussians: Gaussians, colors: Tensor, times: Tensor, moves: bool) -> Tensor:
        return colors

    def behind(self, background: Tensor) -> Tensor:
        return background

    def decode(self, features: Tensor, instants: Instants) -> Tensor:
        return features


@dataclass
class SandwichHeadConfig(ColorHeadConfig):
    """SplineGS's decoder: view and time change colours through a network of 90 weights."""

    _target: type = field(default_factory=lambda: SandwichHead)


class SandwichHead(ColorHead):
    """``sigmoid(base + W2 relu(W1 [specular, time, ray]))`` per pixel (Spacetime Gaussians' "sandwich", in SplineGS).

    Nine channels are splatted: the logit of the Gaussian's colour, three for what depends on the view, three that grow
    with time (0 for what stands still). ``ray`` is the camera's centre and the pixel's direction in the world. The
    network starts as nothing (W2 = 0), so an export, which has no place for it, starts as what is rendered.
    """

    lost_in_export = "what SplineGS's decoder adds to them for view and time"

    def __init__(self, config: SandwichHeadConfig):
        super().__init__()
        self.hidden = nn.Linear(12, 6, bias=False)
        self.out = nn.Linear(6, 3, bias=False)
        nn.init.zeros_(self.out.weight)

    def columns(self) -> dict[str, tuple[int, ...]]:
        return {"view_features": (3,), "time_features": (3,)}

    def start(self, colors: Float[Tensor, "n 3"]) -> Mapping[str, Tensor]:
        return {"view_features": (colors - 0.5) / SH_C0, "time_features": torch.zeros_like(colors)}

    def features(self, gaussians: Gaussians, colors: Tensor, times: Tensor, moves: bool) -> Tensor:
        base, view = torch.logit(colors, eps=1e-6), gaussians.columns["view_features"]
        changing = gaussians.columns["time_features"]
        if not moves:
            still = [base, *(c.expand_as(base) for c in (view, torch.zeros_like(changing)))]
            return torch.cat(still, dim=-1)
        grown = times.detach().clamp(0, 1)[:, None, None] * changing
        return torch.cat([base.expand_as(grown), view.expand_as(grown), grown], dim=-1)

    def behind(self, background: Float[Tensor, "3"]) -> Float[Tensor, "c"]:
        return torch.cat([torch.logit(background, eps=1e-3), background.new_zeros(6)])

    def decode(self, features: Float[Tensor, "b h w c"], instants: Instants) -> Float[Tensor, "b h w 3"]:
        height, width = features.shape[1:3]
        centre, directions = pixel_rays(instants, width, height)
        seen, origin, ray = self.hidden.weight.split([6, 3, 3], dim=1)
        hidden = features[..., 3:] @ seen.T + directions @ ray.T + (centre @ origin.T)[:, None, None]
        return torch.sigmoid(features[..., :3] + torch.relu(hidden) @ self.out.weight.T)


def pixel_rays(instants: Instants, width: int, height: int) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b h w 3"]]:
    """The cameras' centres and the unit directions of their pixels' rays, in the world."""
    K, camera_T_world = instants.K, instants.camera_T_world
    world_T_camera = se3.invert(camera_T_world)
    x = (torch.arange(width, device=K.device) + 0.5 - K[:, 0, 2, None]) / K[:, 0, 0, None]  # [b, w]
    y = (torch.arange(height, device=K.device) + 0.5 - K[:, 1, 2, None]) / K[:, 1, 1, None]  # [b, h]
    across, down, ahead = world_T_camera[:, :3, :3].unbind(-1)
    directions = x[:, None, :, None] * across[:, None, None] + y[:, :, None, None] * down[:, None, None]
    directions = directions + ahead[:, None, None]
    return world_T_camera[:, :3, 3], torch.nn.functional.normalize(directions, dim=-1)
