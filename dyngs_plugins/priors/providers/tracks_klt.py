"""Point tracks by Lucas-Kanade's registration of small windows (KLT), checked against drift, without learned weights.

From frame to frame a point is followed by pyramidal Lucas-Kanade (Bouguet 2000). Small errors add up, so at every frame
the point is registered once more with the window of its query frame (Shi and Tomasi, CVPR 1994, compare with the first
frame for the same reason), and checked over its whole life: followed straight back to the query frame it must return to
its start, and what is seen around it must look as it did there. A point that fails is hidden; it moves with its visible
neighbours until a later frame agrees with the query frame again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dyngs_plugins.priors.providers.base import FrameResult, TrackProvider, query_pixels, track_rows
from dyngs_plugins.priors.providers.flow_math import inside, sample
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.tracks_chained import carried_by_neighbours, moving_nearby
from dyngs_plugins.priors.track_windows import TrackWindow, window_of

_PATCH = 4  # half a side of what is compared, in pixels
_HIDDEN_ERROR = 2.0  # pixels beyond the round trip's limit that a hidden point counts as


@dataclasses.dataclass
class KLTTracks(TrackProvider):
    """Windows followed by Lucas-Kanade from a grid of moving pixels in every frame."""

    name: ClassVar[str] = "klt"

    #: Spacing in pixels of the tracked points.
    stride: int = 4
    #: Points are followed this many frames to either side; None: through the whole clip.
    reach: int | None = 32
    #: Side in pixels of the window that is registered.
    window: int = 11
    #: Levels of the pyramid above the image, for the step from frame to frame.
    levels: int = 4
    #: A way back to the query frame that misses the start by more pixels means hidden.
    max_round_trip_px: float = 1.5
    #: The registration with the query frame may move a point this many pixels from where its last frame puts it.
    max_correction_px: float = 3.0
    #: Error in pixels that a step adds where the registration with the query frame fails.
    step_noise_px: float = 0.3
    #: Correlation of the surroundings with those in the query frame, below which a point is hidden.
    min_correlation: float = 0.6
    #: Points may land this many pixels outside the moving mask.
    mask_margin: int = 2

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`; a frame's points depend on its own window alone."""
        count = len(inputs.frames)
        for q in indices:
            frames = window_of(count, q, count if self.reach is None else self.reach)
            queries = query_pixels(inputs.mask(q), self.stride)
            rows = {q: track_rows(queries, np.zeros(len(queries)), np.ones(len(queries), bool), self.max_round_trip_px)}
            for direction in (1, -1):
                rows.update(self._follow(inputs, q, queries, [t for t in frames if (t - q) * direction > 0], direction))
            yield q, {"tracks": TrackWindow(frames, np.stack([rows[t] for t in frames]), q)}

    def _follow(
        self, inputs: PriorInputs, q: int, queries: Float[np.ndarray, "p 2"], targets: Sequence[int], direction: int
    ) -> Iterator[tuple[int, Float[np.ndarray, "p 4"]]]:
        """The rows of the targets on one side of the query frame."""
        position, error = queries, np.zeros(len(queries))
        template = patches(_grey(inputs, q), queries)
        for t in sorted(targets, reverse=direction < 0):
            if len(queries):
                position, error = self._step(inputs, (q, t - direction, t), queries, position, error, template)
            visible = np.isfinite(error)
            error_px = np.where(visible, error, self.max_round_trip_px + _HIDDEN_ERROR)
            yield t, track_rows(position, error_px, visible, self.max_round_trip_px)

    def _step(
        self, inputs: PriorInputs, frames: tuple[int, int, int], queries: Float[np.ndarray, "p 2"],
        position: Float[np.ndarray, "p 2"], error: Float[np.ndarray, "p"], template: Float[np.ndarray, "p k"],
    ) -> tuple[Float[np.ndarray, "p 2"], Float[np.ndarray, "p"]]:  # fmt: skip
        """Positions in frame t from those in the frame before, and their errors in pixels (inf: hidden).

        Args:
            frames: the query frame, the frame before, and frame t.
            error: of `position`, inf where the point was hidden.
        """
        first, before, grey = (_grey(inputs, i) for i in frames)
        step, found = self._register(before, grey, position, position, self.levels)
        guess = np.where(found[:, None], step, position).astype(np.float32)
        short_back, returned = self._register(grey, before, guess, position, 1)
        short_trip = np.linalg.norm(short_back - position, axis=-1)
        stepped = np.sqrt(error**2 + short_trip**2 + self.step_noise_px**2)  # inf stays inf
        stepped[~(found & returned)] = np.inf

        corrected, good = self._register(first, grey, queries, guess, 1)
        good &= np.linalg.norm(corrected - guess, axis=-1) < self.max_correction_px
        back, returned = self._register(grey, first, corrected, queries, 1)
        trip = np.linalg.norm(back - queries, axis=-1)
        good &= returned & (correlation(template, patches(grey, corrected)) > self.min_correlation)
        good &= trip < self.max_round_trip_px

        ends = np.where(good[:, None], corrected, guess).astype(np.float32)
        error = np.where(good, trip, stepped)
        visible = (error < self.max_round_trip_px) & inside(ends, inputs.frames.size)
        visible &= correlation(template, patches(grey, ends)) > 0.5 * self.min_correlation
        visible &= sample(moving_nearby(inputs, frames[2], self.mask_margin), ends) > 0.5
        carried = position + carried_by_neighbours(queries, ends - position, visible, self.stride)
        return np.where(visible[:, None], ends, carried).astype(np.float32), np.where(visible, error, np.inf)

    def _register(
        self, source: UInt8[np.ndarray, "h w"], target: UInt8[np.ndarray, "h w"], start: Float[np.ndarray, "p 2"],
        guess: Float[np.ndarray, "p 2"], levels: int,
    ) -> tuple[Float[np.ndarray, "p 2"], Bool[np.ndarray, "p"]]:  # fmt: skip
        """Where the windows around `start` are in the target image, searched from `guess`; and whether they converged."""
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)
        end, status, _ = cv2.calcOpticalFlowPyrLK(
            source, target, np.ascontiguousarray(start, np.float32)[:, None],
            np.ascontiguousarray(guess, np.float32)[:, None].copy(), winSize=(self.window, self.window),
            maxLevel=levels, criteria=criteria, flags=cv2.OPTFLOW_USE_INITIAL_FLOW, minEigThreshold=1e-4,
        )  # fmt: skip
        return end[:, 0], status[:, 0] > 0


def patches(grey: UInt8[np.ndarray, "h w"], xy: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "p k"]:
    """What is seen around points, bilinearly sampled."""
    offsets = np.arange(-_PATCH, _PATCH + 1, dtype=np.float32)
    grid = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(1, -1, 2)
    return sample(grey.astype(np.float32), xy[:, None] + grid)


def correlation(first: Float[np.ndarray, "p k"], second: Float[np.ndarray, "p k"]) -> Float[np.ndarray, "p"]:
    """Normalised correlation of each row, which changes of brightness leave as it is; 1 where both are flat."""
    a, b = (v - v.mean(-1, keepdims=True) for v in (first, second))
    noise = 2.0**2 * a.shape[-1]  # flat patches differ by noise alone, which correlates with nothing
    return ((a * b).sum(-1) + noise) / (np.sqrt((a * a).sum(-1) * (b * b).sum(-1)) + noise)


def _grey(inputs: PriorInputs, i: int) -> UInt8[np.ndarray, "h w"]:
    return inputs.remember(("grey", i), lambda: cv2.cvtColor(inputs.image(i), cv2.COLOR_RGB2GRAY))
