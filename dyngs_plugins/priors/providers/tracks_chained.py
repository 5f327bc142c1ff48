"""Long point tracks by chaining flow over several step lengths, without learned weights.

A point's position in frame t is proposed by its positions in frames t-1, t-2, t-4, ... and the flows from there; the
proposal with the smallest accumulated round-trip error wins. Long steps stop drift and cross short occlusions (the idea
of MFT, Neoral et al., WACV 2024). A proposal must also land on a moving pixel and keep the point's colour. A point
that no proposal reaches is hidden and moves with its visible neighbours, until a flow from before finds it again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.providers.base import FrameResult, TrackProvider, query_pixels, track_rows
from dyngs_plugins.priors.providers.flow_math import inside, sample
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.working_size import flow_at, flows_fit, working_inputs
from dyngs_plugins.priors.track_windows import TrackWindow

_SWEPT_TOGETHER = 24  # frames whose tracks are held in memory at once


@dataclasses.dataclass
class _Chain:
    """The points of one query frame in the frames visited last, newest at the end of each list."""

    queries: Float[np.ndarray, "p 2"]
    colour: Float[np.ndarray, "p 3"]
    positions: list[Float[np.ndarray, "p 2"]]
    errors: list[Float[np.ndarray, "p"]]
    visible: list[Bool[np.ndarray, "p"]]

    def add(
        self,
        position: Float[np.ndarray, "p 2"],
        error: Float[np.ndarray, "p"],
        visible: Bool[np.ndarray, "p"],
        keep: int,
    ) -> None:
        """Append a frame; only the last `keep` frames stay."""
        for history, value in ((self.positions, position), (self.errors, error), (self.visible, visible)):
            history.append(value)
            del history[:-keep]


@dataclasses.dataclass
class ChainedTracks(TrackProvider):
    """Multi-step chains of flow from a grid of moving pixels in every frame."""

    name: ClassVar[str] = "chained"

    #: Spacing in pixels of the tracked points.
    stride: int = 4
    #: Points are followed this many frames to either side; None: through the whole clip.
    reach: int | None = 32
    #: Flow is followed over these numbers of frames.
    steps: tuple[int, ...] = (1, 2, 4, 8)
    #: Longer side of the images between which flow over several frames is estimated. 0: at full size.
    working_side: int = 512
    #: A round trip that misses its start by more pixels means hidden.
    max_round_trip_px: float = 1.5
    #: Error that every step adds, in pixels.
    step_noise_px: float = 0.1
    #: A colour further than this from the query's, in CIELAB units, means hidden.
    max_colour_change: float = 20.0
    #: Points may land this many pixels outside the moving mask.
    mask_margin: int = 2

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Each frame's points are followed to the end and to the start of its window. If all flows fit into memory this
        is done frame by frame; else blocks of frames are swept together, so that each flow is needed only once in each
        direction.
        """
        reach = len(inputs.frames) if self.reach is None else self.reach
        for block in self._blocks(inputs, indices):
            found: dict[int, dict[int, np.ndarray]] = {q: {} for q in block}
            for direction in (1, -1):
                for q, t, rows in self._sweep(inputs, block, direction, reach):
                    found[q][t] = rows
            for q in block:
                frames = tuple(sorted(found[q]))
                yield q, {"tracks": TrackWindow(frames, np.stack([found[q].pop(t) for t in frames]), q)}

    def _blocks(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[Sequence[int]]:
        """Frames that are swept together: one if flows are kept anyway, else as many as their tracks fit memory."""
        small = working_inputs(inputs, self.working_side)
        fits = flows_fit(inputs, 2) and flows_fit(small, 2 * len(self.steps))
        block = 1 if fits else _SWEPT_TOGETHER
        for start in range(0, len(indices), block):
            yield indices[start : start + block]

    def _sweep(
        self, inputs: PriorInputs, queries: Sequence[int], direction: int, reach: int
    ) -> Iterator[tuple[int, int, Float[np.ndarray, "p 4"]]]:
        """Follow the points of the frames `queries` through time in one direction: (query, frame, rows)."""
        chains: dict[int, _Chain] = {}
        count = len(inputs.frames)
        first, last = (min(queries), max(queries)) if direction > 0 else (max(queries), min(queries))
        end = min(last + reach, count - 1) if direction > 0 else max(last - reach, 0)
        for t in range(first, end + direction, direction):
            chains = {q: chain for q, chain in chains.items() if abs(t - q) <= reach}
            for q, chain in chains.items():
                self._advance(inputs, chain, t, direction, age=abs(t - q))
                yield q, t, self._rows(chain)
            if t in queries:
                chains[t] = chain = self._start(inputs, t)
                yield t, t, self._rows(chain)

    def _start(self, inputs: PriorInputs, q: int) -> _Chain:
        queries = query_pixels(inputs.mask(q), self.stride)
        colour = sample(_blurred_lab(inputs, q), queries)
        return _Chain(queries, colour, [queries], [np.zeros(len(queries))], [np.ones(len(queries), bool)])

    def _rows(self, chain: _Chain) -> Float[np.ndarray, "p 4"]:
        """Where the chain has come to."""
        return track_rows(chain.positions[-1], chain.errors[-1], chain.visible[-1], self.max_round_trip_px)

    def _advance(self, inputs: PriorInputs, chain: _Chain, t: int, direction: int, age: int) -> None:
        """Add frame t, `age` frames from the chain's start, to a chain."""
        count = len(chain.queries)
        best_error, best = np.full(count, np.inf), np.zeros((count, 2), np.float32)
        for step in (s for s in self.steps if s <= age):
            end, error = self._propose(inputs, chain, t - direction * step, t, step)
            better = error < best_error
            best_error[better], best[better] = error[better], end[better]
        found = np.isfinite(best_error)
        last = chain.positions[-1]
        guess = last + carried_by_neighbours(chain.queries, best - last, found, self.stride)
        position = np.where(found[:, None], best, guess).astype(np.float32)
        error = np.where(found, best_error, self.max_round_trip_px + 2.0)
        chain.add(position, error, found, keep=max(self.steps))

    def _propose(
        self, inputs: PriorInputs, chain: _Chain, a: int, b: int, step: int
    ) -> tuple[Float[np.ndarray, "p 2"], Float[np.ndarray, "p"]]:
        """Where the flow from frame a, `step` frames before b, puts the points, and their error (inf where refused)."""
        small, start = working_inputs(inputs, self.working_side), chain.positions[-step]
        end = start + flow_at(inputs, small, a, b)(start)
        trip = np.linalg.norm(end + flow_at(inputs, small, b, a)(end) - start, axis=-1)
        error = np.sqrt(chain.errors[-step] ** 2 + trip**2 + self.step_noise_px**2)
        change = np.linalg.norm(sample(_blurred_lab(inputs, b), end) - chain.colour, axis=-1)
        good = chain.visible[-step] & (trip < self.max_round_trip_px) & inside(end, inputs.frames.size)
        good &= (change < self.max_colour_change) & (sample(moving_nearby(inputs, b, self.mask_margin), end) > 0.5)
        return end, np.where(good, error, np.inf)


def moving_nearby(inputs: PriorInputs, i: int, margin: int) -> Float[np.ndarray, "h w"]:
    """1 where points of moving objects may be in frame i: on the mask, or at most `margin` pixels from it."""

    def make() -> np.ndarray:
        return cv2.dilate(inputs.mask(i).astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8)).astype(np.float16)

    return inputs.remember(("landing", i, margin), make)


