"""Sixteen float32 lanes as one value: the arithmetic of the kernels.

numba compiles scalar Python and leaves vectorisation to LLVM's heuristics, which give up on loops with gathers, masks and
early exits: exactly the loops a rasterizer has. So the arithmetic here is *traced*: a function marked `tracing.traced` runs
once, as ordinary Python, while numba compiles the kernel that calls it. Its arguments are `Lanes` (sixteen floats) and
`Mask` (sixteen booleans), and every operation on them emits one LLVM vector instruction. LLVM turns those into AVX-512, two
AVX2 or four NEON instructions; no compiler is needed::

    def gaussian(dx: Lanes, dy: Lanes, radius: Lanes) -> Lanes:
        distance = dx * dx + dy * dy
        return select(distance < radius, exp2(-distance), 0.0)

There is no control flow on lanes (that is what `select` is for). Python's own `if` and `for` run at compile time.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from llvmlite import ir

LANES = 16

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS = ir.VectorType(F32, LANES)
INTS = ir.VectorType(I32, LANES)
BOOLS = ir.VectorType(ir.IntType(1), LANES)
_RELAXED = ("contract", "nsz")
"""x * y + z may become one fused operation, and the sign of zero is not kept; NaN and infinity are."""


class _Tracer:
    """Where instructions go: the LLVM builder of the kernel being compiled. numba compiles one at a time, under a lock."""

    builder: Any = None


def emit() -> Any:
    """The LLVM builder of the function being traced."""
    if _Tracer.builder is None:
        raise RuntimeError("lane arithmetic works only inside a function marked @traced, called from a kernel")
    return _Tracer.builder


class Lanes:
    """Sixteen floats. Operators work lane by lane; a Python number is copied to all lanes."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __add__(self, other: Operand) -> Lanes:
        return Lanes(emit().fadd(self.value, lanes(other).value, flags=_RELAXED))

    def __sub__(self, other: Operand) -> Lanes:
        return Lanes(emit().fsub(self.value, lanes(other).value, flags=_RELAXED))

    def __mul__(self, other: Operand) -> Lanes:
        return Lanes(emit().fmul(self.value, lanes(other).value, flags=_RELAXED))

    def __truediv__(self, other: Operand) -> Lanes:
        return Lanes(emit().fdiv(self.value, lanes(other).value, flags=_RELAXED))

    def __radd__(self, other: float) -> Lanes:
        return lanes(other) + self

    def __rsub__(self, other: float) -> Lanes:
        return lanes(other) - self

    def __rmul__(self, other: float) -> Lanes:
        return lanes(other) * self

    def __rtruediv__(self, other: float) -> Lanes:
        return lanes(other) / self

    def __neg__(self) -> Lanes:
        return Lanes(emit().fneg(self.value))

    def __lt__(self, other: Operand) -> Mask:
        return Mask(emit().fcmp_ordered("<", self.value, lanes(other).value))

    def __le__(self, other: Operand) -> Mask:
        return Mask(emit().fcmp_ordered("<=", self.value, lanes(other).value))

    def __gt__(self, other: Operand) -> Mask:
        return Mask(emit().fcmp_ordered(">", self.value, lanes(other).value))

    def __ge__(self, other: Operand) -> Mask:
        return Mask(emit().fcmp_ordered(">=", self.value, lanes(other).value))


Operand: TypeAlias = "Lanes | float"


