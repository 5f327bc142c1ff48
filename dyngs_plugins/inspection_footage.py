"""What ``dyngs inspect`` says of footage that nobody has solved cameras for: a film, or a folder of bare images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from dyngs_plugins.priors.footage import Choice, Footage
from dyngs_plugins.priors.footage_hints import is_film

Cameras = Sequence[tuple[str, Footage]]
"""What each camera filmed, as :func:`find_footage` opens it."""
FEW_FRAMES = 12
"""Fewer frames than this are hardly worth solving: a note says so, nothing refuses them."""


def report(root: Path, cameras: Cameras) -> str:
    """Everything in words, for a terminal."""
    film = is_film(cameras[0][1].path)
    lines = [str(root), f"layout    none: {'a film' if film else 'images'} without cameras"]
    for name, footage in cameras:
        facts = footage.facts()
        rate = f", {facts['rate']:g} per second" if facts.get("rate") else ", rate not stated"
        seconds = f", {facts['seconds']:.4g} s" if facts.get("seconds") else ""
        prefix = "frames   " if len(cameras) == 1 else f"{name:9}"
        count = footage.expected(Choice())
        lines.append(f"{prefix} {count or 'an unknown number of'} frame{'' if count == 1 else 's'}{seconds}{rate}")
        if count is not None and count < FEW_FRAMES:
            lines.append(
                f"note      So short a piece tells little of depth and motion; expected {FEW_FRAMES} frames or more."
            )
        lines += [f"note      {note}" for note in footage.notes]
    size = cameras[0][1].size
    focal = cameras[0][1].focal(size)
    lines.append(f"images    {size[1]}x{size[0]} pixels")
    lines.append(
        "cameras   " + ("none" if focal is None else f"none; focal length {focal[0]:.0f} pixels by {focal[1]}")
    )
    lines.append("MISSING   cameras, depth, masks, tracks: make a clip with them by "
                 f"`dyngs process {shlex.quote(str(root))} --out CLIP`, or pass this to ns-train, which does it first")  # fmt: skip
    return "\n".join(lines)
