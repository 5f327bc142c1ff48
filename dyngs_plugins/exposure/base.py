"""What an exposure model promises: the sharp instants an image is made of, and how to put them together again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.config import ComponentConfig
from dyngs_plugins.types import Gaussians, Instants, Render

Mode = Literal["train", "mid", "start", "end"]
"""``train``: the whole exposure. ``mid``: its sharp middle, which evaluation, viewer and export use."""


class ExposureModel(nn.Module, ABC):
    """A camera and a time become instants; their renders become one image.

    With an exposure of zero length the composed image equals the sharp one to float precision.
    """

    @abstractmethod
    def instants(
        self,
        camera_T_world: Float[Tensor, "b 4 4"],
        K: Float[Tensor, "b 3 3"],
        time: Float[Tensor, "b"],
        view_index: Int[Tensor, "b"] | None,
        mode: Mode,
    ) -> Instants:
        """The instants of each of ``b`` views; ``view_index`` is None for cameras that are not training views."""

    def before_raster(self, gaussians: Gaussians, instants: Instants) -> Gaussians:
        """Change the Gaussians of each instant before they are rasterized (e.g. a circle of confusion)."""
        return gaussians

    def compose(self, render: Render, instants: Instants, views: int) -> Render:
        """The weighted sum of the instants' renders, view by view."""

        def blend(images: Tensor) -> Tensor:
            weighted = images * instants.weight[:, None, None, None]
            return images.new_zeros(views, *images.shape[1:]).index_add(0, instants.view, weighted)

        return Render(
            channels={name: blend(image) for name, image in render.channels.items()},
            alpha=blend(render.alpha),
            depth=None if render.depth is None else blend(render.depth),
            info=render.info,
        )

    def regularisers(self, view_index: Int[Tensor, "b"] | None) -> dict[str, Tensor]:
        """The model's own penalties (already weighted) on the exposures of a batch's views."""
        return {}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {f"exposure_{name.replace('.', '_')}": [parameter] for name, parameter in self.named_parameters()}


class InstantExposure(ExposureModel):
    """A shutter of zero length: the image is one sharp render."""

    def __init__(self, config: InstantExposureConfig, num_views: int, num_frames: int = 1):
        super().__init__()

    def instants(self, camera_T_world, K, time, view_index, mode: Mode) -> Instants:
        b = time.shape[0]
        view = torch.arange(b, device=time.device)
        return Instants(camera_T_world, K, time, torch.ones_like(time), view, one_per_view=True)

    def compose(self, render: Render, instants: Instants, views: int) -> Render:
        return render


@dataclass
class ExposureConfig(ComponentConfig):
    """An exposure model and its settings; ``setup(num_views=V, num_frames=T)`` builds it."""

    _target: type = field(default_factory=lambda: ExposureModel)


@dataclass
class InstantExposureConfig(ExposureConfig):
    """No blur: the shutter is open for an instant."""

    _target: type = field(default_factory=lambda: InstantExposure)
