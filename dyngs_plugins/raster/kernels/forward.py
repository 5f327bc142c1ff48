"""Compositing: tile by tile, block by block, front to back.

::

    for each tile (any thread)            its Gaussians to tile coordinates; 16 bitmaps: who reaches which block
      for each block of 4x4 pixels        one vector: a lane is a pixel
        for each set bit of its bitmap    nearest first
          alpha, T, colour                until every pixel is opaque

A pixel that is done keeps its transmittance T with the sign flipped, so no second mask has to be carried along.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import float32, int64

from dyngs_plugins.raster.kernels.binning import LOG2_255, TILE
from dyngs_plugins.raster.kernels.bits import lowest_bit, without_lowest_bit
from dyngs_plugins.raster.kernels.buffers import release, scratch, view
from dyngs_plugins.raster.kernels.compiling import inlined, kernel
from dyngs_plugins.raster.kernels.elementary import fma, minimum, negative
from dyngs_plugins.raster.kernels.image import write_block
from dyngs_plugins.raster.kernels.memory import Array
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tile import (
    BLOCKS,
    GROUP,
    Local,
    alpha_of,
    evaluate,
    load_local,
    load_pixels,
    load_tile,
    pixel_table,
)
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import (
    LANES,
    Flag,
    Int,
    Lanes,
    Mask,
    any_lane,
    block_columns,
    block_rows,
    lanes,
    pinned,
    select,
)


class Picture(NamedTuple):
    """Size in pixels, the limits of compositing, and the images [c h w ...], flat."""

    cameras: Any
    width: Any
    height: Any
    max_alpha: Any
    transmittance_min: Any
    image: Any
    alpha: Any
    transmittance: Any


@traced
def in_lanes(value: Lanes) -> Lanes:
    """A float in every lane."""
    return value


@traced
def _begin_block(pixels: Array, block: Int, left: Int, top: Int, picture: Picture) -> tuple[Lanes, Lanes, Lanes]:
    """Pixel coordinates relative to the tile's centre, and T: 1, or -1 (done) outside the image."""
    inside = block_columns() + left.lanes() < picture.width.lanes()
    inside = inside & (block_rows() + top.lanes() < picture.height.lanes())
    return (*load_pixels(pixels, block), select(inside, 1.0, -1.0))


def _weigh(g: Local, x: Lanes, y: Lanes, T: Lanes, limits: Any) -> tuple[Lanes, Lanes, Mask]:
    """One Gaussian on one block: its weights alpha T, T behind it, and the pixels it closes (it is not drawn on them)."""
    max_alpha, transmittance_min = limits
    _, _, exponent = evaluate(g, x, y)
    alpha = minimum(alpha_of(exponent), max_alpha)
    behind = fma(-alpha, T, T)
    seen = exponent >= pinned(-LOG2_255)
    drawn = seen & (behind > transmittance_min)
    return select(drawn, alpha * T, 0.0), select(drawn, behind, T), seen & ~drawn


@traced
def _blend4(
    local: Array, colors: Array, i: Int, x: Lanes, y: Lanes, state: tuple[Lanes, ...], limits: Any
) -> tuple[tuple[Lanes, ...], Mask, Flag]:
    """Adds a Gaussian of four channels to a block's (T, c0, c1, c2, c3)."""
    weight, behind, closed = _weigh(load_local(local, i), x, y, state[0], limits)
    channels = (fma(weight, colors.broadcast(i * 4 + k), state[1 + k]) for k in range(4))
    return (behind, *channels), closed, any_lane(closed)


@traced
def _weigh_only(
    local: Array, i: Int, x: Lanes, y: Lanes, T: Lanes, limits: Any, weights: Array, slot: Int
) -> tuple[Lanes, Mask, Flag]:
    """Writes a Gaussian's weights on a block into a slot; T behind it."""
    weight, behind, closed = _weigh(load_local(local, i), x, y, T, limits)
    weights.store(slot * LANES, weight)
    return behind, closed, any_lane(closed)


@traced
def _close(T: Lanes, closed: Mask) -> tuple[Lanes, Flag]:
    """Marks pixels as done. Also whether any is not."""
    T = select(closed, negative(T), T)
    return T, any_lane(T > 0.0)


@traced
def _black(T: Lanes) -> tuple[Lanes, ...]:
    return (T, *(lanes(0.0) for _ in range(4)))


@traced
def _add_channels(weights: Array, slot: Int, colors: Array, at: Int, sums: tuple[Lanes, ...]) -> tuple[Lanes, ...]:
    weight = weights.load(slot * LANES)
    return tuple(fma(weight, colors.broadcast(at + k), s) for k, s in enumerate(sums))


