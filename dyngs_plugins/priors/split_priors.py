"""What the files of a split know about its images beside their colours: paths and numbers, read when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from dyngs_plugins.priors.flow_files import FlowFile
from dyngs_plugins.priors.normal_files import normals_at
from dyngs_plugins.priors.pixels import read_pixels
from dyngs_plugins.priors.som_files import read_depth, read_disparity, read_mask
from dyngs_plugins.priors.tracks import TrackStore
from dyngs_plugins.priors.trimask import tri_mask

Files = tuple["Path | None", ...]
"""One file per image of a split; None where this image has none."""
Flows = tuple["FlowFile | None", ...]
"""One flow per image of a split; None where it leads to no image of the split."""
FlowWay = Literal["forward", "backward"]
"""To the next or to the previous image in time."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Priors:
    """What the files know about each image of a split beside its colours, in pixels of the images on disk.

    A kind that is None does not exist for the split at all; asking for it is an error. An entry that is None is one
    image without it, and reads as unknown everywhere.
    """

    depth_files: Files | None = None
    mask_files: Files | None = None
    depth_kind: Literal["disparity", "depth"] = "disparity"
    depth_scale: float = 1.0
    """Scene units per unit of the files."""
    depth_median: int = 11
    """Side of the median filter on z-depth, in pixels; 1 turns it off."""
    disparity_floor: float = 1e-6
    """Disparities between 0 and this become this (1 / file units)."""
    depth_max: float = float("inf")
    """Larger z-depths become this (file units)."""
    mask_erosion: int = 7
    """Side of the box that erodes masks to both sides; see :func:`tri_mask`."""
    valid_files: Files | None = None
    """RGBA images whose alpha says which pixels count; None where all do."""
    covisible_files: Files | None = None
    """Masks of the pixels that training views see, for held-out views."""
    tracks: TrackStore | None = None
    flow_forward: Flows | None = None
    """Optical flow to the next image of the same film, where that is in this split too."""
    flow_backward: Flows | None = None
    """To the previous one."""
    normal_files: Files | None = None
    """Unit normals in the cameras' frames, see :mod:`dyngs_plugins.priors.normal_files`."""
    providers: Mapping[str, str] = field(default_factory=dict)
    """Who made each kind of prior, where the files say so."""

    def load_depth(self, index: int, size: Size) -> Float[Tensor, "h w"]:
        """z-depth in scene units, 0 = unknown. Disparity 0 is unknown, never a far plane.

        Raises:
            FileNotFoundError, ValueError: the file is missing, damaged, not finite or of another size.
        """
        path = _entry(self.depth_files, index, "depth")
        if path is None:
            return torch.zeros(size)
        if self.depth_kind == "disparity":
            disparity = torch.from_numpy(read_disparity(path, size))
            depth = torch.where(disparity > 0, 1.0 / disparity.clamp(self.disparity_floor, 1e6), 0.0)
        else:
            depth = torch.from_numpy(read_depth(path, size))
        return median_filter(depth.clamp(max=self.depth_max), self.depth_median) * self.depth_scale

    def load_dynamic(self, index: int, size: Size) -> Int8[Tensor, "h w"]:
        """+1 surely moving, -1 surely static, 0 unknown: the band around masks, and pixels that do not count."""
        path = _entry(self.mask_files, index, "masks")
        if path is None:
            return torch.zeros(size, dtype=torch.int8)
        mask = tri_mask(torch.from_numpy(read_mask(path, size)), self.mask_erosion)
        return mask if self.valid_files is None else mask * self.load_valid(index, size)

    def load_valid(self, index: int, size: Size) -> Bool[Tensor, "h w"]:
        """Which pixels count: alpha above one half, or all of them where the image has no alpha."""
        path = None if self.valid_files is None else self.valid_files[index]
        if path is None:
            return torch.ones(size, dtype=torch.bool)
        pixels = read_pixels(path, size)
        return pixels[..., 3] > 127 if pixels.shape[-1] == 4 else torch.ones(size, dtype=torch.bool)

    @property
    def has_flow(self) -> bool:
        """Whether any image has flow to another one."""
        return any(file is not None for files in (self.flow_forward, self.flow_backward) for file in files or ())

    def flow_file(self, index: int, way: FlowWay) -> FlowFile | None:
        """Flow of an image to its neighbour in time; None where there is none."""
        files = self.flow_forward if way == "forward" else self.flow_backward
        return None if files is None else files[index]

    def load_normals(self, index: int, xy: Float[Tensor, "h w 2"], size: Size) -> Float[Tensor, "h w 3"]:
        """Unit normals in the camera's frame at pixels of the image on disk; 0 = unknown."""
        if self.normal_files is None:
            raise ValueError(
                "This clip has no normals: no layout folder of them was found. Train a method without them."
            )
        path = self.normal_files[index]
        return torch.zeros(*xy.shape[:-1], 3) if path is None else normals_at(path, xy, size)

    def load_covisible(self, index: int, size: Size) -> Bool[Tensor, "h w"]:
        """Which pixels of a held-out view the training views see; all of them where no file says so."""
        path = None if self.covisible_files is None else self.covisible_files[index]
        return torch.ones(size, dtype=torch.bool) if path is None else torch.from_numpy(read_mask(path, size))


def median_filter(depth: Float[Tensor, "h w"], side: int) -> Float[Tensor, "h w"]:
    """Median over a ``side`` x ``side`` window (reflected at the border) of the known depths in it.

    Unknown pixels (0) stay unknown and count in no window; of two middle values the smaller is taken.
    """
    if side <= 1:
        return depth
    margin = side // 2
    if min(depth.shape) <= margin:
        raise ValueError(f"A {side}-pixel median needs more than {margin} pixels a side, found {tuple(depth.shape)}.")
    known = torch.where(depth > 0, depth, torch.nan)
    windows = F.pad(known[None, None], (margin,) * 4, mode="reflect")[0, 0].unfold(0, side, 1).unfold(1, side, 1)
    rows = max(1, (1 << 22) // (depth.shape[1] * side * side))  # strips of some 16 MB keep memory flat
    strips = [windows[i : i + rows].flatten(2).nanmedian(dim=-1).values for i in range(0, depth.shape[0], rows)]
    return torch.where(depth > 0, torch.cat(strips), 0.0)


def _entry(files: Files | None, index: int, what: str) -> Path | None:
    if files is None:
        raise ValueError(
            f"This clip has no {what}, and the method cannot start without. Make the files with `dyngs process FOLDER`, or "
            "train a method that does without, such as dyn-deformable."
        )
    return files[index]
