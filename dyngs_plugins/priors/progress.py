"""How work tells how far it is, by wrapping what it goes through, and what the user should know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
Say = Callable[[str], None]
"""Prints a line for the user."""


class Track(Protocol):
    """Wraps an iterable in a progress bar with a title; `total` where the iterable has no length."""

    def __call__(self, items: Iterable[T], title: str, total: int | None = None, /) -> Iterable[T]: ...


def silent(items: Iterable[T], title: str, total: int | None = None, /) -> Iterable[T]:
    """The :class:`Track` that shows nothing."""
    return items
