"""Where points were seen: a flat list of (track, frame, x, y), whose size grows with what is seen and nothing else."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Observations:
    """Observations of point tracks, sorted by track, then by frame; pixel centres at +0.5."""

    track: Int[np.ndarray, "o"]
    frame: Int[np.ndarray, "o"]
    xy: Float[np.ndarray, "o 2"]
    num_tracks: int
    num_frames: int

    def __len__(self) -> int:
        return len(self.track)

    @classmethod
    def of(
        cls, track: Int[np.ndarray, "o"], frame: Int[np.ndarray, "o"], xy: Float[np.ndarray, "o 2"], num_frames: int
    ) -> Observations:
        """Sort, and number the tracks anew by their first frame, so that neighbours in the list share frames."""
        if not len(track):
            empty = np.zeros(0, np.int64)
            return cls(empty, empty, np.zeros((0, 2)), 0, num_frames)
        ids, inverse = np.unique(track, return_inverse=True)
        first = np.full(len(ids), num_frames)
        np.minimum.at(first, inverse, frame)
        rank = np.empty(len(ids), np.int64)
        rank[np.lexsort((ids, first))] = np.arange(len(ids))
        new = rank[inverse]
        order = np.lexsort((frame, new))
        return cls(
            new[order], np.asarray(frame, np.int64)[order], np.asarray(xy, np.float64)[order], len(ids), num_frames
        )

    @classmethod
    def from_dense(cls, xy: Float[np.ndarray, "m n 2"], seen: Bool[np.ndarray, "m n"]) -> Observations:
        """From the positions of m tracks in n frames; tracks that are never seen vanish."""
        track, frame = np.nonzero(seen)
        return cls.of(track, frame, xy[track, frame], seen.shape[1])

    @functools.cached_property
    def starts(self) -> Int[np.ndarray, "m+1"]:
        """Where each track begins in the list, and the list's length."""
        return np.searchsorted(self.track, np.arange(self.num_tracks + 1))

    @functools.cached_property
    def lengths(self) -> Int[np.ndarray, "m"]:
        """Number of frames that see each track."""
        return np.diff(self.starts)

    @functools.cached_property
    def by_frame(self) -> tuple[Int[np.ndarray, "k"], ...]:
        """Per frame, the places of its observations in the list, in the order of the tracks."""
        order = np.argsort(self.frame, kind="stable")
        return tuple(np.split(order, np.searchsorted(self.frame[order], np.arange(1, self.num_frames))))

    def shared(self, i: int, j: int) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
        """Places in the list of the tracks that both frames see."""
        a, b = self.by_frame[i], self.by_frame[j]
        _, at, to = np.intersect1d(self.track[a], self.track[b], assume_unique=True, return_indices=True)
        return a[at], b[to]

    def keep(self, mask: Bool[np.ndarray, "o"]) -> tuple[Observations, Int[np.ndarray, "m"]]:
        """Only some observations, and for each track that is left its number here."""
        track = self.track[mask]
        old = np.unique(track)
        new = np.full(self.num_tracks, -1)
        new[old] = np.arange(len(old))  # the order by tracks stays, so what was sorted is still sorted
        kept = Observations(new[track], self.frame[mask], self.xy[mask], len(old), self.num_frames)
        return kept, old

    def keep_tracks(self, mask: Bool[np.ndarray, "m"]) -> tuple[Observations, Int[np.ndarray, "m"]]:
        """Only some tracks; see :meth:`keep`."""
        return self.keep(mask[self.track])

    def keep_long(self, least: int) -> Observations:
        """Only tracks with `least` observations or more."""
        return self.keep_tracks(self.lengths >= least)[0]

    def of_frames(self, frames: Int[np.ndarray, "k"]) -> tuple[Observations, Int[np.ndarray, "m"]]:
        """Only some frames, numbered anew in this order, and only tracks seen in two of them; see :meth:`keep`."""
        number = np.full(self.num_frames, -1)
        number[frames] = np.arange(len(frames))
        mask = number[self.frame] >= 0
        count = np.bincount(self.track[mask], minlength=self.num_tracks)
        kept, old = self.keep(mask & (count >= 2)[self.track])
        return dataclasses.replace(kept, frame=number[kept.frame], num_frames=len(frames)), old

    def per_track(self, values: Float[np.ndarray, "o"], how: np.ufunc = np.maximum) -> Float[np.ndarray, "m"]:
        """`values` of the observations reduced over each track."""
        return how.reduceat(values, self.starts[:-1]) if len(values) else np.zeros(0)
