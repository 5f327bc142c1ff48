"""Plugins are found by name, broken ones are named and skipped, and a wrong name is answered with the closest one."""

from __future__ import annotations

import dataclasses
import sys
import types
import warnings
from importlib.metadata import EntryPoint

import pytest
import torch

from dyngs_plugins import hooks
from dyngs_plugins.priors.providers.base import MaskProvider
from dyngs_plugins.raster import backend_names, rasterize
from dyngs_plugins.raster.backends import prepare_backend
from dyngs_plugins.raster.inputs import RasterInputs


@dataclasses.dataclass
class OddMasks(MaskProvider):
    name = "odd"

    def compute(self, inputs, indices):
        yield from ()


def plugin_module(monkeypatch, name: str, **functions) -> EntryPoint:
    """An installed plugin: a module of that name with hook implementations, and its entry point."""
    module = types.ModuleType(name)
    for function_name, function in functions.items():
        setattr(module, function_name, hooks.hookimpl(function))
    monkeypatch.setitem(sys.modules, name, module)
    return EntryPoint(name=name, value=name, group=hooks.GROUP)


def build(*entry_points: EntryPoint) -> hooks.Registry:
    return hooks.build_registry(*hooks._load_plugins(entry_points))


def test_built_in_providers_cover_every_kind():
    registry = hooks.registry()
    assert hooks.registry() is registry, "the registry is built once"
    names = {kind: set(providers) for kind, providers in registry.prior_providers.items()}
    weight_free = {"flow": {"dis"}, "masks": {"epipolar"}, "depth": {"multiview"}, "tracks": {"chained", "klt"}}
    learned = {"flow": {"raft"}, "masks": {"sam"}, "depth": {"depth-anything", "depth-pro"}}
    for kind, known in (*weight_free.items(), *learned.items()):
        assert known <= names[kind]


def test_every_default_provider_exists():
    from dyngs_plugins.priors.process_options import DEFAULTS

    assert len(DEFAULTS.providers) == 5
    for kind, name in DEFAULTS.providers.items():
        provider = hooks.find_provider(kind, name)
        assert (provider.kind, provider.name) == (kind, name)


def test_foreign_plugin_adds_a_provider(monkeypatch):
    entry = plugin_module(monkeypatch, "good_plugin", dyngs_prior_providers=lambda: [OddMasks])
    registry = build(entry)
    assert registry.prior_providers["masks"]["odd"] is OddMasks
    assert {"epipolar", "odd"} <= set(registry.prior_providers["masks"])


def test_foreign_plugin_adds_a_rasterizer(monkeypatch):
    """The seam calls it with checked inputs, and the built-in ones stay what they are."""

    def half_grey(inputs: RasterInputs):
        image = torch.full((inputs.num_cameras, inputs.height, inputs.width, 3), 0.5)
        return image, image[..., :1], {"n": inputs.num_gaussians}

    entry = plugin_module(monkeypatch, "grey_plugin", dyngs_rasterizers=lambda: {"grey": half_grey})
    found = build(entry)
    monkeypatch.setattr(hooks, "registry", lambda: found)
    assert set(backend_names()) == {"gsplat", "numba", "torch", "dense", "grey"} == set(found.rasterizers)
    cloud = torch.rand(4, 3), torch.rand(4, 4), torch.rand(4, 3), torch.rand(4), torch.rand(4, 3)
    image, alpha, info = rasterize(*cloud, torch.eye(4)[None], torch.eye(3)[None], 6, 5, backend="grey")
    assert image.shape == (1, 5, 6, 3)
    assert alpha.unique() == 0.5
    assert info == {"n": 4}
    with pytest.raises(ValueError, match="no rasterizer backend named 'gray'. Did you mean 'grey'"):
        rasterize(*cloud, torch.eye(4)[None], torch.eye(3)[None], 6, 5, backend="gray")


def test_an_unknown_rasterizer_is_refused_before_training():
    with pytest.raises(ValueError, match="no rasterizer backend named 'numbra'. Did you mean 'numba'"):
        prepare_backend("numbra")
    prepare_backend("numba")


def test_plugin_that_fails_to_import_is_skipped_by_name():
    broken = EntryPoint(name="broken_plugin", value="no_such_module_of_ours.plugin", group=hooks.GROUP)
    with pytest.warns(RuntimeWarning, match="'broken_plugin'.*skipped: ModuleNotFoundError.*no_such_module_of_ours"):
        registry = build(broken)
    assert "epipolar" in registry.prior_providers["masks"]
    assert "broken_plugin" not in registry.plugins


def test_hook_that_raises_does_not_take_the_others_down(monkeypatch):
    def fail():
        raise OSError("no licence file")

    bad = plugin_module(monkeypatch, "bad_plugin", dyngs_prior_providers=fail)
    good = plugin_module(monkeypatch, "good_plugin", dyngs_prior_providers=lambda: [OddMasks])
    with pytest.warns(RuntimeWarning, match="'bad_plugin'.*dyngs_prior_providers raised OSError: no licence file"):
        registry = build(bad, good)
    assert registry.prior_providers["masks"]["odd"] is OddMasks


@pytest.mark.parametrize(
    ("hook", "answer", "expected"), [("dyngs_prior_providers", None, "list"), ("dyngs_rasterizers", [len], "dict")]
)
def test_hook_that_returns_something_else_is_skipped(monkeypatch, hook, answer, expected):
    entry = plugin_module(monkeypatch, "odd_plugin", **{hook: lambda: answer})
    with pytest.warns(RuntimeWarning, match=f"'odd_plugin': {hook} returned .*; expected a {expected}"):
        registry = build(entry)
    assert "epipolar" in registry.prior_providers["masks"]


def test_a_taken_name_stays_with_its_owner(monkeypatch):
    @dataclasses.dataclass
    class Impostor(OddMasks):
        name = "epipolar"

    entry = plugin_module(monkeypatch, "impostor", dyngs_prior_providers=lambda: [Impostor])
    with pytest.warns(RuntimeWarning, match="'impostor'.*'epipolar' is already taken"):
        registry = build(entry)
    assert registry.prior_providers["masks"]["epipolar"] is not Impostor


def test_provider_without_a_name_is_skipped(monkeypatch):
    class Nameless:
        kind = "masks"

    entry = plugin_module(monkeypatch, "nameless", dyngs_prior_providers=lambda: [Nameless])
    with pytest.warns(RuntimeWarning, match="'nameless'.*has no `kind` and `name`"):
        build(entry)


def test_good_plugins_load_without_a_warning(monkeypatch):
    entry = plugin_module(monkeypatch, "good_plugin", dyngs_prior_providers=lambda: [OddMasks])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(entry)


@pytest.mark.parametrize(
    ("kind", "name", "answer"),
    [
        ("masks", "epipolr", "no masks provider named 'epipolr'. Did you mean 'epipolar'"),
        ("tracks", "zzz", "no tracks provider named 'zzz'. There are: chained"),
        ("mask", "epipolar", "no kind of prior named 'mask'. Did you mean 'masks'"),
    ],
)
def test_unknown_names_are_answered_with_the_closest(kind, name, answer):
    with pytest.raises(ValueError, match=answer):
        hooks.find_provider(kind, name)
