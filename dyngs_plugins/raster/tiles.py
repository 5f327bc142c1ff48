"""The rasterizer in readable PyTorch, tile by tile: reference, fallback where numba is absent, and speed yardstick.

Everything differentiable is left to autograd. It keeps every (pixel, Gaussian) pair of the image alive until the
backward pass, so memory grows with the number of pairs (gigabytes at 100k Gaussians and 960x540).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.raster.ewa import Pinholes, Splats, project_splats, shapes_of, zero_unseen
from dyngs_plugins.raster.semantics import Semantics, installed_semantics


class TorchBackend:
    """Projection and compositing with gsplat's semantics, in float32 or float64 (`seam.StagedBackend`)."""

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
        """Gaussians to image-plane Gaussians. See `seam.StagedBackend.project`.

        Runs twice: once without gradients to find who is seen, once with harmless values in place of the others. An
        infinity in a discarded row would turn into NaN when autograd multiplies it by a zero gradient.
        """
        pinholes = Pinholes(viewmats, Ks, width, height, self.semantics.field_of_view_margin)
        compensation_min = self.semantics.compensation_min
        with torch.no_grad():
            splats = project_splats(pinholes, means, shapes_of(quats, scales, covars), eps2d, compensation_min)
            radii = self._radii(splats, opacities, antialiased, width, height, near_plane, far_plane, radius_clip)
        seen = radii > 0
        means, shapes = zero_unseen(seen, means, 1), shapes_of(quats, scales, covars, seen)
        splats = project_splats(pinholes, means, shapes, eps2d, compensation_min, seen)
        conics = torch.stack([splats.c, -splats.b, splats.a], dim=-1) / splats.det[..., None]
        return (
            radii,
            torch.where(seen[..., None], splats.means2d, 0.0),
            torch.where(seen, splats.depths, 0.0),
            torch.where(seen[..., None], conics, 0.0),
            torch.where(seen, splats.compensations, 0.0) if antialiased else None,
        )

    def _radii(
        self,
        splats: Splats,
        opacities: Float[Tensor, "*c n"],
        antialiased: bool,
        width: int,
        height: int,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
    ) -> Int[Tensor, "c n"]:
        """Half side of each Gaussian's square in pixels, 0 for Gaussians that are not drawn."""
        middle = (splats.a + splats.c) / 2
        # (b^2 - det) in the form that does not cancel.
        spread = torch.sqrt(torch.clamp(((splats.a - splats.c) / 2) ** 2 + splats.b**2, min=0.01))
        drawn = torch.ones_like(splats.det, dtype=torch.bool)
        if self.semantics.radius_rule == "three-sigma":
            reach_x = reach_y = torch.ceil(3.0 * torch.sqrt(middle + spread))
        else:
            shown = opacities * splats.compensations if antialiased else opacities
            drawn = drawn & (shown >= self.semantics.alpha_min)
            sigmas = torch.sqrt(2 * torch.log(torch.clamp(shown / self.semantics.alpha_min, min=1.0))).clamp(max=3.33)
            reach_x = torch.ceil(sigmas * torch.sqrt(splats.a))
            reach_y = torch.ceil(sigmas * torch.sqrt(splats.c))
        radius = torch.maximum(reach_x, reach_y)
        x, y = splats.means2d.unbind(-1)
        # Comparisons with NaN are false, so a Gaussian with a NaN anywhere is not drawn.
        drawn &= (splats.depths >= near_plane) & (splats.depths <= far_plane)
        drawn &= (splats.det > 0) & torch.isfinite(splats.det) & torch.isfinite(radius) & (radius > radius_clip)
        drawn &= (x + reach_x > 0) & (x - reach_x < width) & (y + reach_y > 0) & (y - reach_y < height)
        return torch.where(drawn, radius, 0.0).clamp(max=2**30).to(torch.int32)

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
        absolute = record_absgrad(means2d) if absgrad else None
        images, alphas = [], []
        for camera in range(means2d.shape[0]):
            image, transmittance = composite_tiles(
                means2d[camera],
                conics[camera],
                colors[camera] if colors.ndim == 3 else colors,
                opacities[camera] if opacities.ndim == 2 else opacities,
                radii[camera],
                depths[camera],
                width,
                height,
                self.semantics,
                absolute[camera] if absolute is not None else None,
            )
            if backgrounds is not None:
                image = image + transmittance * backgrounds[camera]
            images.append(image)
            alphas.append(1.0 - transmittance)
        return torch.stack(images), torch.stack(alphas)


