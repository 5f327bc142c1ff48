"""Where two correct backends may differ: pixels at which float32 rounding may flip a decision."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.raster.dense import alphas_at, decide, front_to_back, pixel_centres, tiles_touched
from dyngs_plugins.raster.semantics import Semantics, installed_semantics


@torch.no_grad()
def ambiguous_pixels(
    means2d: Float[Tensor, "c n 2"],
    conics: Float[Tensor, "c n 3"],
    opacities: Float[Tensor, "c n"],
    radii: Int[Tensor, "c n"],
    depths: Float[Tensor, "c n"],
    width: int,
    height: int,
    semantics: Semantics | None = None,
    alpha_tolerance: float = 1e-4,
) -> Bool[Tensor, "c h w"]:
    """Pixels at which float32 rounding may flip a decision, so that two correct backends may differ visibly.

    A decision is close when, for some Gaussian that light still reaches,

    * its alpha is within `alpha_tolerance` (relative) of `Semantics.alpha_min`,
    * the transmittance behind it is within ten times that of `Semantics.transmittance_min`,
    * its depth equals that of the Gaussian drawn before it to a few float32 roundings, or
    * its square ends on the edge of the pixel's tile (and whether it touches the tile decides whether it is drawn).

    Arguments are what ``info`` of the dense backend holds.
    """
    semantics = semantics or installed_semantics()
    masks = []
    for i in range(means2d.shape[0]):
        order = front_to_back(radii[i], depths[i])
        masks.append(
            _ambiguous_one(
                means2d[i][order].double(),
                conics[i][order].double(),
                opacities[i][order].double(),
                radii[i][order].double(),
                depths[i][order].double(),
                pixel_centres(width, height).to(means2d.device),
                semantics,
                alpha_tolerance,
            )
        )
    return torch.stack(masks).reshape(-1, height, width)


def _ambiguous_one(
    means2d: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    radii: Float[Tensor, "n"],
    depths: Float[Tensor, "n"],
    pixels: Float[Tensor, "p 2"],
    semantics: Semantics,
    tolerance: float,
) -> Bool[Tensor, "p"]:
    """For the drawn Gaussians of one camera, nearest first."""
    alphas = alphas_at(means2d, conics, opacities, pixels).clamp(max=semantics.max_alpha)
    touched = tiles_touched(means2d, radii, pixels, semantics.tile_size)
    drawn, lit = decide(alphas, touched, semantics)
    shown = lit & (alphas >= semantics.alpha_min)

    close = lit & touched & ((alphas / semantics.alpha_min - 1).abs() < tolerance)
    faded = torch.where(drawn, alphas, 0.0)
    before = torch.cumprod(torch.cat([torch.ones_like(faded[:1]), 1 - faded]), dim=0)[:-1]
    after = before * (1 - alphas)
    close |= shown & touched & ((after / semantics.transmittance_min - 1).abs() < 10 * tolerance)
    depth = depths[:, None]
    behind = torch.where(drawn, depth, -torch.inf).cummax(dim=0).values
    close[1:] |= (shown & touched)[1:] & (depth[1:] - behind[:-1] < 1e-6 * depth[1:])
    if semantics.radius_rule == "three-sigma":
        inner, outer = _square_bounds(conics, radii)
        maybe = tiles_touched(means2d, outer + 1e-4, pixels, semantics.tile_size)
        surely = tiles_touched(means2d, inner - 1e-4, pixels, semantics.tile_size)
        close |= shown & maybe & ~surely
    return close.any(dim=0)


def _square_bounds(
    conics: Float[Tensor, "n 3"], radii: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """The radius if 1e-4 of it were missing or added before it was rounded up: how float32 could have it."""
    a, b, c = conics.unbind(-1)
    det = a * c - b * b
    # The covariance is the inverse of the conic.
    largest = (a + c) / det / 2 + (((a - c) ** 2 / 4 + b * b).sqrt() / det).clamp(min=0.1)
    reach = 3 * largest.sqrt()
    return (reach * (1 - 1e-4)).ceil().minimum(radii), (reach * (1 + 1e-4)).ceil().maximum(radii)
