"""LPIPS with an AlexNet backbone, full image and masked; only where its weights already lie on disk.

LPIPS (Zhang et al. 2018) compares normalised activations of five AlexNet layers through learned per-channel weights.
The latter come with torchmetrics. The AlexNet weights are a download that this package never makes on its own: without
them the functions here return None and say once which file is missing and where it belongs.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

WEIGHTS_NAME = "alexnet-owt-7be5be79.pth"
SMALLEST_SIDE = 31
"""Pixels; below, AlexNet's second pooling has nothing to pool."""

_CHANNELS = (64, 192, 384, 256, 256)
_LAYERS_AFTER_RELU = (2, 5, 8, 10, 12)
_CONVOLUTIONS = (0, 3, 6, 8, 10)
_log = logging.getLogger(__name__)


def weights_path() -> Path:
    """Where torch keeps (and torchvision would put) the AlexNet weights: ``<torch hub>/checkpoints/<file>``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_NAME


def missing_message() -> str | None:
    """Which file LPIPS lacks and where to put it, or None when it is there."""
    path = weights_path()
    if path.is_file():
        return None
    return (
        f"LPIPS is not reported: it needs torchvision's AlexNet weights, and {path} does not exist. "
        f"Put {WEIGHTS_NAME} there (calling torchvision.models.alexnet(weights='IMAGENET1K_V1') once downloads it)."
    )


def lpips(prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> Float[Tensor, ""] | None:
    """LPIPS of two images in [0, 1]; 0 for equal ones. None where the weights are missing.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than 31 pixels.
    """
    _require_images(prediction, target)
    network = _network_or_none(str(target.device))
    return None if network is None else _sum(layer.mean() for layer in network(prediction, target))


def masked_lpips(
    prediction: Float[Tensor, "h w 3"],
    target: Float[Tensor, "h w 3"],
    mask: Float[Tensor, "h w"] | Bool[Tensor, "h w"],
) -> Float[Tensor, ""] | None:
    """DyCheck's mLPIPS: the spatial LPIPS map of the two images times the mask, averaged over the mask.

    Returns NaN where the mask is empty, None where the weights are missing.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than 31 pixels.
    """
    _require_images(prediction, target)
    if mask.shape != target.shape[:2]:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}, the images {tuple(target.shape)}: sizes must agree.")
    network = _network_or_none(str(target.device))
    if network is None:
        return None
    weight = mask.to(torch.float32)
    layers = network(prediction.float() * weight[..., None], target.float() * weight[..., None])
    difference = _sum(
        F.interpolate(layer, size=weight.shape, mode="bilinear", align_corners=False)[0, 0] for layer in layers
    )
    return (difference * weight).sum() / weight.sum()


class AlexNetLpips(nn.Module):
    """The five per-layer LPIPS maps of a pair of images."""

    def __init__(self, alexnet: dict[str, Tensor], linear: dict[str, Tensor]) -> None:
        """Args: torchvision's AlexNet state dict, and LPIPS' learned 1x1 weights (``lin{k}.model.1.weight``)."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        wanted = [f"{index}.{kind}" for index in _CONVOLUTIONS for kind in ("weight", "bias")]
        self.features.load_state_dict({name: alexnet[f"features.{name}"] for name in wanted})
        for k, channels in enumerate(_CHANNELS):
            self.register_buffer(f"linear_{k}", linear[f"lin{k}.model.1.weight"].reshape(1, channels, 1, 1).clone())
        # The statistics LPIPS normalises by, for images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.requires_grad_(False).eval()

    def forward(self, prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> list[Tensor]:
        """Maps ``[1, 1, h_k, w_k]`` of the weighted squared differences, one a layer."""
        pair = torch.stack([prediction, target]).permute(0, 3, 1, 2).float()
        activations = (2 * pair - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        maps, first = [], 0
        for k, last in enumerate(_LAYERS_AFTER_RELU):
            activations = self.features[first:last](activations)
            first = last
            directions = activations / (activations.square().sum(1, keepdim=True) + 1e-8).sqrt()
            difference = (directions[:1] - directions[1:]).square()
            maps.append((difference * self.get_buffer(f"linear_{k}")).sum(1, keepdim=True))
        return maps


def _network_or_none(device: str) -> AlexNetLpips | None:
    message = missing_message()
    if message is None:
        return _load(str(weights_path()), device)
    _say_once(message)
    return None


@functools.lru_cache(maxsize=2)
def _load(path: str, device: str) -> AlexNetLpips:
    linear = _package_folder("torchmetrics") / "functional" / "image" / "lpips_models" / "alex.pth"
    network = AlexNetLpips(
        torch.load(path, map_location="cpu", weights_only=True),
        torch.load(linear, map_location="cpu", weights_only=True),
    )
    return network.to(device)


def _package_folder(name: str) -> Path:
    """Where a package lies, without importing it: torchmetrics pulls in torchvision, which a CPU torch can break."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"LPIPS takes its layer weights from the package {name}, which is not installed.")
    return Path(spec.origin).parent


@functools.lru_cache(maxsize=8)
def _say_once(message: str) -> None:
    _log.warning(message)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, tensors)


def _require_images(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or target.ndim != 3 or target.shape[-1] != 3:
        raise ValueError(
            f"LPIPS compares two images [h, w, 3] of one shape, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    if min(target.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"LPIPS needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got "
            f"{target.shape[1]}x{target.shape[0]}. Evaluate at a larger size."
        )
