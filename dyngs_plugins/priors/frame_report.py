"""What `frames.json` says about every frame of a clip that was made from footage: its time, how sharp and how bright.

Sharpness is the variance of the image's Laplacian. It depends on what is filmed, so a frame is judged by its
neighbours: one that is much less sharp than these is blurred.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.clip_files import read_json, write_json

FRAMES_FILE = "frames.json"
_FORMAT, _VERSION = "dyngs-frame-report", 1
NEIGHBOURS = 5
"""Frames to either side that sharpness and brightness are compared with."""
BLURRED_BELOW = 0.5
EXPOSURE_JUMP = 0.15
SAME_BELOW = 0.05
"""Mean difference in grey values below which a frame repeats the one before."""
ONE_PICTURE = 0.8
"""Share of repeated frames above which it is no film but a picture; the double rate of a film repeats half of them."""
DARK_BELOW = 0.02
"""Median brightness of footage in which nothing can be seen."""


@dataclasses.dataclass(frozen=True)
class FrameFigures:
    """One frame of the report."""

    image: str
    """Its file, relative to the clip's folder."""
    time_step: int
    seconds: float | None
    """Since the start of the footage."""
    held_out: bool
    sharpness: float
    """Variance of the Laplacian of its grey values (0 to 255)."""
    luminance: float
    """Mean grey value, from 0 to 1."""
    origin: str = ""
    """Name of the file that it comes from, where it had one of its own."""
    change: float | None = None
    """Mean absolute difference from the frame before, in grey values from 0 to 255; None for the first."""
    relative_sharpness: float = 1.0
    """Over the median of its neighbours'."""
    blurred: bool = False


@dataclasses.dataclass(frozen=True)
class FrameReport:
    """`frames.json`."""

    sequences: Mapping[str, tuple[FrameFigures, ...]]
    footage: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    focal: Mapping[str, Any] | None = None
    """Focal length that the footage itself gives: pixels, and source in words."""


def sharpness(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Variance of the Laplacian of the grey image."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def luminance(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean grey value, from 0 to 1."""
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() / 255.0)


def change(image: UInt8[np.ndarray, "h w 3"], before: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean absolute difference of the grey values, from 0 to 255."""
    now, then = (cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in (image, before))
    return float(cv2.absdiff(now, then).mean())


def relative_to_neighbours(values: Float[np.ndarray, "n"], reach: int = NEIGHBOURS) -> Float[np.ndarray, "n"]:
    """Each value over the median of up to `reach` values before and after it, itself left out. Nothing over nothing is 1."""
    values = np.asarray(values, np.float64) + 1e-9
    result = np.ones(len(values))
    for i in range(len(values)):
        around = np.concatenate([values[max(i - reach, 0) : i], values[i + 1 : i + 1 + reach]])
        if len(around):
            result[i] = values[i] / float(np.median(around))
    return result


def judged(frames: Sequence[FrameFigures]) -> tuple[FrameFigures, ...]:
    """The frames of one camera with relative sharpness and the flag for blur."""
    relative = relative_to_neighbours(np.array([frame.sharpness for frame in frames]))
    return tuple(
        dataclasses.replace(frame, relative_sharpness=round(float(r), 4), blurred=bool(r < BLURRED_BELOW))
        for frame, r in zip(frames, relative, strict=True)
    )


def frame_notes(name: str, frames: Sequence[FrameFigures]) -> list[str]:
    """Sentences about blurred frames and jumps of the exposure."""
    notes = []
    blurred = [frame.time_step for frame in frames if frame.blurred]
    if blurred:
        notes.append(f"{name}: {len(blurred)} of {len(frames)} frames are much less sharp than their neighbours: "
                     f"{_shortened(blurred)}.")  # fmt: skip
    same = [frame.time_step for frame in frames if frame.change is not None and frame.change < SAME_BELOW]
    if len(same) > ONE_PICTURE * len(frames):
        notes.append(f"{name}: {len(same)} of {len(frames)} frames show the same as the one before. Is this a film of one "
                     "picture? Where nothing changes neither depth nor motion can be found.")  # fmt: skip
    elif same:
        notes.append(f"{name}: {len(same)} of {len(frames)} frames show the same as the one before: {_shortened(same)}. "
                     "Was the film converted from a lower rate? --fps with that rate leaves them out.")  # fmt: skip
    brightness = float(np.median([frame.luminance for frame in frames]))
    if brightness < DARK_BELOW:
        notes.append(f"{name}: the frames are nearly black (half of them are at most {brightness:.1%} as bright as white): "
                     "hardly anything can be followed in them. Take brighter footage, or brighten it first.")  # fmt: skip
    relative = relative_to_neighbours(np.array([frame.luminance for frame in frames]))
    jumps = [frame.time_step for frame, r in zip(frames, relative, strict=True) if abs(r - 1.0) > EXPOSURE_JUMP]
    if jumps:
        notes.append(f"{name}: the brightness of {len(jumps)} frames differs from their neighbours' by more than "
                     f"{EXPOSURE_JUMP:.0%}: {_shortened(jumps)}.")  # fmt: skip
    return notes


def write_frame_report(root: Path, report: FrameReport) -> None:
    """Write ROOT/frames.json."""
    write_json(root / FRAMES_FILE, {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(report)})


def read_frame_report(root: Path) -> FrameReport | None:
    """Read ROOT/frames.json; None where there is none.

    Raises:
        ValueError: it is damaged or of another format.
    """
    path = root / FRAMES_FILE
    if not path.is_file():
        return None
    content = read_json(path, "frame report")
    try:
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
        sequences = {name: tuple(FrameFigures(**f) for f in listed) for name, listed in content["sequences"].items()}
        return FrameReport(sequences, content["footage"], tuple(content["notes"]), content.get("focal"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a frame report ({error!r}). Remove it to have it written anew.") from error


def _shortened(steps: Sequence[int], count: int = 8) -> str:
    return ", ".join(map(str, steps[:count])) + (", ..." if len(steps) > count else "")
