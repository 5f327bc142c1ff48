"""Configs that gain fields open the files of those that did not have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from nerfstudio.plugins.registry import discover_methods

CONFIGS = {name: c for name, c in discover_methods()[0].items() if name.startswith(("dyn-", "deblur-"))}


def parts(config: Any) -> Iterator[Any]:
    """The config and every dataclass of this project inside it."""
    if isinstance(config, dict | list | tuple):
        for value in config.values() if isinstance(config, dict) else config:
            yield from parts(value)
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        if type(config).__module__.split(".")[0] in ("dyngs_plugins", "dataparsers"):
            yield config
        for value in vars(config).values():
            yield from parts(value)


PARTS = {type(part).__name__: part for config in CONFIGS.values() for part in parts(config)}


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_config_whose_file_lacks_a_field_has_its_default(name: str):
    config = PARTS[name]
    missing = dataclasses.MISSING
    optional = [f for f in dataclasses.fields(config) if f.default is not missing or f.default_factory is not missing]
    older = type(config).__new__(type(config))  # as an older version would have written it
    older.__dict__.update({k: v for k, v in vars(config).items() if k not in {f.name for f in optional}})
    opened = yaml.load(yaml.dump(older), Loader=yaml.Loader)
    for field in optional:
        default = field.default if field.default is not missing else field.default_factory()  # type: ignore[misc]
        assert getattr(opened, field.name) == default, field.name


def test_what_the_file_says_is_kept():
    for config in (CONFIGS["dyn-som-small"], CONFIGS["deblur-bad-small"]):
        assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config
