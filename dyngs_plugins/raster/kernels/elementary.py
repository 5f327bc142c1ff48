"""Functions of lanes: extremes, roundings, powers. Each is the same few instructions wherever it is called."""

from __future__ import annotations

from collections.abc import Callable

from dyngs_plugins.raster.kernels.vector import FLOATS, INTS, Lanes, Operand, call, constant, emit, lanes, select


def minimum(x: Operand, y: Operand) -> Lanes:
    """The smaller; y where either is NaN."""
    x, y = lanes(x), lanes(y)
    return select(x < y, x, y)


def maximum(x: Operand, y: Operand) -> Lanes:
    """The larger; y where either is NaN."""
    x, y = lanes(x), lanes(y)
    return select(x > y, x, y)


def fma(x: Operand, y: Operand, z: Operand) -> Lanes:
    """``x y + z`` in one rounding on machines that can.

    Unlike separate ``*`` and ``+``, which LLVM fuses or not as the surrounding code suggests, this is always compiled
    alike: the forward and the backward pass get the same bits.
    """
    return Lanes(call("llvm.fmuladd.v16f32", FLOATS, [lanes(v).value for v in (x, y, z)]))


def rounded_product(x: Lanes, y: Lanes) -> Lanes:
    """``x y``, never fused with an addition."""
    return Lanes(emit().fmul(x.value, y.value))


def sqrt(x: Lanes) -> Lanes:
    """Square root, correctly rounded."""
    return Lanes(call("llvm.sqrt.v16f32", FLOATS, [x.value]))


def absolute(x: Lanes) -> Lanes:
    """|x|."""
    return Lanes(call("llvm.fabs.v16f32", FLOATS, [x.value]))


def floor(x: Lanes) -> Lanes:
    """The largest integer not above x."""
    return Lanes(call("llvm.floor.v16f32", FLOATS, [x.value]))


def ceil(x: Lanes) -> Lanes:
    """The smallest integer not below x."""
    return Lanes(call("llvm.ceil.v16f32", FLOATS, [x.value]))


def negative(x: Lanes) -> Lanes:
    """-|x|."""
    bits = emit().or_(emit().bitcast(x.value, INTS), constant(-0x80000000, INTS))
    return Lanes(emit().bitcast(bits, FLOATS))


def exp2(x: Lanes, number: Callable[[float], Lanes] = lanes) -> Lanes:
    """2^x within 2.2e-7 relative, for x from -126 to 127; any bits outside.

    2^x = 2^n 2^f with n the nearest integer and |f| <= 1/2. Adding 1.5 * 2^23 leaves n in the low bits of the sum; shifted
    by 23 they land in the exponent of 2^f. The polynomial is the minimax one of degree 5 with p(0) = 1.

    Args:
        number: how constants are made; `pinned` in inner loops.
    """
    magic = number(12582912.0)
    # Without the relaxed flags: (x + magic) - magic must not be simplified.
    shifted = emit().fadd(x.value, magic.value)
    f = Lanes(emit().fsub(x.value, emit().fsub(shifted, magic.value)))
    p = number(1.3202982320e-3)
    for coefficient in (9.6749519302e-3, 5.5510473825e-2, 2.4022166008e-1, 6.9314659592e-1, 1.0):
        p = fma(p, f, number(coefficient))
    exponent = emit().shl(emit().bitcast(shifted, INTS), constant(23, INTS))
    return Lanes(emit().bitcast(emit().add(emit().bitcast(p.value, INTS), exponent), FLOATS))


def log2(x: Lanes) -> Lanes:
    """Logarithm to base 2 within 1e-7 of max(1, |result|), for positive normal x; any bits otherwise.

    x = 2^n m with m in [sqrt(1/2), sqrt(2)); with s = (m - 1) / (m + 1), |s| < 0.172, the series
    log2 m = 2 / ln 2 (s + s^3/3 + s^5/5 + s^7/7 + s^9/9 + ...) leaves out less than 1e-9.
    """
    bits = emit().bitcast(x.value, INTS)
    from_root = emit().sub(bits, constant(0x3F3504F3, INTS))  # the bits of sqrt(1/2)
    n = emit().ashr(from_root, constant(23, INTS))
    m = Lanes(emit().bitcast(emit().sub(bits, emit().shl(n, constant(23, INTS))), FLOATS))
    s = (m - 1.0) / (m + 1.0)
    series = lanes(2.8853900817779268 / 9)
    for odd in (7, 5, 3, 1):
        series = fma(series, s * s, 2.8853900817779268 / odd)
    return fma(s, series, Lanes(emit().sitofp(n, FLOATS)))
