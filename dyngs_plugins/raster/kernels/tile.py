"""What forward and backward pass share: a tile's Gaussians in tile coordinates, and the 4x4 blocks each of them reaches.

A tile is 16x16 pixels in 16 blocks of 4x4; a block is one vector, a lane is a pixel::

    blocks of a tile       lanes of a block
     0  1  2  3             0  1  2  3
     4  5  6  7             4  5  6  7
     8  9 10 11             8  9 10 11
    12 13 14 15            12 13 14 15

Positions are relative to the centre of the tile, so that pixel centres are -7.5 ... 7.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import float32

from dyngs_plugins.raster.kernels.binning import LOG2_255, MARGIN, ROOT_FLOATS, TILE
from dyngs_plugins.raster.kernels.buffers import scratch
from dyngs_plugins.raster.kernels.compiling import inlined
from dyngs_plugins.raster.kernels.elementary import absolute, exp2, fma, maximum, minimum, sqrt
from dyngs_plugins.raster.kernels.memory import Array, Rows
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import (
    LANES,
    Int,
    Lanes,
    block_columns,
    block_rows,
    lane_bits,
    lanes,
    pinned,
    select,
)

BLOCKS = 16
LOCAL_FLOATS = 8
"""Per Gaussian of a tile: a, b, c, u0, v0, log2 opacity; two unused."""
PIXEL_FLOATS = 2 * LANES


class Local(NamedTuple):
    """One Gaussian in tile coordinates, in all lanes: alpha = 2^(log2_opacity - u^2 - v^2) at pixel (x, y), with
    u = a x + b y + u0 and v = c y + v0."""

    a: Lanes
    b: Lanes
    c: Lanes
    u0: Lanes
    v0: Lanes
    log2_opacity: Lanes


class Content(NamedTuple):
    """The Gaussians of a tile: entries ``start ... start + number - 1`` of the lists."""

    start: Any
    number: Any
    centre_x: Any
    centre_y: Any
    local: Any
    """[number, LOCAL_FLOATS]"""
    colors: Any
    """[number, stride]: padded with 0 to a multiple of four channels."""


def load_local(local: Array, i: Int) -> Local:
    """Gaussian i of the tile."""
    return Local(*(local.broadcast(i * LOCAL_FLOATS + k) for k in range(6)))


def evaluate(g: Local, x: Lanes, y: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """u, v and log2 of alpha at pixels. Only fused operations: forward and backward pass must agree to the last bit."""
    u = fma(g.a, x, fma(g.b, y, g.u0))
    v = fma(g.c, y, g.v0)
    return u, v, fma(-v, v, fma(-u, u, g.log2_opacity))


def alpha_of(exponent: Lanes) -> Lanes:
    """2^exponent."""
    return exp2(exponent, pinned)


@traced
def _store_pixels(pixels: Array, block: Int, x: Int, y: Int) -> None:
    pixels.store(block * PIXEL_FLOATS, (x * 4).lanes() + (block_columns() - 7.5))
    pixels.store(block * PIXEL_FLOATS + LANES, (y * 4).lanes() + (block_rows() - 7.5))


@inlined
def pixel_table():
    """Pixel coordinates of all blocks of a tile (any tile): x, then y, lane by lane. To be released."""
    pixels = scratch(float32, BLOCKS * PIXEL_FLOATS)
    for block in range(BLOCKS):
        _store_pixels(pixels, block, block % 4, block // 4)
    return pixels


def load_pixels(pixels: Array, block: Int) -> tuple[Lanes, Lanes]:
    """x and y of a block's pixels relative to the tile's centre."""
    return pixels.load(block * PIXEL_FLOATS), pixels.load(block * PIXEL_FLOATS + LANES)


class Source(NamedTuple):
    """Where the Gaussians of tiles come from: lists and `binning.Lists.roots`, and colours that cameras may share."""

    count: Any
    channels: Any
    columns: Any
    tiles_per_camera: Any
    roots: Any
    tile_starts: Any
    entries: Any
    entry_rows: Any
    masks: Any
    """[entries]: the blocks of its tile that an entry reaches (bit k: block k), written by the forward pass."""
    colors: Any
    colors_per_camera: Any


@traced
def _prefetch_lanes(first: Int, count: Int, shared: Int, source: Source) -> None:
    """Asks for the memory of up to sixteen Gaussians that will be needed soon."""
    listed = Rows(first, count).listed(source.entries)
    listed.prefetch(source.roots, ROOT_FLOATS)
    listed.shifted(shared).prefetch(source.colors, source.channels)
    listed.shifted(shared).prefetch(source.colors, source.channels, 16)


@traced
def _copy_colors4(first: Int, count: Int, shared: Int, source: Source, tile: Content) -> None:
    """Copies the colours of up to sixteen Gaussians with four channels."""
    rows = Rows(first, count)
    rows.shifted(tile.start).listed(source.entries).shifted(shared).copy4(source.colors, tile.colors, rows)


@traced
def _place_lanes(
    first: Int, count: Int, source: Source, tile: Content, words: Int, word: Int, shift: Int, bitmaps: Any
) -> None:
    """Puts up to sixteen Gaussians into tile coordinates and, unless `bitmaps` is None, finds the blocks they reach.

    Exactly: the ellipse alpha >= alpha_min against squares. Each of the tile's four strips of blocks cuts the ellipse; the
    leftmost and rightmost points of the cut say which blocks of the strip it touches. Sets bit `shift` + lane of
    ``bitmaps[block * words + word]``, and writes the same the other way round to the entry's mask.
    """
    rows = Rows(first, count)
    listed = rows.shifted(tile.start).listed(source.entries)
    mean_x, mean_y, a, b = listed.columns4(source.roots, ROOT_FLOATS, 0)
    c, log2_opacity, _, _ = listed.columns4(source.roots, ROOT_FLOATS, 4)
    mean_x, mean_y = mean_x - tile.centre_x, mean_y - tile.centre_y
    u0, v0 = -fma(a, mean_x, b * mean_y), -c * mean_y
    rows.store4(tile.local, LOCAL_FLOATS, 0, (a, b, c, u0))
    rows.store4(tile.local, LOCAL_FLOATS, 4, (v0, log2_opacity, lanes(0.0), lanes(0.0)))
    if bitmaps is None:
        return
    square = maximum(log2_opacity + (LOG2_255 + MARGIN), 0.0)
    inverse_a, tilt = 1.0 / a, b / a
    half_height = sqrt(square) / c
    # The rightmost point of the whole ellipse lies at this height (the leftmost on the other side):
    height_of_rightmost = -half_height * b / sqrt(b * b + c * c)
    slack = MARGIN + 1e-6 * (absolute(mean_x) + absolute(tilt * mean_y))
    real = rows.real()
    mask = lanes(0.0)
    for strip in range(4):
        top = maximum(4 * strip - 7.5 - MARGIN - mean_y, -half_height)
        bottom = minimum(4 * strip - 4.5 + MARGIN - mean_y, half_height)
        touched = top <= bottom
        ends = []
        for side in (-1.0, 1.0):
            height = minimum(maximum(side * height_of_rightmost, top), bottom)
            half_width = sqrt(maximum(square - (c * height) * (c * height), 0.0)) * inverse_a
            ends.append(mean_x - tilt * height + side * (half_width + slack))
        for column in range(4):
            block = 4 * strip + column
            hit = touched & (ends[0] <= 4 * column - 4.5) & (ends[1] >= 4 * column - 7.5)
            bitmaps.add_bits(words * block + word, lane_bits(hit & real) << shift)
            mask = mask + select(hit, float(1 << block), 0.0)
    rows.shifted(tile.start).store(source.masks, 1, 0, mask)


GROUP = 64
"""Gaussians per word of a bitmap."""


@inlined
def load_tile(source, tile, stride, bitmaps):
    """A tile's Gaussians in tile coordinates with their colours; `local` and `colors` are to be released.

    Fills `bitmaps` (unless None), one bitmap after the other for the sixteen blocks, and the entries' masks.
    """
    start = source.tile_starts[tile]
    number = source.tile_starts[tile + 1] - start
    in_camera = tile % source.tiles_per_camera
    content = Content(
        start,
        number,
        float32(TILE * (in_camera % source.columns) + TILE // 2),
        float32(TILE * (in_camera // source.columns) + TILE // 2),
        scratch(float32, number * LOCAL_FLOATS),
        scratch(float32, number * stride),
    )
    words = (number + GROUP - 1) // GROUP
    shared = 0 if source.colors_per_camera else -(tile // source.tiles_per_camera) * source.count
    channels, colors = source.channels, content.colors
    # Memory is asked for sixteen Gaussians ahead.
    for first in range(-LANES, number, LANES):
        ahead = first + LANES
        if ahead < number:
            _prefetch_lanes(start + ahead, min(LANES, number - ahead), shared, source)
        if first >= 0:
            count = min(LANES, number - first)
            _place_lanes(first, count, source, content, words, first // GROUP, first % GROUP, bitmaps)
            if channels == 4:
                _copy_colors4(first, count, shared, source, content)
            else:
                for i in range(first, first + count):
                    color = (source.entries[start + i] + shared) * channels
                    for k in range(channels):
                        colors[i * stride + k] = source.colors[color + k]
                    for k in range(channels, stride):
                        colors[i * stride + k] = 0.0
    return content
