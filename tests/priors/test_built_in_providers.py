"""The built-in providers: all of them import here, and a module that does not takes no other with it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from dyngs_plugins.priors import providers


def test_all_import_and_each_has_its_own_kind_and_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = providers.dyngs_prior_providers()
    assert len({(cls.kind, cls.name) for cls in found}) == len(found) == len(providers.BUILT_IN)


def test_every_provider_module_of_the_folder_is_listed():
    kinds = ("flow_", "cameras_", "masks_", "depth_", "tracks_")
    files = {p.stem for p in Path(providers.__file__).parent.glob("*.py") if p.stem.startswith(kinds)}
    assert files - {"flow_math", "depth_aligned"} == {module for module, _ in providers.BUILT_IN}


@pytest.mark.parametrize("broken", ["depth_transformers", "flow_dis"])
def test_a_module_that_does_not_import_is_named_and_the_others_stay(monkeypatch, broken):
    lost = {name for module, name in providers.BUILT_IN if module == broken}
    monkeypatch.setitem(sys.modules, f"{providers.__name__}.{broken}", None)  # how Python blocks an import
    with pytest.warns(RuntimeWarning, match=f"{broken}.* is skipped: ModuleNotFoundError") as said:
        found = {cls.__name__ for cls in providers.dyngs_prior_providers()}
    assert found == {name for _, name in providers.BUILT_IN} - lost
    assert all(any(f"provider {name} " in str(warning.message) for warning in said) for name in lost)


def test_one_that_lost_its_class_is_named_too(monkeypatch):
    monkeypatch.setattr(providers, "BUILT_IN", (*providers.BUILT_IN, ("flow_dis", "Renamed")))
    with pytest.warns(RuntimeWarning, match="provider Renamed .* is skipped: AttributeError"):
        assert len(providers.dyngs_prior_providers()) == len(providers.BUILT_IN) - 1
