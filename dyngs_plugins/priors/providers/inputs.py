"""What a provider may look at: the frames of one camera, and the priors already made from them."""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dyngs_plugins.priors.providers.flow_math import compose_flow, round_trip_error

if TYPE_CHECKING:
    from dyngs_plugins.priors.providers.base import FlowProvider


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An 8-bit RGB image.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not an image that OpenCV can decode.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image.")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(
            f"{path}: cannot be decoded as an image ({path.stat().st_size} bytes). Expected a PNG or JPEG file; "
            "it may be truncated: copy or export it again."
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclasses.dataclass(frozen=True)
class FrameSequence:
    """The frames of one camera, in time order. Before its cameras are solved, a sequence has None for both arrays:
    see `has_cameras` and `without_cameras`.
    """

    name: str
    image_files: tuple[Path, ...]
    frame_index: tuple[int, ...]  # time step of each image, over all splits
    size: tuple[int, int]  # height, width
    world_T_camera: Float[np.ndarray, "n 4 4"]  # OpenCV axes
    K: Float[np.ndarray, "n 3 3"]  # pixel centres at +0.5
    depth_range: tuple[float, float] | None = None  # near, far along z in the cameras' units

    def __len__(self) -> int:
        return len(self.image_files)

    @classmethod
    def without_cameras(
        cls, name: str, image_files: tuple[Path, ...], frame_index: tuple[int, ...], size: tuple[int, int]
    ) -> FrameSequence:
        """Frames of a camera that nothing is known about yet."""
        return cls(name, image_files, frame_index, size, world_T_camera=None, K=None)  # type: ignore[arg-type]

    @property
    def has_cameras(self) -> bool:
        return self.world_T_camera is not None

    @property
    def stems(self) -> tuple[str, ...]:
        return tuple(file.stem for file in self.image_files)

    @functools.cached_property
    def camera_T_world(self) -> Float[np.ndarray, "n 4 4"]:
        if not self.has_cameras:
            raise ValueError(f"The cameras of {self.name} have not been solved yet, so nothing may depend on them.")
        return np.linalg.inv(self.world_T_camera)

    @functools.cached_property
    def inverse_K(self) -> Float[np.ndarray, "n 3 3"]:
        return np.linalg.inv(self.K)

    def target_T_source(self, source: int, target: int) -> Float[np.ndarray, "4 4"]:
        """The rigid motion from the camera of frame `source` to the camera of frame `target`."""
        return self.camera_T_world[target] @ self.world_T_camera[source]


class _Memory:
    """Arrays (or anything with `nbytes`) by key, least recently used first, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self.budget, self.size = budget, 0
        self.arrays: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key in self.arrays:
            self.arrays.move_to_end(key)
            return self.arrays[key]
        array = make()
        self.arrays[key] = array
        self.size += getattr(array, "nbytes", 64)
        while self.size > self.budget and len(self.arrays) > 1:
            self.size -= getattr(self.arrays.popitem(last=False)[1], "nbytes", 64)
        return array


class PriorInputs:
    """Frames, cameras and the priors made so far, read lazily and kept within a memory budget.

    Args:
        frames: the frames that may influence a prior, and no others.
        flow: the estimator for pairs of frames that have no flow file.
        read: by kind of prior, a function (i, j) -> array that reads what is on disk about frame i (flow, tracks: and
            frame j), or gives None where there is no file.
        memory_gb: how much of flows and images is kept.
    """

    def __init__(
        self,
        frames: FrameSequence,
        flow: FlowProvider,
        read: Mapping[str, Callable[[int, int], np.ndarray | None]],
        memory_gb: float = 2.0,
    ) -> None:
        self.frames, self.flow_provider, self._read = frames, flow, read
        self.memory_gb = memory_gb
        budget = int(memory_gb * 2**30)
        self.flow_budget = budget // 2  # bytes of flow fields that are kept
        self._images, self._flows, self._errors = _Memory(budget // 16), _Memory(self.flow_budget), _Memory(budget // 4)
        self._other = _Memory(budget * 3 // 16)

    def image(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB of frame i."""
        return self._images.get(i, lambda: read_rgb(self.frames.image_files[i]))

    def flow(self, i: int, j: int) -> Float[np.ndarray, "h w 2"]:
        """Flow in pixels from frame i to frame j: from its file, else estimated.

        Flow over several frames starts from the composition of shorter flows: a pyramid alone loses large motions.
        """
        return self._flows.get((i, j), lambda: self._make_flow(i, j))

    def _make_flow(self, i: int, j: int) -> Float[np.ndarray, "h w 2"]:
        from_file = self._from_file("flow", i, j)
        if from_file is not None:
            return from_file
        initial = None
        if abs(i - j) > 1:
            middle = (i + j) // 2
            initial = compose_flow(self.flow(i, middle), self.flow(middle, j))
        return self.flow_provider.estimate(self.image(i), self.image(j), initial)

    def flow_error(self, i: int, j: int) -> Float[np.ndarray, "h w"]:
        """Round-trip error in pixels of the flow from i to j and back, infinite where it leaves the image."""
        return self._errors.get((i, j), lambda: round_trip_error(self.flow(i, j), self.flow(j, i)))

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, or what it gave for this key before if memory allowed to keep it."""
        return self._other.get(key, make)

    def mask(self, i: int) -> Bool[np.ndarray, "h w"]:
        """Moving pixels of frame i, from the file."""
        return self.remember(("mask", i), lambda: self._needed("masks", i, i))

    def disparity(self, i: int) -> Float[np.ndarray, "h w"]:
        """Disparity of frame i, from the file."""
        return self.remember(("disparity", i), lambda: self._needed("depth", i, i))

    def tracks(self, i: int, j: int) -> Float[np.ndarray, "p 4"]:
        """The points of frame i in frame j, from the file."""
        return self._needed("tracks", i, j)

    def _from_file(self, kind: str, i: int, j: int) -> np.ndarray | None:
        return self._read[kind](i, j) if kind in self._read else None

    def _needed(self, kind: str, i: int, j: int) -> np.ndarray:
        array = self._from_file(kind, i, j)
        if array is None:
            raise ValueError(f"The {kind} of frame {self.frames.stems[i]} are needed and have not been made yet.")
        return array
