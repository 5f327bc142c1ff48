"""Bring a source into the clip folder: images, cameras if it has any, and held-out views, before any prior is made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from dyngs_plugins.priors.clip_files import read_eval_json, read_json
from dyngs_plugins.priors.extract import image_name
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.footage import Choice, find_footage
from dyngs_plugins.priors.frame_report import FrameReport, read_frame_report
from dyngs_plugins.priors.ingest_footage import footage_clip, is_footage, open_footage_clip
from dyngs_plugins.priors.pixels import resize_image
from dyngs_plugins.priors.prepared import (
    RECORD,
    PreparedClip,
    choose_keyframes,
    claim,
    eval_view,
    ordinal,
    target_size,
)
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.inputs import FrameSequence, read_rgb
from dyngs_plugins.priors.som_files import write_cameras, write_clip_json, write_eval_json, write_image
from dyngs_plugins.priors.sources import Source, read_source, resized, subset


def open_clip(
    source: Path, out: Path | None, *, height: int | None, width: int | None, max_size: int | None, holdout: int,
    track: Track, choice: Choice | None = None, right: Path | None = None, say: Say = print,
) -> PreparedClip:  # fmt: skip
    """Read the source, check where to write, and write what is missing of images, cameras, clip.json and eval.json.

    Args:
        choice: which frames of footage to take.
        right: what a second camera filmed at the same time.
        track: wraps an iterable in a progress bar with a title.
        say: prints a line for the user.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: with what was found, expected and what to try.
    """
    if holdout < 0 or holdout == 1:
        raise ValueError(f"--holdout is {holdout}; expected 0 (keep every frame) or 2 and more (hold out every n-th).")
    choice = choice or Choice()
    if is_footage(source, right):
        size = height, width, max_size
        return open_footage_clip(source, out, find_footage(source, right), size, choice, holdout, track, say)
    if choice != Choice() or right is not None:
        raise ValueError(
            f"{source}: --fps, --max-frames, --start, --end and --right are for films and folders of bare images. This "
            "folder has cameras for its images; leave them out."
        )
    read = read_source(source)
    if read.layout == "clip":
        if (height, width, max_size) != (None, None, None):
            raise ValueError(
                f"{source} is already a clip folder; its images keep their size, so that priors that exist still fit. "
                "Leave out --height, --width and --max-size."
            )
        return _open_clip_folder(read, out, holdout)
    if out is None:
        raise ValueError(f"{source}: --out FOLDER is needed; nothing is written into a folder of plain images.")
    sizes = {frames.size for frames in read.sequences}
    if len(sizes) > 1:
        raise ValueError(f"{source}: the cameras have images of different sizes {sorted(sizes)}.")
    size = target_size(read.sequences[0].size, height, width, max_size)
    request = {"source": str(source.resolve()), "layout": read.layout, "size": list(size), "holdout": holdout}
    claim(source, out, request)
    return _write_clip(read, out, size, holdout, request, track)


def _write_clip(
    read: Source, out: Path, size: tuple[int, int], holdout: int, request: dict[str, Any], track: Track
) -> PreparedClip:  # fmt: skip
    training, everything, views = [], [], []
    for camera, frames in enumerate(read.sequences):
        held = [i for i in range(len(frames)) if holdout and i % holdout == 0]
        kept = [i for i in range(len(frames)) if i not in set(held)]
        if len(kept) < 2:
            raise ValueError(
                f"{read.root}: {len(kept)} training frames are left of {len(frames)}; expected at least 2."
            )
        several = len(read.sequences) > 1
        files = tuple(out / image_name(frames.name, stem, i in held, several) for i, stem in enumerate(frames.stems))
        for origin, file in track(list(zip(frames.image_files, files, strict=True)), f"{frames.name}: images"):
            if not file.is_file():
                write_image(file, resize_image(read_rgb(origin), size))
        small = resized(frames, size, files)
        everything.append(small)
        training.append(subset(small, kept))
        views += [eval_view(small, i, camera, out) for i in held]
        _write_cameras_once(out, training[-1])
    protocol = f"held-out frames (every {ordinal(holdout)})" if holdout else "no held-out views"
    scale = size[1] / read.sequences[0].size[1]
    clip = PreparedClip(out, tuple(training), tuple(everything), protocol, request, scale=scale)
    if not (out / "clip.json").is_file():
        index = {s.name: dict(zip(s.stems, s.frame_index, strict=True)) for s in training}
        write_clip_json(out / "clip.json", [s.name for s in training], read.num_frames, read.fps, index, protocol)
    if views and not (out / "eval" / "eval.json").is_file():
        write_eval_json(out / "eval" / "eval.json", protocol, views)
    return clip


def _write_cameras_once(out: Path, frames: FrameSequence) -> None:
    file = out / "droid_recon" / f"{frames.name}.npy"
    if not file.is_file():
        K = frames.K[0]
        write_cameras(
            file, frames.world_T_camera, (K[0, 0], K[1, 1], K[0, 2], K[1, 2]), frames.size, choose_keyframes(frames)
        )


def _open_clip_folder(read: Source, out: Path | None, holdout: int) -> PreparedClip:
    """A clip folder is filled in place, or copied first when `out` is another folder."""
    root = read.root
    if out is not None and out.resolve() != root.resolve():
        claim(root, out, {"source": str(root.resolve()), "layout": "clip"})
        _copy_missing(root, out)
        read, root = read_source(out), out
    request: dict[str, Any] = {"source": str(read.root.resolve()), "layout": "clip"}
    report = read_frame_report(root)
    if report is not None:  # the folder was made from footage, which need not be at hand any more
        return _reopened(root, read, report, request)
    if (root / "eval" / "eval.json").is_file():
        protocol, _ = read_eval_json(root / "eval" / "eval.json")
        return PreparedClip(root, read.sequences, read.sequences, protocol, request)
    held = loader_holdout(read.num_frames, holdout)
    training = tuple(subset(s, [i for i in range(len(s)) if s.frame_index[i] not in held]) for s in read.sequences)
    protocol = f"held-out frames (every {ordinal(holdout)} from frame {min(held)} on)" if held else "no held-out views"
    return PreparedClip(root, training, read.sequences, protocol, {**request, "holdout": holdout})


def _reopened(root: Path, read: Source, report: FrameReport, request: dict[str, Any]) -> PreparedClip:
    """A clip of ours from footage, opened by its own folder: with its held-out frames, and under its own record."""
    if (root / RECORD).is_file():
        request = read_json(root / RECORD, "record of dyngs process").get("input", request)
    missing = [
        frame.image for listed in report.sequences.values() for frame in listed if not (root / frame.image).is_file()
    ]
    if missing:
        raise FileNotFoundError(f"{root / missing[0]}: no such image, and {len(missing) - 1} more that {root / 'frames.json'} "
                                "lists. Run `dyngs process` on the film again with this --out.")  # fmt: skip
    size = read.sequences[0].size
    full = next(iter(report.footage.values())).get("size", size)
    return footage_clip(root, report, size, int(request.get("holdout", 0)), request, scale=size[1] / full[1])


def loader_holdout(num_frames: int, interval: int) -> set[int]:
    """The time steps that the data loader holds out of a clip without eval/eval.json (its `eval_interval`)."""
    if interval <= 0:
        return set()
    first = interval // 2 if interval // 2 < num_frames - 1 else num_frames // 2
    return {step for step in range(first, num_frames - 1, interval) if step > 0}


def _copy_missing(source: Path, out: Path) -> None:
    for file in sorted(p for p in source.rglob("*") if p.is_file()):
        copy = out / file.relative_to(source)
        if not copy.exists():
            with open(file, "rb") as content, atomic_file(copy) as target:
                shutil.copyfileobj(content, target)
