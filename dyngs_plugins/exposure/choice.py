"""Exposure models by name, for configs and the command line.

    --pipeline.model.exposure camera-path                      one model, as the method or its own defaults set it up
    --pipeline.model.exposure camera-path+defocus              several: their instants multiply
    --pipeline.model.exposure.camera-path.num-instants 15      a setting of one of them

Models of other packages (hook `dyngs_exposure_models`) are found by name too, with their default settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import tyro

from dyngs_plugins.exposure.base import ExposureConfig, InstantExposureConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.circle import CircleExposureConfig
from dyngs_plugins.exposure.latent_screw import LatentPathExposureConfig
from dyngs_plugins.exposure.pose_mlp import PosePathExposureConfig
from dyngs_plugins.exposure.product import ProductExposureConfig
from dyngs_plugins.exposure.thin_lens import DefocusExposureConfig
from dyngs_plugins.hooks import find, hookimpl

EXPOSURES: Mapping[str, type[ExposureConfig]] = {
    "instant": InstantExposureConfig,
    "camera-path": CameraPathExposureConfig,
    "pose-path": PosePathExposureConfig,
    "latent-path": LatentPathExposureConfig,
    "defocus": DefocusExposureConfig,
    "circle": CircleExposureConfig,
}
"""Those of this package, in the order in which they combine: what moves the camera before its lens."""


@hookimpl
def dyngs_exposure_models() -> dict[str, type]:
    """The built-in exposure models."""
    return dict(EXPOSURES)


@dataclass
class ExposureChoice(ExposureConfig):
    """Which exposure model, by name, and the settings of each."""

    _target: type = field(default_factory=lambda: ExposureChoice)
    name: Annotated[str, tyro.conf.arg(name="", metavar="NAME[+NAME]")] = "instant"
    """What one image exposes: instant (no blur), camera-path, pose-path, latent-path (motion blur), defocus, circle
    (blur by a lens), or several joined by +."""
    camera_path: CameraPathExposureConfig = field(default_factory=CameraPathExposureConfig)
    pose_path: PosePathExposureConfig = field(default_factory=PosePathExposureConfig)
    latent_path: LatentPathExposureConfig = field(default_factory=LatentPathExposureConfig)
    defocus: DefocusExposureConfig = field(default_factory=DefocusExposureConfig)
    circle: CircleExposureConfig = field(default_factory=CircleExposureConfig)

    def chosen(self) -> ExposureConfig:
        """The config that the name stands for.

        Raises:
            ValueError: an unknown name, with the closest known one.
        """
        names = [name.strip() for name in self.name.split("+")]
        known = list(EXPOSURES)
        names.sort(key=lambda name: known.index(name) if name in known else len(known))
        parts = [self._named(name) for name in names]
        return parts[0] if len(parts) == 1 else ProductExposureConfig(parts=tuple(parts))

    def _named(self, name: str) -> ExposureConfig:
        own = {
            f.name.replace("_", "-"): f.name for f in fields(self) if not f.name.startswith("_") and f.name != "name"
        }
        if name in own:
            return getattr(self, own[name])
        if name in EXPOSURES:
            return EXPOSURES[name]()
        from dyngs_plugins.hooks import registry

        return find(registry().exposure_models, name, "exposure model")()

    def rates(self) -> dict[str, float]:
        return self.chosen().rates()

    def setup(self, **kwargs: Any) -> Any:
        return self.chosen().setup(**kwargs)


def choose(*configs: ExposureConfig) -> ExposureChoice:
    """The choice of the given models with their settings: what a method's config writes.

    Raises:
        ValueError: a model that has no name here.
    """
    choice, names = ExposureChoice(), []
    for config in configs:
        found = [name for name, kind in EXPOSURES.items() if type(config) is kind]
        if not found:
            raise ValueError(f"{type(config).__name__} has no name in EXPOSURES; known: {', '.join(EXPOSURES)}.")
        names.append(found[0])
        if found[0] != "instant":
            setattr(choice, found[0].replace("-", "_"), config)
    choice.name = "+".join(names) or "instant"
    return choice
