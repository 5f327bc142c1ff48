"""gsplat 1.4's ``rasterization`` put together from its public stages, so that what no pixel shows is not sorted.

Between projection and compositing gsplat lists every Gaussian once for each tile that its square touches, and sorts the
list. Compositing then skips alphas below 1/255, so Gaussians less opaque than that are carried along for nothing; in a
long clip, in which each is opaque for a short time, they are most of all. From 1.5 on gsplat leaves them out itself.
Here they are left out for 1.4: images, gradients and radii are the same, the list is shorter.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.raster.channels import channels, sizes, with_expected_depth
from dyngs_plugins.raster.inputs import RasterInputs
from dyngs_plugins.raster.semantics import installed_semantics

CHANNELS_AT_A_TIME = 32
"""As in gsplat, whose kernels keep them all in registers."""
_UPPER_TRIANGLE = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])


def rasterize_without_faint(
    inputs: RasterInputs,
) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"], dict[str, Any]]:
    """What gsplat 1.4's ``rasterization(packed=False)`` gives, for means, shapes and opacities that all cameras share."""
    radii, means2d, depths, conics, compensations = _project(inputs)
    opacities = inputs.opacities.expand(inputs.num_cameras, -1)
    if compensations is not None:
        opacities = opacities * compensations
    # A hair below the limit: CUDA's fast exponential may round up to a little more than 1.
    faint = opacities.detach() < installed_semantics().alpha_min * (1 - 1e-6)
    listed, tiles = _list_in_tiles(inputs, means2d, torch.where(faint, 0, radii), depths)
    colors, backgrounds = channels(inputs, depths, lambda degree: _harmonics(inputs, degree, radii))
    image, alpha = _composite(inputs, means2d, conics, colors, opacities, backgrounds, listed)
    projected = {"radii": radii, "means2d": means2d, "depths": depths, "conics": conics, "opacities": opacities}
    return with_expected_depth(inputs, image, alpha), alpha, {**projected, **tiles}


def _project(inputs: RasterInputs) -> tuple[Int[Tensor, "c n"], Tensor, Tensor, Tensor, Tensor | None]:
    from gsplat import fully_fused_projection

    covars, quats, scales = inputs.covars, inputs.quats, inputs.scales
    if covars is not None:
        covars, quats, scales = covars[..., _UPPER_TRIANGLE[0], _UPPER_TRIANGLE[1]], None, None
    return fully_fused_projection(
        inputs.means,
        covars,
        quats,
        scales,
        inputs.viewmats,
        inputs.Ks,
        inputs.width,
        inputs.height,
        eps2d=inputs.eps2d,
        near_plane=inputs.near_plane,
        far_plane=inputs.far_plane,
        radius_clip=inputs.radius_clip,
        calc_compensations=inputs.rasterize_mode == "antialiased",
    )


def _list_in_tiles(
    inputs: RasterInputs, means2d: Float[Tensor, "c n 2"], radii: Int[Tensor, "c n"], depths: Float[Tensor, "c n"]
) -> tuple[tuple[Int[Tensor, "c y x"], Int[Tensor, "m"]], dict[str, Any]]:
    """Where each tile's Gaussians begin in a list of ``m``, the list, and what gsplat's `info` says of them."""
    from gsplat import isect_offset_encode, isect_tiles

    info = sizes(inputs)
    tiles = (info["tile_width"], info["tile_height"])
    tiles_per_gauss, isect_ids, flatten_ids = isect_tiles(means2d, radii, depths, info["tile_size"], *tiles)
    offsets = isect_offset_encode(isect_ids, inputs.num_cameras, *tiles)
    info |= {"tiles_per_gauss": tiles_per_gauss, "isect_ids": isect_ids}
    return (offsets, flatten_ids), info | {"flatten_ids": flatten_ids, "isect_offsets": offsets}


def _harmonics(inputs: RasterInputs, degree: int, radii: Int[Tensor, "c n"]) -> Float[Tensor, "c n 3"]:
    from gsplat import spherical_harmonics

    centres = torch.inverse(inputs.viewmats)[:, None, :3, 3]
    coefficients = inputs.colors.expand(inputs.num_cameras, -1, -1, -1)
    colors = spherical_harmonics(degree, inputs.means - centres, coefficients, masks=radii > 0)
    return torch.clamp_min(colors + 0.5, 0.0)


def _composite(
    inputs: RasterInputs,
    means2d: Float[Tensor, "c n 2"],
    conics: Float[Tensor, "c n 3"],
    colors: Float[Tensor, "*c n d"],
    opacities: Float[Tensor, "c n"],
    backgrounds: Float[Tensor, "c d"] | None,
    listed: tuple[Int[Tensor, "c y x"], Int[Tensor, "m"]],
) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"]]:
    from gsplat import rasterize_to_pixels

    size = (inputs.width, inputs.height, installed_semantics().tile_size)
    colors = colors.expand(*opacities.shape, -1)
    images, alphas = [], []
    for first in range(0, colors.shape[-1], CHANNELS_AT_A_TIME):
        some = slice(first, first + CHANNELS_AT_A_TIME)
        behind = None if backgrounds is None else backgrounds[:, some]
        image, alpha = rasterize_to_pixels(
            means2d, conics, colors[..., some], opacities, *size, *listed, backgrounds=behind, absgrad=inputs.absgrad
        )
        images.append(image)
        alphas.append(alpha)
    return torch.cat(images, dim=-1) if len(images) > 1 else images[0], alphas[0]
