"""LPIPS with an AlexNet or VGG16 backbone, full image and masked; only where its weights already lie on disk.

LPIPS (Zhang et al. 2018) compares normalised activations of five layers of a network through learned per-channel
weights. The latter come with torchmetrics. The network's weights are a download that this package never makes on its
own: without them the functions here return None and say once which file is missing and where it belongs. Numbers of
two networks do not compare: AlexNet is what most papers on video report, VGG what some on static scenes do.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Net = Literal["alex", "vgg"]


@dataclass(frozen=True)
class Backbone:
    """The feature layers of a torchvision network, and which of them LPIPS compares."""

    title: str
    weights_name: str
    """torchvision's file."""
    builder: str
    """What downloads it, in python."""
    layers: tuple[tuple[int, ...] | str, ...]
    """``(channels in, channels out, kernel, stride, padding)`` of a convolution, ``relu``, or ``pool``."""
    compared: tuple[int, ...]
    """How many layers lie before each compared activation."""
    pool: tuple[int, int]
    """Side and stride of the pooling."""
    smallest_side: int
    """Pixels; below, the last pooling has nothing to pool."""


_VGG_CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def _vgg_layers() -> tuple[tuple[int, ...] | str, ...]:
    layers, inner = [], 3
    for channels in _VGG_CHANNELS:  # 0 pools
        layers += ["pool"] if channels == 0 else [(inner, channels, 3, 1, 1), "relu"]
        inner = channels or inner
    return tuple(layers)


BACKBONES: dict[str, Backbone] = {
    "alex": Backbone(
        title="AlexNet",
        weights_name="alexnet-owt-7be5be79.pth",
        builder="alexnet(weights='IMAGENET1K_V1')",
        layers=(
            (3, 64, 11, 4, 2), "relu", "pool",
            (64, 192, 5, 1, 2), "relu", "pool",
            (192, 384, 3, 1, 1), "relu",
            (384, 256, 3, 1, 1), "relu",
            (256, 256, 3, 1, 1), "relu",
        ),
        compared=(2, 5, 8, 10, 12),
        pool=(3, 2),
        smallest_side=31,
    ),
    "vgg": Backbone(
        title="VGG16",
        weights_name="vgg16-397923af.pth",
        builder="vgg16(weights='IMAGENET1K_V1')",
        layers=_vgg_layers(),
        compared=(4, 9, 16, 23, 30),
        pool=(2, 2),
        smallest_side=16,
    ),
}  # fmt: skip
_log = logging.getLogger(__name__)


