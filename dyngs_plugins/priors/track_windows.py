"""Tracks in one file per query frame, over a window of frames around it: their size grows with the number of frames.

`tracks/SEQ/NAME.npz` holds where the query pixels of image NAME are in the images of its window:

    frames  [w]        names of the window's images (without suffix), in the order of time; NAME is one of them
    xy      [w, p, 2]  float32 pixels, integer centres; at NAME itself the query pixels
    logits  [w, p, 2]  float16 occlusion and uncertainty logits, in the sense of `parse_track_logits`

Nothing is said about images outside the window. Shape of Motion's files (one per ordered pair of images, so that their
number grows with the square) hold the same rows; `pairs_from_windows` and `window_from_pairs` go both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.files import DAMAGED, atomic_file, existing
from dyngs_plugins.priors.som_files import finite_tracks, read_track_pair, write_track_pair
from dyngs_plugins.priors.tracks import SomTrackFiles, TrackObservations, TrackStore, parse_track_logits

UNKNOWN_LOGIT = 30.0
"""Of occlusion and uncertainty where the tracker did not look: neither visible nor hidden."""


@dataclass(frozen=True)
class TrackWindow:
    """What a track provider makes of one query frame. Frames are indices into the provider's frames."""

    frames: tuple[int, ...]
    rows: Float[np.ndarray, "w p 4"]
    """x, y, occlusion logit, uncertainty logit in each frame of the window."""
    query: int
    """The query frame, one of `frames`."""

    def __post_init__(self) -> None:
        if self.rows.ndim != 3 or self.rows.shape[2] != 4 or len(self.rows) != len(self.frames):
            raise ValueError(f"Tracks of frame {self.query}: rows of shape {self.rows.shape} for {len(self.frames)} "
                             "frames; expected (frames, points, 4).")  # fmt: skip
        if self.query not in self.frames or list(self.frames) != sorted(set(self.frames)):
            raise ValueError(f"Tracks of frame {self.query}: a window of frames {self.frames[:8]}...; expected "
                             "ascending frames, the query frame among them.")  # fmt: skip

    def rows_in(self, frame: int) -> Float[np.ndarray, "p 4"]:
        """The rows of one frame; outside the window the query pixels with logits that say nothing."""
        if frame in self.frames:
            return self.rows[self.frames.index(frame)]
        return unknown_rows(self.rows[self.frames.index(self.query)])


