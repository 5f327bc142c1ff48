"""The sample filmed: a small film with times of its own, and `dyngs process` with cameras that are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from films import write_film

from dyngs_plugins.priors.command import run
from dyngs_plugins.priors.process_options import ProcessOptions
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

FRAMES, WIDTH, HEIGHT, HOLDOUT = 9, 80, 60, 4
HELD = [2, 6]
TRAINING = [i for i in range(FRAMES) if i not in HELD]
TIMES = [0.0, 0.1, 0.2, 0.35, 0.4, 0.5, 0.7, 0.8, 1.0]
FAST = ("masks.vote_frames=1", "masks.mask_vote_frames=1", "masks.colour_offsets=(1,)")


def write_sample(root: Path) -> Path:
    """The sample as a clip folder: the truth."""
    write_som(build_clip(SampleSettings(frames=FRAMES, width=WIDTH, height=HEIGHT, supersample=1)), root)
    return root


def write_sample_film(folder: Path, sample: Path) -> Path:
    return write_film(folder / "my film.mp4", pictures(sample), TIMES)


def pictures(sample: Path) -> list[np.ndarray]:
    return [
        cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in sorted((sample / "images/camera0").iterdir())
    ]


def process(source: Path, out: Path | None, sample: Path, *more: str, **options):
    settings = (*FAST, f"cameras.truth={str(sample)!r}", *more)
    return run(source, out, ProcessOptions(**{"holdout": HOLDOUT, "cameras": "true", "settings": settings, **options}))


def contents(root: Path) -> dict[str, bytes]:
    files = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "summary/timings.js"}


def refused(error, match, *args, **options) -> str:
    with pytest.raises(error, match=match) as raised:
        process(*args, **options)
    return str(raised.value)
