"""What lies around compositing, whatever composites: which channels there are, what a depth means, how large all is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.raster.inputs import RasterInputs
from dyngs_plugins.raster.semantics import installed_semantics


def channels(
    inputs: RasterInputs, depths: Float[Tensor, "c n"], harmonics: Callable[[int], Float[Tensor, "*c n 3"]]
) -> tuple[Float[Tensor, "*c n d"], Float[Tensor, "c d"] | None]:
    """What to composite: colours, depth or both, and what lies behind each channel.

    Args:
        inputs: what is rendered.
        depths: of each Gaussian in each camera.
        harmonics: the colours of spherical harmonics of a degree, computed where they are needed.
    """
    if inputs.render_mode in ("D", "ED"):
        return depths[..., None], None
    colors = inputs.colors if inputs.sh_degree is None else harmonics(inputs.sh_degree)
    backgrounds = inputs.backgrounds
    if inputs.render_mode in ("RGB+D", "RGB+ED"):
        colors = torch.cat([colors.expand(*depths.shape, -1), depths[..., None]], dim=-1)
        if backgrounds is not None:
            backgrounds = torch.cat([backgrounds, torch.zeros_like(backgrounds[:, :1])], dim=-1)
    return colors, backgrounds


def with_expected_depth(
    inputs: RasterInputs, image: Float[Tensor, "c h w d"], alpha: Float[Tensor, "c h w 1"]
) -> Float[Tensor, "c h w d"]:
    """The image, whose last channel is the depth over alpha where the render mode says so."""
    if inputs.render_mode not in ("ED", "RGB+ED"):
        return image
    # Split is one node: slices would each fill a gradient.
    others, depth = image.split([image.shape[-1] - 1, 1], dim=-1)
    return torch.cat([others, depth / alpha.clamp(min=1e-10)], dim=-1)


def sizes(inputs: RasterInputs) -> dict[str, Any]:
    """The entries of gsplat's `info` that say how large everything is, and that nothing is packed."""
    tile_size = installed_semantics().tile_size
    return {
        "camera_ids": None,
        "gaussian_ids": None,
        "width": inputs.width,
        "height": inputs.height,
        "n_cameras": inputs.num_cameras,
        "tile_size": tile_size,
        "tile_width": math.ceil(inputs.width / tile_size),
        "tile_height": math.ceil(inputs.height / tile_size),
    }
