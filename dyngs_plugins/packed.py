"""Many small tensors in one piece of memory, so that a batch travels to a GPU in one copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

_ALIGNMENT = 256
"""Bytes at whose multiples tensors begin, as in CUDA's own allocations."""


@dataclass(frozen=True)
class Packed:
    """Dictionaries, lists and dataclasses of tensors that all lie in one piece of memory."""

    contents: Any
    """Their tensors are views of ``memory``."""
    memory: UInt8[Tensor, "m"]

    @classmethod
    def of(cls, value: Any, pinned: bool) -> Packed:
        """A copy of all tensors in ``value``.

        Args:
            pinned: into pinned memory, from which they travel to a GPU while that computes.
        """
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += _room(tensor)
            return tensor

        each_tensor(count, value)
        memory = torch.empty(total, dtype=torch.uint8, pin_memory=pinned)
        start = 0

        def place(tensor: Tensor) -> Tensor:
            nonlocal start
            packed = _view(memory, start, tensor)
            packed.copy_(tensor)
            start += _room(tensor)
            return packed

        return cls(each_tensor(place, value), memory)

    def on(self, device: torch.device | str) -> Any:
        """The same in the memory of a device, in one copy, which nobody waits for if this one is pinned."""
        there = self.memory.to(device, non_blocking=True)

        def moved(tensor: Tensor) -> Tensor:
            return _view(there, int(tensor.storage_offset()) * tensor.element_size(), tensor)

        return each_tensor(moved, self.contents)


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT


def _view(memory: UInt8[Tensor, "m"], start: int, like: Tensor) -> Tensor:
    """The bytes from ``start`` on as a tensor of the type and shape of another."""
    stop = start + like.numel() * like.element_size()
    return memory[start:stop].view(like.dtype).view(like.shape)


def each_tensor(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same dictionaries, lists and dataclasses with every tensor in them changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: each_tensor(change, part) for key, part in value.items()}
    if isinstance(value, list):
        return [each_tensor(change, part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: each_tensor(change, getattr(value, f.name)) for f in fields(value)})
    return value
