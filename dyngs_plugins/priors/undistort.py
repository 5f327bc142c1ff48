"""From images as a lens drew them to those of a pinhole with the same K and size: one map for everything of a view.

Images, masks, depths, valid pixels, tracks and marked points all go through the same equations, so that they stay
aligned. Pixels are counted with integer centres, K puts centres at +0.5.

Source: Brown's model with nerfstudio's terms k1, k2, k3, k4, p1, p2: at ``(x, y)`` on the plane z = 1 with
``r = x^2 + y^2`` a lens draws ``(x d + 2 p1 x y + p2 (r + 2 x^2), y d + 2 p2 x y + p1 (r + 2 y^2))``,
``d = 1 + k1 r + k2 r^2 + k3 r^3 + k4 r^4``. OpenCV's is the same without k4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.clip_files import GroundTruthTracks, Keypoints
from dyngs_plugins.priors.flow_files import FlowFile, flow_at
from dyngs_plugins.priors.tracks import TrackObservations, TrackStore
from dyngs_plugins.priors.vector_maps import pixel_grid

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews


@dataclass(frozen=True)
class Lens:
    """The lens of one view."""

    K: Float[Tensor, "3 3"]
    terms: Float[Tensor, "6"]
    """k1, k2, k3, k4, p1, p2."""

    def bend(self, xy: Float[Tensor, "*n 2"]) -> tuple[Float[Tensor, "*n 2"], Bool[Tensor, "*n"]]:
        """Where pinhole pixels lie in the image on disk, and whether the lens draws them at all.

        Beyond some angle a polynomial folds back into the image; nothing there is real.
        """
        plane = self._plane(xy)
        bent, _ = _distort(plane, self.terms.double())
        drawn = plane.square().sum(-1) < _fold(self.terms)
        return self._pixels(bent).to(xy.dtype), drawn

    def straighten(self, xy: Float[Tensor, "*n 2"]) -> tuple[Float[Tensor, "*n 2"], Bool[Tensor, "*n"]]:
        """The inverse of :meth:`bend` by Newton's method, and where it exists; elsewhere the pixel stays."""
        wanted, terms = self._plane(xy), self.terms.double()
        plane = wanted.clone()
        for _ in range(20):
            bent, ((a, b), (c, d)) = _distort(plane, terms)
            error, determinant = bent - wanted, a * d - b * c
            if xy.numel() == 0 or float(error.abs().max()) < 1e-9:
                break
            determinant = torch.where(determinant.abs() < 1e-9, torch.full_like(determinant, 1e-9), determinant)
            step = torch.stack([d * error[..., 0] - b * error[..., 1], a * error[..., 1] - c * error[..., 0]], dim=-1)
            plane = plane - step / determinant[..., None]
        miss = (self._pixels(_distort(plane, terms)[0]) - xy).norm(dim=-1)
        found = (miss < 1e-2) & (plane.square().sum(-1) < _fold(self.terms))
        return torch.where(found[..., None], self._pixels(plane).to(xy.dtype), xy), found

    def _plane(self, xy: Tensor) -> Tensor:
        return (xy.double() + 0.5 - self.K[:2, 2]) / self.K.diagonal()[:2]

    def _pixels(self, plane: Tensor) -> Tensor:
        return plane * self.K.diagonal()[:2] + self.K[:2, 2] - 0.5


