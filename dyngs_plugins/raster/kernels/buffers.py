"""Plain memory for kernels: pointers without reference counts, and scratch.

numba counts references to arrays whenever one is taken out of a tuple or handed to a function, with atomic instructions on
memory that all threads share. In an inner loop that costs more than the arithmetic. So a kernel begins with ``view``, which
takes the pointers out of its arguments (the caller keeps the arrays alive), and takes its own memory with ``scratch``.

A `Buffer` is read and written like a flat array. Indices are neither checked nor wrapped around.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import errors, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

_I64 = ir.IntType(64)
_ALIGNMENT = 64


class Buffer(types.Type):
    """A pointer to elements of one type."""

    def __init__(self, dtype: types.Type):
        self.dtype = dtype
        super().__init__(f"Buffer({dtype})")


@register_model(Buffer)
class _BufferModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, manager[fe_type.dtype].get_data_type().as_pointer())


@infer_global(operator.getitem)
class _Read(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Buffer) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.int64)
        return None


@infer_global(operator.setitem)
class _Write(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Buffer) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.int64, args[0].dtype)
        return None


@lower_builtin(operator.getitem, Buffer, types.Integer)
def _lower_read(context, builder, sig, args):
    index = context.cast(builder, args[1], sig.args[1], types.int64)
    return builder.load(builder.gep(args[0], [index]))


@lower_builtin(operator.setitem, Buffer, types.Integer, types.Any)
def _lower_write(context, builder, sig, args):
    index = context.cast(builder, args[1], sig.args[1], types.int64)
    value = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
    builder.store(value, builder.gep(args[0], [index]))
    return context.get_dummy_value()


@intrinsic
def view(typingctx, value):
    """An array as a buffer; a (named) tuple with its arrays as buffers; anything else as it is."""

    def lower(context, builder, sig, args):
        return _lower_view(context, builder, sig.args[0], args[0])

    return _viewed(value)(value), lower


def _viewed(of: types.Type) -> types.Type:
    if isinstance(of, types.Array):
        if of.layout != "C":
            raise errors.TypingError(f"a kernel takes C-contiguous arrays, not {of}")
        return Buffer(of.dtype)
    if isinstance(of, types.BaseNamedTuple):
        return types.NamedTuple([_viewed(t) for t in of], of.instance_class)
    if isinstance(of, types.BaseTuple):
        return types.Tuple.from_types([_viewed(t) for t in of])
    return of


def _lower_view(context, builder, of: types.Type, value: Any) -> Any:
    if isinstance(of, types.Array):
        return context.make_array(of)(context, builder, value=value).data
    if isinstance(of, types.BaseTuple):
        fields = [_lower_view(context, builder, t, builder.extract_value(value, k)) for k, t in enumerate(of)]
        return context.make_tuple(builder, _viewed(of), fields)
    return value


@intrinsic
def scratch(typingctx, dtype, count):
    """Uninitialised memory for `count` elements of a numba type, on a cache line of its own. To be given to `release`."""
    element = dtype.dtype

    def lower(context, builder, sig, args):
        size = context.get_abi_sizeof(context.get_data_type(element))
        wanted = builder.add(builder.mul(args[1], _I64(size)), _I64(2 * _ALIGNMENT))
        memory = builder.ptrtoint(context.nrt.allocate(builder, wanted), _I64)
        aligned = builder.and_(builder.add(memory, _I64(2 * _ALIGNMENT - 1)), _I64(-_ALIGNMENT))
        builder.store(memory, builder.inttoptr(builder.sub(aligned, _I64(8)), _I64.as_pointer()))
        return builder.inttoptr(aligned, context.get_value_type(sig.return_type))

    return Buffer(element)(dtype, types.int64), lower


@intrinsic
def release(typingctx, buffer):
    """Gives back memory from `scratch`."""

    def lower(context, builder, sig, args):
        address = builder.sub(builder.ptrtoint(args[0], _I64), _I64(8))
        memory = builder.load(builder.inttoptr(address, _I64.as_pointer()))
        context.nrt.free(builder, builder.inttoptr(memory, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.none(buffer), lower