def unknown_rows(own: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 4"]:
    """Rows of a frame that the tracker did not look at."""
    return np.column_stack([own[:, :2], np.full((len(own), 2), UNKNOWN_LOGIT)]).astype(np.float32)


def window_of(count: int, query: int, reach: int) -> tuple[int, ...]:
    """The frames at most `reach` from `query`, out of `count`."""
    return tuple(range(max(query - reach, 0), min(query + reach + 1, count)))


# Files -----------------------------------------------------------------------------------------------------------------


def write_track_window(path: Path, window: TrackWindow, names: Sequence[str]) -> None:
    """Write ``NAME.npz``, complete or not at all; equal windows give equal files.

    Args:
        names: of all frames of the sequence, without suffix.
    """
    rows = finite_tracks(path, np.asarray(window.rows, np.float32).reshape(-1, 4)).reshape(window.rows.shape)
    arrays = {
        "frames": np.array([names[i] for i in window.frames], np.str_),
        "xy": np.ascontiguousarray(rows[..., :2]),
        "logits": np.clip(rows[..., 2:], -UNKNOWN_LOGIT, UNKNOWN_LOGIT).astype(np.float16),
    }
    with atomic_file(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@dataclass(frozen=True)
class StoredWindow:
    """A window as it lies on disk."""

    frames: tuple[str, ...]
    rows: Float[np.ndarray, "w p 4"]
    place: int
    """Of the query image in `frames`."""

    @property
    def query_rows(self) -> Float[np.ndarray, "p 4"]:
        return self.rows[self.place]

    def rows_in(self, name: str) -> Float[np.ndarray, "p 4"]:
        """The rows of one image; outside the window the query pixels with logits that say nothing."""
        return self.rows[self.frames.index(name)] if name in self.frames else unknown_rows(self.query_rows)


def read_track_window(path: Path) -> StoredWindow:
    """Read ``NAME.npz``.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or of another shape; with the file and what to try.
    """
    path = existing(path, "track file", "Every training image needs one of its name. Run `dyngs process`.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("frames", "xy", "logits")}
    except DAMAGED as error:
        raise ValueError(f"{path}: cannot be read as a track file ({error}). Expected an .npz with frames, xy and "
                         "logits; this one is truncated or of another kind. Delete it and track again.") from error  # fmt: skip
    frames, xy, logits = arrays["frames"], arrays["xy"], arrays["logits"]
    whole = frames.ndim == 1 and frames.dtype.kind == "U" and xy.ndim == 3 and xy.shape == logits.shape
    if not whole or xy.shape[0] != len(frames) or xy.shape[2] != 2 or not {xy.dtype.kind, logits.dtype.kind} <= {"f"}:
        raise ValueError(
            f"{path}: frames {frames.shape} {frames.dtype}, xy {xy.shape} {xy.dtype}, logits {logits.shape} "
            f"{logits.dtype}. Expected w names and two float arrays (w, p, 2). Delete it and track again."
        )
    names = tuple(str(name) for name in frames)
    if path.stem not in names or len(set(names)) < len(names):
        raise ValueError(f"{path}: its window of {len(names)} images has a name twice, or lacks {path.stem!r} itself. "
                         "The file belongs to another image; delete it and track again.")  # fmt: skip
    rows = np.concatenate([xy.astype(np.float32), logits.astype(np.float32)], axis=-1)
    finite_tracks(path, rows.reshape(-1, 4))
    return StoredWindow(names, rows, names.index(path.stem))


def check_track_windows(folder: Path, names: Sequence[str]) -> None:
    """Raise unless every image has a sound track file.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_track_window`.
    """
    missing = [name for name in names if not (folder / f"{name}.npz").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder / missing[0]}.npz: no such track file; {len(missing)} of {len(names)} are missing. Expected one "
            "per training image (`dyngs process` fills gaps and keeps what exists)."
        )
    for name in names:
        read_track_window(folder / f"{name}.npz")


class WindowTrackFiles(TrackStore):
    """Tracks out of ``FOLDER/NAME.npz``.

    Args:
        folders: the track folder of each view's sequence; views with the same folder share a camera.
        names: the image stem of each view.
        memory: how many bytes of files to keep.
    """

    def __init__(self, folders: Sequence[Path], names: Sequence[str], memory: int = 1 << 30):
        if len(folders) != len(names):
            raise ValueError(f"{len(folders)} track folders for {len(names)} views; expected one folder per view.")
        self.folders, self.names = tuple(folders), tuple(names)
        self._view_of = {place: view for view, place in enumerate(zip(self.folders, self.names, strict=True))}
        self._cache = MemoryCache(memory)

    def targets(self, query: int) -> Int[Tensor, "n"]:
        """The views inside the query's window; images that are no views (held out ones) are left out."""
        frames, _ = self._file(query)
        views = [self._view_of.get((self.folders[query], name)) for name in frames]
        return torch.tensor(sorted(view for view in views if view is not None), dtype=torch.long)

    def query_points(self, query: int) -> Float[Tensor, "p 2"]:
        return self.observe(query, query).xy

    def observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None = None) -> TrackObservations:
        if self.folders[query] != self.folders[target]:
            raise ValueError(f"Views {query} and {target} belong to different cameras; there are no tracks between.")
        frames, stored = self._file(query)
        if self.names[target] in frames:
            found = stored[frames.index(self.names[target])]
        else:
            found = torch.from_numpy(unknown_rows(stored[frames.index(self.names[query])].numpy()))
        return parse_track_logits(found if rows is None else found[rows.cpu()])

    def file(self, query: int, target: int) -> Path:
        """The file that holds what is known about an ordered pair of views."""
        return self.folders[query] / f"{self.names[query]}.npz"

    def _file(self, query: int) -> tuple[tuple[str, ...], Float[Tensor, "w p 4"]]:
        stored = self._cache.get(query, lambda: self._read(query))
        return stored.frames, stored.rows

    def _read(self, query: int) -> _Kept:
        stored = read_track_window(self.file(query, query))
        return _Kept(stored.frames, torch.from_numpy(stored.rows))


@dataclass(frozen=True)
class _Kept:
    """A file in the cache, whose bytes the cache can count."""

    frames: tuple[str, ...]
    rows: Float[Tensor, "w p 4"]


class MixedTrackFiles(TrackStore):
    """Tracks of several cameras, some in files of windows and some in files of pairs; arguments as above."""

    def __init__(self, folders: Sequence[Path], names: Sequence[str], memory: int = 1 << 30):
        self.folders, self.names = tuple(folders), tuple(names)
        windows, pairs = WindowTrackFiles(folders, names, memory), SomTrackFiles(self.folders, self.names, memory)
        form = {folder: windows if holds_windows(folder) else pairs for folder in set(folders)}
        self._store = [form[folder] for folder in folders]

    def targets(self, query: int) -> Int[Tensor, "n"]:
        return self._store[query].targets(query)

    def query_points(self, query: int) -> Float[Tensor, "p 2"]:
        return self._store[query].query_points(query)

    def observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None = None) -> TrackObservations:
        return self._store[query].observe(query, target, rows)

    def file(self, query: int, target: int) -> Path:
        """The file that holds what is known about an ordered pair of views."""
        return self._store[query].file(query, target)


