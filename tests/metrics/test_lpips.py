"""LPIPS: silent about nothing, downloads nothing, and equal to torchmetrics on the same weights."""

from __future__ import annotations

import logging
import math
import socket

import pytest
import torch

from dyngs_plugins.metrics import lpips as lpips_module
from dyngs_plugins.metrics.lpips import WEIGHTS_NAME, lpips, masked_lpips, missing_message


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    lpips_module._say_once.cache_clear()
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def hub_with_random_weights(empty_hub):
    """AlexNet's layout with random weights: enough to compare two implementations of the formula."""
    torch.manual_seed(0)
    sizes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {}
    for index, (out, inner, side) in sizes.items():
        state[f"features.{index}.weight"] = torch.randn(out, inner, side, side) / (inner * side * side) ** 0.5
        state[f"features.{index}.bias"] = 0.1 * torch.randn(out)
    empty_hub.mkdir(parents=True)
    torch.save(state, empty_hub / WEIGHTS_NAME)
    lpips_module._load.cache_clear()
    yield state
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
    assert str(empty_hub / WEIGHTS_NAME) in message
    assert missing_message() == message


def test_equals_torchmetrics_on_the_same_weights(hub_with_random_weights, monkeypatch):
    import torchvision.models as torchvision_models
    from torchmetrics.functional.image import lpips as reference

    def alexnet_features(net: str, pretrained: bool = False):
        features = torchvision_models.alexnet(weights=None).features
        features.load_state_dict({key.removeprefix("features."): v for key, v in hub_with_random_weights.items()})
        return features

    monkeypatch.setattr(reference, "_get_tv_model_features", alexnet_features)
    prediction, target = pair()
    batch = [2 * image.permute(2, 0, 1)[None] - 1 for image in (prediction, target)]
    expected = reference._LPIPS(net="alex")(*batch)
    value = lpips(prediction, target)
    assert value is not None
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert value > 0

    mask = torch.rand(40, 52, generator=torch.Generator().manual_seed(2)) > 0.5
    masked = [2 * (image * mask[..., None]).permute(2, 0, 1)[None] - 1 for image in (prediction, target)]
    spatial = reference._LPIPS(net="alex", spatial=True)(*masked)[0, 0]
    value = masked_lpips(prediction, target, mask)
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
