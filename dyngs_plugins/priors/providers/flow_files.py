"""Optical flow as given: one file for each step from an image to the next and to the previous one.

Files are `NAME_fwd.EXT` and `NAME_bwd.EXT`, or `fwd/NAME.EXT` and `bwd/NAME.EXT`, or, with forward flow alone,
`NAME.EXT`. EXT is npy or npz [h, w, 2] in pixels, flo (Middlebury), or png (KITTI, 16 bit). What the files do not hold
(flow over several frames, or across a held-out one, and a missing direction) is estimated with DIS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.providers.base import FlowProvider, FrameResult
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.flow_math import round_trip_error
from dyngs_plugins.priors.providers.given_files import (
    GivenFiles,
    check_aspect,
    given_folder,
    read_array,
    read_picture,
    resized,
)
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs

_SUFFIXES = (".npy", ".npz", ".flo", ".png")
_FLO_MAGIC = 202021.25


@dataclasses.dataclass
class FlowFiles(GivenFiles, FlowProvider):
    """Flow files of your own."""

    name: ClassVar[str] = "files"

    folder: str = ""
    #: A forward-backward error below this many pixels counts as visible in both frames.
    round_trip_px: float = 1.5

    def __post_init__(self) -> None:
        self._estimated = 0
        self._given = 0

    @property
    def max_round_trip(self) -> float:
        return self.round_trip_px

    def notes(self) -> tuple[str, ...]:
        if not self._estimated:
            return ()
        return (f"{self._estimated} of {self._estimated + self._given} flow fields are not among the given files (or "
                "lead across a held-out frame) and are estimated with DIS.",)  # fmt: skip

    def estimate(
        self,
        source: UInt8[np.ndarray, "h w 3"],
        target: UInt8[np.ndarray, "h w 3"],
        initial: Float[np.ndarray, "h w 2"] | None = None,
    ) -> Float[np.ndarray, "h w 2"]:
        """What no file holds: flow by DIS, started from the composition of given flows where there is one."""
        return DISFlow().estimate(source, target, initial)

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Raises:
            FileNotFoundError, ValueError: without a single matching file, or for damaged ones.
        """
        self.require_folder()
        frames = inputs.frames
        base = given_folder("flow", self.folder, frames)
        if not any(self._file(base, frames, i, way) for i in range(len(frames)) for way in ("fwd", "bwd")):
            raise FileNotFoundError(
                f"{base}: no flow file of {frames.name} ({frames.stems[0]}_fwd, fwd/{frames.stems[0]} or "
                f"{frames.stems[0]}, with {', '.join(_SUFFIXES)}). Name them as the clip's images are named."
            )
        for i in indices:
            arrays: dict[str, np.ndarray] = {}
            for way, j in (("fwd", i + 1), ("bwd", i - 1)):
                if 0 <= j < len(frames):
                    flow, back = self._flow(inputs, base, i, j), self._flow(inputs, base, j, i)
                    arrays[way] = flow
                    arrays[f"{way}_visible"] = round_trip_error(flow, back) < self.max_round_trip
            yield i, arrays

    def _flow(self, inputs: PriorInputs, base: Path, i: int, j: int) -> Float[np.ndarray, "h w 2"]:
        def make() -> np.ndarray:
            file = self._file(base, inputs.frames, i, "fwd" if j > i else "bwd")
            if file is None:
                self._estimated += 1
                return self.estimate(inputs.image(i), inputs.image(j))
            self._given += 1
            return read_flow(file, inputs.frames.size)

        return inputs.remember(("given flow", self.folder, i, j), make)

    def _file(self, base: Path, frames: FrameSequence, i: int, way: str) -> Path | None:
        """The file of a step to the neighbouring time; a file cannot know a step across a held-out frame."""
        j = i + 1 if way == "fwd" else i - 1
        if not 0 <= j < len(frames) or abs(frames.frame_index[j] - frames.frame_index[i]) != 1:
            return None
        stem = frames.stems[i]
        places = [base / f"{stem}_{way}", base / way / stem, *([base / stem] if way == "fwd" else [])]
        candidates = (place.with_name(place.name + suffix) for place in places for suffix in _SUFFIXES)
        return next((file for file in candidates if file.is_file()), None)


def read_flow(path: Path, size: tuple[int, int]) -> Float[np.ndarray, "h w 2"]:
    """A flow file in pixels at the images' size; displacements scale with it.

    Raises:
        ValueError: damaged, of another shape, or not finite.
    """
    suffix = path.suffix.lower()
    if suffix == ".flo":
        flow = read_flo(path)
    elif suffix == ".png":
        flow = _read_kitti(path)
    else:
        flow = read_array(path, "flow field").astype(np.float32)
        if flow.ndim == 4 and len(flow) == 1:
            flow = flow[0]
        if flow.ndim == 3 and flow.shape[0] == 2 and flow.shape[2] != 2:
            flow = np.moveaxis(flow, 0, -1)
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"{path}: shape {flow.shape}, expected (height, width, 2): displacements in pixels.")
    if not np.isfinite(flow).all():
        raise ValueError(
            f"{path}: {int((~np.isfinite(flow)).sum())} values are not finite. Expected pixels everywhere."
        )
    check_aspect(path, flow.shape, size)
    ratio = np.array([size[1] / flow.shape[1], size[0] / flow.shape[0]], np.float32)
    return np.ascontiguousarray(resized(flow, size, cv2.INTER_LINEAR) * ratio)


def read_flo(path: Path) -> Float[np.ndarray, "h w 2"]:
    """A Middlebury .flo file: magic number, width, height, then x and y displacements in rows, little endian."""
    data = path.read_bytes()
    header = np.frombuffer(data[:12], "<i4") if len(data) >= 12 else np.zeros(3, "<i4")
    width, height = int(header[1]), int(header[2])
    magic = float(np.frombuffer(data[:4], "<f4")[0]) if len(data) >= 4 else 0.0
    if magic != _FLO_MAGIC or min(width, height) < 1 or len(data) != 12 + 8 * width * height:
        raise ValueError(
            f"{path}: not a complete .flo file ({len(data)} bytes, magic {magic:g}, {width}x{height}). Expected "
            f"{_FLO_MAGIC}, width, height and 8 bytes per pixel. Write it again."
        )
    return np.frombuffer(data[12:], "<f4").reshape(height, width, 2).astype(np.float32)


def _read_kitti(path: Path) -> Float[np.ndarray, "h w 2"]:
    """KITTI's 16-bit PNG: (value - 2^15) / 64 pixels in the first two channels, whether it is known in the third."""
    image = read_picture(path, "flow field")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint16:
        raise ValueError(f"{path}: {image.dtype} of shape {image.shape}, expected KITTI's 16-bit PNG of three channels. "
                         "A coloured picture of flow cannot be read back; export numbers.")  # fmt: skip
    if (image[..., 2] == 0).any():
        raise ValueError(
            f"{path}: the flow of {int((image[..., 2] == 0).sum())} pixels is unknown in it; expected all."
        )
    return (image[..., :2].astype(np.float32) - 2.0**15) / 64.0