def weights_path(net: Net = "alex") -> Path:
    """Where torch keeps (and torchvision would put) a network's weights: ``<torch hub>/checkpoints/<file>``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / backbone(net).weights_name


def backbone(net: str) -> Backbone:
    """The network of that name.

    Raises:
        ValueError: no such network.
    """
    if net not in BACKBONES:
        raise ValueError(f"LPIPS was asked for with the network {net!r}; expected one of {', '.join(BACKBONES)}.")
    return BACKBONES[net]


def missing_message(net: Net = "alex") -> str | None:
    """Which file LPIPS lacks and where to put it, or None when it is there."""
    path, network = weights_path(net), backbone(net)
    if path.is_file():
        return None
    return (
        f"LPIPS is not reported: it needs torchvision's {network.title} weights, and {path} does not exist. "
        f"Put {path.name} there (calling torchvision.models.{network.builder} once downloads it)."
    )


def lpips(
    prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], net: Net = "alex"
) -> Float[Tensor, ""] | None:
    """LPIPS of two images in [0, 1]; 0 for equal ones. None where the weights are missing.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than the network allows (31 pixels for AlexNet).
    """
    _require_images(prediction, target, net)
    network = _network_or_none(net, str(target.device))
    return None if network is None else _sum(layer.mean() for layer in network(prediction, target))


def masked_lpips(
    prediction: Float[Tensor, "h w 3"],
    target: Float[Tensor, "h w 3"],
    mask: Float[Tensor, "h w"] | Bool[Tensor, "h w"],
    net: Net = "alex",
) -> Float[Tensor, ""] | None:
    """DyCheck's mLPIPS: the spatial LPIPS map of the two images times the mask, averaged over the mask.

    Returns NaN where the mask is empty, None where the weights are missing.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than the network allows (31 pixels for AlexNet).
    """
    _require_images(prediction, target, net)
    if mask.shape != target.shape[:2]:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}, the images {tuple(target.shape)}: sizes must agree.")
    network = _network_or_none(net, str(target.device))
    if network is None:
        return None
    weight = mask.to(torch.float32)
    layers = network(prediction.float() * weight[..., None], target.float() * weight[..., None])
    difference = _sum(
        F.interpolate(layer, size=weight.shape, mode="bilinear", align_corners=False)[0, 0] for layer in layers
    )
    return (difference * weight).sum() / weight.sum()


class LpipsNetwork(nn.Module):
    """The five per-layer LPIPS maps of a pair of images."""

    def __init__(self, network: Backbone, weights: dict[str, Tensor], linear: dict[str, Tensor]) -> None:
        """Args: the backbone, torchvision's state dict, and LPIPS' learned 1x1 weights (``lin{k}.model.1.weight``)."""
        super().__init__()
        self.compared = network.compared
        layers: list[nn.Module] = []
        for layer in network.layers:
            if isinstance(layer, str):
                layers.append(nn.ReLU() if layer == "relu" else nn.MaxPool2d(*network.pool))
            else:
                inner, outer, side, stride, padding = layer
                layers.append(nn.Conv2d(inner, outer, side, stride=stride, padding=padding))
        self.features = nn.Sequential(*layers)
        self.features.load_state_dict({name: weights[f"features.{name}"] for name in self.features.state_dict()})
        for k in range(len(self.compared)):
            self.register_buffer(f"linear_{k}", linear[f"lin{k}.model.1.weight"].reshape(1, -1, 1, 1).clone())
        # The statistics LPIPS normalises by, for images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.requires_grad_(False).eval()

    def forward(self, prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> list[Tensor]:
        """Maps ``[1, 1, h_k, w_k]`` of the weighted squared differences, one a layer."""
        pair = torch.stack([prediction, target]).permute(0, 3, 1, 2).float()
        activations = (2 * pair - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        maps, first = [], 0
        for k, last in enumerate(self.compared):
            activations = self.features[first:last](activations)
            first = last
            directions = activations / (activations.square().sum(1, keepdim=True) + 1e-8).sqrt()
            difference = (directions[:1] - directions[1:]).square()
            maps.append((difference * self.get_buffer(f"linear_{k}")).sum(1, keepdim=True))
        return maps


def _network_or_none(net: Net, device: str) -> LpipsNetwork | None:
    message = missing_message(net)
    if message is None:
        return _load(net, str(weights_path(net)), device)
    _say_once(message)
    return None


@functools.lru_cache(maxsize=2)
def _load(net: Net, path: str, device: str) -> LpipsNetwork:
    linear = _package_folder("torchmetrics") / "functional" / "image" / "lpips_models" / f"{net}.pth"
    network = LpipsNetwork(
        backbone(net),
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


def _require_images(prediction: Tensor, target: Tensor, net: Net) -> None:
    if prediction.shape != target.shape or target.ndim != 3 or target.shape[-1] != 3:
        raise ValueError(
            f"LPIPS compares two images [h, w, 3] of one shape, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    side = backbone(net).smallest_side
    if min(target.shape[:2]) < side:
        raise ValueError(
            f"LPIPS with {backbone(net).title} needs images of at least {side}x{side} pixels, got "
            f"{target.shape[1]}x{target.shape[0]}. Evaluate at a larger size."
        )
