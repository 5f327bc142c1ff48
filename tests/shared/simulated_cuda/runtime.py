"""What ``torch.cuda`` and what torch keeps outside of tensors say about the simulated device."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from simulated_cuda.generators import DeviceGenerator
from simulated_cuda.places import CUDA, Places, device_of

NAME, MEMORY = "Simulated CUDA device", 16 << 30


def patched(stack: ExitStack, places: Places, random: torch.Generator) -> None:
    """Until the stack is closed, torch says that there is one CUDA device."""
    for name, value in _answers(random).items():
        stack.enter_context(mock.patch.object(torch.cuda, name, value))
    stream = SimpleNamespace(is_capturing=lambda: False, synchronize=lambda: None, wait_stream=lambda other: None)
    stack.enter_context(mock.patch.object(torch.accelerator, "current_stream", return_value=stream))
    stack.enter_context(mock.patch.object(torch, "Generator", DeviceGenerator))
    stack.enter_context(mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", _grouped))
    stack.enter_context(_checkpoints(places))
    if "gsplat.cuda._backend" not in sys.modules:
        # gsplat would look for a compiler now: on this device its kernels are ready. Whoever calls one gives a stand-in.
        sys.modules["gsplat.cuda._backend"] = SimpleNamespace(_C=SimpleNamespace())  # type: ignore[assignment]
        stack.callback(sys.modules.pop, "gsplat.cuda._backend", None)


def _answers(random: torch.Generator) -> dict[str, Any]:
    properties = SimpleNamespace(
        name=NAME, total_memory=MEMORY, major=9, minor=0, multi_processor_count=1, is_integrated=False
    )

    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    def zero(*args: Any, **kwargs: Any) -> int:
        return 0

    def set_device(device: Any) -> None:
        device_of(device)

    def set_state(state: torch.Tensor, device: Any = "cuda") -> None:
        if state.device.type != "cpu" or state.dtype != torch.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        random.set_state(state)

    def seed(value: int) -> None:
        random.manual_seed(int(value))

    def get_state(device: Any = "cuda") -> torch.Tensor:
        return random.get_state()

    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": nothing,
        "device_count": lambda: 1,
        "current_device": zero,
        "set_device": set_device,
        "_exchange_device": zero,
        "_maybe_exchange_device": zero,
        "synchronize": nothing,
        "empty_cache": nothing,
        "ipc_collect": nothing,
        "memory_allocated": zero,
        "memory_reserved": zero,
        "max_memory_allocated": zero,
        "max_memory_reserved": zero,
        "reset_peak_memory_stats": nothing,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "get_arch_list": lambda: ["sm_90"],
        "is_current_stream_capturing": lambda: False,
        "is_bf16_supported": lambda including_emulation=True: True,
        "manual_seed": seed,
        "manual_seed_all": seed,
        "seed": nothing,
        "seed_all": nothing,
        "initial_seed": random.initial_seed,
        "get_rng_state": get_state,
        "get_rng_state_all": lambda: [get_state()],
        "set_rng_state": set_state,
        "set_rng_state_all": lambda states: [set_state(state) for state in states],
    }


def _grouped(lists: list[list[Any]], with_indices: bool = False) -> dict[Any, Any]:
    """What optimizers ask C++ for, which knows of the CPU alone: the rows of the lists by the first list's devices."""
    groups: dict[Any, Any] = {}
    for row, first in enumerate(lists[0]):
        columns, rows = groups.setdefault((first.device, first.dtype), ([[] for _ in lists], []))
        rows.append(row)
        for column, values in zip(columns, lists, strict=True):
            column += values[row : row + 1]
    return groups


@contextmanager
def _checkpoints(places: Places) -> Any:
    """Checkpoints remember which tensors were on the device, and put them back there unless told otherwise."""

    def tag(storage: Any) -> str | None:
        return "cuda:0" if places.of_storage(getattr(storage, "_untyped_storage", storage)) == CUDA else None

    def restore(storage: Any, location: str) -> Any:
        if not location.startswith("cuda"):
            return None
        places.put_storage(getattr(storage, "_untyped_storage", storage), device_of(location))
        return storage

    packages = torch.serialization._package_registry
    torch.serialization.register_package(0, tag, restore)
    try:
        yield
    finally:
        packages[:] = [package for package in packages if package[1] is not tag]
