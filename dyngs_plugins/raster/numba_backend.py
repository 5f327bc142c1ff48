"""The fast CPU rasterizer: numba kernels (`kernels`) behind two torch functions with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.raster.kernels import backward, binning, forward, gather, projection, projection_backward, tile
from dyngs_plugins.raster.kernels.backward_tile import ABSOLUTES, MOMENTS
from dyngs_plugins.raster.kernels.threads import current_team
from dyngs_plugins.raster.semantics import Semantics, installed_semantics


class NumbaBackend:
    """Projection and compositing with gsplat's semantics in float32, compiled (`seam.StagedBackend`).

    The first call in a fresh environment compiles for about ten seconds; the machine code is kept on disk. Results are the
    same to the last bit on every run and for any number of threads (``torch.get_num_threads()``).
    """

    def __init__(self, semantics: Semantics | None = None):
        self.semantics = semantics or installed_semantics()

    def project(
        self,
        means: Float[Tensor, "*c n 3"],
        quats: Float[Tensor, "*c n 4"] | None,
        scales: Float[Tensor, "*c n 3"] | None,
        covars: Float[Tensor, "*c n 3 3"] | None,
        opacities: Float[Tensor, "*c n"],
        viewmats: Float[Tensor, "c 4 4"],
        Ks: Float[Tensor, "c 3 3"],
        width: int,
        height: int,
        eps2d: float,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
        antialiased: bool,
    ) -> tuple[
        Int[Tensor, "c n"],
        Float[Tensor, "c n 2"],
        Float[Tensor, "c n"],
        Float[Tensor, "c n 3"],
        Float[Tensor, "c n"] | None,
    ]:
        """Gaussians to image-plane Gaussians. See `seam.StagedBackend.project`."""
        settings = (width, height, near_plane, far_plane, radius_clip, eps2d, antialiased, self.semantics)
        if covars is not None:
            quats = scales = None
        radii, means2d, depths, conics, compensations = _Project.apply(  # type: ignore[misc]
            means, quats, scales, covars, opacities, viewmats, Ks, settings
        )
        return radii, means2d, depths, conics, compensations if antialiased else None

    def composite(
        self,
        means2d: Float[Tensor, "c n 2"],
        conics: Float[Tensor, "c n 3"],
        colors: Float[Tensor, "*c n d"],
        opacities: Float[Tensor, "*c n"],
        radii: Int[Tensor, "c n"],
        depths: Float[Tensor, "c n"],
        backgrounds: Float[Tensor, "c d"] | None,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"]]:
        """Image-plane Gaussians to images. See `seam.StagedBackend.composite`."""
        settings = (width, height, absgrad, self.semantics)
        return _Composite.apply(means2d, conics, colors, opacities, radii, depths, backgrounds, settings)  # type: ignore


def _flat(tensor: Tensor, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """The tensor's values as a flat array; shares memory where it can."""
    return tensor.detach().to(dtype).contiguous().view(-1).numpy()


def _gaussians(means: Tensor, quats: Any, scales: Any, covars: Any, opacities: Tensor) -> projection.Gaussians:
    def flat(tensor: Tensor | None) -> np.ndarray | None:
        return None if tensor is None else _flat(tensor)

    def per_camera(tensor: Tensor | None, dimensions: int) -> bool:
        return tensor is not None and tensor.ndim > dimensions

    return projection.Gaussians(
        count=means.shape[-2],
        means=flat(means),
        quats=flat(quats),
        scales=flat(scales),
        covars=flat(covars),
        opacities=flat(opacities),
        means_per_camera=per_camera(means, 2),
        quats_per_camera=per_camera(quats, 2),
        scales_per_camera=per_camera(scales, 2),
        covars_per_camera=per_camera(covars, 3),
        opacities_per_camera=per_camera(opacities, 1),
    )