class Mask:
    """Sixteen booleans. Comparisons with NaN are false."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __and__(self, other: Mask) -> Mask:
        return Mask(emit().and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return Mask(emit().or_(self.value, other.value))

    def __invert__(self) -> Mask:
        return Mask(emit().not_(self.value))


def lanes(x: Operand) -> Lanes:
    """A number in every lane; lanes as they are."""
    return x if isinstance(x, Lanes) else Lanes(constant(float(x)))


def constant(value: float, of: ir.VectorType = FLOATS) -> ir.Constant:
    """The LLVM constant with the same value in all lanes."""
    return ir.Constant(of, [value] * LANES)


class _VolatileLoad(ir.instructions.LoadInstr):
    """llvmlite has no flag for it."""

    def descr(self, buf: list[str]) -> None:
        pointer = self.operands[0]
        buf.append(f"load volatile {self.type}, {pointer.type} {pointer.get_reference()}\n")


def pinned(value: float) -> Lanes:
    """A number in all lanes that stays in a register, or at worst on the stack, across a loop.

    LLVM would load a constant anew each time it is used, through a 64-bit address that takes an instruction of its own.
    What comes out of a volatile load, here at the beginning of the kernel, it has to keep.
    """
    builder = emit()
    with builder.goto_entry_block():
        place = builder.alloca(FLOATS)
        builder.store(constant(value), place)
        kept = _VolatileLoad(builder.block, place)
        builder._insert(kept)
    return Lanes(kept)


def splat(scalar: Any) -> Lanes:
    """An LLVM float in every lane."""
    undefined = ir.Constant(FLOATS, ir.Undefined)
    one = emit().insert_element(undefined, scalar, I32(0))
    return Lanes(emit().shuffle_vector(one, undefined, constant(0, INTS)))


def call(name: str, result: ir.Type, arguments: list[Any], **options: Any) -> Any:
    """Calls an LLVM intrinsic."""
    module = emit().module
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return emit().call(function, arguments, **options)


def select(mask: Mask, x: Operand, y: Operand) -> Lanes:
    """x where the mask is set, else y."""
    return Lanes(emit().select(mask.value, lanes(x).value, lanes(y).value))


def lane_numbers() -> Lanes:
    """0, 1, ... 15."""
    return Lanes(ir.Constant(FLOATS, [float(k) for k in range(LANES)]))


def block_columns() -> Lanes:
    """The x of each lane in a block of 4x4 pixels: 0, 1, 2, 3, 0, 1, ..."""
    return Lanes(ir.Constant(FLOATS, [float(k % 4) for k in range(LANES)]))


def block_rows() -> Lanes:
    """The y of each lane in a block of 4x4 pixels: 0, 0, 0, 0, 1, 1, ..."""
    return Lanes(ir.Constant(FLOATS, [float(k // 4) for k in range(LANES)]))


def any_lane(mask: Mask) -> Flag:
    """Whether any lane is set."""
    bits = emit().bitcast(mask.value, ir.IntType(LANES))
    return Flag(emit().icmp_unsigned("!=", bits, ir.IntType(LANES)(0)))


def lane_bits(mask: Mask) -> Int:
    """The mask as an integer: bit k is lane k."""
    return Int(emit().zext(emit().bitcast(mask.value, ir.IntType(LANES)), I64))


class Int:
    """A 64-bit integer known when the kernel runs: an index or a count."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __add__(self, other: Int | Flag | int) -> Int:
        return Int(emit().add(self.value, integer(other).value))

    def __sub__(self, other: Int | Flag | int) -> Int:
        return Int(emit().sub(self.value, integer(other).value))

    def __mul__(self, other: Int | Flag | int) -> Int:
        return Int(emit().mul(self.value, integer(other).value))

    __radd__, __rmul__ = __add__, __mul__

    def __lshift__(self, other: Int | int) -> Int:
        return Int(emit().shl(self.value, integer(other).value))

    def __or__(self, other: Int) -> Int:
        return Int(emit().or_(self.value, other.value))

    def is_zero(self) -> Flag:
        """Whether it is 0."""
        return Flag(emit().icmp_signed("==", self.value, I64(0)))

    def lanes(self) -> Lanes:
        """As a float in every lane."""
        return splat(emit().sitofp(self.value, F32))


def integer(x: Int | Flag | int) -> Int:
    """A Python integer as an `Int`; a flag as 0 or 1."""
    if isinstance(x, Flag):
        return Int(emit().zext(x.value, I64))
    return x if isinstance(x, Int) else Int(I64(x))


class Flag:
    """A boolean known when the kernel runs, the same for all lanes."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __or__(self, other: Flag) -> Flag:
        return Flag(emit().or_(self.value, other.value))

    def mask(self) -> Mask:
        """In every lane."""
        one = emit().insert_element(ir.Constant(BOOLS, ir.Undefined), self.value, I32(0))
        return Mask(emit().shuffle_vector(one, ir.Constant(BOOLS, ir.Undefined), constant(0, INTS)))


class Scalar:
    """One float, as a kernel's own arithmetic has it."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value
