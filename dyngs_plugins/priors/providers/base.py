"""What a prior provider is, and what it may look at.

A provider turns the frames of one camera into one kind of prior: flow, masks, depth or tracks. It is a pure function of
the frames and of the priors made before it; reading the cache, writing files and resuming belong to
`dyngs_plugins.priors.process`. Subclass the class of your kind, give it a `name`, make it a dataclass whose fields are
its settings, and return it from the hook `dyngs_prior_providers` (see `dyngs_plugins.hooks`).

Axes are OpenCV's (x right, y down, z forward). Pixel coordinates in flow and tracks have integer pixel centres; the
intrinsics `K` put pixel centres at +0.5, so `xy = project(K, X) - 0.5`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from dyngs_plugins.priors.providers.inputs import PriorInputs

#: What `compute` yields: the index of a frame, and its arrays by key (see `PriorKind.paths` in prior_kinds.py). A track
#: provider gives a `TrackWindow` instead of an array.
FrameResult = tuple[int, Mapping[Any, Any]]


@dataclasses.dataclass
class PriorProvider(ABC):
    """One way of making one kind of prior. Fields of a subclass are its settings (numbers, texts, tuples)."""

    kind: ClassVar[str]
    name: ClassVar[str]
    needs_parallax: ClassVar[bool] = False
    """Whether it triangulates, so that a camera that stands still gives it nothing."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, stored beside the files as provider.json."""
        return dataclasses.asdict(self)

    def unavailable(self) -> str | None:
        """Why this provider cannot run here (a package or weights are missing) and the fix; None when it can."""
        return None

    @property
    def title(self) -> str:
        """Who it is, at the beginning of a message."""
        return f"The {self.kind} provider {self.name!r}"

    def less_memory(self) -> str:
        """Which of its settings need less memory, in whole sentences, for the message when it runs out."""
        return ""

    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the frames computed so far: what was assumed, what could not be done."""
        return ()

    @abstractmethod
    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """Yield the priors of the frames `indices`; the arrays of one frame may come in several parts.

        The result of a frame must not depend on which other frames are asked for, so that a resumed run
        ends with the same files as an uninterrupted one.
        """


class FlowProvider(PriorProvider):
    """Dense optical flow between two images."""

    kind: ClassVar[str] = "flow"

    @abstractmethod
    def estimate(
        self,
        source: UInt8[np.ndarray, "h w 3"],
        target: UInt8[np.ndarray, "h w 3"],
        initial: Float[np.ndarray, "h w 2"] | None = None,
    ) -> Float[np.ndarray, "h w 2"]:
        """Flow from `source` to `target` in pixels; `initial` is a first guess that an estimator may ignore."""

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """Forward and backward flow to the neighbouring frames, with the pixels that pass the round trip."""
        for i in indices:
            arrays: dict[str, np.ndarray] = {}
            for key, j in (("fwd", i + 1), ("bwd", i - 1)):
                if 0 <= j < len(inputs.frames):
                    arrays[key] = inputs.flow(i, j)
                    arrays[f"{key}_visible"] = inputs.flow_error(i, j) < self.max_round_trip
            yield i, arrays

    @property
    def max_round_trip(self) -> float:
        """Pixels whose forward-backward error is below this many pixels count as visible in both frames."""
        return 1.5


class MaskProvider(PriorProvider):
    """Which pixels move in the world. Yields {"mask": bool [h, w]}."""

    kind: ClassVar[str] = "masks"


class DepthProvider(PriorProvider):
    """Dense disparity 1/z in the cameras' units. Yields {"disparity": float32 [h, w]}, 0 where unknown."""

    kind: ClassVar[str] = "depth"


class TrackProvider(PriorProvider):
    """Long point tracks. Yields {"tracks": TrackWindow}: the query pixels of a frame in the frames around it."""

    kind: ClassVar[str] = "tracks"


def track_rows(
    xy: Float[np.ndarray, "p 2"], error: Float[np.ndarray, "p"], visible: Bool[np.ndarray, "p"], max_error: float
) -> Float[np.ndarray, "p 4"]:
    """Rows of points: logits in the reader's sense, visible and confident where the error in pixels is small (sheet
    section 10).

    Args:
        max_error: pixels from where on a position is more unsure than sure.
    """
    uncertainty = np.clip(2.0 * (error - max_error), -4.0, 4.0)
    return np.column_stack([xy, np.where(visible, -4.0, 4.0), uncertainty]).astype(np.float32)


def query_pixels(mask: Bool[np.ndarray, "h w"], stride: int) -> Float[np.ndarray, "p 2"]:
    """Moving pixels (x, y) with both coordinates a multiple of `stride`, in raster order (sheet section 10)."""
    y, x = np.nonzero(mask[::stride, ::stride])
    return np.stack([x, y], axis=-1).astype(np.float32) * stride
