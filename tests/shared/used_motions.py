"""The motion fields that methods use, for tests that go through all of them."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import method_configs
from dyngs_plugins.motion.base import MotionFieldConfig


def used_motion_configs() -> dict[str, MotionFieldConfig]:
    """One config of every motion field that a method uses, by its class' name; the last of a module is the small one."""
    found: dict[str, MotionFieldConfig] = {}
    for module in pkgutil.iter_modules(method_configs.__path__):
        for value in vars(importlib.import_module(f"method_configs.{module.name}")).values():
            pipeline = getattr(getattr(value, "config", None), "pipeline", None)
            motion = getattr(getattr(pipeline, "model", None), "motion", None)
            if isinstance(motion, MotionFieldConfig):
                found[motion._target.__name__] = motion
    return found


SMALLER = {
    "Deformable": {"width": 24},
    "HexPlane": {"space_resolution": 4, "time_resolution": 7, "levels": (1,), "features": 8, "width": 24},
}
"""Sizes for tests, where a method's own would take long."""


def smaller_motion_configs() -> dict[str, MotionFieldConfig]:
    """The same at the size for tests."""
    used = used_motion_configs().items()
    return {name: dataclasses.replace(config, **SMALLER.get(name, {})) for name, config in used}
