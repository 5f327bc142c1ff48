"""Several exposures at once: a camera path seen through a lens, say. Instants multiply, and so do their weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor, nn

from dyngs_plugins.exposure.base import ErrorNow, ExposureConfig, ExposureModel, Mode
from dyngs_plugins.types import Gaussians, Instants

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews
    from dyngs_plugins.scene import Scene, Views


@dataclass
class ProductExposureConfig(ExposureConfig):
    """Several exposure models, each of which refines the instants of those before it."""

    _target: type = field(default_factory=lambda: ProductExposure)
    parts: tuple[ExposureConfig, ...] = ()
    """In order from the scene's motion to the lens: a lens is carried by the moving camera."""

    def rates(self) -> dict[str, float]:
        return {group: rate for part in self.parts for group, rate in part.rates().items()}


class ProductExposure(ExposureModel):
    """The parts are modules ``parts.0``, ``parts.1``, ...; their parameter groups keep the names they have alone."""

    def __init__(self, config: ProductExposureConfig, num_views: int, num_frames: int):
        super().__init__()
        if not config.parts:
            raise ValueError("A product of exposures needs at least one part, found none.")
        self.parts = nn.ModuleList(part.setup(num_views=num_views, num_frames=num_frames) for part in config.parts)
        self.blend = "linear" if any(part.blend == "linear" for part in self._models()) else "display"
        self.sharp = all(part.sharp for part in self._models())
        names = [name for part in self._models() for name in part.param_groups()]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(
                f"Two parts of the exposure have parameters of one name, {sorted(twice)}. Combine different kinds: a "
                "camera path with a lens."
            )

    def _models(self) -> list[ExposureModel]:
        return [part for part in self.parts if isinstance(part, ExposureModel)]

    def spread(self, instants: Instants, view_index: Int[Tensor, "b"] | None, mode: Mode) -> Instants:
        for part in self._models():
            instants = part.spread(instants, view_index, mode)
        return instants

    def before_raster(self, gaussians: Gaussians, instants: Instants) -> Gaussians:
        for part in self._models():
            gaussians = part.before_raster(gaussians, instants)
        return gaussians

    def regularisers(self, view_index: Int[Tensor, "b"] | None) -> dict[str, Tensor]:
        return {name: penalty for part in self._models() for name, penalty in part.regularisers(view_index).items()}

    def start_from(self, views: ClipViews) -> None:
        for part in self._models():
            part.start_from(views)

    def observe(self, scene: Scene, views: Views, step: int, error: ErrorNow | None = None) -> None:
        for part in self._models():
            part.observe(scene, views, step, error)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {name: parameters for part in self._models() for name, parameters in part.param_groups().items()}
