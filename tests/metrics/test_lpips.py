"""LPIPS: silent about nothing, downloads nothing, and equal to torchmetrics on the same weights."""

from __future__ import annotations

import logging
import math
import socket

import pytest
import torch

from dyngs_plugins.metrics import lpips as lpips_module
from dyngs_plugins.metrics.lpips import BACKBONES, lpips, masked_lpips, missing_message, weights_path


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    lpips_module._say_once.cache_clear()
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def hub_with_random_weights(empty_hub):
    """The networks' layouts with random weights: enough to compare two implementations of the formula."""
    torch.manual_seed(0)
    states = {}
    empty_hub.mkdir(parents=True)
    for net, network in BACKBONES.items():
        states[net] = {}
        for index, layer in enumerate(network.layers):
            if isinstance(layer, tuple):
                inner, out, side = layer[:3]
                weight = torch.randn(out, inner, side, side) * (2 / (inner * side * side)) ** 0.5
                states[net] |= {f"features.{index}.weight": weight, f"features.{index}.bias": 0.1 * torch.randn(out)}
        torch.save(states[net], weights_path(net))
    lpips_module._load.cache_clear()
    yield states
    lpips_module._load.cache_clear()


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(40, 52, 3, generator=generator), torch.rand(40, 52, 3, generator=generator)


def test_missing_weights_are_named_once_and_nothing_is_downloaded(empty_hub, monkeypatch, caplog):
    def refuse(*_args, **_kwargs):
        raise AssertionError("LPIPS tried to reach the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with caplog.at_level(logging.WARNING):
        assert lpips(*pair()) is None
        assert lpips(*pair()) is None
        assert masked_lpips(*pair(), torch.ones(40, 52)) is None
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert str(weights_path()) in message
    assert missing_message() == message


@pytest.mark.parametrize(("net", "builder"), [("alex", "alexnet"), ("vgg", "vgg16")])
def test_equals_torchmetrics_on_the_same_weights(hub_with_random_weights, monkeypatch, net, builder):
    import torchvision.models as torchvision_models
    from torchmetrics.functional.image import lpips as reference

    def same_features(name: str, pretrained: bool = False):
        features = getattr(torchvision_models, builder)(weights=None).features
        features.load_state_dict({key.removeprefix("features."): v for key, v in hub_with_random_weights[net].items()})
        return features

    monkeypatch.setattr(reference, "_get_tv_model_features", same_features)
    prediction, target = pair()
    batch = [2 * image.permute(2, 0, 1)[None] - 1 for image in (prediction, target)]
    expected = reference._LPIPS(net=net)(*batch)
    value = lpips(prediction, target, net)
    assert value is not None
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert value > 0

    mask = torch.rand(40, 52, generator=torch.Generator().manual_seed(2)) > 0.5
    masked = [2 * (image * mask[..., None]).permute(2, 0, 1)[None] - 1 for image in (prediction, target)]
    spatial = reference._LPIPS(net=net, spatial=True)(*masked)[0, 0]
    value = masked_lpips(prediction, target, mask, net)
    assert value is not None
    assert value.item() == pytest.approx((spatial[mask].sum() / mask.sum()).item(), rel=1e-5)


@pytest.mark.usefixtures("hub_with_random_weights")
def test_known_values():
    assert missing_message() is None
    image, other = pair()
    assert float(lpips(image, image)) == 0.0
    mask = torch.zeros(40, 52)
    assert math.isnan(float(masked_lpips(image, other, mask)))
    mask[:, :20] = 1
    hidden = torch.where(mask[..., None] > 0, image, other)
    assert float(masked_lpips(image, hidden, mask)) == 0.0


def test_bad_images_are_explained():
    with pytest.raises(ValueError, match=r"\[h, w, 3\]"):
        lpips(torch.zeros(40, 40, 3), torch.zeros(40, 41, 3))
    with pytest.raises(ValueError, match="at least 31x31"):
        lpips(torch.zeros(30, 40, 3), torch.zeros(30, 40, 3))
    with pytest.raises(ValueError, match="sizes must agree"):
        masked_lpips(torch.zeros(40, 40, 3), torch.zeros(40, 40, 3), torch.zeros(40, 41))
    with pytest.raises(ValueError, match="VGG16 needs images of at least 16x16"):
        lpips(torch.zeros(15, 40, 3), torch.zeros(15, 40, 3), "vgg")
    with pytest.raises(ValueError, match="network 'squeeze'; expected one of alex, vgg"):
        lpips(torch.zeros(40, 40, 3), torch.zeros(40, 40, 3), "squeeze")


def test_each_network_names_its_own_file(empty_hub):
    assert "AlexNet weights" in missing_message("alex")
    assert "VGG16 weights" in missing_message("vgg")
    assert str(empty_hub / "vgg16-397923af.pth") in missing_message("vgg")
