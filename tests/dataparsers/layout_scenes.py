"""The scenes that the writers of all layouts write, for tests that walk every layout."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from dyngs_plugins.sample import writers

WRITERS: dict[str, Callable] = {
    name: function
    for module in (
        importlib.import_module(f"{writers.__name__}.{m.name}") for m in pkgutil.iter_modules(writers.__path__)
    )
    for name, function in vars(module).items()
    if name.startswith("write_")
    and getattr(function, "__module__", None) == module.__name__
    and str(function.__annotations__.get("return", "")).endswith("Truth")
}
"""Functions of ``dyngs_plugins.sample.writers`` that return the truth they wrote."""


def write(name: str, root: Path, **options) -> Path:
    """The folder that a writer wrote."""
    WRITERS[name](root, **options)
    return root
