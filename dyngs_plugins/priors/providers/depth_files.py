"""Depth as given: arrays or images from a folder, as depth or disparity in any unit, aligned to the cameras."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.align import Freedom
from dyngs_plugins.priors.files import map_shape
from dyngs_plugins.priors.providers.base import FrameResult
from dyngs_plugins.priors.providers.depth_aligned import AlignedDepth, inverse_depth
from dyngs_plugins.priors.providers.given_files import (
    GivenFiles,
    check_aspect,
    files_of,
    read_array,
    read_picture,
    resized,
)
from dyngs_plugins.priors.providers.inputs import PriorInputs

_ARRAYS, _PICTURES = (".npy", ".npz"), (".png", ".tif", ".tiff")


@dataclasses.dataclass
class DepthFiles(GivenFiles, AlignedDepth):
    """Depth files of your own."""

    name: ClassVar[str] = "files"

    #: Folder with a file per image; see `given_files.py` for how files find their image.
    folder: str = ""
    #: What the files hold: z-depth, or disparity 1 / z.
    stores: Literal["depth", "disparity"] = "depth"
    #: Their values times this are depth or disparity; 0.001 for millimetres.
    factor: float = 1.0
    #: "scale" fits a factor per image, "affine" factor and shift of disparity (relative depth), "none" takes the files
    #: as they are: in the unit of the camera positions.
    align: Literal["scale", "affine", "none"] = "scale"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._files: dict[str, list[Path]] = {}
        if self.stores not in ("depth", "disparity") or self.align not in ("scale", "affine", "none"):
            raise ValueError(
                f"depth.stores={self.stores!r}, depth.align={self.align!r}: expected depth or disparity; scale, affine "
                "or none."
            )
        if not self.factor > 0:
            raise ValueError(f"depth.factor={self.factor}: expected a number above 0, as 0.001 for millimetres.")

    @property
    def freedom(self) -> Freedom | None:
        return None if self.align == "none" else self.align

    @property
    def source(self) -> str:
        return f"the files in {Path(self.folder).name}"

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `AlignedDepth.compute`."""
        self._files.clear()  # the folder may have changed since
        yield from super().compute(inputs, indices)

    def foreign_disparity(self, inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w"]:
        frames = inputs.frames
        if frames.name not in self._files:
            self._files[frames.name] = files_of("depth", self.folder, frames, (*_ARRAYS, *_PICTURES))
        path = self._files[frames.name][i]
        return inputs.remember(("given depth", str(path), *self.memory_key()), lambda: self.read(path, frames.size))

    def read(self, path: Path, size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """One file as disparity at the images' size, NaN where it knows nothing."""
        array = path.suffix.lower() in _ARRAYS
        values = read_array(path, "depth map") if array else read_picture(path, "depth map")
        values = values.reshape(map_shape(values.shape)).astype(np.float32) * np.float32(self.factor)
        if values.ndim != 2:
            raise ValueError(
                f"{path}: shape {values.shape}, expected height and width of a depth map. A coloured picture of depth "
                "cannot be read back; export numbers."
            )
        check_aspect(path, values.shape, size)
        relative = self.stores == "disparity" and self.align == "affine"  # where zero is a value like others
        known = np.isfinite(values) if relative else np.isfinite(values) & (values > 0)
        disparity = np.where(known, values, np.nan) if self.stores == "disparity" else inverse_depth(values)
        return resized(disparity.astype(np.float32), size, cv2.INTER_NEAREST)
