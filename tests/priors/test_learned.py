"""Learned providers without weights or packages: messages that name model, size, licence and command."""

from __future__ import annotations

import builtins
import re
import sys

import pytest
import torch

from dyngs_plugins.priors.providers.depth_transformers import DepthAnything, DepthPro
from dyngs_plugins.priors.providers.flow_raft import RaftFlow
from dyngs_plugins.priors.providers.learned import choose_device, missing_package, missing_weights, result_settings
from dyngs_plugins.priors.providers.masks_sam import SamMasks
from dyngs_plugins.priors.providers.tracks_tapir import TapirTracks


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A hub cache without any model; transformers need not be installed for what is tested here."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_missing_weights_name_model_size_licence_and_command(empty_cache):
    message = missing_weights("depth", "apple/DepthPro-hf", DepthPro.catalogue)
    assert message is not None
    for part in ("apple/DepthPro-hf", "1.9 GB", "research only", "hf download apple/DepthPro-hf", "depth.model=FOLDER"):
        assert part in message


def test_an_unknown_model_has_a_message_too(empty_cache):
    message = missing_weights("depth", "somebody/else", DepthAnything.catalogue)
    assert message is not None
    assert "hf download somebody/else" in message
    assert "Depth-Anything-V2-Small-hf" in message


def test_a_folder_needs_a_config(tmp_path):
    assert "no config.json" in str(missing_weights("depth", str(tmp_path), {}))
    (tmp_path / "config.json").write_text("{}")
    assert missing_weights("depth", str(tmp_path), {}) is None


def test_a_blocked_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = missing_package("transformers")
    assert message is not None
    assert "pip install 'dyngs-plugins[learned]'" in message
    assert missing_package("json") is None
    assert missing_package("no_such_parent.module") is not None


def test_a_provider_without_its_package_says_so_before_it_looks_at_a_frame(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FileNotFoundError, match="transformers is not installed"):
        next(DepthAnything().compute(None, [0]))  # type: ignore[arg-type]


def test_nothing_optional_is_imported_with_the_providers(monkeypatch):
    real = builtins.__import__

    def guarded(name, *args, **kwargs):
        assert name.split(".")[0] not in ("transformers", "huggingface_hub"), f"{name} is imported"
        return real(name, *args, **kwargs)

    for module in [m for m in sys.modules if m.startswith("dyngs_plugins.priors.providers.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", guarded)
    import dyngs_plugins.priors.providers.depth_transformers  # noqa: F401


@pytest.mark.parametrize("provider", [DepthAnything(), RaftFlow(), SamMasks(), TapirTracks()])
def test_out_of_memory_says_what_to_lower(provider):
    """The advice names settings that the provider has, each with the value it has now."""
    named = re.findall(rf"{provider.kind}\.(\w+)=", provider.less_memory())
    assert "device" in named
    assert len(named) > 1
    assert all(hasattr(provider, name) for name in named)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="Device 'gpu' cannot be used"):
        choose_device("gpu")


def test_where_and_in_which_pieces_is_not_part_of_the_result():
    settings = result_settings(DepthAnything(device="cpu", batch_size=2))
    assert "device" not in settings
    assert "batch_size" not in settings
    assert settings["model"].startswith("depth-anything/")


def test_senseless_settings_are_refused():
    with pytest.raises(ValueError, match="batch_size=0"):
        DepthAnything(batch_size=0)
