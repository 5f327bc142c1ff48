"""Which Gaussians each 16x16 tile draws, nearest first.

::

    prepare   each Gaussian: square root of its conic, and the rectangle of tiles where its alpha can reach alpha_min
    order     each camera: sort by depth (radix sort of the float's bits)
    count     each 4096 sorted Gaussians: how many entries they put in each tile
    scan      where each tile's list begins, and each 4096's part of it
    fill      write the lists

An *entry* is one Gaussian in one tile. Lists come out sorted because the Gaussians go in sorted (a counting sort), whoever
fills which part. Each entry also gets a *row*: the rows of one Gaussian are consecutive, and the backward pass leaves its
gradients there, to be added up in that order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import int32, int64, uint64

from dyngs_plugins.raster.kernels.buffers import release, scratch, view
from dyngs_plugins.raster.kernels.compiling import inlined, kernel
from dyngs_plugins.raster.kernels.elementary import ceil, floor, fma, log2, maximum, minimum, rounded_product, sqrt
from dyngs_plugins.raster.kernels.memory import Rows
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, Lanes, lanes, select

TILE = 16
CHUNK = 4096
ROOT_FLOATS = 8
LOG2_255 = 7.994353436858858
"""-log2 of alpha_min."""
HALF_LOG2_E = 0.7213475204444817
"""exp(-s/2) = 2^(-HALF_LOG2_E s)"""
MARGIN = 1e-3
"""Slack of all culling, in pixels and in log2 of alpha: rounding must never cull what would be drawn."""


class Splats(NamedTuple):
    """Image-plane Gaussians of all cameras, flat. Opacities may be shared by the cameras."""

    count: Any
    means2d: Any
    conics: Any
    depths: Any
    """As uint32 bits."""
    opacities: Any
    radii: Any
    opacities_per_camera: Any


class Lists(NamedTuple):
    """What binning finds out; all arrays flat, with a Gaussian counted over all cameras."""

    cameras: Any
    columns: Any
    """Tiles side by side."""
    tiles_per_camera: Any
    chunks: Any
    """Pieces of CHUNK sorted Gaussians."""
    roots: Any
    """[c n, ROOT_FLOATS]: mean x, y, then a, b, c with alpha = 2^(l - (a dx + b dy)^2 - (c dy)^2), then l; two unused."""
    bounds: Any
    """[c n, 4]: first and last-plus-one column of tiles, then row of tiles."""
    tiles: Any
    """[c n]: in how many tiles a Gaussian is; 0 if nowhere."""
    row_starts: Any
    """[c n]: its first row."""
    sorted_ids: Any
    """[c n]: each camera's visible Gaussians, nearest first."""
    visible: Any
    """[c]: how many those are."""
    counts: Any
    """[c, chunks, tiles]: entries that go from chunk to tile; then where they go."""
    tile_starts: Any
    """[c tiles + 1]: each tile's first entry."""


def _conic_root(conic: list[Lanes]) -> tuple[Lanes, Lanes, Lanes]:
    """The Cholesky factor a, b, c of the conic, scaled for powers of 2.

    A sum of two squares is cheaper to evaluate than the quadratic form, never negative, and more accurate: the
    cancellation of A C - B^2 in a thin diagonal Gaussian happens once, here, without loss (Kahan's trick with fma).
    """
    A, B, C = conic
    square = rounded_product(B, B)
    det = fma(A, C, -square) + fma(-B, B, square)
    a = sqrt(maximum(HALF_LOG2_E * A, 1e-12))
    c = sqrt(maximum(HALF_LOG2_E * det / A, 1e-12))
    return a, HALF_LOG2_E * B / a, c


