"""File names whose order is the time."""

from __future__ import annotations

from collections.abc import Sequence

from dyngs_plugins.convert.source import Picture


def target_stems(ordered: Sequence[Picture]) -> list[str]:
    """A name for each image of one folder: its own where these are in the given order, else its number."""
    stems = [picture.file.stem for picture in ordered]
    names = [f"{stem}." for stem in stems]  # as sorted: a-b.png comes before a.png
    if all(a < b for a, b in zip(names, names[1:], strict=False)):
        return stems
    return [f"{i:05d}" for i in range(len(stems))]
