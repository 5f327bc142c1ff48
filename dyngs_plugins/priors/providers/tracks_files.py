"""Tracks as given: Shape of Motion's pair files, or one .npz of long tracks as CoTracker and TAP-Net give them.

A folder with `{Q}_{T}.npy` is read pair by pair. An .npz holds positions of P points in T frames under `tracks`,
`pred_tracks`, `points` or `xy`, as [T, P, 2] or [P, T, 2], and either who is seen (`visibility`, `visibilities`,
`pred_visibility`, `visible`) or who is not (`occluded`, `occlusion`), as [T, P] or [P, T]. T is the number of images of
the clip or of the whole video. The query pixels of a frame are the points that are seen on moving pixels of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.files import DAMAGED, existing
from dyngs_plugins.priors.providers.base import FrameResult, TrackProvider
from dyngs_plugins.priors.providers.flow_math import inside
from dyngs_plugins.priors.providers.given_files import GivenFiles, given_folder
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.track_windows import TrackWindow, pairs_complete, window_from_pairs, window_of

_POSITIONS = ("tracks", "pred_tracks", "points", "xy")
_SEEN = ("visibility", "visibilities", "pred_visibility", "visible")
_HIDDEN = ("occluded", "occlusion")
_SURE = 4.0  # logit of what the file states


@dataclasses.dataclass(frozen=True)
class LongTracks:
    """Points over all frames of a clip, pixels with integer centres."""

    xy: Float[np.ndarray, "t p 2"]
    seen: Bool[np.ndarray, "t p"]


@dataclasses.dataclass
class TrackFiles(GivenFiles, TrackProvider):
    """Track files of your own."""

    name: ClassVar[str] = "files"

    #: Folder with pair files, or with one .npz for each sequence (SEQ.npz), or an .npz file.
    folder: str = ""
    #: "pixels" with integer centres; "corners": (0, 0) is the image's corner, as TAP-Net has it; "unit": 0 to 1 from
    #: corner to corner; "auto" takes values up to 1 for "unit" and others for "pixels".
    coordinates: Literal["auto", "pixels", "corners", "unit"] = "auto"
    #: Width and height of the frames that the tracks were made on, where these are not the clip's.
    made_at: tuple[int, ...] = ()
    #: Order of axes in an .npz: "frames" first or "points" first; "auto" decides by the number of frames.
    first_axis: Literal["auto", "frames", "points"] = "auto"
    #: Points are kept this many frames to either side; None: through the whole clip.
    reach: int | None = None
    #: Only points on moving pixels of a frame are its query pixels.
    moving_only: bool = True

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Raises:
            FileNotFoundError, ValueError: for missing, damaged or foreign files.
        """
        self.require_folder()
        frames = inputs.frames
        pairs = self._pair_folder(frames)
        if pairs is not None:
            for q in indices:
                yield q, {"tracks": window_from_pairs(pairs, frames.stems, q, self.reach)}
            return
        long = self.read(self._npz(frames), frames)
        reach = len(frames) if self.reach is None else self.reach
        for q in indices:
            moving = inputs.mask(q) if self.moving_only else np.ones(frames.size, bool)
            yield q, {"tracks": window_of_tracks(long, q, moving, reach)}

    def _pair_folder(self, frames: FrameSequence) -> Path | None:
        if Path(self.folder).expanduser().is_file():
            return None
        base = given_folder("tracks", self.folder, frames)
        return base if pairs_complete(base, frames.stems) else None

    def _npz(self, frames: FrameSequence) -> Path:
        base = Path(self.folder).expanduser()
        if base.is_file():
            return base
        own = base / f"{frames.name}.npz"
        found = sorted(base.glob("*.npz"))
        if not own.is_file() and len(found) == 1:
            return found[0]
        return existing(own, "track file", f"{base} holds neither all pair files NAME_NAME.npy of {frames.name} nor one "
                        ".npz. Name the file: --settings tracks.folder=FILE.npz.")  # fmt: skip

    def read(self, path: Path, frames: FrameSequence) -> LongTracks:
        """An .npz of long tracks for the frames of a clip.

        Raises:
            ValueError: damaged, keys or shapes that are not understood, or another number of frames.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored}
        except DAMAGED as error:
            raise ValueError(f"{path}: cannot be read as track file ({error}). Expected an .npz of numbers.") from error
        xy = _first(arrays, _POSITIONS, path, "positions")
        seen_name = next((name for name in (*_SEEN, *_HIDDEN) if name in arrays), None)
        if seen_name is None:
            raise ValueError(f"{path}: holds {', '.join(arrays)}, but not who is seen. Expected {', '.join(_SEEN)} or "
                             f"{', '.join(_HIDDEN)}.")  # fmt: skip
        flags = np.asarray(arrays[seen_name])
        xy, flags = _without_batch(xy, 3), _without_batch(flags[..., 0] if flags.ndim == xy.ndim else flags, 2)
        if xy.ndim != 3 or xy.shape[2] != 2 or flags.shape != xy.shape[:2]:
            raise ValueError(f"{path}: positions {xy.shape} and {seen_name} {flags.shape}; expected (frames, points, 2) and "
                             "(frames, points), or both with points first.")  # fmt: skip
        if not self._frames_first(xy.shape, frames, path):
            xy, flags = xy.swapaxes(0, 1), flags.swapaxes(0, 1)
        if len(xy) != len(frames):
            xy, flags = xy[list(frames.frame_index)], flags[list(frames.frame_index)]
        hidden = seen_name in _HIDDEN
        # logits of occlusion are hidden above 0; visibilities are probabilities or yes and no
        seen = flags <= 0.0 if hidden and flags.dtype.kind == "f" else ~(flags > 0.5) if hidden else flags > 0.5
        pixels = self._pixels(np.asarray(xy, np.float32), frames.size)
        return LongTracks(np.where(np.isfinite(pixels), pixels, 0.0), seen & np.isfinite(pixels).all(-1))

    def _frames_first(self, shape: tuple[int, ...], frames: FrameSequence, path: Path) -> bool:
        if self.first_axis != "auto":
            return self.first_axis == "frames"
        fits = [length == len(frames) or length > max(frames.frame_index) for length in shape[:2]]
        exact = [length in (len(frames), max(frames.frame_index) + 1) for length in shape[:2]]
        if exact[0] != exact[1]:
            return exact[0]
        if not any(fits):
            raise ValueError(f"{path}: positions of shape {shape}; expected {len(frames)} frames (the clip's) or "
                             f"{max(frames.frame_index) + 1} (the video's) in one of the axes.")  # fmt: skip
        raise ValueError(f"{path}: positions of shape {shape} could have frames or points first. Say which: --settings "
                         "tracks.first_axis=frames or tracks.first_axis=points.")  # fmt: skip

    def _pixels(self, xy: Float[np.ndarray, "t p 2"], size: tuple[int, int]) -> Float[np.ndarray, "t p 2"]:
        """Positions in pixels of the clip's images, integer centres."""
        here = np.array([size[1], size[0]], np.float32)
        made = np.array(self.made_at, np.float32) if len(self.made_at) == 2 else here
        kind = self.coordinates
        if kind == "auto":
            kind = "unit" if xy.size and np.nanmax(np.abs(xy)) <= 1.5 else "pixels"
        if kind == "unit":
            return xy * here - 0.5
        return (xy + (0.5 if kind == "pixels" else 0.0)) * here / made - 0.5


