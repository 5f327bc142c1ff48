"""How work tells how far it is: it wraps what it goes through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable in a progress bar with a title; `total` where the iterable has no length."""

    def __call__(self, items: Iterable[T], title: str, total: int | None = None, /) -> Iterable[T]: ...


def silent(items: Iterable[T], title: str, total: int | None = None, /) -> Iterable[T]:
    """The :class:`Track` that shows nothing."""
    return items