def _view(viewmats: Tensor, Ks: Tensor, settings: tuple) -> projection.View:
    width, height, near_plane, far_plane, radius_clip, eps2d, _, semantics = settings
    limits = (width, height, near_plane, far_plane, radius_clip, eps2d)
    limits += (semantics.field_of_view_margin, semantics.compensation_min, semantics.alpha_min)
    three_sigma = semantics.radius_rule == "three-sigma"
    return projection.View(_flat(viewmats), _flat(Ks), *map(np.float32, limits), three_sigma)  # type: ignore[call-arg]


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means, quats, scales, covars, opacities, viewmats, Ks, settings):
        cameras, n, antialiased = viewmats.shape[0], means.shape[-2], settings[6]
        gaussians, view = _gaussians(means, quats, scales, covars, opacities), _view(viewmats, Ks, settings)
        radii = torch.empty(cameras, n, dtype=torch.int32)
        means2d, depths, conics = torch.empty(cameras, n, 2), torch.empty(cameras, n), torch.empty(cameras, n, 3)
        compensations = torch.empty(cameras, n) if antialiased else torch.empty(0)
        arrays = [radii, means2d, depths, conics, compensations]
        out = projection.Projected(*(a.view(-1).numpy() for a in arrays))
        out = out if antialiased else out._replace(compensations=None)
        projection.project_forward(current_team(), cameras, gaussians, view, out)
        ctx.save_for_backward(means, quats, scales, covars, opacities, viewmats, Ks, radii)
        ctx.settings = settings
        ctx.mark_non_differentiable(radii)
        return tuple(arrays)

    @staticmethod
    def backward(ctx: Any, _, d_means2d, d_depths, d_conics, d_compensations):  # type: ignore[override]
        means, quats, scales, covars, opacities, viewmats, Ks, radii = ctx.saved_tensors
        cameras, antialiased = viewmats.shape[0], ctx.settings[6]
        gaussians, view = _gaussians(means, quats, scales, covars, opacities), _view(viewmats, Ks, ctx.settings)
        incoming = projection_backward.Incoming(
            _flat(radii, torch.int32),
            _flat(d_means2d),
            _flat(d_depths),
            _flat(d_conics),
            _flat(d_compensations) if antialiased else None,
        )
        grads = [None if t is None else torch.empty(t.shape) for t in (means, quats, scales, covars)]
        out = projection_backward.Outgoing(*(None if g is None else g.view(-1).numpy() for g in grads))
        chunks = -(-gaussians.count // projection.CHUNK)
        poses = np.zeros((chunks, cameras, projection_backward.POSE_FLOATS), np.float32)
        projection_backward.project_backward(current_team(), cameras, gaussians, view, incoming, out, poses.reshape(-1))
        d_viewmats = torch.zeros(viewmats.shape)
        if ctx.needs_input_grad[5]:
            pose = torch.from_numpy(poses.sum(axis=0, dtype=np.float64)).float()
            d_viewmats[:, :3, :3] = pose[:, :9].view(-1, 3, 3)
            d_viewmats[:, :3, 3] = pose[:, 9:]
        return *grads, None, d_viewmats, None, None


def _bin(team: Any, splats: binning.Splats, cameras: int, width: int, height: int) -> tuple[Any, Any, Any]:
    """The tile lists (see `binning`): `Lists`, and each entry's Gaussian and row."""
    n = splats.count
    columns, tiles = -(-width // binning.TILE), -(-width // binning.TILE) * -(-height // binning.TILE)
    chunks = -(-n // binning.CHUNK)
    lists = binning.Lists(
        cameras=cameras,
        columns=columns,
        tiles_per_camera=tiles,
        chunks=chunks,
        roots=torch.empty(cameras * n * binning.ROOT_FLOATS).numpy(),  # torch begins at a cache line
        bounds=np.empty(cameras * n * 4, np.int32),
        tiles=np.empty(cameras * n, np.int32),
        row_starts=np.empty(cameras * n, np.int32),
        sorted_ids=np.empty(cameras * n, np.int32),
        visible=np.empty(cameras, np.int32),
        counts=np.empty(cameras * chunks * tiles, np.int32),
        tile_starts=np.empty(cameras * tiles + 1, np.int64),
    )
    binning.prepare(team, splats, width, height, lists)
    binning.order(team, splats, lists)
    binning.count(team, n, lists)
    total = binning.scan(n, lists)
    entries, entry_rows = np.empty(total, np.int32), np.empty(total, np.int32)
    binning.fill(team, n, lists, entries, entry_rows)
    # What only the sort needed can go.
    nothing = np.empty(0, np.int32)
    return lists._replace(bounds=nothing, sorted_ids=nothing, counts=nothing), entries, entry_rows


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means2d, conics, colors, opacities, radii, depths, backgrounds, settings):
        width, height, _, semantics = settings
        (cameras, n), channels, team = means2d.shape[:2], colors.shape[-1], current_team()
        splats = binning.Splats(
            count=n,
            means2d=_flat(means2d),
            conics=_flat(conics),
            depths=_flat(depths).view(np.uint32),
            opacities=_flat(opacities),
            radii=_flat(radii, torch.int32),
            opacities_per_camera=opacities.ndim == 2,
        )
        lists, entries, entry_rows = _bin(team, splats, cameras, width, height)
        source = tile.Source(
            count=n,
            channels=channels,
            columns=lists.columns,
            tiles_per_camera=lists.tiles_per_camera,
            roots=lists.roots,
            tile_starts=lists.tile_starts,
            entries=entries,
            entry_rows=entry_rows,
            masks=np.empty(len(entries), np.int32),
            colors=_flat(colors),
            colors_per_camera=colors.ndim == 3,
        )
        image, alpha = torch.empty(cameras, height, width, channels), torch.empty(cameras, height, width, 1)
        picture = forward.Picture(
            cameras=cameras,
            width=width,
            height=height,
            max_alpha=np.float32(semantics.max_alpha),
            transmittance_min=np.float32(semantics.transmittance_min),
            image=image.view(-1).numpy(),
            alpha=alpha.view(-1).numpy(),
            transmittance=np.empty(cameras * height * width, np.float32),
        )
        behind = np.zeros((cameras, -(-channels // 4) * 4), np.float32)  # channels go four by four
        if backgrounds is not None:
            behind[:, :channels] = backgrounds.detach().numpy()
        forward.composite_forward(team, source, picture, behind.reshape(-1), True if channels > 4 else None)
        ctx.save_for_backward(means2d, colors, opacities, image)
        ctx.source, ctx.lists, ctx.settings = source, lists, settings
        ctx.picture = picture._replace(image=None, alpha=None)
        ctx.has_backgrounds = backgrounds is not None
        return image, alpha

    @staticmethod
    def backward(ctx: Any, d_image, d_alpha):  # type: ignore[override]
        means2d, colors, opacities, image = ctx.saved_tensors
        source, lists, (_, _, absgrad, _) = ctx.source, ctx.lists, ctx.settings
        (cameras, n), channels, team = means2d.shape[:2], colors.shape[-1], current_team()
        padded = -(-channels // 4) * 4
        row_floats = MOMENTS + padded + (ABSOLUTES if absgrad else 0)
        with_backgrounds = ctx.has_backgrounds and ctx.needs_input_grad[6]
        shares = (cameras, lists.tiles_per_camera, channels) if with_backgrounds else (0, 0, 0)
        of_backgrounds = np.empty(shares, np.float32)
        gradients = backward.Gradients(
            image=_flat(d_image),
            alpha=_flat(d_alpha),
            # Sixteen more, because sums over rows are read sixteen floats at a time.
            rows=np.empty(len(source.entries) * row_floats + 16, np.float32),
            row_floats=row_floats,
            with_absolutes=True if absgrad else None,
            backgrounds=of_backgrounds.reshape(-1),
            with_backgrounds=with_backgrounds,
        )
        picture = ctx.picture._replace(image=_flat(image))
        backward.composite_backward(team, source, picture, gradients, True if channels > 4 else None)
        d_means2d, d_conics = torch.empty(cameras, n, 2), torch.empty(cameras, n, 3)
        d_colors, d_opacities = torch.zeros(colors.shape), torch.empty(opacities.shape)
        absolutes = torch.empty(cameras, n, 2) if absgrad else None
        sources = gather.Sources(
            count=n,
            opacities=_flat(opacities),
            opacities_per_camera=opacities.ndim == 2,
            roots=lists.roots,
            tiles=lists.tiles,
            row_starts=lists.row_starts,
            rows=gradients.rows,
            row_floats=row_floats,
            channels=channels,
            padded_channels=padded,
            colors_per_camera=colors.ndim == 3,
        )
        out = gather.SplatGradients(
            means2d=d_means2d.view(-1).numpy(),
            conics=d_conics.view(-1).numpy(),
            opacities=d_opacities.view(-1).numpy(),
            colors=d_colors.view(-1).numpy(),
            absolutes=None if absolutes is None else absolutes.view(-1).numpy(),
        )
        gather.gather(team, cameras, sources, out)
        if absolutes is not None:
            means2d.absgrad = absolutes
        d_backgrounds = torch.from_numpy(of_backgrounds.sum(axis=1)) if with_backgrounds else None
        return d_means2d, d_conics, d_colors, d_opacities, None, None, d_backgrounds, None
