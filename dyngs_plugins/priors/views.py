"""The views of one clip with their priors, read lazily from files and given in scene units.

``Priors`` are paths and numbers; ``ClipViews`` adds cameras and a cache. Both exist once per split and are parallel
to its image list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int8
from PIL import Image
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.clip_files import GroundTruthTracks
from dyngs_plugins.priors.som_files import read_depth, read_disparity, read_mask
from dyngs_plugins.priors.tracks import TrackStore
from dyngs_plugins.priors.trimask import tri_mask

__all__ = ["ClipViews", "GroundTruthTracks", "Priors", "median_filter"]

CACHE_BYTES = 2 << 30
"""How much of decoded images, depths and masks one split keeps in memory."""

Files = tuple["Path | None", ...]
"""One file per image of a split; None where this image has none."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Priors:
    """What the files know about each image of a split beside its colours.

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
        with Image.open(path) as image:
            if "A" not in image.getbands():
                return torch.ones(size, dtype=torch.bool)
            return torch.from_numpy(np.asarray(image.getchannel("A")) > 127)

    def load_covisible(self, index: int, size: Size) -> Bool[Tensor, "h w"]:
        """Which pixels of a held-out view the training views see; all of them where no file says so."""
        path = None if self.covisible_files is None else self.covisible_files[index]
        return torch.ones(size, dtype=torch.bool) if path is None else torch.from_numpy(read_mask(path, size))


@dataclass(frozen=True)
class ClipViews:
    """Cameras, images and priors of one split. Cameras are OpenCV; K puts pixel centres at +0.5."""

    camera_T_world: Float[Tensor, "v 4 4"]
    K: Float[Tensor, "v 3 3"]
    width: int
    height: int
    frame_index: Int[Tensor, "v"]
    """Time step of each view, in 0 .. num_frames - 1."""
    camera_index: Int[Tensor, "v"]
    num_frames: int
    """Time steps of the clip over all splits."""
    image_files: tuple[Path, ...]
    priors: Priors = field(default_factory=Priors)
    keyframes: tuple[int, ...] | None = None
    """Views from which background points are taken in turn; None takes an equal share from every view."""
    time_values: Float[Tensor, "v"] | None = None
    """Times in [0, 1]; None: the time step over the last one."""
    distortion: Float[Tensor, "v 6"] | None = None
    """k1, k2, k3, k4, p1, p2 of each image as it lies on disk; None: pinholes."""
    background: Literal["white", "black"] | None = None
    """What images with alpha are composited over; None drops their alpha."""
    cache: MemoryCache = field(init=False, repr=False, compare=False, default_factory=lambda: MemoryCache(CACHE_BYTES))

    def __len__(self) -> int:
        return len(self.image_files)

    @property
    def times(self) -> Float[Tensor, "v"]:
        """Time of each view, in [0, 1] over all splits."""
        if self.time_values is not None:
            return self.time_values
        return self.frame_index.float() / max(self.num_frames - 1, 1)

    @property
    def tracks(self) -> TrackStore | None:
        """Point tracks between these views, if there are any."""
        return self.priors.tracks

    @property
    def world_T_camera(self) -> Float[Tensor, "v 4 4"]:
        """Camera poses, OpenCV axes."""
        return torch.linalg.inv(self.camera_T_world)

    def image(self, index: int) -> Float[Tensor, "h w 3"]:
        """Colours in [0, 1]."""
        return self.cache.get(("image", index), lambda: _read_rgb(self.image_files[index])).float() / 255.0

    def depth(self, index: int) -> Float[Tensor, "h w"]:
        """See :meth:`Priors.load_depth`; do not write into the result."""
        size = (self.height, self.width)
        return self.cache.get(("depth", index), lambda: self.priors.load_depth(index, size))

    def dynamic(self, index: int) -> Int8[Tensor, "h w"]:
        """See :meth:`Priors.load_dynamic`; do not write into the result."""
        size = (self.height, self.width)
        return self.cache.get(("dynamic", index), lambda: self.priors.load_dynamic(index, size))

    def rescaled(self, camera_T_world: Float[Tensor, "v 4 4"], factor: float) -> ClipViews:
        """The same views with other cameras, whose units are ``1 / factor`` of the old ones."""
        priors = replace(self.priors, depth_scale=self.priors.depth_scale * factor)
        return replace(self, camera_T_world=camera_T_world, priors=priors)

    @classmethod
    def from_dataparser_outputs(cls, outputs: Any) -> ClipViews:
        """Views of a nerfstudio split: its cameras (OpenGL) and the metadata of our dataparsers."""
        cameras, metadata = outputs.cameras, outputs.metadata
        count = len(outputs.image_filenames)
        world_T_camera = torch.eye(4).repeat(count, 1, 1)
        world_T_camera[:, :3] = cameras.camera_to_worlds.cpu()
        world_T_camera[:, :3, 1:3] *= -1.0  # OpenGL looks along -z with y up; OpenCV along +z with y down
        sizes = {(int(w), int(h)) for w, h in zip(cameras.width.flatten(), cameras.height.flatten(), strict=True)}
        if len(sizes) != 1:
            raise ValueError(f"Images of one split must have one size, found {sorted(sizes)}. Resize them to one size.")
        (width, height), keyframes = sizes.pop(), metadata.get("keyframes")
        K = torch.zeros(count, 3, 3)
        K[:, 0, 0], K[:, 1, 1] = cameras.fx.flatten().cpu(), cameras.fy.flatten().cpu()
        K[:, 0, 2], K[:, 1, 2] = cameras.cx.flatten().cpu(), cameras.cy.flatten().cpu()
        K[:, 2, 2] = 1.0
        return cls(
            camera_T_world=torch.linalg.inv(world_T_camera),
            K=K,
            width=width,
            height=height,
            frame_index=cameras.metadata["frame_index"].flatten().long().cpu(),
            camera_index=cameras.metadata["camera_index"].flatten().long().cpu(),
            num_frames=int(metadata["num_frames"]),
            image_files=tuple(Path(path) for path in outputs.image_filenames),
            priors=metadata.get("priors") or Priors(),
            keyframes=None if keyframes is None else tuple(keyframes),
            time_values=None if cameras.times is None else cameras.times.flatten().float().cpu(),
            distortion=None if cameras.distortion_params is None else cameras.distortion_params.cpu(),
            background=metadata.get("background"),
        )


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
        raise ValueError(f"This clip has no {what}. Make them with `dyngs process`, or train a method without them.")
    return files[index]


def _read_rgb(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}). Write this image again.") from error
