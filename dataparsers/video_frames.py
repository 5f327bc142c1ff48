"""The frames of a video as PNG files beside it, extracted once, in the order in which they are shown.

``FOLDER/{frame:05d}.png`` counts from the video's first frame. Each file takes its name when it is complete, so an
extraction that was stopped, in whatever way, goes on where it was. ``frames.json`` says what the folder belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from nerfstudio.utils.rich_utils import get_progress
from PIL import Image
from rich.markup import escape

from dataparsers.resized import reduced_size
from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.film import open_film

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
FOLDER_FLAG = "--frames-folder"
_FORMAT, _VERSION, _RECORD = "dyngs-frames", 1, "frames.json"


@dataclass(frozen=True)
class VideoFrames:
    """Extracted frames of one video."""

    images: dict[int, Path]
    """By their number in the video."""
    fps: float | None
    full_size: tuple[int, int]
    """Width and height of the video."""


@dataclass(frozen=True)
class _Record:
    """``frames.json``."""

    video: str
    bytes: int
    factor: int
    full_size: tuple[int, int]
    fps: float | None
    count: int | None = None
    """Frames of the whole video, once its end has been seen."""


def extract_frames(video: Path, folder: Path, factor: int, start: int = 0, stop: int | None = None) -> VideoFrames:
    """Frames ``start`` to ``stop`` - 1 of a video (fewer where it ends earlier) at 1/factor, by Lanczos' filter.

    Raises:
        FileNotFoundError, ValueError: no such video, it cannot be decoded, it ends before it should, there are no
            frames in that range, or the folder belongs to another video.
        OSError: the folder cannot be written; names the option that takes another one.
    """
    if not video.is_file():
        raise FileNotFoundError(f"{video}: no such video.")
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"{video}: frames {start} to {stop} were asked for; expected 0 <= start < end.")
    record = _known(video, folder, factor)
    if record is None or not _complete(folder, record, start, stop):
        record = _extract(video, folder, factor, start, stop)
    last = min(x for x in (stop, record.count) if x is not None)
    if last <= start:
        raise ValueError(f"{video}: it has {record.count} frames, so there is none from {start} on. Choose an earlier "
                         "--start.")  # fmt: skip
    images = {index: folder / f"{index:05d}.png" for index in range(start, last)}
    return VideoFrames(images, record.fps, record.full_size)


def decode(video: Path) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float | None, int]]:
    """Every frame in the order of presentation, turned upright, with the rate and the count that the file claims.

    Raises:
        ValueError: it holds no video, or cannot be decoded.
    """
    from av.error import FFmpegError  # not at import time: every ns-* command imports this module

    try:
        with open_film(video) as container:
            if not container.streams.video:
                raise ValueError(f"{video}: it holds no video. Expected a film; was it exported as sound only?")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # several threads crashed on a damaged film, with Python 3.10
            fps = float(stream.average_rate) if stream.average_rate else None
            for frame in container.decode(stream):
                turns = round(getattr(frame, "rotation", 0) / 90)  # telephones store how they were held
                yield np.rot90(frame.to_ndarray(format="rgb24"), turns), fps, stream.frames
    except (FFmpegError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{video}: cannot be decoded ({error}). Expected a complete video; this one is truncated or of another "
            "kind. Download it again."
        ) from error


def video_size(video: Path) -> tuple[int, int]:
    """Width and height of a video's first frame, turned upright.

    Raises:
        ValueError: it cannot be decoded.
    """
    for pixels, _, _ in decode(video):
        return pixels.shape[1], pixels.shape[0]
    raise ValueError(f"{video}: found 0 frames, expected at least one. Download it again.")


def _known(video: Path, folder: Path, factor: int) -> _Record | None:
    """What the folder's record says, if there is one; it must be about this video."""
    path = folder / _RECORD
    if not path.is_file():
        if folder.is_dir() and any(p.suffix == ".png" and not p.name.startswith(".") for p in folder.iterdir()):
            raise ValueError(f"{folder}: it holds images but no {_RECORD}, so nobody knows of which video. Remove the "
                             f"folder, or choose another with {FOLDER_FLAG}.")  # fmt: skip
        return None
    content = read_json(path, "record of extracted frames")
    try:
        if (content.pop("format"), content.pop("version")) != (_FORMAT, _VERSION):
            raise ValueError("of another format")
        width, height = map(int, content.pop("full_size"))
        record = _Record(full_size=(width, height), **content)
        if not isinstance(record.count, int | None) or not isinstance(record.fps, int | float | None):
            raise ValueError(f"count {record.count!r} and fps {record.fps!r}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a record of extracted frames ({error!r}). Remove {folder} to have it made "
                         "anew.") from error  # fmt: skip
    ours = (video.name, video.stat().st_size, factor)
    if (record.video, record.bytes, record.factor) != ours:
        raise ValueError(
            f"{path}: the frames are of {record.video} ({record.bytes} bytes) at 1/{record.factor}, expected "
            f"{ours[0]} ({ours[1]} bytes) at 1/{factor}. Remove {folder} to have it made anew, or choose another with "
            f"{FOLDER_FLAG}."
        )
    return record


def _complete(folder: Path, record: _Record, start: int, stop: int | None) -> bool:
    ends = [x for x in (stop, record.count) if x is not None]
    present = {entry.name for entry in os.scandir(folder)}
    return bool(ends) and all(f"{index:05d}.png" in present for index in range(start, min(ends)))


def _extract(video: Path, folder: Path, factor: int, start: int, stop: int | None) -> _Record:
    record, claimed, index = None, 0, -1
    said = escape(f"Extracting {video.name} at 1/{factor} into {folder}").replace("{", "{{").replace("}", "}}")
    with get_progress(said) as progress:
        task = None
        for index, (pixels, fps, claimed) in enumerate(decode(video)):
            if record is None:
                task = progress.add_task("frames", total=min(x for x in (stop, claimed or None, 1 << 30) if x))
                size = (pixels.shape[1], pixels.shape[0])
                record = _Record(video.name, video.stat().st_size, factor, size, fps)
                _write(folder, record=record)
            if index >= start and not (folder / f"{index:05d}.png").is_file():
                _write(folder, index, pixels, reduced_size(record.full_size, factor))
            progress.update(task, completed=index + 1)  # type: ignore[arg-type]
            if stop is not None and index + 1 >= stop:
                return record
    if record is None:
        raise ValueError(f"{video}: found 0 frames, expected at least one. Download it again.")
    if index + 1 < claimed:
        raise ValueError(
            f"{video}: it ends after {index + 1} frames, expected {claimed}: the file is truncated. Download it again, "
            f"or use what there is with --end {index + 1}."
        )
    record = _Record(**{**asdict(record), "count": index + 1})
    _write(folder, record=record)
    return record


def _write(
    folder: Path,
    index: int | None = None,
    pixels: UInt8[np.ndarray, "h w 3"] | None = None,
    size: tuple[int, int] = (0, 0),
    record: _Record | None = None,
) -> None:
    try:
        if record is not None:
            write_json(folder / _RECORD, {"format": _FORMAT, "version": _VERSION, **asdict(record)})
        if pixels is not None:
            image = Image.fromarray(np.ascontiguousarray(pixels))
            with atomic_file(folder / f"{index:05d}.png") as file:
                image.resize(size, Image.Resampling.LANCZOS).save(file, format="PNG", compress_level=1)
    except OSError as error:
        raise OSError(
            f"{folder}: cannot be written ({error}). The frames of a video are extracted once and kept; give them a "
            f"folder with enough space: {FOLDER_FLAG} PATH."
        ) from error