FileTracks = WindowTrackFiles | SomTrackFiles | MixedTrackFiles


def open_tracks(folders: Sequence[Path], names: Sequence[str]) -> FileTracks:
    """The tracks of views in the form that their folders have, of windows or of pairs.

    Args:
        folders: the track folder of each view's sequence.
        names: the image stem of each view.
    """
    forms = {holds_windows(folder) for folder in set(folders)}
    kind = MixedTrackFiles if len(forms) > 1 else WindowTrackFiles if True in forms else SomTrackFiles
    return kind(tuple(folders), tuple(names))


def holds_windows(folder: Path) -> bool:
    """Whether a track folder has one file per query frame (not: one per pair)."""
    return any(Path(folder).glob("*.npz"))


# Shape of Motion's pair files --------------------------------------------------------------------------------------------


def pairs_from_windows(folder: Path, names: Sequence[str], out: Path) -> None:
    """Write Shape of Motion's ``OUT/{Q}_{T}.npy`` for all ordered pairs of images; outside windows nothing is sure.

    Args:
        folder: holds ``NAME.npz`` of each of the ``names``.
    """
    for query in names:
        stored = read_track_window(folder / f"{query}.npz")
        for target in names:
            write_track_pair(out / f"{query}_{target}.npy", stored.rows_in(target))


def window_from_pairs(folder: Path, names: Sequence[str], query: int, reach: int | None = None) -> TrackWindow:
    """The window of one query image out of Shape of Motion's ``FOLDER/{Q}_{T}.npy``.

    Args:
        reach: frames to either side; None takes all.
    """
    frames = window_of(len(names), query, len(names) if reach is None else reach)
    own = read_track_pair(folder / f"{names[query]}_{names[query]}.npy")
    rows = [read_track_pair(folder / f"{names[query]}_{names[t]}.npy", len(own)) for t in frames]
    return TrackWindow(frames, np.stack(rows), query)


def pairs_complete(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder holds Shape of Motion's files of all ordered pairs of images."""
    if not folder.is_dir() or not (folder / f"{names[0]}_{names[-1]}.npy").is_file():
        return False
    present = {file.name for file in folder.iterdir()}
    return all(f"{query}_{target}.npy" in present for query in names for target in names)
