"""Point tracks as Gaussian Marbles stores them: one file per query frame, filled for a window of frames around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.files import existing, load_npy
from dyngs_plugins.priors.tracks import TrackObservations, TrackStore


class MarblesTrackFiles(TrackStore):
    """Files ``track_XXXXX.npy`` of shape (frames, points, 3): x, y in pixels of the full-size image, visibility.

    A frame that the tracker did not reach is all zeros, and is no target. Source: Dynamic Gaussian Marbles (Stearns
    et al. 2024), whose files hold CoTracker-2's points on a grid, 15 frames to either side.

    Args:
        files: the file of each view.
        rows: the place of each view in the files' first axis.
        scale: size of the images in use over the full size, for x and y.
        memory: how many bytes of parsed files to keep.
    """

    def __init__(self, files: Sequence[Path], rows: Sequence[int], scale: tuple[float, float], memory: int = 1 << 30):
        if len(files) != len(rows):
            raise ValueError(f"{len(files)} track files for {len(rows)} views; expected one per view.")
        self.files, self.rows = tuple(files), torch.tensor(list(rows))
        self._scale = torch.tensor(scale)
        self._cache = MemoryCache(memory)

    def targets(self, query: int) -> Int[Tensor, "n"]:
        filled = self._file(query).flatten(1).any(dim=1)
        return torch.nonzero(filled[self.rows]).flatten()

    def query_points(self, query: int) -> Float[Tensor, "p 2"]:
        return self.observe(query, query).xy

    def observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None = None) -> TrackObservations:
        points = self._file(query)[int(self.rows[target])]
        reached = bool(points.any())
        points = points if rows is None else points[rows.cpu()]
        visible = (points[:, 2] > 0.5) if reached else torch.zeros(len(points), dtype=torch.bool)
        invisible = ~visible if reached else visible.clone()
        # Pixel centres are integers in the files; halving an image halves distances from its corner, not its centre.
        xy = (points[:, :2] + 0.5) * self._scale - 0.5
        return TrackObservations(xy, visible, invisible, (visible | invisible).float())

    def _file(self, query: int) -> Float[Tensor, "t p 3"]:
        return self._cache.get(query, lambda: self._read(self.files[query]))

    @staticmethod
    def _read(path: Path) -> Float[Tensor, "t p 3"]:
        tracks = torch.from_numpy(np.array(load_npy(path, "track file"), np.float32))
        if not bool(torch.isfinite(tracks).all()):
            raise ValueError(f"{path}: {int((~torch.isfinite(tracks)).sum())} values are not finite. Expected pixels "
                             "and visibilities, 0 where nothing was tracked. Track this frame again.")  # fmt: skip
        return tracks


def check_marbles_tracks(files: Sequence[Path], times: Sequence[int]) -> tuple[int, ...]:
    """The row of every view in its file's first axis, after a look at every file's header and own row.

    Files have one row per time id, or, where ids do not count from 0, one per training frame in order.

    Raises:
        FileNotFoundError, ValueError: missing, of another shape, or empty at its own frame.
    """
    shapes: dict[tuple[int, ...], Path] = {}
    arrays = []
    for path in files:
        array = load_npy(
            existing(path, "track file", "Expected one per training frame, track_XXXXX.npy. Track it, or remove the "
                     "folder to do without."),
            "track file", mmap=True,
        )  # fmt: skip
        if array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"{path}: shape {array.shape}. Expected (frames, points, 3): x, y, visibility.")
        shapes.setdefault(array.shape[:1], path)
        arrays.append(array)
    if len(shapes) > 1:
        (first, a), (second, b) = list(shapes.items())[:2]
        raise ValueError(f"{b}: {second[0]} frames, but {a.name} has {first[0]}. Expected one number in all files; "
                         "track the frames of one run again.")  # fmt: skip
    count, ordered = arrays[0].shape[0], sorted(set(times))
    if count > max(times):
        rows = tuple(times)
    elif count == len(ordered):
        rows = tuple(ordered.index(time) for time in times)
    else:
        raise ValueError(
            f"{files[0]}: {count} frames. Expected one per time id (at least {max(times) + 1}) or one per training frame "
            f"({len(ordered)}). Were images added after tracking? Track again."
        )
    for path, array, row in zip(files, arrays, rows, strict=True):
        if not np.any(array[row]):
            raise ValueError(f"{path}: row {row}, its own frame, is empty. Expected the query points there; the file "
                             "belongs to another frame or run. Track this frame again.")  # fmt: skip
    return rows
