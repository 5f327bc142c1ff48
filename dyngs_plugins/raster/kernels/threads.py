"""Kernels that run on PyTorch's own OpenMP threads.

PyTorch's idle OpenMP worker keeps spinning for a while after every torch operation. A second pool of threads would fight
it for its core, so kernels ask the OpenMP library that torch is linked with to run them (``GOMP_parallel``, the entry point
that GCC emits for ``#pragma omp parallel``). Where torch comes with another OpenMP (macOS, Windows) a Python thread pool
takes its place.

A parallel kernel is an ordinary loop over items, run by all threads at once, each taking the next item that is left::

    @kernel
    def square(team, x, out):
        loop = share(team, x.shape[0])
        item = take(loop)
        while item >= 0:
            out[item] = x[item] * x[item]
            item = take(loop)

What an item does must not depend on who runs it. Then the results are the same for any number of threads. While a kernel
runs in the OpenMP pool no Python code does, so an exception raised by a trace function or a signal handler cannot leave it
half done.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_log = logging.getLogger("dyngs_plugins.raster")

Team: TypeAlias = tuple[int, int, bool, int]
"""Who runs a kernel: the number of threads; the address of ``void fork(void (*work)(void *), void *loop, unsigned threads,
unsigned flags)``; whether fork may return before all threads have called ``work``; and 0 (inside a kernel: the loop)."""


def current_team() -> Team:
    """As many threads as torch uses."""
    return (torch.get_num_threads(), *_fork(), 0)


@cache
def _fork() -> tuple[int, bool]:
    address = _address_of_gomp_parallel()
    if address:
        return address, False
    _log.info("torch's OpenMP library has no GOMP_parallel: the CPU rasterizer uses a thread pool of its own")
    return ctypes.cast(_fork_to_pool, ctypes.c_void_p).value or 0, True


def _address_of_gomp_parallel() -> int:
    """In the OpenMP library that torch's CPU library is linked with; 0 when there is none."""
    name = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}.get(sys.platform)
    library = Path(torch.__file__).parent / "lib" / (name or "")
    if name is None or not library.exists():
        return 0
    # It is already loaded. A symbol is looked up in the library and then in those it is linked with.
    function = getattr(ctypes.CDLL(str(library)), "GOMP_parallel", None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function is not None else 0


# Inside kernels ------------------------------------------------------------------------------------------------------

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_POINTER = ir.IntType(8).as_pointer()
_HEAD = {"next": 0, "count": 1, "failed": 2, "inside": 3, "owners": 4}
"""Fields of a loop, all int64: the next item, the number of items, whether a thread raised, how many helpers are in the
kernel, and who still needs the memory. The kernel's arguments follow."""
_FIRST_ARGUMENT = 2
"""numba passes pointers for the result and for the exception before a kernel's own arguments."""


@intrinsic
def share(typingctx, team, count):
    """Runs the kernel it stands in on all threads of the team, until all `count` items are taken and done.

    The team must be the kernel's first argument. Until the first `take` a kernel may not look into arrays.

    Returns:
        The loop to `take` items from. It is empty in the call that shared it: the work happens in copies of that call.

    Raises:
        RuntimeError: when a thread raised (kernels can only run out of memory).
    """

    def lower(context, builder, sig, args):
        team, count = args
        threads, fork, early, loop_of_worker = (builder.extract_value(team, k) for k in range(4))
        result = builder.alloca(_I64)
        builder.store(loop_of_worker, result)
        with builder.if_then(builder.icmp_signed("==", loop_of_worker, _I64(0))):
            failed = _run_shared(context, builder, threads, fork, early, count)
            with builder.if_then(failed, likely=False):
                context.call_conv.return_user_exc(builder, RuntimeError, ("a kernel ran out of memory",))
        return builder.load(result)

    return types.int64(
        types.Tuple.from_types((types.int64, types.int64, types.boolean, types.int64)), types.int64
    ), lower


@intrinsic
def take(typingctx, loop):
    """The next item of a loop, or -1 when none is left."""

    def lower(context, builder, sig, args):
        result = builder.alloca(_I64)
        builder.store(_I64(-1), result)
        with builder.if_then(builder.icmp_signed("!=", args[0], _I64(0))):
            loop = builder.inttoptr(args[0], _POINTER)
            item = _add(builder, loop, "next", 1)
            left = builder.icmp_signed("<", item, builder.load(_field(builder, loop, "count")))
            builder.store(builder.select(left, item, _I64(-1)), result)
        return builder.load(result)

    return types.int64(types.int64), lower


def _run_shared(context, builder, threads, fork, early, count):
    """Forks, waits, and says whether any thread failed."""
    kernel = builder.function
    kernel.attributes.add("noinline")
    work, work_and_leave = _emit_work(context, kernel, leave=False), _emit_work(context, kernel, leave=True)
    loop = _emit_new_loop(context, builder, kernel, count)
    alone = builder.or_(builder.icmp_signed("<=", count, _I64(1)), builder.icmp_signed("<=", threads, _I64(1)))
    with builder.if_then(builder.not_(alone)):
        of_helpers = builder.select(builder.icmp_unsigned("!=", early, early.type(0)), work_and_leave, work)
        function = ir.FunctionType(ir.VoidType(), [work.type, _POINTER, _I32, _I32])
        pointer = builder.inttoptr(fork, function.as_pointer())
        builder.call(pointer, [of_helpers, loop, builder.trunc(threads, _I32), _I32(0)])
    builder.call(work, [loop])
    _emit_wait_until_zero(builder, _field(builder, loop, "inside"))
    failed = builder.icmp_signed("!=", builder.load(_field(builder, loop, "failed")), _I64(0))
    _emit_leave(context, builder, loop)
    return failed


def _field(builder, loop, name: str):
    return builder.gep(builder.bitcast(loop, _I64.as_pointer()), [_I64(_HEAD[name])])


def _add(builder, loop, name: str, value: int):
    """Atomically adds; the value before."""
    return builder.atomic_rmw("add", _field(builder, loop, name), _I64(value), "seq_cst")


def _emit_wait_until_zero(builder, pointer):
    wait, done = builder.append_basic_block("wait"), builder.append_basic_block("done")
    builder.branch(wait)
    builder.position_at_end(wait)
    value = builder.load_atomic(pointer, "seq_cst", 8)
    builder.cbranch(builder.icmp_signed("==", value, _I64(0)), done, wait)
    builder.position_at_end(done)


def _packed_type(kernel):
    return ir.LiteralStructType([a.type for a in kernel.args[_FIRST_ARGUMENT + 4 :]])  # without result, error and team


def _emit_new_loop(context, builder, kernel, count):
    """Allocates a loop on the heap: a helper that comes too late may look at it after `share` has returned."""
    packed = _packed_type(kernel)
    size = builder.ptrtoint(builder.gep(ir.Constant(packed.as_pointer(), None), [_I32(1)]), _I64)
    loop = context.nrt.allocate(builder, builder.add(size, _I64(8 * len(_HEAD))))
    for name, value in {"next": 0, "failed": 0, "inside": 0, "owners": 1}.items():
        builder.store(_I64(value), _field(builder, loop, name))
    builder.store(count, _field(builder, loop, "count"))
    arguments = builder.bitcast(builder.gep(loop, [_I64(8 * len(_HEAD))]), packed.as_pointer())
    for k, argument in enumerate(kernel.args[_FIRST_ARGUMENT + 4 :]):
        builder.store(argument, builder.gep(arguments, [_I32(0), _I32(k)]))
    return loop


def _emit_leave(context, builder, loop):
    last = builder.icmp_signed("==", _add(builder, loop, "owners", -1), _I64(1))
    with builder.if_then(last):
        context.nrt.free(builder, loop)


def _emit_work(context, kernel, leave: bool):
    """``void work(void *loop)``: calls the kernel on a thread, with the loop in place of the team."""
    module = kernel.module
    name = module.get_unique_name("work")
    work = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER]), name)
    work.linkage = "internal"
    (loop,) = work.args
    builder = ir.IRBuilder(work.append_basic_block("entry"))
    # First make the owner wait, then look whether there is anything left to do: after that it may free the arrays.
    _add(builder, loop, "inside", 1)
    left = builder.icmp_signed(
        "<",
        builder.load_atomic(_field(builder, loop, "next"), "seq_cst", 8),
        builder.load(_field(builder, loop, "count")),
    )
    with builder.if_then(left):
        packed = builder.bitcast(builder.gep(loop, [_I64(8 * len(_HEAD))]), _packed_type(kernel).as_pointer())
        arguments = [
            builder.load(builder.gep(packed, [_I32(0), _I32(k)])) for k in range(len(kernel.args) - _FIRST_ARGUMENT - 4)
        ]
        # Result and exception go to places of this thread's own.
        own = [builder.alloca(a.type.pointee) for a in kernel.args[:_FIRST_ARGUMENT]]
        team_types = [a.type for a in kernel.args[_FIRST_ARGUMENT : _FIRST_ARGUMENT + 4]]
        team = [team_types[0](1), team_types[1](0), team_types[2](0), builder.ptrtoint(loop, _I64)]
        status = builder.call(kernel, [*own, *team, *arguments])
        with builder.if_then(builder.icmp_signed("!=", status, status.type(0)), likely=False):
            _add(builder, loop, "failed", 1)
    _add(builder, loop, "inside", -1)
    if leave:
        _emit_leave(context, builder, loop)
    builder.ret_void()
    return work


# Without GNU OpenMP --------------------------------------------------------------------------------------------------

_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
def _fork_to_pool(work: int, loop: int, threads: int, flags: int) -> None:
    """Sends helpers to the loop and returns at once; the caller works too, and alone finishes whatever they do not begin.

    Each helper leaves the loop by itself, so nothing here has to wait: an exception at any line only means fewer helpers.
    """
    helpers = threads - 1
    pool = _pool(helpers)
    # Nobody else knows this loop yet, so plain addition will do. Owners that never come only leak a few hundred bytes.
    ctypes.c_int64.from_address(loop + 8 * _HEAD["owners"]).value += helpers
    for _ in range(helpers):
        pool.submit(_WORK(work), loop)


@cache
def _pool(helpers: int) -> Any:
    return ThreadPoolExecutor(helpers, thread_name_prefix="raster")
