"""A CUDA device that is not there: tensors that say they are on it, and errors where a real one would raise them.

The memory is the CPU's and so are the kernels. What is simulated is where each tensor is: whatever mixes devices, reads
a tensor of the device as a numpy array or draws its random numbers from the CPU's generator fails as it would on CUDA.
Nothing is learned here about CUDA's own kernels: their rounding, their speed or their memory.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from simulated_cuda.functions import Functions
from simulated_cuda.generators import DeviceGenerator
from simulated_cuda.kernels import Kernels
from simulated_cuda.launches import LaunchCounter
from simulated_cuda.places import CPU, CUDA, EITHER, KERNEL, Places, tensors_in
from simulated_cuda.runtime import patched


class SimulatedCuda:
    """While it is entered, ``torch.cuda.is_available()`` and all that follows.

    Threads that start meanwhile see the device too. Tensors made on it stay usable afterwards, as tensors of the CPU.
    Enter it once: leaving it turns it off for good.
    """

    def __init__(self) -> None:
        self.places = Places()
        self.random = DeviceGenerator("cuda").manual_seed(0)
        self.launches = LaunchCounter()
        self.functions = Functions(self.places, self.launches)
        self.kernels = Kernels(self.places, self.random, self.launches)
        self._stack = ExitStack()

    @property
    def operations(self) -> int:
        """How many operations have run on the device so far."""
        return self.kernels.operations

    def __enter__(self) -> SimulatedCuda:
        patched(self._stack, self.places, self.random)
        self._stack.enter_context(mock.patch.object(threading.Thread, "_bootstrap_inner", self._thread()))
        engine = self._engine(torch.autograd.graph._engine_run_backward)
        for module in (torch.autograd, torch.autograd.graph):
            self._stack.enter_context(mock.patch.object(module, "_engine_run_backward", engine))
        self._stack.enter_context(self._seen())
        return self

    def __exit__(self, *error: Any) -> None:
        self.functions.active = self.kernels.active = False
        self._stack.close()

    def kernel(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that stands for a kernel of the device: given tensors of it, it may do with them what it likes.

        The tensors that it makes are on the device. Tensors of both devices at once raise RuntimeError.
        """

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            places = {self.places.of(tensor) for tensor in tensors_in(kwargs, tensors_in(args))}
            if CUDA not in places or not self.functions.active:
                return function(*args, **kwargs)
            if CPU in places:
                raise RuntimeError(f"{function.__qualname__} was given tensors of cuda:0 and of the CPU (simulated)")
            with self.places.inside(KERNEL):
                return function(*args, **kwargs)

        return run

    @contextmanager
    def _seen(self) -> Any:
        with self.functions, self.kernels:
            yield

    def _thread(self) -> Callable[[threading.Thread], None]:
        start = threading.Thread._bootstrap_inner  # pyright: ignore[reportAttributeAccessIssue]

        def bootstrap(thread: threading.Thread) -> None:
            with self._seen():
                start(thread)

        return bootstrap

    def _engine(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Python code of a backward pass is seen like any other; what the engine makes by itself is on either."""

        def backward(*args: Any, **kwargs: Any) -> Any:
            with self.functions, self.places.inside(EITHER):
                return run(*args, **kwargs)

        return backward


__all__ = ["CUDA", "SimulatedCuda"]
