"""What trainings of a few steps share: the methods there are, a stop on the way, exposures of few instants."""

from __future__ import annotations

from typing import Any

from nerfstudio.configs.method_configs import all_methods

from dyngs_plugins.exposure.choice import ExposureChoice
from dyngs_plugins.model import DynamicModelConfig

METHODS = sorted(
    name
    for name, config in all_methods.items()
    if isinstance(getattr(getattr(config, "pipeline", None), "model", None), DynamicModelConfig)
)
SMALL = [name for name in METHODS if name.endswith("-small")]


def whole_and_resumed(train: Any, method: str, change: Any, before: int, steps: int = 12) -> tuple[Any, Any]:
    """Two finished trainers: one of ``steps`` steps, and one of as many that stopped after ``before`` of them."""
    whole = train(steps, "whole", method=method, change=change)
    first = train(before, "first", method=method, change=change)

    def resume(config):
        change(config)
        config.load_dir = first.checkpoint_dir

    return whole, train(steps - before, "second", method=method, change=resume)


def choose_exposure(model: DynamicModelConfig, name: str) -> None:
    """The exposure of that name, with few instants, and a shutter that is estimated from the first step on."""
    model.exposure = ExposureChoice(name=name)
    for part in ("camera_path", "pose_path", "latent_path"):
        getattr(model.exposure, part).num_instants = 3
    model.exposure.defocus.num_points = 2
    model.exposure.latent_path.shutter.observe_from = 0