def carried_by_neighbours(
    queries: Float[np.ndarray, "p 2"],
    displacement: Float[np.ndarray, "p 2"],
    known: Bool[np.ndarray, "p"],
    stride: int,
    reach: float = 3.0,
) -> Float[np.ndarray, "p 2"]:
    """The displacement of `known` points blurred over the query grid: how a hidden point moves with its surroundings.

    Args:
        reach: standard deviation of the blur in grid steps. Points without known neighbours stay where they are.
    """
    if not len(queries) or not known.any():
        return np.zeros_like(queries)
    cell = (queries / stride).round().astype(int)
    cell -= cell.min(0)
    grid = np.zeros((cell[:, 1].max() + 1, cell[:, 0].max() + 1, 3), np.float32)
    grid[cell[known, 1], cell[known, 0], :2] = displacement[known]
    grid[cell[known, 1], cell[known, 0], 2] = 1.0
    blurred = cv2.GaussianBlur(grid, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)[cell[:, 1], cell[:, 0]]
    return blurred[:, :2] / np.maximum(blurred[:, 2:], 1e-4)


def _blurred_lab(inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w 3"]:
    def make() -> np.ndarray:
        lab = cv2.cvtColor(inputs.image(i).astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        return cv2.GaussianBlur(lab, (0, 0), 1.5).astype(np.float16)  # half the memory; a hundredth of a unit is enough

    return inputs.remember(("blurred lab", i), make)
