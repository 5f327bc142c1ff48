"""Generators of random numbers on the simulated device."""

from __future__ import annotations

from typing import Any

import torch

from simulated_cuda.places import CPU, device_of

_MADE: dict[int, DeviceGenerator] = {}
"""By address, which is all that operations below Python know of one; held here, so that none is used again."""


class DeviceGenerator(torch.Generator):
    """``torch.Generator`` on any device; its numbers come from the CPU's algorithm."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> DeviceGenerator:
        made = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        made.place = device_of(device)
        _MADE[made._cdata] = made
        return made

    def __init__(self, device: Any = "cpu"):
        super().__init__()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place


def place_of(generator: Any) -> torch.device:
    """The device of a generator."""
    made = _MADE.get(generator._cdata)
    return CPU if made is None else made.place


def generators_in(values: list[Any]) -> list[Any]:
    """The generators among an operation's arguments."""
    return [value for value in values if isinstance(value, torch._C.Generator)]
