"""Between arrays and `vector.Lanes`: loads, stores, rows of tables.

Arrays are C-contiguous; every index is a flat element index, neither checked nor wrapped around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from dyngs_plugins.raster.kernels.shuffles import QUARTER, QUARTER_INTS, joined, quarter, transposed_quarters
from dyngs_plugins.raster.kernels.vector import (
    F32,
    FLOATS,
    I64,
    INTS,
    LANES,
    Flag,
    Int,
    Lanes,
    Mask,
    call,
    constant,
    emit,
    integer,
    lane_numbers,
    select,
    splat,
)


class Array:
    """A C-contiguous array of float32, int32 or int64, whatever its shape, as a kernel sees it."""

    __slots__ = ("data", "is_int32")

    def __init__(self, data: Any, is_int32: bool):
        self.data = data
        self.is_int32 = is_int32

    def add_bits(self, index: Int | int, bits: Int) -> None:
        """``self[index] |= bits`` in an int64 array."""
        pointer = self._at(index)
        emit().store(emit().or_(emit().load(pointer), bits.value), pointer)

    def _at(self, index: Int | int) -> Any:
        return emit().gep(self.data, [integer(index).value])

    def load(self, index: Int | int) -> Lanes:
        """Sixteen consecutive floats."""
        return Lanes(emit().load(emit().bitcast(self._at(index), FLOATS.as_pointer()), align=4))

    def load_where(self, mask: Mask, index: Int | int) -> Lanes:
        """Sixteen consecutive floats; 0 where the mask is not set, and there memory is not touched."""
        pointer = emit().bitcast(self._at(index), FLOATS.as_pointer())
        arguments = [pointer, ir.IntType(32)(4), mask.value, constant(0.0)]
        return Lanes(call("llvm.masked.load.v16f32.p0", FLOATS, arguments))

    def prefetch(self, index: Int | int) -> None:
        """Asks for the memory around an element; the element need not exist."""
        read, keep, data = ir.IntType(32)(0), ir.IntType(32)(3), ir.IntType(32)(1)
        pointer = emit().bitcast(self._at(index), ir.IntType(8).as_pointer())
        call("llvm.prefetch.p0", ir.VoidType(), [pointer, read, keep, data])

    def store(self, index: Int | int, value: Lanes) -> None:
        """Writes sixteen consecutive floats."""
        emit().store(value.value, emit().bitcast(self._at(index), FLOATS.as_pointer()), align=4)

    def store_first(self, count: Int | int, index: Int | int, value: Lanes) -> None:
        """Writes the first `count` lanes to consecutive floats, and nothing behind them."""
        pointer = emit().bitcast(self._at(index), FLOATS.as_pointer())
        mask = lane_numbers() < integer(count).lanes()
        call("llvm.masked.store.v16f32.p0", ir.VoidType(), [value.value, pointer, ir.IntType(32)(4), mask.value])

    def load_quarter(self, index: Int | int, count: Int | None = None) -> Any:
        """Four consecutive floats, as an LLVM vector; 0 from `count` on, where memory is not touched."""
        pointer = emit().bitcast(self._at(index), QUARTER.as_pointer())
        if count is None:
            return emit().load(pointer, align=4)
        arguments = [pointer, ir.IntType(32)(4), _quarter_mask(count), ir.Constant(QUARTER, [0.0] * 4)]
        return call("llvm.masked.load.v4f32.p0", QUARTER, arguments)

    def store_quarter(self, index: Int | int, value: Any, count: Int | None = None) -> None:
        """Writes four consecutive floats, or the first `count` of them."""
        pointer = emit().bitcast(self._at(index), QUARTER.as_pointer())
        if count is None:
            emit().store(value, pointer, align=4)
        else:
            arguments = [value, pointer, ir.IntType(32)(4), _quarter_mask(count)]
            call("llvm.masked.store.v4f32.p0", ir.VoidType(), arguments)

    def broadcast(self, index: Int | int) -> Lanes:
        """One float in every lane."""
        return splat(emit().load(self._at(index)))


def _quarter_mask(count: Int) -> Any:
    numbers = ir.VectorType(I64, 4)
    undefined = ir.Constant(numbers, ir.Undefined)
    zeros = ir.Constant(QUARTER_INTS, [0] * 4)
    limit = emit().shuffle_vector(emit().insert_element(undefined, count.value, ir.IntType(32)(0)), undefined, zeros)
    return emit().icmp_signed("<", ir.Constant(numbers, list(range(4))), limit)


class Rows:
    """Sixteen rows of row-major tables.

    Where only `count` (1 to 15) rows are left the remaining lanes repeat the last row: they read, compute and write the
    same values as its own lane, so nothing needs to be masked except sums over lanes (`real`).
    """

    def __init__(self, first: Int, count: Int):
        """Rows from `first` on."""
        last = emit().sub(count.value, I64(1))
        steps = [emit().select(emit().icmp_signed("<", I64(k), last), I64(k), last) for k in range(LANES)]
        self._first = first
        self._count = count
        self._steps = [Int(step) for step in steps]

    def _with(self, first: Int, steps: list[Int]) -> Rows:
        rows = object.__new__(Rows)
        rows._first, rows._count, rows._steps = first, self._count, steps
        return rows

    def shifted(self, by: Int) -> Rows:
        """The rows that lie `by` further down."""
        return self._with(self._first + by, self._steps)

    def listed(self, numbers: Array) -> Rows:
        """The rows whose numbers are in these rows of a list."""
        steps = [Int(emit().sext(emit().load(pointer), I64)) for pointer in self._pointers(numbers, 1, 0)]
        return self._with(integer(0), steps)

    def prefetch(self, table: Array, width: Int | int, column: int = 0) -> None:
        """Asks for the memory around one column."""
        for step in self._steps:
            table.prefetch((self._first + step) * width + column)

    def copy4(self, source: Array, target: Array, to: Rows) -> None:
        """Copies rows of four floats."""
        for step, to_step in zip(self._steps, to._steps, strict=True):
            target.store_quarter((to._first + to_step) * 4, source.load_quarter((self._first + step) * 4))

    def real(self) -> Mask:
        """The lanes that are not repetitions."""
        return lane_numbers() < self._count.lanes()

    def column(self, table: Array, width: Int | int, column: Int | int = 0) -> Lanes:
        """One column of a table with `width` columns. int32 becomes float."""
        result = ir.Constant(FLOATS, ir.Undefined)
        for k, pointer in enumerate(self._pointers(table, width, column)):
            value = emit().load(pointer)
            value = emit().sitofp(value, F32) if table.is_int32 else value
            result = emit().insert_element(result, value, ir.IntType(32)(k))
        return Lanes(result)

    def columns(self, table: Array, width: int) -> list[Lanes]:
        """All columns of a table with `width` columns."""
        return [self.column(table, width, k) for k in range(width)]

    def columns4(self, table: Array, width: Int | int, column: Int | int = 0) -> list[Lanes]:
        """Four neighbouring columns of floats: four at a time they take a third of the instructions."""
        quarters = [table.load_quarter((self._first + step) * width + column) for step in self._steps]
        return transposed_quarters([joined(quarters[k::4]) for k in range(4)])

    def store4(self, table: Array, width: Int | int, column: Int | int, values: Sequence[Lanes]) -> None:
        """Writes four neighbouring columns of floats."""
        for k, of_rows in enumerate(transposed_quarters(values)):
            for q, step in enumerate(self._steps[k::4]):
                table.store_quarter((self._first + step) * width + column, quarter(of_rows, q))

    def store(self, table: Array, width: int, column: int, value: Lanes) -> None:
        """Writes one column; an int32 table gets the values truncated."""
        vector = emit().fptosi(value.value, INTS) if table.is_int32 else value.value
        for k, pointer in enumerate(self._pointers(table, width, column)):
            emit().store(emit().extract_element(vector, ir.IntType(32)(k)), pointer)

    def store_columns(self, table: Array, values: Sequence[Lanes]) -> None:
        """Writes all columns."""
        for k, value in enumerate(values):
            self.store(table, len(values), k, value)

    def add_columns(self, table: Array, values: Sequence[Lanes], fresh: Flag) -> None:
        """Adds to all columns, or, if `fresh`, overwrites whatever was there."""
        old = self.columns(table, len(values))
        new = [select(fresh.mask(), b, a + b) for a, b in zip(old, values, strict=True)]
        self.store_columns(table, new)

    def _pointers(self, table: Array, width: Int | int, column: Int | int) -> list[Any]:
        start = table._at(self._first * width + column)
        return [emit().gep(start, [(step * width).value]) for step in self._steps]


class Pixels:
    """A block of 4x4 pixels of an image [height, width, channels], lane by lane (see `tile`)."""

    def __init__(self, first: Int, row_floats: Int, channels: Int):
        """The block whose first pixel begins at element `first` of an image whose rows have `row_floats` floats."""
        self._first, self._row_floats, self._channels = first, row_floats, channels

    def _at(self, column: int, row: int, channel: Int | int) -> Int:
        return self._first + self._row_floats * row + self._channels * column + channel

    def load4(self, image: Array, channel: Int | int, count: Int | None = None) -> list[Lanes]:
        """Four neighbouring channels; those from `count` on are 0, and their memory is not touched."""
        columns = []
        for x in range(4):
            quarters = [image.load_quarter(self._at(x, y, channel), count) for y in range(4)]
            columns.append(joined(quarters))
        return transposed_quarters(columns)

    def store4(self, image: Array, channel: Int | int, values: Sequence[Lanes], count: Int | None = None) -> None:
        """Writes four neighbouring channels, or the first `count` of them."""
        for x, column in enumerate(transposed_quarters(values)):
            for y in range(4):
                image.store_quarter(self._at(x, y, channel), quarter(column, y), count)

    def store1(self, image: Array, value: Lanes) -> None:
        """Writes an image of one channel."""
        for y in range(4):
            image.store_quarter(self._at(0, y, 0), quarter(value, y))

    def load1(self, image: Array) -> Lanes:
        """Reads an image of one channel."""
        return joined([image.load_quarter(self._at(0, y, 0)) for y in range(4)])
