"""What a folder holds that is footage, or nearly: said where a folder of images or a film was expected."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from dyngs_plugins.priors.film import FILM_SUFFIXES

UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw")
"""Images of phones and cameras that are not read: a folder of them is answered with what to do."""


def is_film(path: Path) -> bool:
    """Whether a file's name is that of a film."""
    return path.suffix.lower() in FILM_SUFFIXES


def films_in(folder: Path) -> list[Path]:
    """The films that lie in a folder, by name."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_film(p) and p.is_file() and not p.name.startswith("."))


def hint(folder: Path) -> str:
    """A sentence on what a folder holds that is footage, or nearly: films, or a phone's .heic images; "" for nothing."""
    if not folder.is_dir():
        return ""
    films = films_in(folder)
    if films:
        return (
            f" It holds {len(films)} film{'' if len(films) == 1 else 's'}: pass one, as {shlex.quote(str(films[0]))}."
        )
    found = Counter(p.suffix.lower() for p in folder.iterdir() if p.is_file())
    unread = [f"{found[suffix]} {suffix} images" for suffix in UNREAD_SUFFIXES if found[suffix]]
    if not unread:
        return ""
    return f" It holds {' and '.join(unread)}, which are not read: convert them to .jpg, or export them from the phone as .jpg."
