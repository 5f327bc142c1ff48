"""A clip folder ready for priors, the mark that tells whose it is, and the small rules that every source shares."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from dyngs_plugins.priors.clip_files import EvalView, read_json, write_json
from dyngs_plugins.priors.frame_report import FrameReport
from dyngs_plugins.priors.providers.inputs import FrameSequence

RECORD = "process.json"  # what `dyngs process` did to a folder; also the mark that a folder is its own


@dataclasses.dataclass(frozen=True)
class PreparedClip:
    """A clip folder ready for priors. Its sequences may lack cameras, which are then solved first."""

    root: Path
    training: tuple[FrameSequence, ...]  # the frames that may influence a prior
    everything: tuple[FrameSequence, ...]  # with the held-out frames, in time order; for evaluation only
    protocol: str
    source: dict[str, Any]
    report: FrameReport | None = None
    """Times, sharpness and brightness, where the frames were taken from footage."""
    scale: float = 1.0
    """Size of the images over that of the source."""


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


def require_apart(source: Path, out: Path) -> None:
    """Refuse an --out in the source, or around it."""
    ours, theirs = out.resolve(), source.resolve()
    if ours == theirs or theirs in ours.parents or ours in theirs.parents:
        raise ValueError(
            f"--out {out} and the source {source} lie inside each other. Choose a folder beside the source, "
            f"for example {theirs.with_name(theirs.stem + '_clip')}."
        )


def claim(source: Path, out: Path, request: dict[str, Any]) -> None:
    """Refuse folders that are not ours or were made from something else; else leave our mark."""
    require_apart(source, out)
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out {out} is a file; expected a folder or a free name.")
    if (out / RECORD).is_file():
        earlier = read_json(out / RECORD, "record of dyngs process").get("input", {})
        if earlier != request:
            changed = [f"{k}: {earlier.get(k)} there, {v} now" for k, v in request.items() if earlier.get(k) != v]
            raise ValueError(
                f"--out {out} was made with other settings ({'; '.join(changed)}). Give the same settings to resume "
                "it, choose another folder, or remove this one first."
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"--out {out} is not empty and was not made by `dyngs process` (it has no {RECORD}). "
            "Choose another folder, or empty this one yourself."
        )
    write_json(out / RECORD, {"input": request, "status": "unfinished"})


def remove_leftovers(root: Path) -> None:
    """Delete what a killed run was writing when it died; see `atomic_file` for the names."""
    for file in root.rglob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.\d+\.tmp", file.name):
            file.unlink(missing_ok=True)


def choose_keyframes(frames: FrameSequence, target: int = 16) -> list[int]:
    """About `target` frames spread evenly over the camera's path, the first and the last included."""
    centres = frames.world_T_camera[:, :3, 3]
    path = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    if path[-1] <= 0:
        path = np.arange(len(frames), dtype=float)
    wanted = np.linspace(0, path[-1], min(target, len(frames)))
    return sorted({int(np.argmin(np.abs(path - value))) for value in wanted})


def eval_view(frames: FrameSequence, i: int, camera: int, out: Path) -> EvalView:
    return EvalView(
        image=str(frames.image_files[i].relative_to(out / "eval").as_posix()),
        camera=camera,
        frame=frames.frame_index[i],
        K=frames.K[i].tolist(),
        world_T_camera=frames.world_T_camera[i].tolist(),
    )


def ordinal(n: int) -> str:
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10 if n % 100 not in (11, 12, 13) else 0, 'th') }"
