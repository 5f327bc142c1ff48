"""Which memory is said to be on the simulated device: by storage, so that views are where their tensors are."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
EITHER = None
"""The place of memory that the autograd engine made by itself: it is wherever the first tensor is that it meets."""

KERNEL = torch.device("meta")
"""The place of a function that stands for a kernel: whatever it touches and makes is on the device, and not looked at."""

Place = torch.device | None


class Places:
    """The storages that are on the simulated device; every other one is on the CPU.

    A storage is known by its address, which nothing else can get while the weak reference beside it is held.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[StorageWeakRef, Place]] = {}
        self._lock = threading.Lock()
        self._purge_at = 4096
        self._here = threading.local()

    def of_storage(self, storage: torch.UntypedStorage) -> Place:
        known = self._known.get(storage._cdata)
        return CPU if known is None else known[1]

    def of(self, tensor: Tensor) -> Place:
        """Where a tensor is. Called with torch functions disabled."""
        storage = storage_of(tensor)
        return CPU if storage is None else self.of_storage(storage)

    def put_storage(self, storage: torch.UntypedStorage, place: Place) -> None:
        with self._lock:
            if place == CPU:
                self._known.pop(storage._cdata, None)
                return
            self._known[storage._cdata] = StorageWeakRef(storage), place
            if len(self._known) > self._purge_at:
                self._known = {key: value for key, value in self._known.items() if not value[0].expired()}
                self._purge_at = 2 * len(self._known) + 4096

    def put(self, tensor: Tensor, place: Place) -> None:
        """Say that a tensor, and all that shares its memory, is on that device."""
        storage = storage_of(tensor)
        if storage is not None:
            self.put_storage(storage, place)

    @property
    def ambient(self) -> Place:
        """Where a function that this thread is in makes tensors that depend on no other."""
        stack = getattr(self._here, "stack", None)
        return stack[-1] if stack else CPU

    def inside(self, place: Place) -> _Inside:
        """A context in which this thread is in a function that makes its tensors there."""
        stack = getattr(self._here, "stack", None)
        if stack is None:
            stack = self._here.stack = []
        return _Inside(stack, place)


class _Inside:
    """A context manager as a class, which costs a tenth of a generator."""

    __slots__ = ("place", "stack")

    def __init__(self, stack: list[Place], place: Place):
        self.stack, self.place = stack, place

    def __enter__(self) -> None:
        self.stack.append(self.place)

    def __exit__(self, *error: Any) -> None:
        self.stack.pop()


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """A tensor's memory, or None for the few kinds that have none (sparse ones)."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def tensors_in(value: Any, found: list[Tensor] | None = None) -> list[Tensor]:
    """All tensors of nested lists, tuples and dictionaries."""
    found = [] if found is None else found
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            tensors_in(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            tensors_in(item, found)
    return found


def device_of(device: Any) -> torch.device:
    """A device by its name or number, with its number.

    Raises:
        RuntimeError: where it is a device that there is not.
    """
    found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if found.type not in ("cpu", "cuda", "meta"):
        raise RuntimeError(f"there is no device {found} (simulated)")
    if found.type != "cuda":
        return found
    if found.index not in (None, 0):
        raise RuntimeError(f"CUDA error: invalid device ordinal (simulated: {found}, there is cuda:0)")
    return CUDA
