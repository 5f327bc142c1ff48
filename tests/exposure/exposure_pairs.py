"""Every motion field with every exposure model, and which of them an invariant is about, told by what they have.

Fields are those that a method uses or a plugin registers. Exposures are those registered, and every product of one that
opens a shutter with one that has a lens. A new one of either kind takes part without being named anywhere.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from exposure_motions import Moved, stirred
from exposure_scenes import FRAMES, VIEWS, arguments, cloud, make_set, make_views, stir
from torch import Tensor, nn
from used_motions import smaller_motion_configs

from dyngs_plugins.exposure.base import ExposureConfig, ExposureModel, InstantExposureConfig, Mode
from dyngs_plugins.exposure.path import PathExposure
from dyngs_plugins.exposure.product import ProductExposureConfig
from dyngs_plugins.exposure.shutter import Shutter
from dyngs_plugins.exposure.thin_lens import Lens
from dyngs_plugins.hooks import registry
from dyngs_plugins.scene import STATIC, Scene, Views

INSTANTS, POINTS = 5, 4
HALF_EXPOSURE = 0.4
VIEW = make_views(width=24, height=18)


# Exposures ------------------------------------------------------------------------------------------------------------


def sized(config: ExposureConfig) -> ExposureConfig:
    """A config with the sizes for tests; shutters that would be fixed are learned, which is more to test."""
    if hasattr(config, "num_instants"):
        config.num_instants = INSTANTS
    if hasattr(config, "shutter"):
        config.shutter.half_exposure = HALF_EXPOSURE
        config.shutter.kind = "learned" if config.shutter.kind == "fixed" else config.shutter.kind
    if hasattr(config, "num_points"):
        config.num_points = POINTS
    if hasattr(config, "focus_distance"):
        config.aperture, config.focus_distance = 0.1, 3.0
    return config


@functools.cache
def exposure_configs() -> dict[str, ExposureConfig]:
    """One config of each exposure model by its registered name, and of the products by both names."""
    found = {name: sized(kind()) for name, kind in sorted(registry().exposure_models.items())}
    models = {name: config.setup(num_views=VIEWS, num_frames=FRAMES) for name, config in found.items()}
    shutters = [name for name, model in models.items() if modules_of(model, Shutter)]
    lenses = [name for name, model in models.items() if modules_of(model, Lens)]
    products = {
        f"{s}+{lens}": ProductExposureConfig(parts=(found[s], found[lens])) for s in shutters for lens in lenses
    }
    return found | products


def exposure_model(
    name: str, instants: int = INSTANTS, points: int = POINTS, views: int = VIEWS, frames: int = FRAMES
) -> ExposureModel:
    """A model with a config of its own, which a test may change."""
    torch.manual_seed(0)
    config = copy.deepcopy(exposure_configs()[name])
    for part in (config, *getattr(config, "parts", ())):
        for setting, value in (("num_instants", instants), ("num_points", points)):
            if hasattr(part, setting):
                setattr(part, setting, value)
    return config.setup(num_views=views, num_frames=frames)


def modules_of(model: nn.Module, kind: type) -> list:
    return [module for module in model.modules() if isinstance(module, kind)]


def without(model: ExposureModel, kind: type) -> ExposureModel:
    """The same exposure with its parts of a kind taken out."""
    instant = InstantExposureConfig().setup(num_views=VIEWS, num_frames=FRAMES)
    if isinstance(model, kind):
        return instant
    model = copy.deepcopy(model)
    for name, part in list(model.named_modules()):
        if isinstance(part, kind):
            model.set_submodule(name, instant)
    return model


# What an invariant is about -------------------------------------------------------------------------------------------


@functools.cache
def opens_a_shutter(exposure: str) -> bool:
    return bool(modules_of(exposure_model(exposure), Shutter))


@functools.cache
def moves_the_camera(exposure: str) -> bool:
    return bool(modules_of(exposure_model(exposure), PathExposure))


@functools.cache
def has_a_lens(exposure: str) -> bool:
    return bool(modules_of(exposure_model(exposure), Lens))


@functools.cache
def has_points_of_a_lens(exposure: str) -> bool:
    return count_of(exposure, points=POINTS + 2) > count_of(exposure)


@functools.cache
def has_several_instants(exposure: str) -> bool:
    return count_of(exposure, instants=INSTANTS + 2) > count_of(exposure)


@functools.cache
def keeps_something_of_each_view(exposure: str) -> bool:
    return shapes_of(exposure_model(exposure)) != shapes_of(exposure_model(exposure, views=VIEWS + 1))


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def count_of(exposure: str, **sizes: int) -> int:
    return len(exposure_model(exposure, **sizes).instants(*arguments(VIEW), mode="train").time)


MOTIONS, EXPOSURES = sorted(smaller_motion_configs()), sorted(exposure_configs())


def each_pair(applies: Callable[[str], bool] = bool, of_motions: Callable[[str], bool] = bool):
    """Parametrises a test with ``motion`` and ``exposure``, of each those to which its invariant applies; default all."""
    exposures = [exposure for exposure in EXPOSURES if applies(exposure)]
    cases = [(motion, exposure) for motion in MOTIONS if of_motions(motion) for exposure in exposures]
    return pytest.mark.parametrize(("motion", "exposure"), cases, ids=["-".join(case) for case in cases])


# Scenes ---------------------------------------------------------------------------------------------------------------


def scene_of(motion: str, exposure: str, **sizes: int) -> Scene:
    """A field and an exposure, both at no special place, and some Gaussians that stand still."""
    return scene_with(stirred(motion), stirred_model(exposure, **sizes))


def scene_with(moved: Moved, model: ExposureModel) -> Scene:
    field, dynamic = moved
    return Scene([dynamic, make_set(STATIC, cloud(24, 5)[:12])], field, model)


def stirred_model(exposure: str, **sizes: int) -> ExposureModel:
    model = exposure_model(exposure, **sizes)
    stir(model, 0.02)
    for shutter in modules_of(model, Shutter):
        if shutter.config.kind == "estimated":
            shutter.set(0, HALF_EXPOSURE - 0.05)
    return model


@torch.no_grad()
def set_half_exposure(model: ExposureModel, frames: float) -> None:
    """Of every view, also beyond the shortest and the longest that is learned."""
    for shutter in modules_of(model, Shutter):
        shutter.config.half_exposure, shutter.config.shortest, shutter.config.longest = frames, 0.0, frames
        shutter.tau.fill_(frames)


@torch.no_grad()
def stand_still(model: ExposureModel) -> None:
    """A camera that stands still behind a pinhole: all parameters zero, logarithms at minus infinity."""
    shutters = {id(parameter) for shutter in modules_of(model, Shutter) for parameter in shutter.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in shutters:
            parameter.fill_(-1e4 if name.split(".")[-1].startswith("log_") else 0.0)


def rendered(scene: Scene, view: Views = VIEW, mode: Mode = "train", **changes) -> Tensor:
    return scene.render(view, mode=mode, **changes).channels["rgb"]
