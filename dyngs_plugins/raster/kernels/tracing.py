"""`traced`: how a numba kernel calls a function on `vector.Lanes`.

Inside kernels sixteen lanes have the numba type `f32x16` (a mask `mask16`): they can be kept in variables and tuples, passed
to traced functions and returned by them, nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import errors, types
from numba.extending import intrinsic, models, register_model

from dyngs_plugins.raster.kernels.buffers import Buffer
from dyngs_plugins.raster.kernels.memory import Array
from dyngs_plugins.raster.kernels.vector import BOOLS, FLOATS, Flag, Int, Lanes, Mask, Scalar, _Tracer, splat


class _Float32x16(types.Type):
    def __init__(self):
        super().__init__("f32x16")


class _Mask16(types.Type):
    def __init__(self):
        super().__init__("mask16")


f32x16, mask16 = _Float32x16(), _Mask16()


@register_model(_Float32x16)
class _Float32x16Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, FLOATS)


@register_model(_Mask16)
class _Mask16Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, BOOLS)


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function on lanes callable from kernels.

    Arguments arrive as `Lanes`, `Mask`, `Array` (buffers), `Int` (integers), `Flag` (booleans), as lanes with one value (floats), as
    None, or as (named) tuples of these. It may return `Lanes`, `Mask`, `Int`, `Flag`, a tuple of those, a `Scalar`, or None.
    """

    def typed(typingctx, *args):
        result = _result_type(function, args)

        def lower(context, builder, sig, values):
            outside, _Tracer.builder = _Tracer.builder, builder
            try:
                traced_values = [_from_numba(context, builder, t, v) for t, v in zip(sig.args, values, strict=True)]
                return _to_numba(context, builder, result, function(*traced_values))
            finally:
                _Tracer.builder = outside

        return result(*args), lower

    # numba counts the parameters of the signature.
    context_parameter = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [context_parameter, *inspect.signature(function).parameters.values()]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__name__ = function.__name__
    return intrinsic(typed)


def _result_type(function: Callable[..., Any], args: tuple[types.Type, ...]) -> types.Type:
    """What the function returns: found by tracing it into a module that is thrown away."""
    from numba.core.registry import cpu_target

    context = cpu_target.target_context
    scratch = ir.Function(
        ir.Module(), ir.FunctionType(ir.VoidType(), [context.get_value_type(t) for t in args]), "scratch"
    )
    builder = ir.IRBuilder(scratch.append_basic_block())
    outside, _Tracer.builder = _Tracer.builder, builder
    try:
        result = function(*(_from_numba(context, builder, t, v) for t, v in zip(args, scratch.args, strict=True)))
    finally:
        _Tracer.builder = outside
    return _type_of(result)


def _type_of(result: Any) -> types.Type:
    if result is None:
        return types.none
    if isinstance(result, tuple):
        return types.Tuple.from_types([_type_of(r) for r in result])
    return {Lanes: f32x16, Mask: mask16, Int: types.int64, Flag: types.boolean, Scalar: types.float32}[type(result)]


def _from_numba(context, builder, of: types.Type, value: Any) -> Any:
    """The traced counterpart of a numba value."""
    if of == f32x16:
        return Lanes(value)
    if of == mask16:
        return Mask(value)
    if isinstance(of, Buffer):
        return Array(value, of.dtype == types.int32)
    if isinstance(of, types.Array):
        if of.layout != "C" or of.dtype not in (types.float32, types.int32, types.int64):
            raise errors.TypingError(
                f"a traced function takes C-contiguous arrays of float32, int32 or int64, not {of}"
            )
        return Array(context.make_array(of)(context, builder, value=value).data, of.dtype == types.int32)
    if isinstance(of, types.BaseTuple):
        fields = [_from_numba(context, builder, t, builder.extract_value(value, k)) for k, t in enumerate(of)]
        return of.instance_class(*fields) if isinstance(of, types.BaseNamedTuple) else tuple(fields)
    if isinstance(of, types.Boolean):
        return Flag(context.cast(builder, value, of, types.boolean))
    if isinstance(of, types.Integer):
        return Int(context.cast(builder, value, of, types.int64))
    if isinstance(of, types.Float):
        return splat(context.cast(builder, value, of, types.float32))
    if isinstance(of, types.NoneType):
        return None
    raise errors.TypingError(f"a traced function cannot take {of}")


def _to_numba(context, builder, of: types.Type, result: Any) -> Any:
    if of == types.none:
        return context.get_dummy_value()
    if isinstance(of, types.BaseTuple):
        values = [_to_numba(context, builder, t, r) for t, r in zip(of, result, strict=True)]
        return context.make_tuple(builder, of, values)
    return result.value
