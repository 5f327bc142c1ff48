"""Masks as given: images or arrays from a folder, in which what moves is above a threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool

from dyngs_plugins.priors.files import map_shape
from dyngs_plugins.priors.providers.base import FrameResult, MaskProvider
from dyngs_plugins.priors.providers.given_files import (
    GivenFiles,
    check_aspect,
    files_of,
    read_array,
    read_picture,
    resized,
)
from dyngs_plugins.priors.providers.inputs import PriorInputs

_ARRAYS, _PICTURES = (".npy", ".npz"), (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclasses.dataclass
class MaskFiles(GivenFiles, MaskProvider):
    """Mask files of your own."""

    name: ClassVar[str] = "files"

    #: Folder with a file per image; see `given_files.py` for how files find their image.
    folder: str = ""
    #: Pixels above this value in any colour channel move.
    threshold: float = 0.0
    #: The files mark what stands still.
    invert: bool = False

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Raises:
            FileNotFoundError, ValueError: for missing, damaged or foreign files.
        """
        self.require_folder()
        files = files_of("masks", self.folder, inputs.frames, (*_PICTURES, *_ARRAYS))
        for i in indices:
            yield i, {"mask": self.read(files[i], inputs.frames.size)}

    def read(self, path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """One mask at the images' size."""
        if path.suffix.lower() in _ARRAYS:
            values = read_array(path, "mask")
            values = values.reshape(map_shape(values.shape))
        else:
            values = read_picture(path, "mask")
            if values.ndim == 3:
                values = (values[..., :3] if values.shape[2] == 4 else values).max(axis=-1)
        if values.ndim != 2:
            raise ValueError(f"{path}: shape {values.shape}, expected height and width of a mask.")
        check_aspect(path, values.shape, size)
        moving = (values > self.threshold) != self.invert
        return resized(moving.astype(np.uint8), size, cv2.INTER_NEAREST) > 0
