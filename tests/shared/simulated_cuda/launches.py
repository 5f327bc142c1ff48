"""What a real device would be asked for: kernels to launch, copies from one memory to the other, and waits for results.

A launch costs the processor some microseconds, however small the tensor; a wait costs all that the device has still to
do. Counted are operations of torch: most are one kernel, a few are two or three (`select_backward`, sorts).
"""

from __future__ import annotations

import functools
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from simulated_cuda.places import CUDA, Place

_NO_KERNEL = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::resize_", "aten::set_", "aten::lift_fresh")
"""How the names begin of operations that only say what memory is to be read as, or ask for some."""
_WAITS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
    "aten::repeat_interleave",
}
"""What is read on the CPU, or whose size depends on values of the device."""
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_OURS = ("dyngs_plugins", "nerfstudio")


@dataclass
class Launches:
    """Counts of what one thread and its backward passes ask the device for."""

    forward: int = 0
    """Kernels launched outside of backward passes."""
    backward: int = 0
    """Kernels launched by backward passes."""
    copies: int = 0
    """Copies between the memories, either way."""
    waits: int = 0
    """How often the processor waits for the device."""
    sites: Counter[str] = field(default_factory=Counter)
    """All of these by kind and place in the code; empty unless asked for."""

    @property
    def kernels(self) -> int:
        return self.forward + self.backward


class LaunchCounter:
    """Told of all that runs on the device; counts while :meth:`counting` runs."""

    def __init__(self) -> None:
        self._counts: Launches | None = None
        self._with_sites = False
        self._left_out = 0
        self._nodes_left_out: list[range] = []

    @contextmanager
    def counting(self, sites: bool = False) -> Iterator[Launches]:
        """Count what runs in this block.

        Args:
            sites: say where each is in the code too, of backward passes where the forward pass was; takes long.
        """
        self._counts, self._with_sites, self._nodes_left_out = Launches(), sites, []
        try:
            with torch.autograd.set_detect_anomaly(sites, check_nan=False):
                yield self._counts
        finally:
            self._counts = None

    def leaving_out(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose operations and those of its backward pass are not counted: it stands for kernels."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._left_out += 1
            first = torch._C._autograd._get_sequence_nr()  # pyright: ignore[reportAttributeAccessIssue]
            try:
                return function(*args, **kwargs)
            finally:
                self._left_out -= 1
                last = torch._C._autograd._get_sequence_nr()  # pyright: ignore[reportAttributeAccessIssue]
                self._nodes_left_out.append(range(first, last))

        return run

    def operation(self, func: Any, args: tuple) -> None:
        """An operation runs on the device."""
        if self._counts is None or self._left_out:
            return
        node = torch._C._current_autograd_node()
        if node is not None and any(node._sequence_nr() in nodes for nodes in self._nodes_left_out):
            return
        name = func._schema.name
        if name in _WAITS or name in _INDEXING and _has_mask(args[1]):
            self._counts.waits += 1
            self._note("wait", node, name)
        if name == "aten::_local_scalar_dense" or name.startswith(_NO_KERNEL) or _is_view(func):
            return
        if node is None:
            self._counts.forward += 1
        else:
            self._counts.backward += 1
        self._note("forward" if node is None else "backward", node, name)

    def copy(self, place: Place, name: str) -> None:
        """A tensor is copied from one memory to the other; from that of the device only after it has been computed."""
        if self._counts is None or self._left_out:
            return
        self._counts.copies += 1
        node = torch._C._current_autograd_node()
        self._note("copy", node, name)
        if place != CUDA:
            self._counts.waits += 1
            self._note("wait", node, name)

    def _note(self, kind: str, node: Any, name: str) -> None:
        if self._counts is not None and self._with_sites:
            self._counts.sites[f"{kind} {_site(node)} {name.removeprefix('aten::')}"] += 1


def _has_mask(indices: Any) -> bool:
    return any(isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


@functools.cache
def _is_view(func: Any) -> bool:
    """Whether an operation gives a view of its input, which launches nothing."""
    aliases = [value.alias_info for value in func._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def _site(node: Any) -> str:
    """The innermost line of the package or of its host that an operation comes from."""
    if node is None:
        lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
    else:
        recorded = (node.metadata.get("traceback_") or []) if hasattr(node, "metadata") else []
        frames = [part.strip().splitlines()[0] for part in recorded if part.strip().startswith("File")]
        lines = [frame.split('"')[1] + ":" + frame.split("line ")[1].split(",")[0] for frame in frames]
    own = [line for line in lines if any(name in line for name in _OURS) and "simulated_cuda" not in line]
    if not own:
        return "elsewhere" if node is None else node.name()
    name = next(name for name in _OURS if name in own[-1])
    return name + own[-1].rsplit(name, 1)[1]
