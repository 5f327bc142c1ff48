"""Bring a source into the clip folder: images, cameras and held-out views, before any prior is made."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dyngs_plugins.priors.clip_files import EvalView, read_eval_json, read_json, write_json
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.providers.inputs import FrameSequence, read_rgb
from dyngs_plugins.priors.som_files import write_cameras, write_clip_json, write_eval_json, write_image
from dyngs_plugins.priors.sources import Source, read_source, resize_image, resized, subset

RECORD = "process.json"  # what `dyngs process` did to a folder; also the mark that a folder is its own


@dataclasses.dataclass(frozen=True)
class PreparedClip:
    """A clip folder ready for priors."""

    root: Path
    training: tuple[FrameSequence, ...]  # the frames that may influence a prior
    everything: tuple[FrameSequence, ...]  # with the held-out frames, in time order; for evaluation only
    protocol: str
    source: dict[str, Any]


def target_size(size: tuple[int, int], height: int | None, width: int | None, max_size: int | None) -> tuple[int, int]:
    """(height, width) of the images to write, with the aspect ratio kept if only one length is given.

    Raises:
        ValueError: for sizes below 16 pixels, or --max-size together with another.
    """
    if max_size is not None and (height is not None or width is not None):
        raise ValueError("--max-size cannot be combined with --height or --width; give one of them.")
    if max_size is not None:
        scale = min(1.0, max_size / max(size))
        result = round(size[0] * scale), round(size[1] * scale)
    elif height is not None and width is not None:
        result = height, width
    elif height is not None:
        result = height, round(size[1] * height / size[0])
    elif width is not None:
        result = round(size[0] * width / size[1]), width
    else:
        result = size
    if min(result) < 16:
        raise ValueError(f"Images of {result[1]}x{result[0]} pixels are too small; expected at least 16x16.")
    return result


def open_clip(
    source: Path, out: Path | None, *, height: int | None, width: int | None, max_size: int | None, holdout: int,
    track: Callable[[Any, str], Any],
) -> PreparedClip:  # fmt: skip
    """Read the source, check where to write, and write what is missing of images, cameras, clip.json and eval.json.

    Args:
        track: wraps an iterable in a progress bar with a title.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: with what was found, expected and what to try.
    """
    if holdout < 0 or holdout == 1:
        raise ValueError(f"--holdout is {holdout}; expected 0 (keep every frame) or 2 and more (hold out every n-th).")
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
    _claim(source, out, request)
    return _write_clip(read, out, size, holdout, request, track)


def _claim(source: Path, out: Path, request: dict[str, Any]) -> None:
    """Refuse folders that are not ours or were made from something else; else leave our mark."""
    ours, theirs = out.resolve(), source.resolve()
    if ours == theirs or theirs in ours.parents or ours in theirs.parents:
        raise ValueError(
            f"--out {out} and the source {source} lie inside each other. Choose a folder beside the source, "
            f"for example {theirs.with_name(theirs.name + '_clip')}."
        )
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out {out} is a file; expected a folder or a free name.")
    if (out / RECORD).is_file():
        earlier = read_json(out / RECORD, "record of dyngs process").get("input", {})
        if earlier != request:
            changed = [f"{k}: {earlier.get(k)} there, {v} now" for k, v in request.items() if earlier.get(k) != v]
            raise ValueError(
                f"--out {out} was made with other settings ({'; '.join(changed)}). Give the same settings to resume "
                "it, or choose another folder."
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"--out {out} is not empty and was not made by `dyngs process` (it has no {RECORD}). "
            "Choose another folder, or empty this one yourself."
        )
    write_json(out / RECORD, {"input": request, "status": "unfinished"})


def _write_clip(
    read: Source, out: Path, size: tuple[int, int], holdout: int, request: dict[str, Any],
    track: Callable[[Any, str], Any],
) -> PreparedClip:  # fmt: skip
    training, everything, views = [], [], []
    for camera, frames in enumerate(read.sequences):
        held = [i for i in range(len(frames)) if holdout and i % holdout == 0]
        kept = [i for i in range(len(frames)) if i not in set(held)]
        if len(kept) < 2:
            raise ValueError(
                f"{read.root}: {len(kept)} training frames are left of {len(frames)}; expected at least 2."
            )
        files = tuple(
            out
            / (
                f"eval/images/{_eval_name(read, camera, stem)}.png"
                if i in set(held)
                else f"images/{frames.name}/{stem}.png"
            )
            for i, stem in enumerate(frames.stems)
        )
        for origin, file in track(list(zip(frames.image_files, files, strict=True)), f"{frames.name}: images"):
            if not file.is_file():
                write_image(file, resize_image(read_rgb(origin), size))
        small = resized(frames, size, files)
        everything.append(small)
        training.append(subset(small, kept))
        views += [_eval_view(small, i, camera, out) for i in held]
        _write_cameras_once(out, training[-1])
    protocol = f"held-out frames (every {_ordinal(holdout)})" if holdout else "no held-out views"
    clip = PreparedClip(out, tuple(training), tuple(everything), protocol, request)
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


def choose_keyframes(frames: FrameSequence, target: int = 16) -> list[int]:
    """About `target` frames spread evenly over the camera's path, the first and the last included."""
    centres = frames.world_T_camera[:, :3, 3]
    path = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    if path[-1] <= 0:
        path = np.arange(len(frames), dtype=float)
    wanted = np.linspace(0, path[-1], min(target, len(frames)))
    return sorted({int(np.argmin(np.abs(path - value))) for value in wanted})


def _eval_name(read: Source, camera: int, stem: str) -> str:
    return stem if len(read.sequences) == 1 else f"{read.sequences[camera].name}_{stem}"


def _eval_view(frames: FrameSequence, i: int, camera: int, out: Path) -> EvalView:
    return EvalView(
        image=str(frames.image_files[i].relative_to(out / "eval").as_posix()),
        camera=camera,
        frame=frames.frame_index[i],
        K=frames.K[i].tolist(),
        world_T_camera=frames.world_T_camera[i].tolist(),
    )


def _ordinal(n: int) -> str:
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10 if n % 100 not in (11, 12, 13) else 0, 'th') }"


def _open_clip_folder(read: Source, out: Path | None, holdout: int) -> PreparedClip:
    """A clip folder is filled in place, or copied first when `out` is another folder."""
    root = read.root
    if out is not None and out.resolve() != root.resolve():
        _claim(root, out, {"source": str(root.resolve()), "layout": "clip"})
        _copy_missing(root, out)
        read, root = read_source(out), out
    request: dict[str, Any] = {"source": str(read.root.resolve()), "layout": "clip"}
    if (root / "eval" / "eval.json").is_file():
        protocol, _ = read_eval_json(root / "eval" / "eval.json")
        return PreparedClip(root, read.sequences, read.sequences, protocol, request)
    held = loader_holdout(read.num_frames, holdout)
    training = tuple(subset(s, [i for i in range(len(s)) if s.frame_index[i] not in held]) for s in read.sequences)
    protocol = f"held-out frames (every {_ordinal(holdout)} from frame {min(held)} on)" if held else "no held-out views"
    return PreparedClip(root, training, read.sequences, protocol, {**request, "holdout": holdout})


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
