"""The next batch, made ready while the step before it computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from dyngs_plugins.frame_batches import FrameBatches


class ReadAhead:
    """Batches one after another, as their source gives them, the next of which is being read already.

    What a checkpoint has to know (:meth:`state`) is what was handed out, not what was read.

    Args:
        source: is used by no one else.
        ahead: False reads each batch when it is asked for.
        pin: into pinned memory, from which a batch travels to the GPU while that computes.
    """

    def __init__(self, source: FrameBatches, ahead: bool, pin: bool):
        self._source, self._ahead, self._pin = source, ahead, pin
        self._reader: ThreadPoolExecutor | None = None
        self._coming: Future[dict[str, Any]] | None = None
        self._state_before: dict[str, Tensor] = {}
        """Of the source, before it drew the batch that is coming."""

    def next(self) -> dict[str, Any]:
        """The next batch; an error in reading it is raised here."""
        coming, self._coming = self._coming, None
        batch = self._read() if coming is None else coming.result()
        if self._ahead:
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
            self._state_before = self._source.state()
            self._coming = self._reader.submit(self._read)
        return batch

    def want(self, kinds: frozenset[str]) -> None:
        """What the next batches hold, also the one that is coming."""
        if kinds == self._source.wanted:
            return
        self._forget()
        self._source.want(kinds)

    def state(self) -> dict[str, Tensor]:
        """Of the source, as if nothing were read ahead."""
        return self._source.state() if self._coming is None else self._state_before

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a state of the source."""
        self._forget()
        self._source.load_state(state)

    def _read(self) -> dict[str, Any]:
        batch = self._source.next()
        return each_tensor(Tensor.pin_memory, batch) if self._pin else batch

    def _forget(self) -> None:
        """Put back what was read ahead: it will be drawn again."""
        if self._coming is None:
            return
        self._coming.exception()  # waits; whatever went wrong goes wrong again when it is asked for
        self._coming = None
        self._source.load_state(self._state_before)


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
