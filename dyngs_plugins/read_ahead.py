"""The next batch, made ready while the step before it computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from dyngs_plugins.frame_batches import FrameBatches
from dyngs_plugins.packed import Packed


class ReadAhead:
    """Batches one after another, as their source gives them, the next of which is being read already.

    What a checkpoint has to know (:meth:`state`) is what was handed out, not what was read.

    Args:
        source: is used by no one else.
        ahead: False reads each batch when it is asked for.
        pack: into one piece of pinned memory, from which a batch travels to the GPU in one copy while that computes.
    """

    def __init__(self, source: FrameBatches, ahead: bool, pack: bool):
        self._source, self._ahead, self._pack = source, ahead, pack
        self._reader: ThreadPoolExecutor | None = None
        self._coming: Future[dict[str, Any] | Packed] | None = None
        self._state_before: dict[str, Tensor] = {}
        """Of the source, before it drew the batch that is coming."""

    def next(self) -> dict[str, Any] | Packed:
        """The next batch, packed if asked for; an error in reading it is raised here."""
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

    def _read(self) -> dict[str, Any] | Packed:
        batch = self._source.next()
        return Packed.of(batch, pinned=True) if self._pack else batch

    def _forget(self) -> None:
        """Put back what was read ahead: it will be drawn again."""
        if self._coming is None:
            return
        self._coming.exception()  # waits; whatever went wrong goes wrong again when it is asked for
        self._coming = None
        self._source.load_state(self._state_before)
