"""Discovery by name of what other packages add: prior providers, rasterizers, exposure models.

A motion field needs no name: the config of a method, which is an entry point of nerfstudio's, holds the field's config.

A package adds to dyngs-plugins with an entry point in the group `dyngs_plugins` that names a module (or object) with
functions marked `@hookimpl`:

    # pyproject.toml                               # mypackage/plugin.py
    [project.entry-points.dyngs_plugins]           from dyngs_plugins.hooks import hookimpl
    mypackage = "mypackage.plugin"                 @hookimpl
                                                   def dyngs_prior_providers():
                                                       return [MyDepth]

Built-ins register through the same hooks. `registry()` calls every hook once and keeps dictionaries; nothing is looked
up during training. A plugin that fails to import, or whose hook raises, is skipped with a warning that names it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

if TYPE_CHECKING:
    from dyngs_plugins.priors.providers.base import PriorProvider
    from dyngs_plugins.raster.backends import RasterFunction

GROUP = "dyngs_plugins"
BUILTIN_MODULES = ("dyngs_plugins.priors.providers", "dyngs_plugins.raster.backends", "dyngs_plugins.exposure.choice")

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
T = TypeVar("T")


class HookSpecs:
    """What a plugin may provide. Each hook returns all that the plugin adds; none is required."""

    @hookspec
    def dyngs_prior_providers(self) -> list[type[PriorProvider]]:  # type: ignore[empty-body]
        """Subclasses of `PriorProvider`, each with a `kind` and a `name`."""

    @hookspec
    def dyngs_rasterizers(self) -> dict[str, RasterFunction]:  # type: ignore[empty-body]
        """Rasterizer backends by name, for ``--pipeline.model.backend``: functions of checked `RasterInputs`."""

    @hookspec
    def dyngs_exposure_models(self) -> dict[str, type]:  # type: ignore[empty-body]
        """Exposure-model configs by name, for ``--pipeline.model.exposure``."""


@dataclasses.dataclass(frozen=True)
class Registry:
    """Everything that was found, by name. `prior_providers` is by kind, then by name."""

    prior_providers: Mapping[str, Mapping[str, type[PriorProvider]]]
    rasterizers: Mapping[str, RasterFunction]
    exposure_models: Mapping[str, type]
    plugins: Mapping[str, str]  # plugin name -> where it comes from


@functools.cache
def registry() -> Registry:
    """The registry of this process, built at the first call."""
    manager, plugins = _load_plugins(importlib.metadata.entry_points(group=GROUP))
    return build_registry(manager, plugins)


def build_registry(manager: pluggy.PluginManager, plugins: Mapping[str, str]) -> Registry:
    """Call every hook once and sort the answers by name. Of two entries with one name the first stays."""
    providers: dict[str, dict[str, type[PriorProvider]]] = {}
    for plugin, answer in _answers(manager, "dyngs_prior_providers", list):
        for provider in answer:
            if not getattr(provider, "kind", None) or not getattr(provider, "name", None):
                _warn(f"plugin {plugin!r}: {provider!r} has no `kind` and `name`; it is skipped.")
                continue
            _add(providers.setdefault(provider.kind, {}), provider.name, provider, plugin)
    tables: dict[str, dict[str, Any]] = {}
    for field in ("rasterizers", "exposure_models"):
        tables[field] = {}
        for plugin, answer in _answers(manager, f"dyngs_{field}", dict):
            for name, value in answer.items():
                _add(tables[field], name, value, plugin)
    return Registry(prior_providers=providers, plugins=plugins, **tables)


def find(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`.

    Raises:
        ValueError: for an unknown name, with the closest known one and the list of all.
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    known = ", ".join(sorted(table)) or "none"
    raise ValueError(f"There is no {what} named {name!r}.{hint} There are: {known}.")


def find_provider(kind: str, name: str) -> type[PriorProvider]:
    """The prior provider of a kind ("flow", "masks", "depth", "tracks", ...) and name."""
    return find(find(registry().prior_providers, kind, "kind of prior"), name, f"{kind} provider")


def _load_plugins(
    entry_points: Iterable[importlib.metadata.EntryPoint],
) -> tuple[pluggy.PluginManager, dict[str, str]]:
    """A manager with the built-in modules and the foreign plugins that import."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(HookSpecs)
    origins: dict[str, str] = {}
    for name in BUILTIN_MODULES:
        manager.register(importlib.import_module(name), name=name)
        origins[name] = "built in"
    for entry in entry_points:
        package = entry.dist.name if entry.dist else "an unknown package"
        try:
            manager.register(entry.load(), name=entry.name)
        except Exception as error:  # a foreign module may raise anything; it must not stop ours
            _warn(f"plugin {entry.name!r} ({entry.value}, from {package}) is skipped: {type(error).__name__}: {error}")
            continue
        origins[entry.name] = package
    return manager, origins


def _answers(manager: pluggy.PluginManager, hook: str, expected: type) -> list[tuple[str, Any]]:
    """(plugin, answer) of every implementation of a hook; one that fails is skipped with a warning."""
    answers = []
    implementations = getattr(manager.hook, hook).get_hookimpls()
    for implementation in implementations:  # pluggy keeps them in order of registration
        plugin = implementation.plugin_name
        try:
            answer = implementation.function()
        except Exception as error:  # see above
            _warn(f"plugin {plugin!r}: {hook} raised {type(error).__name__}: {error}. It is skipped.")
            continue
        if isinstance(answer, expected):
            answers.append((plugin, answer))
        else:
            _warn(f"plugin {plugin!r}: {hook} returned {answer!r}; expected a {expected.__name__}. It is skipped.")
    return answers


def _add(table: dict[str, T], name: str, value: T, plugin: str) -> None:
    if name in table:
        _warn(f"plugin {plugin!r}: the name {name!r} is already taken by {table[name]!r}; {value!r} is skipped.")
        return
    table[name] = value


def _warn(message: str) -> None:
    warnings.warn(f"dyngs-plugins: {message}", RuntimeWarning, stacklevel=3)
