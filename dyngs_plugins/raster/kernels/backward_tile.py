"""The backward pass of one tile: its Gaussians from front to back, each over the blocks it reaches (see `backward`).

With at most four channels a Gaussian's sums stay in registers. With more, what does not depend on the channels comes first
and leaves the weights, and the channels follow by eights and fours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import float32, int64

from dyngs_plugins.raster.kernels.binning import LOG2_255
from dyngs_plugins.raster.kernels.bits import lowest_bit, without_lowest_bit
from dyngs_plugins.raster.kernels.buffers import release, scratch
from dyngs_plugins.raster.kernels.compiling import inlined
from dyngs_plugins.raster.kernels.elementary import absolute, fma, minimum, negative
from dyngs_plugins.raster.kernels.memory import Array
from dyngs_plugins.raster.kernels.shuffles import sums_of_lanes
from dyngs_plugins.raster.kernels.tile import BLOCKS, Local, alpha_of, evaluate, load_local, load_pixels
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Flag, Int, Lanes, Mask, any_lane, lanes, pinned, select

MOMENTS = 6
ABSOLUTES = 2
"""Two more sums if asked for: |derivative with respect to the mean's x|, and y, up to a factor."""


class Blocks(NamedTuple):
    """State of a tile's sixteen blocks, lane by lane."""

    T: Any
    U: Any
    T_end: Any
    """T behind everything (from the forward pass)."""
    d_image: Any
    """[blocks, channels (padded), lanes]"""
    pixels: Any
    """The same for every tile: `tile.pixel_table`."""


class Passed(NamedTuple):
    """One Gaussian on one block."""

    weight: Lanes
    h: Lanes
    u: Lanes
    v: Lanes


def _pass_block(g: Local, q: Lanes, block: Int, blocks: Blocks, limits: tuple[Lanes, Lanes]) -> tuple[Passed, Mask]:
    """Moves a block's T and U behind a Gaussian. Also the pixels that the Gaussian closes."""
    max_alpha, transmittance_min = limits
    at = block * LANES
    T, U = blocks.T.load(at), blocks.U.load(at)
    x, y = load_pixels(blocks.pixels, block)
    u, v, exponent = evaluate(g, x, y)
    unclamped = alpha_of(exponent)
    alpha = minimum(unclamped, max_alpha)
    behind = fma(-alpha, T, T)
    seen = exponent >= pinned(-LOG2_255)
    drawn = seen & (behind > transmittance_min)
    closed = seen & ~drawn
    weight = select(drawn, alpha * T, 0.0)
    rest = (U - alpha * q) / (pinned(1.0) - alpha)
    h = select(unclamped <= max_alpha, weight * (q - rest), 0.0)
    blocks.T.store(at, select(closed, negative(T), select(drawn, behind, T)))
    blocks.U.store(at, select(drawn, rest, U))
    return Passed(weight, h, u, v), closed


def _add_moments(sums: list[Lanes], p: Passed) -> list[Lanes]:
    hu, hv = p.h * p.u, p.h * p.v
    return [
        sums[0] + p.h,
        sums[1] + hu,
        sums[2] + hv,
        fma(hu, p.u, sums[3]),
        fma(hu, p.v, sums[4]),
        fma(hv, p.v, sums[5]),
    ]


def _add_absolutes(sums: list[Lanes], p: Passed, g: Local) -> list[Lanes]:
    # d_mean is proportional to h (a u, b u + c v).
    return [sums[0] + absolute(p.h * p.u), sums[1] + absolute(p.h * fma(g.b, p.u, g.c * p.v))]


@traced
def _load_gaussian(local: Array, i: Int) -> tuple[Lanes, ...]:
    return tuple(load_local(local, i))


@traced
def _load4(array: Array, at: Int) -> tuple[Lanes, ...]:
    return tuple(array.broadcast(at + k) for k in range(4))


@traced
def _no_sums4(with_absolutes: Flag | None) -> tuple[Lanes, ...]:
    return (lanes(0.0),) * (MOMENTS + 4 + (0 if with_absolutes is None else ABSOLUTES))


@traced
def _pass4(
    g: Any, color: Any, block: Int, blocks: Blocks, limits: Any, with_absolutes: Flag | None, sums: Any
) -> tuple[tuple[Lanes, ...], Flag]:
    """Moves a block behind a Gaussian of four channels and adds to its sums. Also whether any pixel closed."""
    g = Local(*g)
    d = [blocks.d_image.load((block * 4 + k) * LANES) for k in range(4)]
    q = d[0] * color[0]
    for k in range(1, 4):
        q = fma(d[k], color[k], q)
    p, closed = _pass_block(g, q, block, blocks, limits)
    moments = _add_moments(sums[:MOMENTS], p)
    channels = [fma(p.weight, d[k], sums[MOMENTS + k]) for k in range(4)]
    absolutes = [] if with_absolutes is None else _add_absolutes(sums[MOMENTS + 4 :], p, g)
    return (*moments, *channels, *absolutes), any_lane(closed)


@traced
def _any_open(blocks: Blocks, block: Int) -> Flag:
    return any_lane(blocks.T.load(block * LANES) > 0.0)


@traced
def _store_row4(rows: Array, row: Int, sums: Any) -> None:
    """Sums over lanes, as one row."""
    rows.store_first(len(sums), row * len(sums), sums_of_lanes(sums))