@dataclass(frozen=True)
class PixelMap:
    """Where each pixel of the pinhole's image comes from in the image on disk."""

    xy: Float[Tensor, "h w 2"]
    valid: Bool[Tensor, "h w"]
    """Whether it has a source at all."""

    @classmethod
    def of(cls, lens: Lens, size: tuple[int, int]) -> PixelMap:
        """The map of a lens for images of a size (height, width)."""
        height, width = size
        xy, drawn = lens.bend(pixel_grid(size))
        edge = xy.new_tensor([width - 0.5, height - 0.5])
        return cls(xy, drawn & ((xy >= -0.5) & (xy <= edge)).all(dim=-1))

    def nearest(self, values: Shaped[Tensor, "h w"]) -> Shaped[Tensor, "h w"]:
        """What must not be mixed: masks and depths. 0 without a source."""
        height, width = values.shape
        x = self.xy[..., 0].round().long().clamp(0, width - 1)
        y = self.xy[..., 1].round().long().clamp(0, height - 1)
        return torch.where(self.valid, values[y, x], torch.zeros_like(values))

    def bilinear(self, pixels: UInt8[Tensor, "h w c"]) -> UInt8[Tensor, "h w c"]:
        """Colours, with what alpha hides mixed into nothing. 0 without a source."""
        values = pixels.double()
        if pixels.shape[-1] == 4:
            values[..., :3] *= values[..., 3:] / 255.0
        scale = torch.tensor([2.0 / max(n - 1, 1) for n in (pixels.shape[1], pixels.shape[0])], dtype=torch.float64)
        grid = self.xy.double() * scale - 1.0
        values = F.grid_sample(values.permute(2, 0, 1)[None], grid[None], padding_mode="border", align_corners=True)
        values = values[0].permute(1, 2, 0)
        if pixels.shape[-1] == 4:
            values[..., :3] *= 255.0 / values[..., 3:].clamp_min(1e-3)
        values = values.round().clamp(0, 255).to(torch.uint8)
        return torch.where(self.valid[..., None], values, torch.zeros_like(values))


@dataclass(frozen=True)
class FlowMap:
    """Optical flow of a view to another one of the same split, in pixels."""

    flow: Float[Tensor, "h w 2"]
    """A pixel plus its vector is where its point is in the other view."""
    visible: Bool[Tensor, "h w"]
    """Where that is so: the point is seen in both."""
    target: int
    """Place of the other view in the split."""


def straight_flow(views: ClipViews, index: int, file: FlowFile) -> FlowMap:
    """Flow in pixels of the pinholes: a pixel is bent to where its image has it, its target is straightened.

    Each end has its own lens and K.
    """
    size = views.height, views.width
    grid, lens = pixel_grid(size), views.pixel_map(index)
    at = grid if lens is None else lens.xy
    vectors, visible = flow_at(file, at, size)
    reached = at + vectors
    if lens is not None:
        visible = visible & lens.valid
    if views.pixel_map(file.target) is not None and views.distortion is not None:
        reached, found = Lens(views.K[file.target], views.distortion[file.target]).straighten(reached)
        visible = visible & found
    last = grid[-1, -1]
    visible = visible & ((reached >= -0.5) & (reached <= last + 0.5)).all(dim=-1)
    drawn = torch.ones_like(visible) if lens is None else lens.valid
    return FlowMap(torch.where(drawn[..., None], reached - grid, 0.0), visible, file.target)


class UndistortedTracks(TrackStore):
    """Tracks of images as they lie on disk, in pixels of the pinholes.

    An observation whose query or place the pinhole's image does not show is unsure: neither visible nor invisible.
    """

    def __init__(
        self,
        store: TrackStore,
        K: Float[Tensor, "v 3 3"],
        distortion: Float[Tensor, "v 6"],
        size: tuple[int, int],
        cache: MemoryCache,
    ):
        self.store, self.K, self.distortion, self._cache = store, K, distortion, cache
        self._last = torch.tensor([size[1] - 1.0, size[0] - 1.0])

    def targets(self, query: int) -> Int[Tensor, "n"]:
        return self.store.targets(query)

    def query_points(self, query: int) -> Float[Tensor, "p 2"]:
        return self._queries(query)[0]

    def observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None = None) -> TrackObservations:
        if rows is not None:  # a few rows of very many pairs: not worth their place in the cache
            return self._observe(query, target, rows)
        return self._cache.get(("tracks", query, target), lambda: self._observe(query, target, None))

    def _observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None) -> TrackObservations:
        seen = self.store.observe(query, target, rows)
        xy, shown = self._straight(target, seen.xy)
        _, asked = self._queries(query)
        sure = shown & (asked if rows is None else asked[rows])
        return TrackObservations(xy, seen.visible & sure, seen.invisible & sure, seen.confidence * sure)

    def _queries(self, query: int) -> tuple[Float[Tensor, "p 2"], Bool[Tensor, "p"]]:
        """Query pixels, and whether the pinhole's image shows them.

        Those outside stay on the border: their observations are all unsure, and rendered pixels are looked up by them.
        """

        def read() -> tuple[Tensor, Tensor]:
            xy, shown = self._straight(query, self.store.query_points(query))
            return xy.clamp_min(0).minimum(self._last), shown

        return self._cache.get(("queries", query), read)

    def _straight(self, view: int, xy: Float[Tensor, "p 2"]) -> tuple[Float[Tensor, "p 2"], Bool[Tensor, "p"]]:
        straight, found = Lens(self.K[view], self.distortion[view]).straighten(xy)
        return straight, found & ((straight >= -0.5) & (straight <= self._last + 0.5)).all(dim=-1)