@traced
def _load_sums(sums: Array, channel: Int, eight: Flag | None) -> tuple[Lanes, ...]:
    return tuple(sums.load((channel + k) * LANES) for k in range(4 if eight is None else 8))


@traced
def _store_sums(sums: Array, channel: Int, values: tuple[Lanes, ...]) -> None:
    for k, value in enumerate(values):
        sums.store((channel + k) * LANES, value)


@inlined
def _composite4(tile, bitmaps, block, words, x, y, T, limits, sums):
    """A block with at most four channels: everything stays in registers. Leaves the channels in `sums`, returns T."""
    state = _black(T)
    any_open = True
    for word in range(words):
        bits = bitmaps[block * words + word]
        while bits != 0 and any_open:
            i = GROUP * word + lowest_bit(bits)
            bits = without_lowest_bit(bits)
            state, closed, any_closed = _blend4(tile.local, tile.colors, i, x, y, state, limits)
            if any_closed:
                T, any_open = _close(state[0], closed)
                state = (T, state[1], state[2], state[3], state[4])
    _store_sums(sums, 0, state[1:])
    return state[0]


@inlined
def _blend_channels(weights, chosen, number, colors, channel, sums, eight):
    """Adds weighted Gaussians to four or eight channels of a block."""
    values = _load_sums(sums, channel, eight)
    for slot in range(number):
        values = _add_channels(weights, slot, colors, chosen[slot] + channel, values)
    _store_sums(sums, channel, values)


@inlined
def _composite(tile, stride, bitmaps, block, words, x, y, T, limits, weights, chosen, sums):
    """A block with any number of channels: for each word of the bitmap first the weights, then channels by eights and fours."""
    for k in range(stride * LANES):
        sums[k] = 0.0
    any_open = True
    for word in range(words):
        bits = bitmaps[block * words + word]
        number = 0
        while bits != 0 and any_open:
            i = GROUP * word + lowest_bit(bits)
            bits = without_lowest_bit(bits)
            chosen[number] = i * stride
            T, closed, any_closed = _weigh_only(tile.local, i, x, y, T, limits, weights, number)
            number += 1
            if any_closed:
                T, any_open = _close(T, closed)
        for channel in range(0, stride - 4, 8):
            _blend_channels(weights, chosen, number, tile.colors, channel, sums, True)
        if stride % 8 > 0:
            _blend_channels(weights, chosen, number, tile.colors, stride - 4, sums, None)
    return T


@kernel
def composite_forward(team, all_source, all_picture, background_array, many):
    """Fills the images of the picture and the masks of the source. Backgrounds are [c, channels padded to fours].

    `many` is None for at most four channels, else True: two kernels, of which most programs need only one.
    """
    source, picture, backgrounds = view(all_source), view(all_picture), view(background_array)
    stride = (source.channels + 3) // 4 * 4
    limits = (in_lanes(picture.max_alpha), in_lanes(picture.transmittance_min))
    weights, chosen = scratch(float32, GROUP * LANES), scratch(int64, GROUP)
    sums, lane_values, pixels = scratch(float32, stride * LANES), scratch(float32, LANES), pixel_table()
    loop = share(team, picture.cameras * source.tiles_per_camera)
    tile = take(loop)
    while tile >= 0:
        words = (source.tile_starts[tile + 1] - source.tile_starts[tile] + GROUP - 1) // GROUP
        bitmaps = scratch(int64, BLOCKS * words)
        for k in range(BLOCKS * words):
            bitmaps[k] = 0
        content = load_tile(source, tile, stride, bitmaps)
        camera, in_camera = tile // source.tiles_per_camera, tile % source.tiles_per_camera
        for block in range(BLOCKS):
            left = TILE * (in_camera % source.columns) + 4 * (block % 4)
            top = TILE * (in_camera // source.columns) + 4 * (block // 4)
            if left < picture.width and top < picture.height:
                x, y, T = _begin_block(pixels, block, left, top, picture)
                if many is None:
                    T = _composite4(content, bitmaps, block, words, x, y, T, limits, sums)
                else:
                    T = _composite(content, stride, bitmaps, block, words, x, y, T, limits, weights, chosen, sums)
                write_block(picture, camera, left, top, source.channels, stride, backgrounds, T, sums, lane_values)
        release(content.local)
        release(content.colors)
        release(bitmaps)
        tile = take(loop)
    release(weights)
    release(chosen)
    release(sums)
    release(lane_values)
    release(pixels)