@traced
def _prepare_lanes(
    camera: Int, first: Int, count: Int, splats: Splats, width: Lanes, height: Lanes, lists: Lists
) -> None:
    rows = Rows(first + camera * splats.count, count)
    opacity_rows = Rows(first + camera * splats.count * splats.opacities_per_camera, count)
    mean = rows.columns(splats.means2d, 2)
    conic = rows.columns(splats.conics, 3)
    opacity = opacity_rows.column(splats.opacities, 1)
    radius = rows.column(splats.radii, 1)
    a, b, c = _conic_root(conic)
    log2_opacity = select(opacity > 0.0, log2(opacity), -1000.0)
    drawn = (radius > 0.0) & (conic[0] > 0.0) & (conic[2] > 0.0) & (log2_opacity >= -LOG2_255)
    # (a dx + b dy)^2 + (c dy)^2 <= log2(opacity / alpha_min) is an ellipse. Half the sides of its bounding box:
    reach = sqrt(maximum(log2_opacity + (LOG2_255 + MARGIN), 0.0))
    half_sides = reach * sqrt(b * b + c * c) / (a * c), reach / c
    total = select(drawn, 1.0, 0.0)
    ranges = []
    for centre, half, size in zip(mean, half_sides, (width, height), strict=True):
        half = half * 1.0001 + MARGIN
        first_pixel = maximum(ceil(centre - half - 0.5), 0.0)
        last_pixel = minimum(floor(centre + half - 0.5), size - 1.0)
        # gsplat's own rule: tiles that the square of side 2 radius touches.
        begin = maximum(floor((centre - radius) * (1 / TILE)), floor(first_pixel * (1 / TILE)))
        end = minimum(ceil((centre + radius) * (1 / TILE)), floor(last_pixel * (1 / TILE)) + 1.0)
        begin = minimum(begin, 32767.0)
        extent = select(drawn & (first_pixel <= last_pixel) & (begin < end), end - begin, 0.0)
        total = total * extent
        ranges += [begin, begin + extent]
    rows.store4(lists.roots, ROOT_FLOATS, 0, (*mean, a, b))
    rows.store4(lists.roots, ROOT_FLOATS, 4, (c, log2_opacity, lanes(0.0), lanes(0.0)))
    rows.store_columns(lists.bounds, ranges)
    rows.store_columns(lists.tiles, [total])


@kernel
def prepare(team, all_splats, width, height, all_lists):
    """Fills roots, bounds and tiles."""
    splats, lists = view(all_splats), view(all_lists)
    chunks = (splats.count + CHUNK - 1) // CHUNK
    loop = share(team, lists.cameras * chunks)
    item = take(loop)
    while item >= 0:
        camera, start = item // chunks, item % chunks * CHUNK
        for first in range(start, min(start + CHUNK, splats.count), LANES):
            count = min(LANES, splats.count - first)
            _prepare_lanes(camera, first, count, splats, np.float32(width), np.float32(height), lists)
        item = take(loop)


@inlined
def _sorted(words, other, number, lowest, highest):
    """Radix sort of words by their upper halves, which lie between two bounds; also the array that is left over."""
    # Only the bits in which keys differ have to be sorted by, at most 12 at a time.
    used = 0
    while number > 0 and (highest - lowest) >> uint64(used):
        used += 1
    passes = (used + 11) // 12
    for digit in range(passes):
        bits_each = (used + passes - 1) // passes
        shift, mask = uint64(bits_each * digit), uint64((1 << bits_each) - 1)
        places = scratch(int32, 1 << bits_each)
        for value in range(1 << bits_each):
            places[value] = 0
        for i in range(number):
            places[int64((((words[i] >> uint64(32)) - lowest) >> shift) & mask)] += 1
        place = 0
        for value in range(1 << bits_each):
            count_of_value = places[value]
            places[value] = place
            place += count_of_value
        for i in range(number):
            value = int64((((words[i] >> uint64(32)) - lowest) >> shift) & mask)
            other[places[value]] = words[i]
            places[value] += 1
        release(places)
        words, other = other, words
    return words, other


