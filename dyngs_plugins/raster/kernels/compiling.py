"""How kernels are compiled: numba's options, the cache on disk, and the one message the user sees."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event

_log = logging.getLogger("dyngs_plugins.raster")
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",  # division by zero is infinity, not an exception
}
_here = Path(__file__).parent


def kernel(function: Callable) -> Any:
    """Compiles a function with numba on first use, and keeps the machine code on disk.

    The cache lies beside the source file or, where that directory is read-only, in the user's cache directory
    (``NUMBA_CACHE_DIR`` overrides both). Without any writable place every process compiles anew.
    """
    try:
        dispatcher = numba.njit(function, cache=True, **_OPTIONS)
    except RuntimeError as error:  # numba found no writable cache directory
        _log.warning("compiled kernels cannot be kept, so every run compiles them: %s. Set NUMBA_CACHE_DIR.", error)
        return numba.njit(function, **_OPTIONS)
    _stamp_with_all_kernels(dispatcher)
    return dispatcher


def inlined(function: Callable) -> Any:
    """A function that only kernels call. It leaves no call behind."""
    return numba.njit(function, forceinline=True, no_cpython_wrapper=True, **_OPTIONS)


def inlined_sum(function: Callable) -> Any:
    """The same for a function whose sums may be added up in another order: then they become vector instructions.

    The order is fixed when the function is compiled, so the result is still the same on every run.
    """
    return numba.njit(function, forceinline=True, no_cpython_wrapper=True, fastmath={"reassoc"}, **_OPTIONS)


def _stamp_with_all_kernels(dispatcher) -> None:
    """Makes a change in any kernel file invalidate the cached code of all of them.

    numba compares only the file a function is written in, but the machine code also holds what was inlined from the
    other files here.
    """
    stats = [path.stat() for path in sorted(_here.glob("*.py"))]
    dispatcher._cache._cache_file._source_stamp = tuple((s.st_mtime, s.st_size) for s in stats)


class _Announce(event.Listener):
    """Says once that kernels are being compiled. Nothing is said when they come from the cache."""

    def __init__(self):
        self.said = False

    def on_start(self, event):
        module = getattr(event.data["dispatcher"].py_func, "__module__", "")
        if not self.said and module.startswith(__package__ or ""):
            self.said = True
            _log.warning("Compiling the CPU rasterizer for this machine: about ten seconds, once.")

    def on_end(self, event):
        pass


event.register("numba:compile", _Announce())
