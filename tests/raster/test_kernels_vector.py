"""Sixteen-lane arithmetic against numpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import float32, int64

from dyngs_plugins.raster.kernels.bits import lowest_bit, without_lowest_bit
from dyngs_plugins.raster.kernels.buffers import release, scratch, view
from dyngs_plugins.raster.kernels.compiling import kernel
from dyngs_plugins.raster.kernels.elementary import ceil, exp2, floor, fma, log2, maximum, minimum, negative, sqrt
from dyngs_plugins.raster.kernels.memory import Pixels, Rows
from dyngs_plugins.raster.kernels.shuffles import sums_of_lanes, transposed_quarters
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import any_lane, lane_bits, pinned, select


@traced
def _elementary(x, at, out, n):
    v = x.load(at)
    for k, y in enumerate((exp2(v), exp2(v, pinned), log2(v * v + 0.5), sqrt(v * v), floor(v), ceil(v), negative(v))):
        out.store(n * k + at, y)


@kernel
def elementary(x_array, out_array):
    x, out = view(x_array), view(out_array)
    for at in range(0, x_array.shape[0], 16):
        _elementary(x, at, out, x_array.shape[0])


def test_elementary_functions_are_as_accurate_as_they_say():
    x = np.linspace(-20.0, 8.0, 16 * 2000, dtype=np.float32)
    out = np.zeros((7, x.size), np.float32)
    elementary(x, out.reshape(-1))
    exact = x.astype(np.float64)
    for row in (0, 1):
        np.testing.assert_allclose(out[row], 2.0**exact, rtol=2.3e-7)
    argument = (x * x + np.float32(0.5)).astype(np.float64)
    scale = np.maximum(1.0, np.abs(np.log2(argument)))
    assert np.max(np.abs(out[2] - np.log2(argument)) / scale) < 3e-7  # the argument itself is rounded
    np.testing.assert_allclose(out[3], np.abs(x), rtol=1e-7)
    np.testing.assert_array_equal(out[4], np.floor(x))
    np.testing.assert_array_equal(out[5], np.ceil(x))
    np.testing.assert_array_equal(out[6], -np.abs(x))


@traced
def _masks(x, y, out):
    a, b = x.load(0), y.load(0)
    near = (a < b) | ~(a <= 3.0)
    out.store(0, select(near & (b > 0.0), minimum(a, b), maximum(a, -1.0)))
    out.store(16, fma(a, b, 1.0) - (2.0 - a) / b)
    return lane_bits(a < b), any_lane(a > 100.0), any_lane(a >= 0.0)


@kernel
def masks(x, y, out):
    return _masks(view(x), view(y), view(out))


def test_masks_and_operators():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 16)).astype(np.float32) * 3
    x[3], y[5] = np.nan, np.nan
    out = np.zeros(32, np.float32)
    bits, above, any_positive = masks(x, y, out)
    with np.errstate(invalid="ignore"):
        near = (x < y) | ~(x <= 3)
        expected = np.where(near & (y > 0), np.where(x < y, x, y), np.where(x > -1, x, np.float32(-1)))
        assert bits == sum(1 << k for k in range(16) if x[k] < y[k])
        np.testing.assert_allclose(out[16:], x * y + 1 - (2 - x) / y, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(out[:16], expected)
    assert not above
    assert any_positive


@traced
def _sums(x, out):
    out.store(0, sums_of_lanes([x.load(16 * k) for k in range(11)]))
    for k, column in enumerate(transposed_quarters([x.load(16 * k) for k in range(4)])):
        out.store(16 + 16 * k, column)


@kernel
def sums(x, out):
    _sums(view(x), view(out))


def test_sums_and_transposes():
    x = np.random.default_rng(1).normal(size=(11, 16)).astype(np.float32)
    out = np.zeros((5, 16), np.float32)
    sums(x.reshape(-1), out.reshape(-1))
    np.testing.assert_allclose(out[0, :11], x.sum(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out[0, 11:], 0.0)
    # [vector, quarter, lane] to [lane, quarter, vector]
    np.testing.assert_array_equal(out[1:].reshape(4, 4, 4), x[:4].reshape(4, 4, 4).transpose(2, 1, 0))


@traced
def _rows(first, count, table, numbers, out, picked, flags):
    rows = Rows(first, count)
    rows.store_columns(out, [2.0 * column for column in rows.columns(table, 5)])
    rows.store4(flags, 5, 1, rows.columns4(table, 5, 1))
    for k, column in enumerate(rows.listed(numbers).columns(table, 5)):
        rows.store(picked, 5, k, column)
    return sums_of_lanes([select(rows.real(), rows.column(table, 5, 2), 0.0)])


@traced
def _add(x, y):
    return x + y


@traced
def _store(out, x):
    out.store_first(1, 0, x)


@traced
def _zero():
    return sums_of_lanes([])


@kernel
def double_rows(count, table, numbers, out, picked, by_fours, total):
    result = _zero()
    for first in range(0, count, 16):
        left = min(16, count - first)
        result = _add(result, _rows(first, left, view(table), view(numbers), view(out), view(picked), view(by_fours)))
    _store(view(total), result)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_rows_that_do_not_fill_a_vector_touch_nothing_else(count: int):
    generator = np.random.default_rng(count)
    table = generator.normal(size=(count, 5)).astype(np.float32)
    numbers = generator.integers(0, count, count).astype(np.int32)
    out, picked, by_fours = (np.full((count + 1, 5), -7.0, np.float32) for _ in range(3))
    total = np.full(2, -7.0, np.float32)
    double_rows(count, table, numbers, out, picked, by_fours, total)
    np.testing.assert_array_equal(out[:count], 2 * table)
    np.testing.assert_array_equal(picked[:count], table[numbers])
    np.testing.assert_array_equal(by_fours[:count, 1:], table[:, 1:])
    np.testing.assert_array_equal(by_fours[:, 0], -7.0)
    for array in (out, picked, by_fours):
        np.testing.assert_array_equal(array[count], -7.0)
    np.testing.assert_allclose(total[0], table[:, 2].sum(), rtol=1e-5, atol=1e-5)
    assert total[1] == -7.0


@traced
def _flip(pixel, width, channels, count, image, out):
    block = Pixels(pixel * channels, width * channels, channels)
    values = block.load4(image, 0, count)
    block.store4(out, 0, [-value for value in values], count)


@kernel
def flip(width, channels, count, image, out):
    for y in (0, 4):
        for x in range(0, width, 4):
            _flip(y * width + x, width, channels, count, view(image), view(out))


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_blocks_of_pixels(channels: int):
    image = np.random.default_rng(channels).normal(size=(8, 12, channels)).astype(np.float32)
    out = np.full((8, 12, channels), 9.0, np.float32)
    flip(12, channels, min(4, channels), image, out)
    np.testing.assert_array_equal(out[..., :4], -image[..., :4])
    np.testing.assert_array_equal(out[..., 4:], 9.0)


class _Pair(NamedTuple):
    scale: Any
    data: Any


@kernel
def scaled(pair, out_array):
    plain, out = view(pair), view(out_array)
    copy = scratch(float32, 5)
    large = scratch(int64, 5)
    for k in range(5):
        copy[k], large[k] = plain.data[k] * plain.scale, 1 << (40 + k)
    for k in range(5):
        out[k] = copy[k] + float32(large[k] >> 40)
    release(copy)
    release(large)


def test_buffers_are_flat_and_convert():
    out = np.zeros(5, np.float64)
    scaled(_Pair(3, np.arange(5, dtype=np.int32)), out)
    np.testing.assert_array_equal(out, 3.0 * np.arange(5) + 2.0 ** np.arange(5))


@kernel
def set_bits(word):
    found = 0
    while word != 0:
        found = found * 100 + lowest_bit(word)
        word = without_lowest_bit(word)
    return found


def test_bits_come_lowest_first():
    assert set_bits((1 << 3) | (1 << 7) | (1 << 63) - (1 << 63)) == 307
    assert set_bits(-(1 << 63)) == 63


def test_lane_arithmetic_outside_a_kernel_says_so():
    from dyngs_plugins.raster.kernels.vector import lanes

    with pytest.raises(RuntimeError, match="traced"):
        lanes(1.0) + lanes(2.0)
