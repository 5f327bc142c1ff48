"""Footage without cameras: a film, a folder of images, or several of them that filmed at the same time (stereo)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from dyngs_plugins.priors.film import Damage, FilmFacts, film_facts, packet_times, read_film
from dyngs_plugins.priors.footage_hints import films_in, hint, is_film
from dyngs_plugins.priors.stills import exif_focal, read_still, still_files, still_size

T = TypeVar("T")
FEWEST_STILLS = 3
"""A folder with films and fewer images than this is a folder of films, whose images are posters and the like."""
DEFAULT_SHORT_SIDE = 480
"""Pixels of the shorter side of frames, unless the user says otherwise: what weight-free priors handle in minutes."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which frames to take."""

    fps: float | None = None
    """Frames per second at most; of a film the frames nearest to an even spacing, each once."""
    max_frames: int | None = None
    """At most so many, thinned evenly."""
    start: float | None = None
    end: float | None = None
    """Seconds since the start of the footage."""

    def __post_init__(self) -> None:
        for name, value in (("--fps", self.fps), ("--max-frames", self.max_frames)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; expected a number above 0.")
        for name, value in (("--start", self.start), ("--end", self.end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; expected seconds from 0 on.")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError(f"--start {self.start or 0:g} and --end {self.end:g} leave nothing; expected start < end.")


@dataclasses.dataclass(frozen=True)
class Taken:
    """One frame of footage; its pixels are decoded when asked for."""

    seconds: float | None
    origin: str
    """Name of its file, where it has one of its own."""
    pixels: Callable[[tuple[int, int]], UInt8[np.ndarray, "h w 3"]]


class Footage(Protocol):
    """What one camera filmed."""

    path: Path
    size: tuple[int, int]
    """Height and width, upright."""

    def frames(self, choice: Choice) -> Iterator[Taken]:
        """The chosen frames in time order."""
        ...

    def expected(self, choice: Choice) -> int | None:
        """About how many there will be."""
        ...

    @property
    def notes(self) -> list[str]:
        """What the user should know; complete once the frames have been read."""
        ...

    def facts(self) -> dict[str, Any]:
        """For the record."""
        ...

    def focal(self, size: tuple[int, int]) -> tuple[float, str] | None:
        """Focal length in pixels at (height, width) and who says so, if anybody does."""
        ...


class Film:
    """A film, see `dyngs_plugins.priors.film`."""

    def __init__(self, path: Path) -> None:
        self.path, self._facts, self._damage = path, film_facts(path), Damage()
        self.size = self._facts.size

    def frames(self, choice: Choice) -> Iterator[Taken]:
        self._damage = Damage()
        start = choice.start or 0.0
        frames = read_film(self.path, self._facts, self._damage, start)
        if choice.end is not None:
            end = choice.end
            frames = itertools.takewhile(lambda frame: frame.seconds < end, frames)
        if choice.fps is not None:
            frames = evenly(frames, choice.fps, lambda frame: frame.seconds)
        stride = self._stride(choice)
        frames = itertools.islice(frames, 0, None, stride)
        if choice.max_frames is not None:
            frames = itertools.islice(frames, choice.max_frames)
        for frame in frames:
            yield Taken(frame.seconds, "", frame.pixels)

    @functools.cached_property
    def _claimed_times(self) -> list[float]:
        """Of all its frames; the whole file is gone through for them, so once."""
        return packet_times(self.path)

    def _times(self, choice: Choice) -> list[float]:
        """Claimed times of the frames before thinning to --max-frames."""
        times = [t for t in self._claimed_times if (choice.start or 0.0) <= t < (choice.end or math.inf)]
        return times if choice.fps is None else list(evenly(times, choice.fps, float))

    def _stride(self, choice: Choice) -> int:
        if choice.max_frames is None:
            return 1
        count = len(self._times(choice)) or self._facts.count
        return max(math.ceil(count / choice.max_frames), 1)

    def expected(self, choice: Choice) -> int | None:
        count = len(self._times(choice)) or self._facts.count
        return math.ceil(count / self._stride(choice)) if count else None

    @property
    def notes(self) -> list[str]:
        return [*self._facts.notes, *self._damage.notes]

    def facts(self) -> dict[str, Any]:
        f: FilmFacts = self._facts
        return {"film": self.path.name, "codec": f.codec, "size": list(f.size), "rate": f.rate, "seconds": f.duration,
                "frames": f.count, "bits": f.bits, "rotation": f.rotation}  # fmt: skip

    def focal(self, size: tuple[int, int]) -> None:
        return None


class Stills:
    """A folder of images in natural order; --fps says at which rate they were taken."""

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, still_files(path)
        if not self.files:
            raise FileNotFoundError(
                f"{path}: no images. Expected a film, or a folder of .png or .jpg images.{hint(path)}"
            )
        self.size = still_size(self.files)
        self._transparent = 0

    def frames(self, choice: Choice) -> Iterator[Taken]:
        self._transparent = 0
        for i, file in self._chosen(choice):
            yield Taken(
                None if choice.fps is None else i / choice.fps,
                file.name,
                lambda size, file=file: self._read(file, size),
            )

    def _chosen(self, choice: Choice) -> list[tuple[int, Path]]:
        if choice.fps is None and (choice.start is not None or choice.end is not None):
            raise ValueError(f"{self.path}: images have no times, so --start and --end need --fps: the rate at which they "
                             "were taken.")  # fmt: skip
        fps = choice.fps or 1.0
        start, end = (choice.start or 0.0), choice.end if choice.end is not None else math.inf
        chosen = [(i, file) for i, file in enumerate(self.files) if start <= i / fps < end]
        if not chosen:
            raise ValueError(
                f"{self.path}: its {len(self.files)} images at {fps:g} per second end before --start {start:g}."
            )
        stride = 1 if choice.max_frames is None else math.ceil(len(chosen) / choice.max_frames)
        return chosen[::stride]

    def _read(self, file: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        pixels, seen_through = read_still(file, size)
        self._transparent += seen_through
        return pixels

    def expected(self, choice: Choice) -> int | None:
        return len(self._chosen(choice))

    @property
    def notes(self) -> list[str]:
        if not self._transparent:
            return []
        return [f"{self._transparent} images have transparent pixels; they are put over white."]

    def facts(self) -> dict[str, Any]:
        return {"folder": self.path.name, "size": list(self.size), "frames": len(self.files)}

    def focal(self, size: tuple[int, int]) -> tuple[float, str] | None:
        return exif_focal(self.files[0], size)


def evenly(frames: Iterable[T], fps: float, seconds: Callable[[T], float]) -> Iterator[T]:
    """Of frames in time order those nearest to times 1 / fps apart, counted from the first; none twice."""
    held: tuple[int, float, T] | None = None  # its place in the even spacing, how far off it is, itself
    origin = None
    for frame in frames:
        origin = seconds(frame) if origin is None else origin
        place = (seconds(frame) - origin) * fps
        slot = math.floor(place + 0.5)
        distance = slot - place
        if held is not None and held[0] != slot:
            yield held[2]
            held = None
        if held is None or abs(distance) < abs(held[1]):
            held = slot, distance, frame
    if held is not None and held[1] < 0.25:  # else the end comes long before the last place
        yield held[2]


def find_footage(root: Path, right: Path | None = None) -> list[tuple[str, Footage]]:
    """The cameras' footage by name: one, or with `right` a stereo pair, or one for each folder or film of simultaneous
    cameras (`left/` and `right/`, or `cam*/`).

    Raises:
        FileNotFoundError, ValueError: nothing there, or the cameras' pictures differ in size.
    """
    paths = [root, right] if right is not None else _cameras_of(root) or [root]
    if paths == [root] and films_in(root) and len(still_files(root)) < FEWEST_STILLS:
        raise ValueError(f"{root}: a folder of films, expected one film or a folder of images.{hint(root)}")
    found: list[tuple[str, Footage]] = [(f"camera{i}", open_footage(path)) for i, path in enumerate(paths)]
    sizes = {footage.size for _, footage in found}
    if len(sizes) > 1:
        shown = ", ".join(f"{f.path.name} {f.size[1]}x{f.size[0]}" for _, f in found)
        raise ValueError(
            f"{root}: simultaneous cameras with pictures of different sizes ({shown}). Resize them to one."
        )
    return found


def open_footage(path: Path) -> Footage:
    """A film or a folder of images.

    Raises:
        FileNotFoundError, ValueError: with what was found, expected and what to try.
    """
    if path.is_dir():
        return Stills(path if still_files(path) else path / "images" if still_files(path / "images") else path)
    return Film(path)


def bare_images(root: Path) -> bool:
    """Whether a folder holds images that nobody has solved cameras for, as one sequence or one per camera."""
    return bool(still_files(root) or still_files(root / "images") or _cameras_of(root))


def _cameras_of(root: Path) -> list[Path]:
    """Folders or films of simultaneous cameras, the left one first."""
    if not root.is_dir() or still_files(root):
        return []
    for names in (("left", "right"), ("Left", "Right"), ("L", "R")):
        pair = [_camera_at(root, name) for name in names]
        if all(pair):
            return [path for path in pair if path is not None]
    rigs = sorted(p for p in root.iterdir() if p.name.lower().startswith("cam") and (is_film(p) or still_files(p)))
    return rigs if len(rigs) > 1 else []


def _camera_at(root: Path, name: str) -> Path | None:
    if still_files(root / name):
        return root / name
    return next((p for p in sorted(root.glob(f"{name}.*")) if is_film(p)), None)
