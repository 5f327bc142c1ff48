"""Frames of a film with their true times: each once, upright, in 8-bit sRGB, and what of the film was lost.

Decoding is single-threaded, so that the same file gives the same frames at every run, damaged or not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from dyngs_plugins.priors import film_colour
from dyngs_plugins.priors.pixels import resize_image

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

FILM_SUFFIXES = (
    ".mp4",
    ".mov",
    ".m4v",
    ".mkv",
    ".avi",
    ".webm",
    ".mts",
    ".m2ts",
    ".3gp",
    ".mpg",
    ".mpeg",
    ".ogv",
    ".wmv",
)
BT601, BT709, UNSPECIFIED = 5, 1, 2  # H.273's numbers of colour matrices
SEEK_MARGIN = 1.0


@dataclasses.dataclass(frozen=True)
class FilmFacts:
    """What a film's header and first frame say."""

    codec: str
    size: tuple[int, int]
    """Height and width of the upright picture with square pixels."""
    rate: float | None
    """Frames per second on average, as the header claims."""
    duration: float | None
    """Seconds, as the header claims."""
    count: int
    """Frames, as the header claims; 0 where it does not."""
    bits: int
    transfer: int
    rotation: int
    """Degrees, counter-clockwise, by which the stored picture is turned."""

    @property
    def notes(self) -> list[str]:
        """What is done to the pictures, in sentences."""
        notes = []
        if self.transfer in film_colour.NAMES:
            notes.append(f"The film is {self.bits}-bit {film_colour.NAMES[self.transfer]} with wide colours; its frames "
                         "are converted to 8-bit sRGB with highlights compressed.")  # fmt: skip
        elif self.bits > 8:
            notes.append(f"The film has {self.bits} bits a channel; its frames are converted to 8 bits.")
        if self.rotation:
            notes.append(f"The film is stored turned by {abs(self.rotation)} degrees; its frames are turned upright.")
        return notes


@dataclasses.dataclass
class Damage:
    """What could not be read; filled while a film is decoded."""

    lost: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    """From when to when (seconds) nothing sound could be decoded."""
    repeated: int = 0
    """Frames with the time of an earlier one, which were left out."""
    cut: bool = False
    """The file ends before its last frame."""
    untimed: bool = False
    """The film has no timestamps; times go by the header's rate."""

    @property
    def notes(self) -> list[str]:
        """In sentences."""
        notes = [f"The film is damaged: nothing sound between {a:.2f} s and {b:.2f} s; those frames are left out."
                 for a, b in self.lost]  # fmt: skip
        if self.cut:
            notes.append("The film breaks off before the end that its header claims; the frames before are used.")
        if self.repeated:
            notes.append(f"{self.repeated} frames with the time of another one are left out.")
        if self.untimed:
            notes.append("The film has no timestamps; its frames are taken as evenly spaced.")
        return notes


