"""A small least-recently-used cache bounded by bytes, shared by threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class MemoryCache:
    """Keeps what was read from disk, up to ``budget`` bytes of tensors.

    Copies and pickles start empty: what a worker process or a ``deepcopy`` needs are the paths, not the pixels.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self._reset()

    def _reset(self) -> None:
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """The value of ``key``, read on first use. Two threads may read the same entry at once; both get it."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
        value = read()
        size = _bytes(value)
        with self._lock:
            if key not in self._entries and size <= self.budget:
                self._entries[key] = (value, size)
                self._bytes += size
                while self._bytes > self.budget:
                    self._bytes -= self._entries.popitem(last=False)[1][1]
        return value

    def __getstate__(self) -> dict[str, int]:
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.budget = state["budget"]
        self._reset()


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.element_size() * value.nelement()
    parts = vars(value).values() if hasattr(value, "__dict__") else value
    return sum(_bytes(part) for part in parts if isinstance(part, Tensor)) + 256
