"""Depth from networks that see one image, through transformers: Depth Anything V2 (relative or metric) and Depth Pro.

Relative disparity is aligned to the cameras by scale and shift, metric depth by scale alone; see `depth_aligned.py`.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.align import Freedom
from dyngs_plugins.priors.limits import memory_advice
from dyngs_plugins.priors.providers.base import FrameResult
from dyngs_plugins.priors.providers.depth_aligned import AlignedDepth, inverse_depth
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.learned import (
    Weights,
    choose_device,
    load_pretrained,
    missing_package,
    missing_weights,
    result_settings,
)


@dataclasses.dataclass
class SingleImageDepth(AlignedDepth):
    """A network's depth per image, aligned to the cameras."""

    catalogue: ClassVar[dict[str, Weights]] = {}

    #: Id on the Hugging Face hub, or a folder with config.json, preprocessor_config.json and weights.
    model: str = ""
    #: Size in pixels that images are brought to for the network.
    input_size: int = 518
    #: Images that go through the network at once.
    batch_size: int = 4
    #: "auto", "cpu", "cuda" or "cuda:N".
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1 or self.input_size < 14:
            raise ValueError(
                f"depth.batch_size={self.batch_size}, depth.input_size={self.input_size}: expected at least 1 image "
                "and 14 pixels."
            )
        self._network: tuple[Any, Any, Any] | None = None  # model, processor, device

    @property
    def settings(self) -> dict[str, Any]:
        return result_settings(self)

    @property
    def source(self) -> str:
        return self.model

    @abstractmethod
    def predict(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "b h w"]:
        """The network's disparity at the images' size, in its own unit; larger is nearer."""

    def unavailable(self) -> str | None:
        """Why this provider cannot run here and what to do about it, or None when it can."""
        return missing_package("transformers") or missing_weights("depth", self.model, self.catalogue)

    def foreign_disparity(self, inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w"]:
        """The network's disparity of frame i. Batches always hold the same frames, so a resumed run sees the same."""
        batch, place = divmod(i, self.batch_size)
        key = ("network depth", *self.memory_key(), self.batch_size, batch)
        return inputs.remember(key, lambda: self._predict_batch(inputs, batch))[place]

    def _predict_batch(self, inputs: PriorInputs, batch: int) -> Float[np.ndarray, "b h w"]:
        frames = range(batch * self.batch_size, min((batch + 1) * self.batch_size, len(inputs.frames)))
        with memory_advice(self.title, self.less_memory()):
            return self.predict([inputs.image(i) for i in frames])

    def less_memory(self) -> str:
        return (
            f"Lower --settings depth.batch_size=... (now {self.batch_size}) or depth.input_size=... (now "
            f"{self.input_size}), take a smaller depth.model, or run on the CPU with depth.device=cpu."
        )

    def _load(self, model_class: Any) -> tuple[Any, Any, Any]:
        """Model, image processor and device, loaded at the first use."""
        if self._network is None:
            from transformers import AutoImageProcessor

            device = choose_device(self.device)
            loaded = load_pretrained({"model": model_class, "processor": AutoImageProcessor}, self.model, "depth")
            self._network = loaded["model"].eval().to(device), loaded["processor"], device
        return self._network

    def _forward(self, model_class: Any, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[dict[str, Any]]:
        """One dictionary per image with `predicted_depth` [h, w] at the image's size."""
        import torch

        model, processor, device = self._load(model_class)
        size = {"height": self.input_size, "width": self.input_size}
        batch = processor(images=list(images), size=size, return_tensors="pt").to(device)
        with torch.inference_mode():
            output = model(**batch)
        return processor.post_process_depth_estimation(output, target_sizes=[image.shape[:2] for image in images])


_FOCAL_DIFFERENCE = 0.15  # relative; smaller ones are the network's own error
_SMALL = Weights("99 MB", "Apache-2.0")
_LARGE_NOTE = "CC BY-NC 4.0 (no commercial use)"


@dataclasses.dataclass
class DepthAnything(SingleImageDepth):
    """Depth Anything V2 (Yang et al., NeurIPS 2024), relative or metric as its config says."""

    name: ClassVar[str] = "depth-anything"
    catalogue: ClassVar[dict[str, Weights]] = {
        "depth-anything/Depth-Anything-V2-Small-hf": _SMALL,
        "depth-anything/Depth-Anything-V2-Base-hf": Weights("390 MB", _LARGE_NOTE),
        "depth-anything/Depth-Anything-V2-Large-hf": Weights("1.3 GB", _LARGE_NOTE),
        "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf": _SMALL,
        "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf": _SMALL,
    }

    model: str = "depth-anything/Depth-Anything-V2-Small-hf"

    @property
    def freedom(self) -> Freedom:
        return "scale" if self._network_config().depth_estimation_type == "metric" else "affine"

    def _network_config(self) -> Any:
        from transformers import DepthAnythingForDepthEstimation

        return self._load(DepthAnythingForDepthEstimation)[0].config

    def predict(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "b h w"]:
        from transformers import DepthAnythingForDepthEstimation

        results = self._forward(DepthAnythingForDepthEstimation, images)
        values = np.stack([result["predicted_depth"].float().cpu().numpy() for result in results])
        return values if self.freedom == "affine" else inverse_depth(values)


@dataclasses.dataclass
class DepthPro(SingleImageDepth):
    """Depth Pro (Bochkovskii et al., ICLR 2025): metric depth, and the focal length it was seen with."""

    name: ClassVar[str] = "depth-pro"
    catalogue: ClassVar[dict[str, Weights]] = {
        "apple/DepthPro-hf": Weights("1.9 GB", "Apple Machine Learning Research model licence (research only)")
    }

    model: str = "apple/DepthPro-hf"
    #: The network was trained at this size; its parts are cut to fit, so others only work with other weights.
    input_size: int = 1536
    batch_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._focals: list[float] = []
        self._camera_focal = float("nan")

    @property
    def freedom(self) -> Freedom:
        return "scale"

    def predict(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "b h w"]:
        from transformers import DepthProForDepthEstimation

        results = self._forward(DepthProForDepthEstimation, images)
        self._focals += [float(r["focal_length"]) for r in results if r["focal_length"] is not None]
        return inverse_depth(np.stack([result["predicted_depth"].float().cpu().numpy() for result in results]))

    def focal_hint(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> float | None:
        """The median focal length in pixels that the network sees in some images of one camera.

        A first guess for cameras that know no focal length; None when the weights came without that part.
        """
        reason = self.unavailable()
        if reason:
            raise FileNotFoundError(reason)
        self._focals = []
        for start in range(0, len(images), self.batch_size):
            with memory_advice(self.title, self.less_memory()):
                self.predict(images[start : start + self.batch_size])
        finite = [focal for focal in self._focals if np.isfinite(focal) and focal > 0]
        return float(np.median(finite)) if finite else None

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `AlignedDepth.compute`."""
        self._focals, self._camera_focal = [], float(inputs.frames.K[0, 0, 0])
        yield from super().compute(inputs, indices)

    def notes(self) -> tuple[str, ...]:
        """The focal length is a hint for cameras that had to guess theirs."""
        seen = self.figures().get("network's focal px")
        if seen is None or abs(seen / self._camera_focal - 1) < _FOCAL_DIFFERENCE:
            return super().notes()
        return (*super().notes(), f"{self.model} sees a focal length of {seen:.0f} pixels of the clip's images, the cameras "
                f"have {self._camera_focal:.0f}. If theirs was not known beforehand, try --focal and --redo cameras.")  # fmt: skip

    def figures(self) -> dict[str, float]:
        hint = [focal for focal in self._focals if np.isfinite(focal) and focal > 0]
        return super().figures() | ({"network's focal px": float(np.median(hint))} if hint else {})
