"""Structural similarity and its gradient in one pass over the images.

With w the Gaussian window, ``E[x]`` the windowed sum of x around a pixel, u = E[a] and v = E[b] (Wang et al. 2004, equation 13)::

    A = 2 u v + C1      B = 2 (E[ab] - u v) + C2              S = A B / (C D)
    C = u^2 + v^2 + C1  D = E[a^2 + b^2] - u^2 - v^2 + C2

so four windowed sums do. S depends on image a through three of them, and its gradient is three more windowed sums::

    d_a = E[dS/du] + 2 a E[dS/dE[a^2]] + b E[dS/dE[ab]]

Variances of smooth images are small differences of large numbers. B and D do not change when a constant is subtracted from an
image (and from the zeros around it), so each piece of the image is taken relative to its own mean; only A and C see the
mean again.

The window is separable. A piece is `STRIP` floats by `BAND` rows (channels lie side by side: one pixel further is `channels`
floats further)::

    a, b ─▶ a, b, a^2+b^2, ab ─▶ across ─▶ down ─▶ S and three derivatives ─▶ across ─▶ down ─▶ d_a
            15 rows more on     window             5 rows more on             window
            each side                              each side, 0 outside the image
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import float32

from dyngs_plugins.raster.kernels.buffers import release, scratch, view
from dyngs_plugins.raster.kernels.compiling import inlined, kernel
from dyngs_plugins.raster.kernels.elementary import fma
from dyngs_plugins.raster.kernels.memory import Array
from dyngs_plugins.raster.kernels.shuffles import sum_of_lanes
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, Lanes, Mask, Scalar, lane_numbers, lanes, select

RADIUS = 5
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
STRIP = 128
BAND = 64
MAX_CHANNELS = 4
_STRIDE = STRIP + 2 * RADIUS * MAX_CHANNELS + 8
"""Floats per row of the buffer: a strip with its margins."""

_taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
WEIGHTS = tuple(float(w) for w in _taps / _taps.sum())
"""The window along one axis."""


class Images(NamedTuple):
    """Two images [b, height, width, channels], flat; a row has ``floats = width * channels``."""

    a: Any
    b: Any
    height: Any
    floats: Any
    channels: Any


class Piece(NamedTuple):
    """Where a piece lies: first float of its image, first row, first column (in floats); and the means of a and b in it."""

    image: Any
    top: Any
    start: Any
    mean_a: Any
    mean_b: Any


def _within(x: Int, begin: Int | int, end: Int) -> Mask:
    """Lanes whose column x, x + 1, ... lies in [begin, end)."""
    columns = lane_numbers() + x.lanes()
    return (columns >= _in_lanes(begin)) & (columns < end.lanes())


def _in_lanes(x: Int | int) -> Lanes:
    return x.lanes() if isinstance(x, Int) else lanes(float(x))


def _windowed(source: Array, at: Int, step: Int | int) -> Lanes:
    """Weighted sum of eleven vectors, `step` floats apart."""
    total = source.load(at) * WEIGHTS[0]
    for k, weight in enumerate(WEIGHTS[1:], start=1):
        total = fma(source.load(at + step * k), weight, total)
    return total


@traced
def _load_pixels(images: Images, piece: Piece, row: Int, x: Int, rows: Any, at: Int) -> None:
    """Sixteen pixels of a, b, a^2 + b^2 and ab, relative to the means. Zero outside the image, before the means go."""
    inside = _within(x, 0, images.floats)
    index = piece.image + row * images.floats + x
    a = images.a.load_where(inside, index) - piece.mean_a
    b = images.b.load_where(inside, index) - piece.mean_b
    # A piece's rows are far apart in memory, too far for the processor to guess where it goes on.
    images.a.prefetch(index + images.floats * 2)
    images.b.prefetch(index + images.floats * 2)
    for target, value in zip(rows, (a, b, fma(a, a, b * b), a * b), strict=True):
        target.store(at, value)


@traced
def _load_nothing(piece: Piece, rows: Any, at: Int) -> None:
    """The same above and below the image."""
    a, b = -piece.mean_a, -piece.mean_b
    for target, value in zip(rows, (a, b, fma(a, a, b * b), a * b), strict=True):
        target.store(at, value)


@traced
def _across(sources: Any, x: Int, channels: Int, buffer: Array, row: Int) -> None:
    """Filters one row of each source along x, into neighbouring rows of the buffer."""
    for k, source in enumerate(sources):
        buffer.store((row * len(sources) + k) * _STRIDE + x, _windowed(source, x, channels))


@traced
def _compare(
    buffer: Array, at: Int, images: Images, piece: Piece, row: Int, x: Int, bottom: Int, rows: Any, to: Int
) -> Lanes:
    """Filters down; S of the pixels that are the piece's own. Writes S's derivatives unless `rows` is None."""
    u, v, squares, products = (_windowed(buffer, at + k * _STRIDE, 4 * _STRIDE) for k in range(4))
    inverse, A, B, C, D = _terms(u, v, squares, products, piece)
    similarity = A * B * inverse
    inside = _within(x, 0, images.floats) & _rows_within(row, 0, images.height)
    if rows is not None:
        by_products = 2.0 * A * inverse
        by_squares = -similarity * C * inverse
        by_u = 2.0 * (v + piece.mean_b) * B * inverse - v * by_products
        by_u = by_u - 2.0 * (u + piece.mean_a) * similarity * D * inverse - 2.0 * u * by_squares
        for target, value in zip(rows, (by_u, by_squares, by_products), strict=True):
            target.store(to, select(inside, value, 0.0))
    own = inside & _rows_within(row, piece.top, bottom) & _within(x, piece.start, piece.start + STRIP)
    return select(own, similarity, 0.0)


def _terms(u: Lanes, v: Lanes, squares: Lanes, products: Lanes, piece: Piece) -> tuple[Lanes, ...]:
    """1 / (C D), A, B, C and D from sums relative to the means."""
    mean_u, mean_v = u + piece.mean_a, v + piece.mean_b
    A, C = fma(2.0 * mean_u, mean_v, C1), fma(mean_u, mean_u, fma(mean_v, mean_v, C1))
    B, D = 2.0 * fma(-u, v, products) + C2, fma(-u, u, fma(-v, v, squares)) + C2
    return 1.0 / (C * D), A, B, C, D


def _rows_within(row: Int, begin: Int | int, end: Int) -> Mask:
    return (row.lanes() >= _in_lanes(begin)) & (row.lanes() < end.lanes())


@traced
def _finish(buffer: Array, at: Int, images: Images, piece: Piece, row: Int, x: Int, scale: Lanes, out: Array) -> None:
    """Filters the derivatives down, into sixteen pixels of the gradient."""
    by_u, by_squares, by_products = (_windowed(buffer, at + k * _STRIDE, 3 * _STRIDE) for k in range(3))
    left = images.floats - x
    inside = _within(x, 0, images.floats)
    index = piece.image + row * images.floats + x
    a = images.a.load_where(inside, index) - piece.mean_a
    b = images.b.load_where(inside, index) - piece.mean_b
    out.store_first(left, index, fma(2.0 * a, by_squares, fma(b, by_products, by_u)) * scale)


@traced
def _nothing() -> Lanes:
    return lanes(0.0)


@traced
def _plus(x: Lanes, y: Lanes) -> Lanes:
    return x + y


@traced
def _total(x: Lanes) -> Scalar:
    return Scalar(sum_of_lanes(x))


@traced
def _add_pixels(images: Images, image: Int, row: Int, x: Int, end: Int, a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    inside = _within(x, 0, end)
    index = image + row * images.floats + x
    return a + images.a.load_where(inside, index), b + images.b.load_where(inside, index)


@inlined
def _means(images, image, start, end, top, rows):
    """Means of a and b in a piece: every eighth row is enough."""
    a, b, counted = _nothing(), _nothing(), 0
    for row in range(top, top + rows, 8):
        counted += end - start
        for x in range(start, end, LANES):
            a, b = _add_pixels(images, image, row, x, end, a, b)
    share_of_one = np.float32(1.0) / np.float32(counted)
    return _total(a) * share_of_one, _total(b) * share_of_one


@inlined
def _filter_row(images, piece, y, first_column, pixels, padded, columns, buffer, row):
    """Reads one row of the images, y, and filters it across into the buffer."""
    for x in range(0, padded - LANES + 1, LANES):
        if 0 <= y < images.height:
            _load_pixels(images, piece, y, first_column + x, pixels, x)
        else:
            _load_nothing(piece, pixels, x)
    for x in range(0, columns, LANES):
        _across(pixels, x, images.channels, buffer, row)


@kernel
def similarity(team, count, all_images, sum_array, scale, gradient_array):
    """Sums of S per piece (into `sums`) and, unless None, `scale` times the gradient of their sum with respect to image a.

    At most `MAX_CHANNELS` channels.
    """
    images, sums, gradient = view(all_images), view(sum_array), view(gradient_array)
    height, floats, channels = images.height, images.floats, images.channels
    margin = 0 if gradient_array is None else RADIUS
    columns = STRIP + 2 * margin * channels
    padded = (columns + LANES - 1) // LANES * LANES + 2 * RADIUS * MAX_CHANNELS + LANES
    pixels = (_row(padded), _row(padded), _row(padded), _row(padded))
    derivatives = (_row(padded), _row(padded), _row(padded))
    buffer, second = _row((BAND + 4 * RADIUS + 1) * 4 * _STRIDE), _row((BAND + 2 * RADIUS + 1) * 3 * _STRIDE)
    strips, bands = (floats + STRIP - 1) // STRIP, (height + BAND - 1) // BAND
    loop = share(team, count * strips * bands)
    item = take(loop)
    while item >= 0:
        image = item // (strips * bands) * height * floats
        start, top = item % strips * STRIP, item // strips % bands * BAND
        rows, end = min(BAND, height - top), min(start + STRIP, floats)
        mean_a, mean_b = _means(images, image, start, end, top, rows)
        piece = Piece(image, top, start, mean_a, mean_b)
        first_row, first_column = top - margin - RADIUS, start - (margin + RADIUS) * channels
        for row in range(rows + 2 * margin + 2 * RADIUS):
            _filter_row(images, piece, first_row + row, first_column, pixels, padded, columns, buffer, row)
        total = _nothing()
        for row in range(rows + 2 * margin):
            y = top - margin + row
            for x in range(0, columns, LANES):
                column = start - margin * channels + x
                at = row * 4 * _STRIDE + x
                if gradient_array is None:
                    more = _compare(buffer, at, images, piece, y, column, top + rows, None, 0)
                else:
                    more = _compare(buffer, at, images, piece, y, column, top + rows, derivatives, x)
                total = _plus(total, more)
            if gradient_array is not None:
                for x in range(0, STRIP, LANES):
                    _across(derivatives, x, channels, second, row)
        sums[item] = _total(total)
        if gradient_array is not None:
            for row in range(rows):
                for x in range(start, end, LANES):
                    _finish(second, row * 3 * _STRIDE + x - start, images, piece, top + row, x, scale, gradient)
        item = take(loop)
    for row in (*pixels, *derivatives, buffer, second):
        release(row)


@inlined
def _row(floats):
    row = scratch(float32, floats)
    for k in range(floats):
        row[k] = 0.0
    return row
