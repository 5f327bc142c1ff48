"""Dense inverse search: optical flow without learned weights (Kroeger et al., ECCV 2016), through OpenCV."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.providers.base import FlowProvider


@dataclasses.dataclass
class DISFlow(FlowProvider):
    """OpenCV's DIS flow, refined down to full resolution (the preset "medium" stops at half of it)."""

    name: ClassVar[str] = "dis"

    finest_scale: int = 0
    patch_size: int = 8
    patch_stride: int = 3
    gradient_descent_iterations: int = 25
    variational_iterations: int = 5
    smoothness: float = 40.0
    #: A forward-backward error below this many pixels counts as visible in both frames.
    round_trip_px: float = 1.5

    @property
    def max_round_trip(self) -> float:
        return self.round_trip_px

    def estimate(
        self,
        source: UInt8[np.ndarray, "h w 3"],
        target: UInt8[np.ndarray, "h w 3"],
        initial: Float[np.ndarray, "h w 2"] | None = None,
    ) -> Float[np.ndarray, "h w 2"]:
        """Flow from `source` to `target` in pixels; an `initial` flow is refined."""
        if min(source.shape[:2]) < 2 * self.patch_size:
            raise ValueError(
                f"Images of {source.shape[1]}x{source.shape[0]} are too small for DIS flow with patches of "
                f"{self.patch_size} pixels: use larger images (--height, --width)."
            )
        first, second = _stretched_grey(source, target)
        start = None if initial is None else np.ascontiguousarray(initial, np.float32).copy()
        return self._solver().calc(first, second, start)  # type: ignore[arg-type]  (None is a start from zero)

    def _solver(self) -> cv2.DISOpticalFlow:
        solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        solver.setFinestScale(self.finest_scale)
        solver.setPatchSize(self.patch_size)
        solver.setPatchStride(self.patch_stride)
        solver.setGradientDescentIterations(self.gradient_descent_iterations)
        solver.setVariationalRefinementIterations(self.variational_iterations)
        solver.setVariationalRefinementAlpha(self.smoothness)
        return solver


def _stretched_grey(
    source: UInt8[np.ndarray, "h w 3"], target: UInt8[np.ndarray, "h w 3"]
) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Both images in grey, with one common gain that uses the whole 8-bit range: DIS's weights assume contrast."""
    grey = [cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY) for image in (source, target)]
    low, high = np.percentile(np.stack(grey), [0.5, 99.5])
    gain = 255.0 / max(high - low, 16.0)
    first, second = (np.clip((image - low) * gain, 0, 255).astype(np.uint8) for image in grey)
    return first, second
