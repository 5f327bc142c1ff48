"""The views of one clip with their priors, read lazily from files and given in scene units.

``Priors`` are paths and numbers; ``ClipViews`` adds cameras and a cache. Both exist once per split and are parallel
to its image list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Int8, UInt8
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.clip_files import GroundTruthTracks
from dyngs_plugins.priors.pixels import composited, read_pixels
from dyngs_plugins.priors.split_priors import FlowWay, Priors, Size, median_filter
from dyngs_plugins.priors.tracks import TrackStore
from dyngs_plugins.priors.undistort import FlowMap, Lens, PixelMap, UndistortedTracks, straight_flow
from dyngs_plugins.priors.vector_maps import pixel_grid

__all__ = ["ClipViews", "FlowMap", "FlowWay", "GroundTruthTracks", "Priors", "median_filter"]

CACHE_BYTES = 2 << 30
"""How much of decoded images, depths and masks is kept in memory, unless the owner of the views says otherwise."""


@dataclass(frozen=True)
class ClipViews:
    """Cameras, images and priors of one split. Cameras are OpenCV; K puts pixel centres at +0.5.

    Where images on disk are distorted, all that is read here (images, depths, masks, tracks) is of pinholes with the
    same K and size. What the loaders of other methods take, files and ``distortion``, is as on disk.
    """

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
    points: Float[Tensor, "n 3"] | None = None
    """A point cloud to start from, in the frame of the cameras."""
    point_colors: UInt8[Tensor, "n 3"] | None = None
    near_far: tuple[float, float] | None = None
    """Depths between which the scene lies, where the files say so."""
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
        store = self.priors.tracks
        if store is None or self.distortion is None:
            return store
        return UndistortedTracks(store, self.K, self.distortion, (self.height, self.width), self.cache)

    @property
    def world_T_camera(self) -> Float[Tensor, "v 4 4"]:
        """Camera poses, OpenCV axes."""
        return torch.linalg.inv(self.camera_T_world)

    def image(self, index: int) -> Float[Tensor, "h w 3"]:
        """Colours in [0, 1], over the background."""
        color = None if self.background is None else torch.full((3,), float(self.background == "white"))
        return composited(self.pixels(index), color)

    def pixels(self, index: int) -> UInt8[Tensor, "h w c"]:
        """RGB, or RGBA where something is transparent; do not write into the result."""
        return self.cache.get(("pixels", index), lambda: self._load_pixels(index))

    def depth(self, index: int) -> Float[Tensor, "h w"]:
        """See :meth:`Priors.load_depth`; do not write into the result."""
        return self.cache.get(("depth", index), lambda: self._straight(index, self.priors.load_depth))

    def dynamic(self, index: int) -> Int8[Tensor, "h w"]:
        """See :meth:`Priors.load_dynamic`; 0 where a lens drew nothing. Do not write into the result."""
        return self.cache.get(("dynamic", index), lambda: self._straight(index, self.priors.load_dynamic))

    def valid(self, index: int) -> Bool[Tensor, "h w"]:
        """Which pixels count: those that :meth:`Priors.load_valid` says, where a lens drew anything."""
        return self.cache.get(("valid", index), lambda: self._straight(index, self.priors.load_valid))

    def covisible(self, index: int) -> Bool[Tensor, "h w"]:
        """Which pixels of a held-out view the training views see, where they count."""
        return self._straight(index, self.priors.load_covisible) & self.valid(index)

    def flow(self, index: int, way: FlowWay) -> FlowMap | None:
        """Optical flow of a view to the next or the previous image of its film, if that trains too and it has some.

        In pixels of the pinholes at both ends; do not write into the result.
        """
        file = self.priors.flow_file(index, way)
        if file is None:
            return None
        return self.cache.get(("flow", way, index), lambda: straight_flow(self, index, file))

    def normals(self, index: int) -> Float[Tensor, "h w 3"]:
        """Unit normals in the frame of the cameras, towards the camera; 0 = unknown. Do not write into the result."""
        return self.cache.get(("normals", index), lambda: self._load_normals(index))

    def _load_normals(self, index: int) -> Float[Tensor, "h w 3"]:
        size, lens = (self.height, self.width), self.pixel_map(index)
        normals = self.priors.load_normals(index, pixel_grid(size) if lens is None else lens.xy, size)
        if lens is not None:
            normals = normals * lens.valid[..., None]
        world_R_camera = self.camera_T_world[index, :3, :3].T
        return torch.nn.functional.normalize(normals @ world_R_camera.T, dim=-1)

    def _load_pixels(self, index: int) -> UInt8[Tensor, "h w c"]:
        pixels, lens = read_pixels(self.image_files[index], (self.height, self.width)), self.pixel_map(index)
        return pixels if lens is None else lens.bilinear(pixels)

    def _straight(self, index: int, load: Callable[[int, Size], Tensor]) -> Tensor:
        """A map of one value per pixel, read from its file and undistorted."""
        values, lens = load(index, (self.height, self.width)), self.pixel_map(index)
        return values if lens is None else lens.nearest(values)

    def pixel_map(self, index: int) -> PixelMap | None:
        """How this view is undistorted; views of one camera share it. None: it is a pinhole."""
        if self.distortion is None or not bool(self.distortion[index].any()):
            return None
        lens = Lens(self.K[index], self.distortion[index])
        key = ("pixel map", *lens.K.flatten().tolist(), *lens.terms.tolist())
        return self.cache.get(key, lambda: PixelMap.of(lens, (self.height, self.width)))

    def cached_in(self, cache: MemoryCache) -> ClipViews:
        """The same views, reading into this cache."""
        views = replace(self)
        object.__setattr__(views, "cache", cache)  # no field of the constructor: replaced views must not share one
        return views

    def rescaled(self, camera_T_world: Float[Tensor, "v 4 4"], factor: float) -> ClipViews:
        """The same views with other cameras, whose units are ``1 / factor`` of the old ones, and without points."""
        priors = replace(self.priors, depth_scale=self.priors.depth_scale * factor)
        return replace(
            self, camera_T_world=camera_T_world, priors=priors, points=None, point_colors=None, near_far=None
        )

    @classmethod
    def from_dataparser_outputs(cls, outputs: Any) -> ClipViews:
        """Views of a nerfstudio split: its cameras (OpenGL) and the metadata of our dataparsers.

        Splits of other dataparsers have no time steps; those of their times are taken, or the order of the images.

        Raises:
            ValueError: images of several sizes, or a camera that is no pinhole even after undistortion.
        """
        cameras, metadata = outputs.cameras, outputs.metadata
        count = len(outputs.image_filenames)
        world_T_camera = torch.eye(4).repeat(count, 1, 1)
        world_T_camera[:, :3] = cameras.camera_to_worlds.cpu()
        world_T_camera[:, :3, 1:3] *= -1.0  # OpenGL looks along -z with y up; OpenCV along +z with y down
        keyframes, indices = metadata.get("keyframes"), cameras.metadata or {}
        width, height = _common_size(cameras)
        K = torch.zeros(count, 3, 3)
        K[:, 0, 0], K[:, 1, 1] = cameras.fx.flatten().cpu(), cameras.fy.flatten().cpu()
        K[:, 0, 2], K[:, 1, 2] = cameras.cx.flatten().cpu(), cameras.cy.flatten().cpu()
        K[:, 2, 2] = 1.0
        times = None if cameras.times is None else cameras.times.flatten().float().cpu()
        steps = torch.arange(count) if times is None else times.unique(return_inverse=True)[1]
        return cls(
            camera_T_world=torch.linalg.inv(world_T_camera),
            K=K,
            width=width,
            height=height,
            frame_index=indices.get("frame_index", steps).flatten().long().cpu(),
            camera_index=indices.get("camera_index", torch.zeros(count)).flatten().long().cpu(),
            num_frames=int(metadata.get("num_frames", int(steps.max()) + 1)),
            image_files=tuple(Path(path) for path in outputs.image_filenames),
            priors=metadata.get("priors") or Priors(),
            keyframes=None if keyframes is None else tuple(keyframes),
            time_values=times,
            distortion=None if cameras.distortion_params is None else cameras.distortion_params.cpu(),
            background=metadata.get("background"),
            points=metadata.get("points3D_xyz"),
            point_colors=metadata.get("points3D_rgb") if metadata.get("points3D_coloured", True) else None,
            near_far=metadata.get("near_far"),
        )


def _common_size(cameras: Any) -> tuple[int, int]:
    """Width and height of every image; cameras must be pinholes with Brown's distortion at most."""
    sizes = {(int(w), int(h)) for w, h in zip(cameras.width.flatten(), cameras.height.flatten(), strict=True)}
    if len(sizes) != 1:
        raise ValueError(f"Images of one split must have one size, found {sorted(sizes)}. Resize them to one size.")
    kinds = sorted({int(kind) for kind in cameras.camera_type.flatten()})
    if kinds != [1]:  # nerfstudio's CameraType.PERSPECTIVE
        raise ValueError(
            f"The cameras have nerfstudio's types {kinds}; expected 1 (perspective) alone. Gaussians are rendered by "
            "pinholes. Undistort the images to a pinhole first, for example with `colmap image_undistorter`."
        )
    return sizes.pop()
