"""Walking over the set bits of a 64-bit word."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


@intrinsic
def lowest_bit(typingctx, bits):
    """Number of the lowest set bit of a word that is not 0."""

    def lower(context, builder, sig, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), lower


@intrinsic
def without_lowest_bit(typingctx, bits):
    """The word with its lowest set bit cleared."""

    def lower(context, builder, sig, args):
        return builder.and_(args[0], builder.sub(args[0], ir.IntType(64)(1)))

    return types.int64(types.int64), lower
