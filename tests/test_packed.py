"""What is packed comes out on the other side as it was, in one copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest
import torch
from simulated_cuda import SimulatedCuda
from torch import Tensor

from dyngs_plugins.packed import Packed, each_tensor


@dataclass(frozen=True)
class Part:
    points: Tensor
    seen: Tensor
    name: str = "part"


def batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(5, 7, generator=generator)
    return {
        "bytes": torch.arange(13, dtype=torch.uint8).reshape(13, 1),  # an odd length before wider types
        "indices": torch.tensor([3, -1, 1 << 40]),
        "one": torch.tensor(2.5, dtype=torch.float64),
        "turned": rows.T,
        "spread": rows[:, :1].expand(5, 4),
        "parts": [Part(rows[1:3, 2:], rows > 0.5), Part(torch.zeros(0, 3), torch.zeros(0, 2, dtype=torch.bool))],
        "nothing": None,
        "number": 4,
    }


def assert_same(found: Any, expected: Any) -> None:
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    each_tensor(lambda tensor: ours.append(tensor) or tensor, found)
    each_tensor(lambda tensor: theirs.append(tensor) or tensor, expected)
    assert len(ours) == len(theirs) == 9
    for a, b in zip(ours, theirs, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert torch.equal(a.cpu(), b)
    assert (found["nothing"], found["number"], found["parts"][1].name) == (None, 4, "part")


def test_everything_is_as_it_was():
    packed = Packed.of(batch(), pinned=False)
    assert_same(packed.contents, batch())
    assert_same(packed.on("cpu"), batch())


def test_one_copy_brings_it_to_a_device():
    with SimulatedCuda() as device:
        packed = Packed.of(batch(), pinned=True)
        with device.launches.counting() as launches:
            there = packed.on("cuda")
        assert (launches.copies, launches.kernels, launches.waits) == (1, 0, 0)
        assert there["parts"][0].points.device.type == "cuda"
        assert_same(there, batch())


@pytest.mark.parametrize("pinned", [True, False])
def test_memory_is_pinned_where_asked_for_and_nobody_waits_for_the_copy(pinned):
    """Which only a GPU shows otherwise."""
    room = torch.empty(1 << 14, dtype=torch.uint8)
    with mock.patch.object(torch, "empty", side_effect=lambda count, **_: room[:count]) as empty:
        packed = Packed.of(batch(), pinned=pinned)
    assert empty.call_args.kwargs == {"dtype": torch.uint8, "pin_memory": pinned}
    memory = mock.Mock(to=mock.Mock(return_value=packed.memory.clone()))
    assert_same(replace(packed, memory=memory).on("cuda"), batch())
    memory.to.assert_called_once_with("cuda", non_blocking=True)


def test_what_was_packed_may_change_afterwards():
    before = batch()
    packed = Packed.of(before, pinned=False)
    before["indices"].zero_()
    assert_same(packed.on("cpu"), batch())


@pytest.mark.parametrize("value", [{}, {"nothing": None}])
def test_nothing_to_pack(value: dict):
    assert Packed.of(value, pinned=False).on("cpu") == value
