"""Working on smaller copies of the frames, and bringing the results back to full size along the image's edges.

Evidence of motion and triangulated depth are smooth but for their edges, and their cost grows with the pixels: at half
the size everything, flow first of all, costs a quarter. Coordinates: pixel centres are integers at every size, so a
point x of the full image lies at (x + 0.5) s - 0.5 of one that is s times as large.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from dyngs_plugins.priors.providers.flow_math import sample
from dyngs_plugins.priors.providers.inputs import PriorInputs

_SHARE = 0.6  # of the memory of the full-size inputs, which keep the rest
_WORKING: weakref.WeakKeyDictionary[PriorInputs, dict[int, WorkingInputs]] = weakref.WeakKeyDictionary()


def working_inputs(inputs: PriorInputs, side: int) -> PriorInputs:
    """The same frames with a longer side of `side` pixels; `inputs` itself where they are not larger (or side is 0)."""
    height, width = inputs.frames.size
    if not side or max(height, width) <= side or isinstance(inputs, WorkingInputs):
        return inputs
    made = _WORKING.setdefault(inputs, {})
    if side not in made or made[side].source is not inputs.frames:
        scale = side / max(height, width)
        made[side] = WorkingInputs(inputs, (max(round(height * scale), 1), max(round(width * scale), 1)))
    return made[side]


class WorkingInputs(PriorInputs):
    """Frames, flow and masks of other inputs at a smaller size, kept in memory of their own."""

    def __init__(self, full: PriorInputs, size: tuple[int, int]) -> None:
        frames, self._scale = full.frames, (size[1] / full.frames.size[1], size[0] / full.frames.size[0])
        self.source = frames
        K = frames.K if frames.K is None else np.diag([*self._scale, 1.0]) @ frames.K
        self._full = weakref.ref(full)  # which owns this
        small = dataclasses.replace(frames, size=size, K=K)
        super().__init__(small, full.flow_provider, {}, memory_gb=_SHARE * full.memory_gb)
        full.flow_budget = int((1.0 - _SHARE) * full.flow_budget)
        for memory in (full._images, full._flows, full._errors, full._other):  # both together keep to the budget
            memory.budget = int((1.0 - _SHARE) * memory.budget)

    def image(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB of frame i, area-averaged."""
        return self._images.get(i, lambda: cv2.resize(self._owner.image(i), self._wh, interpolation=cv2.INTER_AREA))

    def flow(self, i: int, j: int) -> Float[np.ndarray, "h w 2"]:
        """Flow in pixels of the small images: half floats in memory, so that those of a whole clip fit."""
        return self._flows.get((i, j), lambda: self._make_flow(i, j).astype(np.float16)).astype(np.float32)

    def mask(self, i: int) -> Bool[np.ndarray, "h w"]:
        """Where most of a pixel moves."""
        return self.remember(("mask", i), lambda: self._shrunk(self._owner.mask(i).astype(np.float32)) > 0.5)

    def _from_file(self, kind: str, i: int, j: int) -> np.ndarray | None:
        array = self._owner._from_file(kind, i, j)
        if array is None or kind != "flow":
            return array
        return self._shrunk(array) * np.array(self._scale, np.float32)

    def _shrunk(self, array: Float[np.ndarray, "h w *c"]) -> Float[np.ndarray, "a b *c"]:
        return cv2.resize(np.asarray(array, np.float32), self._wh, interpolation=cv2.INTER_AREA)

    @property
    def _wh(self) -> tuple[int, int]:
        return self.frames.size[1], self.frames.size[0]

    @property
    def _owner(self) -> PriorInputs:
        owner = self._full()
        if owner is None:
            raise ReferenceError("the inputs at full size are gone")
        return owner


def flows_fit(inputs: PriorInputs, per_frame: int) -> bool:
    """Whether `per_frame` flows of every frame stay in memory."""
    height, width = inputs.frames.size
    bytes_each = height * width * (4 if isinstance(inputs, WorkingInputs) else 8)
    return per_frame * len(inputs.frames) * bytes_each <= inputs.flow_budget


def flow_at(inputs: PriorInputs, working: PriorInputs, i: int, j: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives the flow from frame i to j, in pixels of `inputs`, at points of `inputs`.

    From one frame to the next it is the flow at full size, which is a prior of its own; else that of `working`.
    """
    if working is inputs or abs(i - j) == 1:
        flow = inputs.flow(i, j)
        return lambda xy: sample(flow, xy)
    small = working.flow(i, j)
    scale = np.array([working.frames.size[1] / inputs.frames.size[1], working.frames.size[0] / inputs.frames.size[0]])
    return lambda xy: (sample(small, (xy + 0.5) * scale - 0.5) / scale).astype(np.float32)


def enlarged(
    values: Float[np.ndarray, "a b"],
    small_image: UInt8[np.ndarray, "a b 3"],
    image: UInt8[np.ndarray, "h w 3"],
    small_labels: Int[np.ndarray, "a b"],
    labels: Int[np.ndarray, "h w"],
    colour_tolerance: float = 12.0,
) -> Float[np.ndarray, "h w"]:
    """A map at the size of `image`: of the small pixels around each pixel, those of like colour and equal label count.

    Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007) over the nine nearest small pixels. Where none has the
    pixel's label, labels do not count.
    """
    height, width = image.shape[:2]
    y, x = (
        (np.arange(n, dtype=np.float32) + 0.5) * m / n - 0.5 for n, m in zip((height, width), values.shape, strict=True)
    )
    total = np.zeros((2, height, width), np.float32)
    weight = np.zeros((2, height, width), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, column = y.round().astype(int) + dy, x.round().astype(int) + dx
            near = np.exp(-((row - y)[:, None] ** 2 + (column - x)[None] ** 2)).astype(np.float32)
            places = np.ix_(row.clip(0, values.shape[0] - 1), column.clip(0, values.shape[1] - 1))
            difference = cv2.absdiff(small_image[places], image).max(-1)
            w = near * _likeness(colour_tolerance)[difference]
            v = values[places]
            same = small_labels[places] == labels
            total[0] += w * v
            weight[0] += w
            total[1] += (w * v) * same
            weight[1] += w * same
    return np.where(weight[1] > 1e-6, total[1] / np.maximum(weight[1], 1e-6), total[0] / weight[0])


def _likeness(tolerance: float) -> Float[np.ndarray, "256"]:
    return (np.exp(-((np.arange(256) / tolerance) ** 2) / 2) + 1e-4).astype(np.float32)
