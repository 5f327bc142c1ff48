"""What an exposure model promises: the sharp instants an image is made of, and how to put them together again.

Every model turns instants into finer instants: a camera path replaces each by moments along the path, a lens each by
points of the lens. So models compose (`product.py`), and their weights multiply.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.config import ComponentConfig
from dyngs_plugins.parameter_groups import parameter_groups
from dyngs_plugins.types import Gaussians, Instants, Render

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews
    from dyngs_plugins.scene import Scene, Views

Mode = Literal["train", "mid", "start", "end"]
"""``train``: the whole exposure. ``mid``: its sharp middle, which evaluation, viewer and export use."""
Blend = Literal["display", "linear"]
"""``display``: average display values, as most papers do. ``linear``: average linear light, as film does."""
ErrorNow = Callable[[], Float[Tensor, "b"]]
"""The mean absolute error of each view's image as the exposures now are."""

GAMMA = 2.2
"""Of displays: linear light is the display value to this power."""


class ExposureModel(nn.Module, ABC):
    """A camera and a time become instants; their renders become one image.

    With all parameters at zero (those called ``log_*`` at minus infinity) the image equals the sharp one to float
    precision.
    """

    blend: Blend = "display"
    sharp: bool = False
    """Whether every image is one sharp render of the camera as it is given."""

    def instants(
        self,
        camera_T_world: Float[Tensor, "b 4 4"],
        K: Float[Tensor, "b 3 3"],
        time: Float[Tensor, "b"],
        view_index: Int[Tensor, "b"] | None,
        mode: Mode,
    ) -> Instants:
        """The instants of each of ``b`` views; ``view_index`` is None for cameras that are not training views."""
        view = torch.arange(time.shape[0], device=time.device)
        given = Instants(camera_T_world, K, time, torch.ones_like(time), view, one_per_view=True)
        return self.spread(given, view_index, mode)

    @abstractmethod
    def spread(self, instants: Instants, view_index: Int[Tensor, "b"] | None, mode: Mode) -> Instants:
        """Replace each instant by the finer ones of this model, in order. Modes other than ``train`` keep their number.

        Args:
            view_index: of each view of the batch, not of each instant; None: no training views, which stay sharp and
                where they are.
        """

    def before_raster(self, gaussians: Gaussians, instants: Instants) -> Gaussians:
        """Change the Gaussians of each instant before they are rasterized (e.g. a circle of confusion)."""
        return gaussians

    def compose(self, render: Render, instants: Instants, views: int) -> Render:
        """The weighted sum of the instants' renders, view by view; colours in display values or in linear light.

        Only light adds up. Masks, depths and tracks of a frame say where things are at its own time, so that what is
        compared with them is the middle of the exposure: their mean over it would pull every exposure towards nothing.
        """
        if instants.one_per_view:
            return render
        channels = dict(render.channels)
        in_light = self.blend == "linear" and "rgb" in channels
        if in_light:
            channels["rgb"] = channels["rgb"].clamp_min(1e-6) ** GAMMA
        light = {name: channels.pop(name) for name in ("rgb",) if name in channels}
        middle = instants.weight if instants.middle is None else instants.middle
        depth = {} if render.depth is None else {"depth": render.depth}
        blended = _blend({**light, "alpha": render.alpha}, instants, instants.weight, views)
        blended |= _blend({**channels, **depth}, instants, middle, views)
        if in_light:
            blended["rgb"] = blended["rgb"] ** (1 / GAMMA)
        alpha, seen = blended.pop("alpha"), blended.pop("depth", None)
        return Render({name: blended[name] for name in render.channels}, alpha, seen, render.info)

    def regularisers(self, view_index: Int[Tensor, "b"] | None) -> dict[str, Tensor]:
        """The model's own penalties (already weighted) on the exposures of a batch's views."""
        return {}

    def start_from(self, views: ClipViews) -> None:
        """Look at the training views once, before training starts."""

    def observe(self, scene: Scene, views: Views, step: int, error: ErrorNow | None = None) -> None:
        """Update what is estimated from the scene without gradients; called in every training step, before it renders.

        Args:
            views: the batch, with its cameras as they are given (or refined), not those of the exposure.
            error: renders the batch as its exposures now are, and compares; None: there are no images to compare with.
        """

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group per parameter of the model's own and per part with parameters: ``exposure_<name>``.

        Their learning rates are the config's, see :meth:`ExposureConfig.rates`.
        """
        return parameter_groups(self, "exposure")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        require_same_views(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[arg-type]


def _blend(images: Mapping[str, Tensor], instants: Instants, weight: Tensor, views: int) -> dict[str, Tensor]:
    """Weighted sums of several images, in one go: each would fill an image of its own."""
    if not images:
        return {}
    parts = list(images.values())
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    summed = _weighted_sum(joined, instants, weight, views).split([part.shape[-1] for part in parts], dim=-1)
    return dict(zip(images, summed, strict=True))


def _weighted_sum(images: Tensor, instants: Instants, weight: Float[Tensor, "j"], views: int) -> Tensor:
    if views > 0 and images.shape[0] % views == 0:
        count = images.shape[0] // views
        expected = torch.arange(views, device=images.device).repeat_interleave(count)
        if torch.equal(instants.view, expected):  # a matrix product, without a copy of all images
            weights = weight.reshape(views, 1, count)
            return (weights @ images.reshape(views, count, -1)).reshape(views, *images.shape[1:])
    weighted = images * weight[:, None, None, None]
    return images.new_zeros(views, *images.shape[1:]).index_add(0, instants.view, weighted)


def require_same_views(module: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> None:
    """Raise a ValueError if a checkpoint's rows per training view are not as many as the module's."""
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    for name, tensor in own.items():
        saved = state_dict.get(prefix + name)
        if isinstance(saved, Tensor) and saved.shape != tensor.shape:
            raise ValueError(
                f"This checkpoint's exposure has {prefix + name} of shape {list(saved.shape)}; this clip needs "
                f"{list(tensor.shape)}. The first number is that of training views: train and resume on the same clip, "
                "with the same exposure."
            )


def per_instant(instants: Instants, count: int, cameras: Float[Tensor, "j s 4 4"], times: Tensor) -> Instants:
    """Each of ``j`` instants replaced by ``s`` equally weighted ones with the given cameras and times ``[j, s]``."""
    return Instants(
        camera_T_world=cameras.reshape(-1, 4, 4),
        K=instants.K.repeat_interleave(count, dim=0),
        time=times.reshape(-1),
        weight=(instants.weight / count).repeat_interleave(count),
        view=instants.view.repeat_interleave(count),
        one_per_view=instants.one_per_view and count == 1,
        lens=None if instants.lens is None else instants.lens.repeat_interleave(count, dim=0),
        middle=None if instants.middle is None else (instants.middle / count).repeat_interleave(count),
    )


def only_middle(instants: Instants, count: int) -> Instants:
    """Mark the middle one of every ``count`` (odd) instants as those that show the scene at its view's own time."""
    if count == 1:
        return instants
    before = instants.weight if instants.middle is None else instants.middle
    shares = torch.zeros(count).to(before)
    shares[count // 2] = count
    return replace(instants, middle=before * shares.repeat(len(before) // count))


class InstantExposure(ExposureModel):
    """A shutter of zero length: the image is one sharp render."""

    sharp = True

    def __init__(self, config: InstantExposureConfig, num_views: int, num_frames: int = 1):
        super().__init__()

    def spread(self, instants: Instants, view_index: Int[Tensor, "b"] | None, mode: Mode) -> Instants:
        return instants


@dataclass
class ExposureConfig(ComponentConfig):
    """An exposure model and its settings; ``setup(num_views=V, num_frames=T)`` builds it."""

    _target: type = field(default_factory=lambda: ExposureModel)

    def rates(self) -> dict[str, float]:
        """The learning rate of each parameter group that the model may have.

        The trainer takes them where the method's own optimizers do not name the group, so any method can have any
        exposure.
        """
        return {}


@dataclass
class InstantExposureConfig(ExposureConfig):
    """No blur: the shutter is open for an instant."""

    _target: type = field(default_factory=lambda: InstantExposure)