@dataclasses.dataclass(frozen=True)
class FilmFrame:
    """A decoded frame; its pixels are converted when asked for."""

    seconds: float
    """Since the film's start."""
    picture: av.VideoFrame
    facts: FilmFacts

    def pixels(self, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """Upright sRGB of (height, width), area-averaged when shrinking."""
        turns = round(self.facts.rotation / 90) % 4
        stored = (size[1], size[0]) if turns % 2 else size
        picture, hdr = self.picture, self.facts.transfer in film_colour.NAMES
        matrix = int(picture.colorspace)
        if matrix == UNSPECIFIED:
            matrix = BT709 if picture.height >= 720 else BT601
        pixels = picture.to_ndarray(format="rgb48le" if hdr else "rgb24", src_colorspace=matrix)
        pixels = resize_image(pixels, stored)
        if hdr:
            pixels = film_colour.to_srgb(pixels.astype(np.uint16), self.facts.transfer)
        return np.ascontiguousarray(np.rot90(pixels, turns))


def open_film(path: Path) -> InputContainer:
    """A film, opened for reading, whatever bytes its title and its comments are.

    Raises:
        av.error.FFmpegError: it is no film.
    """
    import av

    # PyAV 19 has no such option: it reads text that is not UTF-8 as it is. Before, that was an error by default.
    options: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    return av.open(str(path), "r", **options)


def film_facts(path: Path) -> FilmFacts:
    """Open a film and decode its first frame.

    Raises:
        FileNotFoundError, ValueError: no such file, no film, sound only, or nothing that can be decoded.
    """
    from av.error import FFmpegError

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such film.")
    if path.stat().st_size == 0:
        raise ValueError(
            f"{path}: the file is empty (0 bytes). Expected a film: copy it again from where it was recorded."
        )
    try:
        with open_film(path) as container:
            if not container.streams.video:
                kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
                raise ValueError(f"{path}: it holds no pictures, only {', '.join(kinds)}. Expected a film; was it exported "
                                 "as sound only?")  # fmt: skip
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for picture, _ in _decoded(container, stream):
                if picture is not None:
                    return _facts(container, stream, picture)
    except (FFmpegError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error  # without FFmpeg's number, which says nothing to anybody
        raise ValueError(f"{path}: cannot be opened as a film ({why}; {path.stat().st_size} bytes). Expected a complete "
                         "video file such as .mp4 or .mov: copy it again, or convert it with ffmpeg.") from error  # fmt: skip
    raise ValueError(f"{path}: not one frame can be decoded. Expected a film; this file is truncated or damaged from its "
                     "start on: copy it again.")  # fmt: skip


def read_film(path: Path, facts: FilmFacts, damage: Damage, start: float = 0.0) -> Iterator[FilmFrame]:
    """Every sound frame from `start` on (seconds), each time once and in the order of presentation.

    After an error of the decoder what follows is built on sand, so frames count again from the next key frame on.

    Args:
        facts: see :func:`film_facts`.
        damage: takes down what was lost, as it is found.
    """
    with open_film(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        unit, origin = float(stream.time_base or 1e-6), stream.start_time
        if start > SEEK_MARGIN and origin is not None:
            container.seek(origin + round((start - SEEK_MARGIN) / unit), stream=stream, backward=True)
        last, shown, broken_since = -np.inf, -1, None
        for picture, failed in _decoded(container, stream):
            if picture is None:
                broken_since = max(last, 0.0) if broken_since is None else broken_since
                damage.cut |= failed == "end"
                continue
            shown += 1
            if picture.pts is None:
                damage.untimed = True
                seconds = shown / (facts.rate or 30.0)
            else:
                origin = picture.pts if origin is None else origin
                seconds = (picture.pts - origin) * unit
            if picture.is_corrupt and broken_since is None:
                broken_since = max(last, 0.0)
            if broken_since is not None:
                if not picture.key_frame or picture.is_corrupt:
                    continue
                damage.lost.append((broken_since, seconds))
                broken_since = None
            if seconds <= last:
                damage.repeated += 1
                continue
            last = seconds
            if seconds >= start - 1e-9:
                yield FilmFrame(seconds, picture, facts)
        if broken_since is not None:
            damage.lost.append((broken_since, max(facts.duration or last, last)))


def packet_times(path: Path) -> list[float]:
    """Times of presentation (seconds) that the film's packets claim, sorted; nothing is decoded. Empty where unknown."""
    from av.error import FFmpegError

    times: list[float] = []
    with open_film(path) as container:
        stream = container.streams.video[0]
        unit, origin = float(stream.time_base or 1e-6), stream.start_time or 0
        with contextlib.suppress(FFmpegError):  # a damaged tail: what was seen until there is the estimate asked for
            for packet in container.demux(stream):
                if packet.pts is not None and not packet.is_discard:
                    times.append((packet.pts - origin) * unit)
    return sorted(t for t in times if t >= 0)


def _decoded(container: Any, stream: Any) -> Iterator[tuple[av.VideoFrame | None, str]]:
    """(frame, "") as they come, and (None, what) for a packet that fails ("packet") or a file that breaks off ("end")."""
    from av.error import EOFError as EndOfFile
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except EndOfFile:
            return
        except FFmpegError:
            yield None, "end"
            return
        if packet is None:
            return
        try:
            pictures = packet.decode()
        except EndOfFile:
            continue
        except FFmpegError:
            yield None, "packet"
            continue
        for picture in pictures:
            yield picture, ""


def _facts(container: Any, stream: Any, picture: av.VideoFrame) -> FilmFacts:
    rotation = round(getattr(picture, "rotation", 0) / 90) * 90
    aspect = float(stream.sample_aspect_ratio or 1.0) or 1.0
    height, width = picture.height, round(picture.width * aspect)
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / 1e6
    return FilmFacts(
        codec=stream.codec_context.name,
        size=(width, height) if rotation % 180 else (height, width),
        rate=float(stream.average_rate) if stream.average_rate else None,
        duration=duration,
        count=int(stream.frames or 0),
        bits=max(component.bits for component in picture.format.components),
        transfer=int(picture.color_trc),
        rotation=rotation,
    )
