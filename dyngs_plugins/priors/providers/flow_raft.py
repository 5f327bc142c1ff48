"""RAFT: learned optical flow (Teed and Deng, ECCV 2020), through torchvision, which nerfstudio installs anyway."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.limits import first_line, memory_advice
from dyngs_plugins.priors.providers.base import FlowProvider
from dyngs_plugins.priors.providers.learned import (
    choose_device,
    missing_package,
    result_settings,
)

_STRIDE = 8  # of the network's features; images must be a multiple of it
_SMALLEST = 128  # four levels of correlation need 16 x 16 features
_SIZES = {"large": "20 MB", "small": "4 MB"}
_LICENCE = "BSD-3-Clause, as torchvision"


@dataclasses.dataclass
class RaftFlow(FlowProvider):
    """torchvision's RAFT with weights from a file."""

    name: ClassVar[str] = "raft"

    network: Literal["large", "small"] = "large"
    #: File with torchvision's weights; empty: the file that torchvision itself would keep in its cache.
    weights: str = ""
    #: How often the network corrects its flow.
    iterations: int = 20
    #: Images whose longer side is larger, in pixels, are looked at in smaller copies; 0: never.
    max_size: int = 0
    #: A forward-backward error below this many pixels counts as visible in both frames.
    round_trip_px: float = 1.5
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.network not in _SIZES or self.iterations < 1 or (self.max_size and self.max_size < _SMALLEST):
            raise ValueError(
                f"flow.network={self.network!r}, flow.iterations={self.iterations}, flow.max_size={self.max_size}: "
                f"expected large or small, at least 1, and 0 or at least {_SMALLEST}."
            )
        self._loaded: tuple[Any, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return result_settings(self) | {"weights": self._file().name if self.weights else ""}

    @property
    def max_round_trip(self) -> float:
        return self.round_trip_px

    def unavailable(self) -> str | None:
        """Why this provider cannot run here and what to do about it, or None when it can."""
        missing = missing_package("torchvision", "pip install torchvision")
        if missing:
            return missing
        try:
            file, url = self._file(), self._enum().url
        except Exception as error:  # a torchvision that is installed but broken raises anything
            return f"torchvision cannot be used ({first_line(error)}). Install the one that belongs to your torch."
        if file.is_file():
            return None
        return (
            f"The weights of RAFT {self.network} ({_SIZES[self.network]}, licence: {_LICENCE}) are not at {file}, and "
            f"nothing is downloaded without you. To get them: curl -L --create-dirs -o {file} {url}. To use another "
            "file: --settings flow.weights=FILE."
        )

    def less_memory(self) -> str:
        return (
            f"Lower --settings flow.max_size=... (now {self.max_size or 'no limit'}), take flow.network=small, or run on "
            "the CPU with flow.device=cpu."
        )

    def estimate(
        self,
        source: UInt8[np.ndarray, "h w 3"],
        target: UInt8[np.ndarray, "h w 3"],
        initial: Float[np.ndarray, "h w 2"] | None = None,
    ) -> Float[np.ndarray, "h w 2"]:
        """Flow from `source` to `target` in pixels. `initial` is ignored: RAFT looks at all displacements anyway.

        Raises:
            FileNotFoundError: without the weights; see `unavailable`.
            ValueError: for weights of another network.
            MemoryError: with what to lower.
        """
        import torch

        height, width = source.shape[:2]
        work = _working_size(height, width, self.max_size)
        with memory_advice(self.title, self.less_memory()):
            model, device = self._model()
            first, second = (_prepared(image, work).to(device) for image in (source, target))
            with torch.inference_mode():
                flow = model(first, second, num_flow_updates=self.iterations)[-1][0, :, : work[0], : work[1]]
        flow = flow.permute(1, 2, 0).float().cpu().numpy()
        if work != (height, width):
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
            flow = flow * (np.array([width, height], np.float32) / np.array([work[1], work[0]], np.float32))
        return np.ascontiguousarray(flow, np.float32)

    def _enum(self) -> Any:
        from torchvision.models import optical_flow

        kinds = {"large": optical_flow.Raft_Large_Weights, "small": optical_flow.Raft_Small_Weights}
        return kinds[self.network].DEFAULT

    def _file(self) -> Path:
        """The weights: the given file, or where torchvision keeps its own."""
        if self.weights:
            return Path(self.weights).expanduser()
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self._enum().url.rsplit("/", 1)[-1]

    def _model(self) -> tuple[Any, Any]:
        """The network and its device, loaded at the first use."""
        if self._loaded is None:
            reason = self.unavailable()
            if reason:
                raise FileNotFoundError(reason)
            import torch
            from torchvision.models import optical_flow

            build = optical_flow.raft_large if self.network == "large" else optical_flow.raft_small
            model, device = build(weights=None), choose_device(self.device)
            try:
                model.load_state_dict(torch.load(self._file(), map_location="cpu", weights_only=True))
            except Exception as error:  # pickle, zip and torch each have their own errors for a wrong file
                raise ValueError(
                    f"{self._file()}: not the weights of RAFT {self.network} ({first_line(error)}). Expected "
                    f"torchvision's file ({self._enum().url}); it may be half fetched, or of the "
                    "other network (--settings flow.network=large or small)."
                ) from error
            self._loaded = model.eval().to(device), device
        return self._loaded


def _working_size(height: int, width: int, max_size: int) -> tuple[int, int]:
    """Height and width that the network works at: smaller where asked, larger where it could not work at all."""
    scale = min(1.0, max_size / max(height, width)) if max_size else 1.0
    scale = max(scale, 0.5 * _SMALLEST / min(height, width))  # the rest up to _SMALLEST is padding
    return round(height * scale), round(width * scale)


def _prepared(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> Any:
    """[1, 3, H, W] in -1..1, with the border repeated at the right and below up to what the network can divide."""
    import torch

    if image.shape[:2] != size:
        shrink = size[0] < image.shape[0]
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)  # type: ignore[assignment]
    target = [max(-(-side // _STRIDE) * _STRIDE, _SMALLEST) for side in size]
    padded = np.pad(image, ((0, target[0] - size[0]), (0, target[1] - size[1]), (0, 0)), mode="edge")
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1.0