@kernel
def order(team, all_splats, all_lists):
    """Fills sorted_ids, visible and row_starts (counted within the camera). Ties keep their order."""
    splats, lists = view(all_splats), view(all_lists)
    n = splats.count
    loop = share(team, lists.cameras)
    camera = take(loop)
    while camera >= 0:
        first = camera * n
        # The sort moves one word per Gaussian: depth above, index below.
        words, other = scratch(uint64, n), scratch(uint64, n)
        visible, rows = 0, 0
        lowest, highest = uint64(0xFFFFFFFF), uint64(0)
        for i in range(n):
            lists.row_starts[first + i] = rows
            if lists.tiles[first + i] > 0:
                rows += lists.tiles[first + i]
                bits = uint64(splats.depths[first + i])
                # As unsigned numbers, floats sort by their bits once the sign is flipped (and all bits of negatives).
                key = (bits ^ uint64(0xFFFFFFFF)) if bits >> uint64(31) else (bits | uint64(0x80000000))
                lowest, highest = min(lowest, key), max(highest, key)
                words[visible] = (key << uint64(32)) | uint64(i)
                visible += 1
        words, other = _sorted(words, other, visible, lowest, highest)
        for i in range(visible):
            lists.sorted_ids[first + i] = int32(words[i] & uint64(0xFFFFFFFF))
        lists.visible[camera] = visible
        release(words)
        release(other)
        camera = take(loop)


@kernel
def count(team, n, all_lists):
    """Fills counts with numbers of entries."""
    lists = view(all_lists)
    tiles, chunks, columns = lists.tiles_per_camera, lists.chunks, lists.columns
    bounds, sorted_ids, counts = lists.bounds, lists.sorted_ids, lists.counts
    loop = share(team, lists.cameras * chunks)
    item = take(loop)
    while item >= 0:
        camera, chunk = item // chunks, item % chunks
        for tile in range(tiles):
            counts[item * tiles + tile] = 0
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, lists.visible[camera])):
            at = 4 * (camera * n + sorted_ids[camera * n + i])
            left, right = bounds[at], bounds[at + 1]
            for y in range(bounds[at + 2], bounds[at + 3]):
                for x in range(left, right):
                    counts[item * tiles + y * columns + x] += 1
        item = take(loop)


@kernel
def scan(n, all_lists):
    """Turns counts into the places where entries go, and fills tile_starts. Makes row_starts count over all cameras.

    Returns the number of entries.
    """
    lists = view(all_lists)
    tiles, chunks = lists.tiles_per_camera, lists.chunks
    place = 0
    for camera in range(lists.cameras):
        if place > 0:
            for i in range(n):
                lists.row_starts[camera * n + i] += place
        for tile in range(tiles):
            lists.tile_starts[camera * tiles + tile] = place
            for chunk in range(chunks):
                at = (camera * chunks + chunk) * tiles + tile
                number = lists.counts[at]
                lists.counts[at] = place
                place += number
    lists.tile_starts[lists.cameras * tiles] = place
    return place


@kernel
def fill(team, n, all_lists, entries_array, entry_rows_array):
    """Writes the lists: each entry's Gaussian and row. Uses up counts."""
    lists, entries, entry_rows = view(all_lists), view(entries_array), view(entry_rows_array)
    tiles, chunks, columns = lists.tiles_per_camera, lists.chunks, lists.columns
    bounds, sorted_ids, counts, row_starts = lists.bounds, lists.sorted_ids, lists.counts, lists.row_starts
    loop = share(team, lists.cameras * chunks)
    item = take(loop)
    while item >= 0:
        camera, chunk = item // chunks, item % chunks
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, lists.visible[camera])):
            splat = camera * n + sorted_ids[camera * n + i]
            row, left, right = row_starts[splat], bounds[4 * splat], bounds[4 * splat + 1]
            for y in range(bounds[4 * splat + 2], bounds[4 * splat + 3]):
                for x in range(left, right):
                    at = item * tiles + y * columns + x
                    place = counts[at]
                    counts[at] = place + 1
                    entries[place], entry_rows[place] = splat, row
                    row += 1
        item = take(loop)