@inlined
def backward_tile4(source, tile, blocks, alive, limits, with_absolutes, rows):
    """A tile with at most four channels: a Gaussian's sums stay in registers."""
    for i in range(tile.number):
        sums = _no_sums4(with_absolutes)
        bits = int64(source.masks[tile.start + i]) & alive
        if bits != 0:
            g, color = _load_gaussian(tile.local, i), _load4(tile.colors, 4 * i)
            while bits != 0:
                block = lowest_bit(bits)
                bits = without_lowest_bit(bits)
                sums, any_closed = _pass4(g, color, block, blocks, limits, with_absolutes, sums)
                if any_closed and not _any_open(blocks, block):
                    alive &= ~(1 << block)
        _store_row4(rows, source.entry_rows[tile.start + i], sums)


@traced
def _no_dot() -> tuple[Lanes, ...]:
    return (lanes(0.0),) * 4


@traced
def _dot4(d_image: Array, at: Int, color: Array, color_at: Int, sums: Any) -> tuple[Lanes, ...]:
    # Four sums, because one would have to wait for itself.
    products = zip(sums, range(4), strict=True)
    return tuple(fma(d_image.load((at + k) * LANES), color.broadcast(color_at + k), q) for q, k in products)


@traced
def _pass(
    g: Any,
    dot: Any,
    block: Int,
    blocks: Blocks,
    limits: Any,
    with_absolutes: Flag | None,
    sums: Any,
    weights: Array,
    slot: Int,
) -> tuple[tuple[Lanes, ...], Flag]:
    """As `_pass4`, for a Gaussian whose q is known, in four parts; the weights are kept for the channels."""
    g = Local(*g)
    p, closed = _pass_block(g, (dot[0] + dot[1]) + (dot[2] + dot[3]), block, blocks, limits)
    weights.store(slot * LANES, p.weight)
    moments = _add_moments(sums[:MOMENTS], p)
    absolutes = [] if with_absolutes is None else _add_absolutes(sums[MOMENTS:], p, g)
    return (*moments, *absolutes), any_lane(closed)


@traced
def _no_sums(with_absolutes: Flag | None) -> tuple[Lanes, ...]:
    return (lanes(0.0),) * (MOMENTS + (0 if with_absolutes is None else ABSOLUTES))


@traced
def _no_channels(eight: Flag | None) -> tuple[Lanes, ...]:
    return (lanes(0.0),) * (4 if eight is None else 8)


@traced
def _add_channels(weights: Array, slot: Int, d_image: Array, at: Int, sums: Any) -> tuple[Lanes, ...]:
    weight = weights.load(slot * LANES)
    return tuple(fma(weight, d_image.load((at + k) * LANES), s) for k, s in enumerate(sums))


@inlined
def _sum_channels(weights, chosen, number, d_image, channel, eight):
    """Four or eight channels of a Gaussian: the sum over its blocks of weights times d_image."""
    sums = _no_channels(eight)
    for slot in range(number):
        sums = _add_channels(weights, slot, d_image, chosen[slot] + channel, sums)
    return sums


@traced
def _keep(buffer: Array, at: Int, sums: Any) -> None:
    for k, s in enumerate(sums):
        buffer.store((at + k) * LANES, s)


@traced
def _store_row(buffer: Array, at: Int, count: Int, rows: Array, row_at: Int) -> None:
    rows.store_first(count, row_at + at, sums_of_lanes([buffer.load((at + k) * LANES) for k in range(LANES)]))


@inlined
def backward_tile(source, tile, stride, blocks, alive, limits, with_absolutes, rows, row_floats):
    """A tile with any number of channels: first what does not depend on them, then channels by eights and fours."""
    weights, chosen = scratch(float32, BLOCKS * LANES), scratch(int64, BLOCKS)
    buffer = scratch(float32, (row_floats + LANES) * LANES)
    for k in range((row_floats + LANES) * LANES):
        buffer[k] = 0.0
    for i in range(tile.number):
        sums = _no_sums(with_absolutes)
        bits = int64(source.masks[tile.start + i]) & alive
        number = 0
        g = _load_gaussian(tile.local, i)
        while bits != 0:
            block = lowest_bit(bits)
            bits = without_lowest_bit(bits)
            dot = _no_dot()
            for channel in range(0, stride, 4):
                dot = _dot4(blocks.d_image, block * stride + channel, tile.colors, i * stride + channel, dot)
            sums, any_closed = _pass(g, dot, block, blocks, limits, with_absolutes, sums, weights, number)
            chosen[number] = block * stride
            number += 1
            if any_closed and not _any_open(blocks, block):
                alive &= ~(1 << block)
        _keep(buffer, 0, sums[:MOMENTS])
        _keep(buffer, MOMENTS + stride, sums[MOMENTS:])
        for channel in range(0, stride - 4, 8):
            _keep(buffer, MOMENTS + channel, _sum_channels(weights, chosen, number, blocks.d_image, channel, True))
        if stride % 8 > 0:
            channel = stride - 4
            _keep(buffer, MOMENTS + channel, _sum_channels(weights, chosen, number, blocks.d_image, channel, None))
        row_at = source.entry_rows[tile.start + i] * row_floats
        for at in range(0, row_floats, LANES):
            _store_row(buffer, at, min(LANES, row_floats - at), rows, row_at)
    release(weights)
    release(chosen)
    release(buffer)