def undistorted_truth(truth: GroundTruthTracks, views: ClipViews) -> GroundTruthTracks:
    """Ground-truth tracks in pixels of the pinholes; ``views`` are the training views that they were seen in."""
    # A sequence is named where a clip has tracks of one camera alone; it is the first.
    camera = truth.camera if isinstance(truth.camera, int) else int(views.camera_index.min())
    xy, found = _straight_at(views, camera, torch.arange(truth.xy.shape[1]), truth.xy.transpose(0, 1))
    return replace(truth, xy=xy.transpose(0, 1), visible=truth.visible & found.T)


def undistorted_keypoints(keypoints: Keypoints, views: ClipViews) -> Keypoints:
    """Marked points in pixels of the pinholes; ``views`` are the training views, of which the first camera's count."""
    xy, found = _straight_at(views, int(views.camera_index.min()), keypoints.frame_index, keypoints.xy)
    return replace(keypoints, xy=xy, visible=keypoints.visible & found)


def _straight_at(
    views: ClipViews, camera: int, steps: Int[Tensor, "n"], xy: Float[Tensor, "n k 2"]
) -> tuple[Float[Tensor, "n k 2"], Bool[Tensor, "n k"]]:
    """Pixels of a camera at some time steps; a step that none of the views has takes the lens of the nearest one."""
    mine = torch.nonzero(views.camera_index == camera).flatten()
    if views.distortion is None or len(mine) == 0:
        return xy, torch.ones(xy.shape[:2], dtype=torch.bool)
    nearest = [int(mine[(views.frame_index[mine] - step).abs().argmin()]) for step in steps.tolist()]
    pairs = [Lens(views.K[i], views.distortion[i]).straighten(xy[n]) for n, i in enumerate(nearest)]
    straight, found = (torch.stack(values) for values in zip(*pairs, strict=True))
    return straight, found


def _distort(plane: Float[Tensor, "*n 2"], terms: Float[Tensor, "6"]) -> tuple[Tensor, tuple]:
    """Points of the plane z = 1 as the lens draws them, and the 2x2 Jacobian as rows of tensors."""
    x, y = plane.unbind(-1)
    k1, k2, k3, k4, p1, p2 = terms
    r = x * x + y * y
    d = 1 + r * (k1 + r * (k2 + r * (k3 + r * k4)))
    slope = 2 * (k1 + r * (2 * k2 + r * (3 * k3 + r * 4 * k4)))  # of d: slope * x along x, slope * y along y
    bent = torch.stack(
        [x * d + 2 * p1 * x * y + p2 * (r + 2 * x * x), y * d + 2 * p2 * x * y + p1 * (r + 2 * y * y)], dim=-1
    )
    mixed = slope * x * y + 2 * (p1 * x + p2 * y)
    jacobian = (
        (d + slope * x * x + 2 * p1 * y + 6 * p2 * x, mixed),
        (mixed, d + slope * y * y + 2 * p2 * x + 6 * p1 * y),
    )
    return bent, jacobian


def _fold(terms: Float[Tensor, "6"]) -> float:
    """The squared radius at which the radial polynomial stops growing: the lens draws nothing from there on."""
    k1, k2, k3, k4 = terms[:4].double().tolist()
    roots = np.roots([9 * k4, 7 * k3, 5 * k2, 3 * k1, 1.0])
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
    return float(real.min()) if len(real) else float("inf")