def window_of_tracks(tracks: LongTracks, query: int, moving: Bool[np.ndarray, "h w"], reach: int) -> TrackWindow:
    """The points that are seen on moving pixels of the query frame, in the frames around it.

    Query pixels are whole: each point is moved by its distance to its pixel's centre, in all frames alike. Of several
    points in one pixel the first is kept. Rows are in raster order.
    """
    height, width = moving.shape
    own = tracks.xy[query]
    pixel = np.round(own).astype(int)
    keep = tracks.seen[query] & inside(pixel, (height, width))
    keep[keep] = moving[pixel[keep, 1], pixel[keep, 0]]
    candidates = np.flatnonzero(keep)
    code = pixel[candidates, 1] * width + pixel[candidates, 0]
    _, first = np.unique(code, return_index=True)
    rows = candidates[first]
    frames = window_of(len(tracks.xy), query, reach)
    shift = pixel[rows] - own[rows]
    xy = tracks.xy[list(frames)][:, rows] + shift
    logits = np.where(tracks.seen[list(frames)][:, rows], -_SURE, _SURE)
    sure = np.full_like(logits, -_SURE)
    return TrackWindow(frames, np.concatenate([xy, logits[..., None], sure[..., None]], -1).astype(np.float32), query)


def _first(arrays: dict[str, np.ndarray], names: Sequence[str], path: Path, what: str) -> np.ndarray:
    for name in names:
        if name in arrays:
            return np.asarray(arrays[name])
    raise ValueError(f"{path}: holds {', '.join(arrays) or 'nothing'}, but no {what}. Expected {', '.join(names)}.")


def _without_batch(array: np.ndarray, axes: int) -> np.ndarray:
    """Without a leading axis of one, where there is one too many."""
    return array[0] if array.ndim == axes + 1 and len(array) == 1 else array
