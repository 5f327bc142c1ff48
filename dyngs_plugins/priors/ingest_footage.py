"""Bring a film or bare images into the clip folder: frames, times, and a report about them; cameras come later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dyngs_plugins.priors.clip_files import read_clip_json, write_clip_json
from dyngs_plugins.priors.extract import extract, footage_request
from dyngs_plugins.priors.footage import DEFAULT_SHORT_SIDE, Choice, Footage, bare_images
from dyngs_plugins.priors.frame_report import FrameReport
from dyngs_plugins.priors.prepared import PreparedClip, claim, ordinal, target_size
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.inputs import FrameSequence
from dyngs_plugins.priors.sources import subset, with_camera_file


def is_footage(source: Path, right: Path | None = None) -> bool:
    """Whether a source is a film or bare images, and not a folder with cameras or a clip."""
    if source.is_file():
        return True
    posed = any((source / name).exists() for name in ("poses_bounds.npy", "droid_recon", "clip.json"))
    return source.is_dir() and not posed and (right is not None or bare_images(source))


def open_footage_clip(
    source: Path, out: Path | None, footage: list[tuple[str, Footage]],
    wanted: tuple[int | None, int | None, int | None], choice: Choice, holdout: int, track: Track,
    say: Say,
) -> PreparedClip:  # fmt: skip
    """Frames out of films or bare images, and cameras where an earlier run has solved them."""
    if out is None:
        raise ValueError(
            f"{source}: --out FOLDER is needed, for example --out {source.with_name(source.stem + '_clip')}."
        )
    full = footage[0][1].size
    if wanted == (None, None, None) and min(full) > DEFAULT_SHORT_SIDE:
        size = target_size(
            full, *((DEFAULT_SHORT_SIDE, None) if full[0] <= full[1] else (None, DEFAULT_SHORT_SIDE)), None
        )
        say(f"{source}: {full[1]}x{full[0]} pixels; frames are written at {size[1]}x{size[0]}. Another size: --height or "
            "--max-size.")  # fmt: skip
    else:
        size = target_size(full, *wanted)
    request = {"source": str(source.resolve()), "layout": "footage", "size": list(size), "holdout": holdout}
    request |= footage_request(footage, choice)
    claim(source, out, request)
    report = extract(footage, out, size, choice, holdout, track)
    return footage_clip(out, report, size, holdout, request, scale=size[1] / full[1])


def footage_clip(
    out: Path, report: FrameReport, size: tuple[int, int], holdout: int, request: dict[str, Any], scale: float
) -> PreparedClip:
    """The clip of extracted frames; writes clip.json if it is missing."""
    training, everything = [], []
    for name, listed in report.sequences.items():
        files = tuple(out / frame.image for frame in listed)
        bare = FrameSequence.without_cameras(name, files, tuple(frame.time_step for frame in listed), size)
        everything.append(bare)
        kept = subset(bare, [i for i, frame in enumerate(listed) if not frame.held_out])
        training.append(with_camera_file(kept, out / "droid_recon" / f"{name}.npy"))
    first = next(iter(report.sequences.values()))
    held = [frame.time_step for frame in first if frame.held_out]
    protocol = "no held-out views"
    if held:
        protocol = (f"held-out frames (every {ordinal(holdout)} from frame {min(held)} on); poses of held-out frames "
                    "located against the training frames' structure")  # fmt: skip
    if (out / "clip.json").is_file():
        protocol = read_clip_json(out / "clip.json").protocol or protocol
    else:
        seconds = [frame.seconds for frame in first if frame.seconds is not None]
        fps = round((len(seconds) - 1) / (seconds[-1] - seconds[0]), 4) if len(seconds) > 1 else None
        index = {s.name: dict(zip(s.stems, s.frame_index, strict=True)) for s in training}
        write_clip_json(out / "clip.json", list(index), len(first), fps, index, protocol, seconds or None)
    return PreparedClip(out, tuple(training), tuple(everything), protocol, request, report, scale)
