"""Footage into a clip folder: frames at their size, sorted into training and held-out images, with a report.

The report is written last. Without it, or where images are missing, the footage is read again and only what is missing
is written: reading is deterministic, so a run that was killed ends with the same files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from dyngs_plugins.priors.footage import Choice, Footage
from dyngs_plugins.priors.frame_report import (
    FrameFigures,
    FrameReport,
    change,
    frame_notes,
    judged,
    luminance,
    read_frame_report,
    sharpness,
    write_frame_report,
)
from dyngs_plugins.priors.progress import Track
from dyngs_plugins.priors.som_files import write_image

T = TypeVar("T")
MIN_TRAINING_FRAMES = 3


def extract(
    footage: list[tuple[str, Footage]], out: Path, size: tuple[int, int], choice: Choice, holdout: int,
    track: Track,
) -> FrameReport:  # fmt: skip
    """Write the frames of simultaneous cameras.

    Args:
        footage: by the name of the camera's sequence.
        size: height and width of the images.
        holdout: every n-th frame is held out for evaluation, from half an interval on, never the first or last; 0: none.
        track: wraps an iterable in a progress bar with a title and a total.

    Raises:
        ValueError: there are too few frames to learn anything from.
    """
    known = read_frame_report(out)
    if known is not None and all((out / frame.image).is_file() for f in known.sequences.values() for frame in f):
        return known
    shorter = [f.expected(choice) for _, f in footage]
    pairs = len(footage) > 1
    readers = [f.frames(choice) for _, f in footage]
    frames: dict[str, list[FrameFigures]] = {name: [] for name, _ in footage}
    before: dict[str, Any] = {}
    total = min((n for n in shorter if n is not None), default=None)
    moments = track(with_last(zip(*readers, strict=False)), f"{footage[0][1].path.name}: frames", total)
    for step, (moment, last) in enumerate(moments):
        held = is_held_out(step, holdout, last)
        for (name, _), taken in zip(footage, moment, strict=True):
            file = image_name(name, f"{step:05d}", held, pairs)
            pixels = taken.pixels(size)
            if not (out / file).is_file():
                write_image(out / file, pixels)
            seconds = moment[0].seconds  # simultaneous cameras share the first one's clock
            frames[name].append(FrameFigures(
                file, step, None if seconds is None else round(seconds, 6), held, round(sharpness(pixels), 3),
                round(luminance(pixels), 5), taken.origin, round(change(pixels, before[name]), 3) if step else None,
            ))  # fmt: skip
            before[name] = pixels
    _check_count(footage, {name: sum(not f.held_out for f in listed) for name, listed in frames.items()}, choice)
    report = _report(footage, {name: judged(listed) for name, listed in frames.items()}, shorter, size)
    write_frame_report(out, report)
    return report


def image_name(sequence: str, stem: str, held: bool, several: bool) -> str:
    """Where an image lies in the clip, as the loader expects it."""
    if not held:
        return f"images/{sequence}/{stem}.png"
    return f"eval/images/{f'{sequence}_' if several else ''}{stem}.png"


def is_held_out(step: int, holdout: int, last: bool) -> bool:
    """Whether a time step is kept from training: every n-th from half an interval on, never the clip's ends."""
    return holdout > 0 and step % holdout == holdout // 2 and step > 0 and not last


def with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last one."""
    iterator = iter(items)
    try:
        item = next(iterator)
    except StopIteration:
        return
    for following in iterator:
        yield item, False
        item = following
    yield item, True


def _check_count(footage: list[tuple[str, Footage]], training: dict[str, int], choice: Choice) -> None:
    fewest = min(training.values())
    if fewest >= MIN_TRAINING_FRAMES:
        return
    asked = [f"--{name.replace('_', '-')} {value:g}" for name, value in vars(choice).items() if value is not None]
    notes = " ".join(footage[0][1].notes)
    raise ValueError(
        f"{footage[0][1].path}: found {fewest} training frame{'' if fewest == 1 else 's'}"
        f"{' with ' + ' '.join(asked) if asked else ''}; expected at least {MIN_TRAINING_FRAMES}, better 30: motion and "
        f"depth come from how things change between frames. {notes + ' ' if notes else ''}"
        + ("Take more of it: relax these options." if asked else "Use a longer film.")
    )


def _report(
    footage: list[tuple[str, Footage]], frames: dict[str, tuple[FrameFigures, ...]], counts: list[int | None],
    size: tuple[int, int],
) -> FrameReport:  # fmt: skip
    notes: list[str] = []
    for name, f in footage:
        prefix = f"{name}: " if len(footage) > 1 else ""
        notes += [prefix + note for note in f.notes] + frame_notes(name, frames[name])
    if len(footage) > 1 and len(set(counts)) > 1:
        notes.append(
            f"The cameras have {counts} frames; the first {len(next(iter(frames.values())))} of each are used."
        )
    found = footage[0][1].focal(size)
    return FrameReport(
        sequences=frames,
        footage={name: f.facts() for name, f in footage},
        notes=tuple(notes),
        focal=None if found is None else {"pixels": found[0], "source": found[1]},
    )


def footage_request(footage: list[tuple[str, Footage]], choice: Choice) -> dict[str, Any]:
    """What decides the frames, for the record that tells whether a folder was made from the same."""
    files = [{"path": str(f.path.resolve()), "bytes": f.path.stat().st_size if f.path.is_file() else None}
             for _, f in footage]  # fmt: skip
    return {"footage": files, "frames": dataclasses.asdict(choice)}
