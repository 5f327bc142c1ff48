"""A small least-recently-used cache bounded by bytes, shared by threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

from dyngs_plugins.priors.free_memory import free_memory

T = TypeVar("T")
LEAST_GB = 2.0
"""What is kept where memory is short, or the system does not say how much there is."""


def cache_bytes(gigabytes: float | None) -> int:
    """A budget in bytes; None takes an eighth of the memory that is free now, and :data:`LEAST_GB` at least."""
    if gigabytes is not None:
        return int(gigabytes * 2**30)
    return max(int(LEAST_GB * 2**30), (free_memory() or 0) // 8)


class _Memory:
    """What is kept, under one lock and one count of bytes."""

    def __init__(self):
        self.entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.lock = threading.Lock()
        self.held = 0


class MemoryCache:
    """Keeps what was read from disk, up to ``budget`` bytes of tensors.

    Copies and pickles start empty: what a worker process or a ``deepcopy`` needs are the paths, not the pixels.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self._name: Hashable = None
        self._memory = _Memory()

    def part(self, name: Hashable) -> MemoryCache:
        """The same memory and budget, under keys of its own."""
        part = MemoryCache(self.budget)
        part._name, part._memory = (self._name, name), self._memory
        return part

    @property
    def held(self) -> int:
        """Bytes in memory, over all parts."""
        return self._memory.held

    @property
    def _entries(self) -> OrderedDict[Hashable, tuple[Any, int]]:
        return self._memory.entries

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """The value of ``key``, read on first use. Two threads may read the same entry at once; both get it."""
        memory, key = self._memory, (self._name, key)
        with memory.lock:
            if key in memory.entries:
                memory.entries.move_to_end(key)
                return memory.entries[key][0]
        value = read()
        size = _bytes(value)
        with memory.lock:
            if key not in memory.entries and size <= self.budget:
                memory.entries[key] = (value, size)
                memory.held += size
                while memory.held > self.budget:
                    memory.held -= memory.entries.popitem(last=False)[1][1]
        return value

    def __getstate__(self) -> dict[str, int]:
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["budget"])


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.element_size() * value.nelement()
    parts = vars(value).values() if hasattr(value, "__dict__") else value
    return sum(_bytes(part) for part in parts if isinstance(part, Tensor)) + 256
