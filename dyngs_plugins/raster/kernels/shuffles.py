"""Across the lanes of vectors: quarters of them, transposes, sums. No memory is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from dyngs_plugins.raster.kernels.vector import F32, FLOATS, INTS, LANES, Int, Lanes, call, constant, emit

QUARTER = ir.VectorType(F32, 4)
QUARTER_INTS = ir.VectorType(ir.IntType(32), 4)
_X, _Y = list(range(LANES)), list(range(LANES, 2 * LANES))
_LANE_PAIRS = (  # of two vectors, quarter by quarter: x0 y0 x1 y1 and x2 y2 x3 y3
    [lane for q in range(0, LANES, 4) for lane in (_X[q], _Y[q], _X[q + 1], _Y[q + 1])],
    [lane for q in range(0, LANES, 4) for lane in (_X[q + 2], _Y[q + 2], _X[q + 3], _Y[q + 3])],
)
_LANE_HALVES = (  # x0 x1 y0 y1 and x2 x3 y2 y3
    [lane for q in range(0, LANES, 4) for lane in (*_X[q : q + 2], *_Y[q : q + 2])],
    [lane for q in range(0, LANES, 4) for lane in (*_X[q + 2 : q + 4], *_Y[q + 2 : q + 4])],
)
_QUARTERS = (  # x's quarters 0 and 2, then y's; x's quarters 1 and 3, then y's
    [*_X[0:4], *_X[8:12], *_Y[0:4], *_Y[8:12]],
    [*_X[4:8], *_X[12:16], *_Y[4:8], *_Y[12:16]],
)


def quarter(value: Lanes, k: int) -> Any:
    """Four neighbouring lanes, the ``k``-th such, as an LLVM vector."""
    return emit().shuffle_vector(value.value, value.value, ir.Constant(QUARTER_INTS, list(range(4 * k, 4 * k + 4))))


def joined(quarters: Sequence[Any]) -> Lanes:
    """Four such vectors side by side."""
    eight = ir.VectorType(ir.IntType(32), 8)
    halves = [
        emit().shuffle_vector(a, b, ir.Constant(eight, list(range(8))))
        for a, b in zip(quarters[::2], quarters[1::2], strict=True)
    ]
    return Lanes(emit().shuffle_vector(*halves, ir.Constant(INTS, list(range(16)))))


def transposed_quarters(vectors: Sequence[Lanes]) -> list[Lanes]:
    """Four vectors, each quarter of which is a row of a 4x4 matrix, to the four columns of these matrices."""

    def shuffled(x: Any, y: Any, picks: Sequence[int]) -> Any:
        return emit().shuffle_vector(x, y, ir.Constant(INTS, picks))

    a, b, c, d = (v.value for v in vectors)
    low, high = _LANE_PAIRS
    ab, cd, AB, CD = shuffled(a, b, low), shuffled(c, d, low), shuffled(a, b, high), shuffled(c, d, high)
    first, second = _LANE_HALVES
    return [Lanes(shuffled(x, y, picks)) for x, y in ((ab, cd), (AB, CD)) for picks in (first, second)]


def sum_range(count: Int, term: Callable[[Int], Lanes]) -> Lanes:
    """``term(0) + ... + term(count - 1)``, from the first to the last; 0 for none."""
    total = cgutils.alloca_once_value(emit(), constant(0.0))
    with cgutils.for_range(emit(), count.value) as loop:
        emit().store(emit().fadd(emit().load(total), term(Int(loop.index)).value), total)
    return Lanes(emit().load(total))


def sum_of_lanes(value: Lanes) -> Any:
    """The sum of the sixteen lanes, an LLVM float. Always in the same order."""
    return call("llvm.vector.reduce.fadd.v16f32", F32, [F32(0.0), value.value], fastmath=("reassoc",))


def sums_of_lanes(vectors: Sequence[Lanes]) -> Lanes:
    """Lane k of the result is the sum over the lanes of ``vectors[k]``, for at most 16 vectors; further lanes are 0.

    A tree of at most 15 additions in place of 16 separate sums. Always in the same order.
    """
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    level = [v.value for v in vectors] + [zero] * (LANES - len(vectors))
    # First within quarters (128 bits), where shuffles are cheap, then across them.
    for one, other in (_LANE_PAIRS, _LANE_HALVES, _QUARTERS, _QUARTERS):
        level = [
            zero
            if x is zero
            else emit().fadd(
                emit().shuffle_vector(x, y, ir.Constant(INTS, one)),
                emit().shuffle_vector(x, y, ir.Constant(INTS, other)),
            )
            for x, y in zip(level[::2], level[1::2], strict=True)
        ]
    return Lanes(level[0])
