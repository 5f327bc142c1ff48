"""Adds up each Gaussian's rows (one per tile) and turns moments into derivatives.

With u = a x + b y and v = c y (x, y from the Gaussian's mean to the pixel), conic ``A = 2 ln2 a^2``, ``B = 2 ln2 a b``,
``C = 2 ln2 (b^2 + c^2)`` and S the sums of h = alpha d_alpha times 1, u, v, u^2, uv, v^2 (`backward`)::

    d_opacity = S_1 / opacity
    d_mean    = 2 ln2 (a S_u, b S_u + c S_v)
    d_conic   = -(S_xx / 2, S_xy, S_yy / 2)     S_yy = S_vv / c^2,  S_xy = (S_uv - b/c S_vv) / (a c),
                                                S_xx = (S_uu - 2 b/c S_uv + (b/c)^2 S_vv) / a^2
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import float32

from dyngs_plugins.raster.kernels.backward_tile import MOMENTS
from dyngs_plugins.raster.kernels.binning import ROOT_FLOATS
from dyngs_plugins.raster.kernels.buffers import release, scratch, view
from dyngs_plugins.raster.kernels.compiling import kernel
from dyngs_plugins.raster.kernels.memory import Array, Rows
from dyngs_plugins.raster.kernels.shuffles import sum_range
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, integer, lane_numbers, select

CHUNK = 256
_2_LN_2 = 1.3862943611198906


class Sources(NamedTuple):
    """The splats of all cameras and the rows that `backward` has filled for them."""

    count: Any
    opacities: Any
    opacities_per_camera: Any
    roots: Any
    tiles: Any
    """[c n] number of rows of each."""
    row_starts: Any
    """[c n] first row."""
    rows: Any
    row_floats: Any
    channels: Any
    padded_channels: Any
    colors_per_camera: Any


class SplatGradients(NamedTuple):
    """Derivatives with respect to the image-plane Gaussians of all cameras. Colours are zero at the beginning."""

    means2d: Any
    conics: Any
    opacities: Any
    colors: Any
    absolutes: Any
    """[c n, 2] or None."""


@traced
def _sum_rows(rows: Array, first: Int, count: Int, row_floats: Int, at: Int, sums: Array, sums_at: Int) -> None:
    """Up to sixteen columns of a Gaussian's rows, added up. (More than the row's own may be read, and are ignored.)"""
    sums.store(sums_at, sum_range(count, lambda k: rows.load((first + k) * row_floats + at)))


@traced
def _finish_lanes(
    camera: Int,
    first: Int,
    count: Int,
    sums: Array,
    sum_floats: Int,
    absolutes_at: Int,
    source: Sources,
    out: SplatGradients,
) -> None:
    """Derivatives of up to sixteen Gaussians from their sums."""
    of_camera = camera * source.count
    rows = Rows(first + of_camera, count)
    own = Rows(first + of_camera * source.opacities_per_camera, count)
    one, u, v, uu, uv, vv = (Rows(integer(0), count).column(sums, sum_floats, k) for k in range(MOMENTS))
    _, _, a, b = rows.columns4(source.roots, ROOT_FLOATS, 0)
    c = rows.column(source.roots, ROOT_FLOATS, 4)
    drawn = rows.column(source.tiles, 1) > 0.0
    opacity = own.column(source.opacities, 1)
    inverse_a, inverse_c = 1.0 / a, 1.0 / c
    tilt = b * inverse_c
    xx = (uu - tilt * (2.0 * uv - tilt * vv)) * (inverse_a * inverse_a)
    xy = (uv - tilt * vv) * (inverse_a * inverse_c)
    yy = vv * (inverse_c * inverse_c)
    fresh = camera.is_zero() | source.opacities_per_camera
    own.add_columns(out.opacities, [select(drawn, one / opacity, 0.0)], fresh)
    rows.store_columns(out.means2d, [select(drawn, d, 0.0) for d in (_2_LN_2 * a * u, _2_LN_2 * (b * u + c * v))])
    rows.store_columns(out.conics, [select(drawn, d, 0.0) for d in (-0.5 * xx, -xy, -0.5 * yy)])
    if out.absolutes is not None:
        x, y = (Rows(integer(0), count).column(sums, sum_floats, absolutes_at + k) for k in range(2))
        rows.store_columns(out.absolutes, [select(drawn, _2_LN_2 * a * x, 0.0), select(drawn, _2_LN_2 * y, 0.0)])


@traced
def _add_colors(sums: Array, at: Int, count: Int, colors: Array, target: Int) -> None:
    """Adds up to sixteen channels."""
    mask = lane_numbers() < count.lanes()
    colors.store_first(count, target, colors.load_where(mask, target) + sums.load(at))


@kernel
def gather(team, cameras, all_sources, all_gradients):
    """Fills `SplatGradients`."""
    source, out = view(all_sources), view(all_gradients)
    n, channels = source.count, source.channels
    sum_floats = (source.row_floats + LANES - 1) // LANES * LANES
    sums = scratch(float32, LANES * sum_floats + LANES)
    absolutes_at = MOMENTS + source.padded_channels
    loop = share(team, (n + CHUNK - 1) // CHUNK)
    chunk = take(loop)
    while chunk >= 0:
        # Cameras in the inner loop, one after the other: where they share opacities or colours, the order is fixed.
        for first in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n), LANES):
            count = min(LANES, n - first)
            for camera in range(cameras):
                for lane in range(count):
                    splat = camera * n + first + lane
                    tiles, row = source.tiles[splat], source.row_starts[splat]
                    for at in range(0, sum_floats, LANES):
                        _sum_rows(source.rows, row, tiles, source.row_floats, at, sums, lane * sum_floats + at)
                    if tiles > 0:
                        target = (splat if source.colors_per_camera else first + lane) * channels
                        for k in range(0, channels, LANES):
                            at = lane * sum_floats + MOMENTS + k
                            _add_colors(sums, at, min(LANES, channels - k), out.colors, target + k)
                _finish_lanes(camera, first, count, sums, sum_floats, absolutes_at, source, out)
        chunk = take(loop)
    release(sums)