def composite_tiles(
    means2d: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    colors: Float[Tensor, "n d"],
    opacities: Float[Tensor, "n"],
    radii: Int[Tensor, "n"],
    depths: Float[Tensor, "n"],
    width: int,
    height: int,
    semantics: Semantics,
    absgrad: Float[Tensor, "n 2"] | None = None,
) -> tuple[Float[Tensor, "h w d"], Float[Tensor, "h w 1"]]:
    """One camera's image over black, and what light is left behind it (the transmittance)."""
    size = semantics.tile_size
    columns, rows = -(-width // size), -(-height // size)
    order, counts = tile_lists(means2d, radii, depths, columns, rows, size)
    splats = torch.cat([means2d, conics, opacities[:, None]], dim=-1)[
        order
    ].T.contiguous()  # six rows: x, y, Q, opacity
    steps = torch.arange(size, dtype=means2d.dtype, device=means2d.device) + 0.5
    pixel_y, pixel_x = (grid.reshape(-1, 1) for grid in torch.meshgrid(steps, steps, indexing="ij"))

    tiles = []
    per_tile = zip(splats.split(counts, dim=1), colors[order].split(counts), order.split(counts), strict=True)
    for tile, (tile_splats, tile_colors, ids) in enumerate(per_tile):
        x, y, *conic, tile_opacities = tile_splats.unbind(0)
        dx, dy = x - (pixel_x + tile % columns * size), y - (pixel_y + tile // columns * size)
        if absgrad is not None and dx.requires_grad:
            dx.register_hook(partial(_add_absolute, absgrad[:, 0], ids))
            dy.register_hook(partial(_add_absolute, absgrad[:, 1], ids))
        weights, transmittance = blend_weights(splat_alphas(dx, dy, conic, tile_opacities, semantics), semantics)
        tiles.append(torch.cat([weights @ tile_colors, transmittance], dim=-1))
    image = torch.stack(tiles).reshape(rows, columns, size, size, -1).transpose(1, 2)
    image = image.reshape(rows * size, columns * size, -1)[:height, :width]
    return image[..., :-1], image[..., -1:]


@torch.no_grad()
def tile_lists(
    means2d: Float[Tensor, "n 2"],
    radii: Int[Tensor, "n"],
    depths: Float[Tensor, "n"],
    columns: int,
    rows: int,
    size: int,
) -> tuple[Int[Tensor, "m"], list[int]]:
    """Which Gaussians each tile draws, nearest first.

    Returns:
        Gaussian indices, tile after tile in row-major order (nearest first within each), and how many each tile has.
    """
    by_depth = torch.argsort(depths, stable=True)
    by_depth = by_depth[radii[by_depth] > 0]
    first, last = tile_bounds(means2d[by_depth], radii[by_depth], columns, rows, size)
    extent = last - first
    tiles_of = extent.prod(dim=-1)
    owner = torch.repeat_interleave(torch.arange(len(by_depth), device=depths.device), tiles_of)
    nth = torch.arange(len(owner), device=depths.device) - (tiles_of.cumsum(0) - tiles_of)[owner]
    tile = (first[owner, 1] + nth // extent[owner, 0]) * columns + first[owner, 0] + nth % extent[owner, 0]
    by_tile = torch.argsort(tile, stable=True)
    return by_depth[owner[by_tile]], torch.bincount(tile, minlength=columns * rows).tolist()


def tile_bounds(
    means2d: Float[Tensor, "n 2"], radii: Int[Tensor, "n"], columns: int, rows: int, size: int
) -> tuple[Int[Tensor, "n 2"], Int[Tensor, "n 2"]]:
    """First (inclusive) and last (exclusive) tile, as (column, row), that each Gaussian's square touches."""
    reach = radii[:, None].to(means2d.dtype)
    limit = means2d.new_tensor([columns, rows])
    first = torch.floor((means2d - reach) / size).clamp(min=0).minimum(limit)
    last = torch.ceil((means2d + reach) / size).clamp(min=0).minimum(limit)
    return first.long(), last.long()


def splat_alphas(
    dx: Float[Tensor, "p n"],
    dy: Float[Tensor, "p n"],
    conic: Sequence[Float[Tensor, "n"]],
    opacities: Float[Tensor, "n"],
    semantics: Semantics,
) -> Float[Tensor, "p n"]:
    """How opaque each Gaussian is at each pixel, ``(dx, dy)`` away from its mean; 0 where it is skipped."""
    sigma = 0.5 * (conic[0] * dx * dx + conic[2] * dy * dy) + conic[1] * dx * dy
    # Rounding can make sigma negative, and exp() of a large one would turn into NaN in the backward pass.
    sigma = torch.where(sigma >= 0, sigma, torch.inf)
    alphas = torch.clamp(opacities * torch.exp(-sigma), max=semantics.max_alpha)
    return torch.where(alphas >= semantics.alpha_min, alphas, 0.0)


def blend_weights(
    alphas: Float[Tensor, "p n"], semantics: Semantics
) -> tuple[Float[Tensor, "p n"], Float[Tensor, "p 1"]]:
    """What share of each pixel each Gaussian fills (nearest first), and the share that nobody fills."""
    transmittance = torch.cat([alphas.new_ones(len(alphas), 1), torch.cumprod(1.0 - alphas, dim=-1)], dim=-1)
    # The transmittance only falls, so the first Gaussian that fails also rules out all behind it.
    drawn = transmittance[:, 1:] > semantics.transmittance_min
    weights = torch.where(drawn, alphas * transmittance[:, :-1], 0.0)
    # Not 1 - sum(weights): that would leave a dark pixel's transmittance with hardly a correct digit.
    return weights, transmittance.gather(1, drawn.sum(dim=-1, keepdim=True))


def record_absgrad(means2d: Float[Tensor, "c n 2"]) -> Float[Tensor, "c n 2"]:
    """A buffer that, once the backward pass has filled it, becomes ``means2d.absgrad`` (AbsGS, Ye et al. 2024).

    Fill it with the sum over pixels of the absolute values of the gradients of ``means2d``.
    """
    total = torch.zeros_like(means2d, requires_grad=False)
    target = weakref.ref(means2d)

    def publish(_: Tensor) -> None:
        tensor = target()
        if tensor is not None:
            tensor.absgrad = total.clone()  # pyright: ignore[reportAttributeAccessIssue]
        total.zero_()

    if means2d.requires_grad:
        means2d.register_hook(publish)
    return total


def _add_absolute(total: Float[Tensor, "n"], ids: Int[Tensor, "m"], grad: Float[Tensor, "p m"]) -> None:
    total.index_add_(0, ids, grad.abs().sum(dim=0))
