"""Dense 2-D point tracks between frames, read lazily. Files of windows are in `track_windows.py`.

Indices are *view* indices: places in the training image list over all sequences. A held-out image has no view
index, so its tracks cannot be asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.files import load_npy
from dyngs_plugins.priors.som_files import finite_tracks, read_track_pair

_LOGIT_LIMIT = 30.0


@dataclass(frozen=True)
class TrackObservations:
    """Where the query pixels of one view are seen in another."""

    xy: Float[Tensor, "p 2"]
    """Pixels, integer centres."""
    visible: Bool[Tensor, "p"]
    invisible: Bool[Tensor, "p"]
    """Surely occluded. Never true together with ``visible``; both are false where the tracker is unsure."""
    confidence: Float[Tensor, "p"]
    """In [0, 1]; 0 where neither flag is set."""

    def __len__(self) -> int:
        return len(self.xy)


def parse_track_logits(rows: Float[Tensor, "p 4"] | Float[np.ndarray, "p 4"]) -> TrackObservations:
    """Turn a tracker's rows [x, y, occlusion logit, expected-distance logit] into flags and confidences.

    With v = 1 - sigmoid(o) and c = 1 - sigmoid(d): visible where v c > 1/2, invisible where (1 - v) c > 1/2
    (Shape of Motion's reading of TAPIR, Doersch et al. 2023).
    """
    rows = torch.as_tensor(rows, dtype=torch.float32)
    seen, sure = torch.sigmoid(-rows[:, 2]), torch.sigmoid(-rows[:, 3])
    visible, invisible = seen * sure > 0.5, (1.0 - seen) * sure > 0.5
    return TrackObservations(rows[:, :2].clone(), visible, invisible, sure * (visible | invisible))


def track_rows(observed: TrackObservations) -> Float[np.ndarray, "p 4"]:
    """The inverse of :func:`parse_track_logits`: rows that are read as the same flags and confidences."""
    confidence = observed.confidence.double().numpy()
    sure = (observed.visible | observed.invisible).numpy()
    with np.errstate(divide="ignore"):  # certainty has no finite logit; float32 rounds that of the limit to it
        distance = np.clip(np.log1p(-confidence) - np.log(confidence), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    distance = np.where(sure, distance, _LOGIT_LIMIT)
    occlusion = np.where(observed.visible.numpy(), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    return np.column_stack([observed.xy.double().numpy(), occlusion, distance]).astype(np.float32)


class TrackStore(ABC):
    """Tracks between the training views of one clip."""

    @abstractmethod
    def targets(self, query: int) -> Int[Tensor, "n"]:
        """The views that ``query``'s pixels are tracked into: those of the same camera, itself included."""

    @abstractmethod
    def query_points(self, query: int) -> Float[Tensor, "p 2"]:
        """The tracked pixels of a view (integer centres), in a fixed order; there may be none."""

    @abstractmethod
    def observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None = None) -> TrackObservations:
        """Where ``query``'s pixels are in ``target``; of all of them, or only of the given ``rows``."""


class SomTrackFiles(TrackStore):
    """Shape of Motion's files ``FOLDER/{Q}_{T}.npy``, one per ordered pair of images of a sequence.

    Args:
        folders: the track folder of each view's sequence; views with the same folder share a camera.
        names: the image stem of each view.
        memory: how many bytes of parsed tracks to keep.
    """

    def __init__(self, folders: tuple[Path, ...], names: tuple[str, ...], memory: int = 1 << 30):
        if len(folders) != len(names):
            raise ValueError(f"{len(folders)} track folders for {len(names)} views; expected one folder per view.")
        self.folders, self.names = tuple(folders), tuple(names)
        places = {folder: i for i, folder in enumerate(dict.fromkeys(folders))}
        self._camera = torch.tensor([places[folder] for folder in folders])
        self._cache = MemoryCache(memory)

    def targets(self, query: int) -> Int[Tensor, "n"]:
        return torch.nonzero(self._camera == self._camera[query]).flatten()

    def query_points(self, query: int) -> Float[Tensor, "p 2"]:
        return self.observe(query, query).xy

    def observe(self, query: int, target: int, rows: Int[Tensor, "r"] | None = None) -> TrackObservations:
        if rows is not None:  # a few rows of very many files: not worth their place in the cache
            array = self._memory_map(query, target)
            chosen = np.asarray(array[rows.cpu().numpy()], np.float32)
            return parse_track_logits(finite_tracks(self.file(query, target), chosen))
        return self._cache.get((query, target), lambda: self._read(query, target))

    def file(self, query: int, target: int) -> Path:
        """The file of an ordered pair of views of the same camera."""
        if self.folders[query] != self.folders[target]:
            raise ValueError(f"Views {query} and {target} belong to different cameras; there are no tracks between.")
        return self.folders[query] / f"{self.names[query]}_{self.names[target]}.npy"

    def _read(self, query: int, target: int) -> TrackObservations:
        expected = None if query == target else len(self.query_points(query))
        return parse_track_logits(read_track_pair(self.file(query, target), expected))

    def _memory_map(self, query: int, target: int) -> np.ndarray:
        array = load_npy(self.file(query, target), "track file", mmap=True)
        expected = len(self.query_points(query))
        if array.shape != (expected, 4):
            read_track_pair(self.file(query, target), expected)  # raises with the reason
        return array
