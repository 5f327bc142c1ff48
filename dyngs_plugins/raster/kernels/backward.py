"""Gradients of compositing, front to back like the forward pass: Gaussian by Gaussian, over the blocks each one reaches.

Let ``q = color . d_image`` be a Gaussian's colour seen from the loss, and ``U`` what the Gaussians behind it (and the
background) still contribute, over the transmittance T in front of them. Before the first Gaussian U is
``image . d_image - T_end d_alpha``, and behind a Gaussian ``U' = (U - alpha q) / (1 - alpha)``. Then::

    d_alpha = T (q - U')         d_color = sum over pixels of alpha T d_image

so one number per pixel replaces the suffix sums of all channels, and T and the decisions of the forward pass come out again
exactly as they were.

Everything else depends on the pixel through ``alpha = opacity 2^-(u^2 + v^2)`` only, with u and v linear in the pixel
(`tile.Local`). With ``h = alpha d_alpha`` (0 where alpha was clamped) the derivatives with respect to opacity, mean and
conic are linear in six moments: the sums over pixels of h times 1, u, v, u^2, uv, v^2. They are summed in registers over the
blocks of one tile, then over lanes, and `gather` turns a Gaussian's moments into its derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import float32

from dyngs_plugins.raster.kernels.backward_tile import Blocks, backward_tile, backward_tile4
from dyngs_plugins.raster.kernels.binning import TILE
from dyngs_plugins.raster.kernels.buffers import release, scratch, view
from dyngs_plugins.raster.kernels.compiling import inlined, kernel
from dyngs_plugins.raster.kernels.elementary import fma
from dyngs_plugins.raster.kernels.forward import in_lanes
from dyngs_plugins.raster.kernels.image import read_block
from dyngs_plugins.raster.kernels.shuffles import sum_of_lanes
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tile import BLOCKS, load_tile, pixel_table
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, Lanes, Scalar, lanes


class Gradients(NamedTuple):
    """Derivatives with respect to the images, and what comes of them."""

    image: Any
    alpha: Any
    rows: Any
    """[entries, row_floats]: moments, channels (padded to a multiple of 4), absolutes."""
    row_floats: Any
    with_absolutes: Any
    """None or True."""
    backgrounds: Any
    """[c tiles, channels]: each tile's share of the derivatives with respect to the background."""
    with_backgrounds: Any


@traced
def _nothing() -> Lanes:
    return lanes(0.0)


@traced
def _background_lanes(blocks: Blocks, block: Int, channel: Int, stride: Int, total: Lanes) -> Lanes:
    return fma(blocks.T_end.load(block * LANES), blocks.d_image.load((block * stride + channel) * LANES), total)


@traced
def _total(x: Lanes) -> Scalar:
    return Scalar(sum_of_lanes(x))


@inlined
def _begin_tile(source, picture, gradients, tile, stride, blocks):
    """Fills the state of the blocks; returns the bits of those that are in the image."""
    camera, in_camera = tile // source.tiles_per_camera, tile % source.tiles_per_camera
    alive = 0
    for block in range(BLOCKS):
        left = TILE * (in_camera % source.columns) + 4 * (block % 4)
        top = TILE * (in_camera // source.columns) + 4 * (block // 4)
        if left < picture.width and top < picture.height:
            alive |= 1 << block
            read_block(picture, gradients, camera, block, left, top, source.channels, stride, blocks)
    if gradients.with_backgrounds:
        for channel in range(source.channels):
            total = _nothing()
            for block in range(BLOCKS):
                if alive & (1 << block):
                    total = _background_lanes(blocks, block, channel, stride, total)
            gradients.backgrounds[tile * source.channels + channel] = _total(total)
    return alive


@kernel
def composite_backward(team, all_source, all_picture, all_gradients, many):
    """Fills the rows of `Gradients`, and the tiles' shares of the backgrounds'. `many` as in `composite_forward`."""
    source, picture, gradients = view(all_source), view(all_picture), view(all_gradients)
    stride = (source.channels + 3) // 4 * 4
    limits = (in_lanes(picture.max_alpha), in_lanes(picture.transmittance_min))
    T, U, T_end = (scratch(float32, BLOCKS * LANES), scratch(float32, BLOCKS * LANES), scratch(float32, BLOCKS * LANES))
    d_image = scratch(float32, BLOCKS * stride * LANES)
    blocks = Blocks(T, U, T_end, d_image, pixel_table())
    loop = share(team, picture.cameras * source.tiles_per_camera)
    tile = take(loop)
    while tile >= 0:
        content = load_tile(source, tile, stride, None)
        alive = _begin_tile(source, picture, gradients, tile, stride, blocks)
        absolutes, rows, row_floats = gradients.with_absolutes, gradients.rows, gradients.row_floats
        if many is None:
            backward_tile4(source, content, blocks, alive, limits, absolutes, rows)
        else:
            backward_tile(source, content, stride, blocks, alive, limits, absolutes, rows, row_floats)
        release(content.local)
        release(content.colors)
        tile = take(loop)
    release(T)
    release(U)
    release(T_end)
    release(d_image)
    release(blocks.pixels)
