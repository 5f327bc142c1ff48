"""Where each kind of prior lies in a clip folder, and how one of its files is written and read back."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Hashable
from pathlib import Path
from typing import ClassVar

import numpy as np

from dyngs_plugins.priors.files import atomic_file, load_npy
from dyngs_plugins.priors.som_files import (
    read_disparity,
    read_mask,
    read_track_pair,
    write_disparity,
    write_mask,
)
from dyngs_plugins.priors.track_windows import (
    StoredWindow,
    TrackWindow,
    pairs_complete,
    read_track_window,
    write_track_window,
)


@dataclasses.dataclass(frozen=True)
class PriorKind(ABC):
    """The files of one kind of prior for one camera of a clip."""

    name: ClassVar[str]
    folder_name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """What it is made from, in the order in which that is made."""

    root: Path
    sequence: str
    stems: tuple[str, ...]
    size: tuple[int, int]

    @property
    def folder(self) -> Path:
        return self.root / self.folder_name / self.sequence

    @abstractmethod
    def paths(self, i: int) -> dict[Hashable, Path]:
        """The files of frame i, by the key that a provider's result gives the array."""

    @abstractmethod
    def write(self, path: Path, array: np.ndarray) -> None:
        """Write one array, complete or not at all.

        Raises:
            ValueError: when the provider's array has another shape than the images.
        """

    @abstractmethod
    def read(self, i: int, j: int) -> np.ndarray | None:
        """What is on disk about frame i (for kinds between two frames: and j), or None where there is no file."""

    def check_shape(self, path: Path, array: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raise when a provider's array is not what this kind holds."""
        if tuple(array.shape) != shape:
            raise ValueError(f"{path.name}: the provider made an array of shape {array.shape}, expected {shape}.")


class FlowKind(PriorKind):
    """`flow/SEQ/NAME_{fwd,bwd}.npy`: to the next and the previous image; `_visible`: the round trip closes."""

    name, folder_name = "flow", "flow"

    def paths(self, i: int) -> dict[Hashable, Path]:
        ways = (["fwd"] if i + 1 < len(self.stems) else []) + (["bwd"] if i > 0 else [])
        keys = [key for way in ways for key in (way, f"{way}_visible")]
        return {key: self.folder / f"{self.stems[i]}_{key}.npy" for key in keys}

    def write(self, path: Path, array: np.ndarray) -> None:
        visible = path.stem.endswith("_visible")
        self.check_shape(path, array, self.size if visible else (*self.size, 2))
        with atomic_file(path) as file:
            np.save(file, array.astype(bool if visible else np.float32), allow_pickle=False)

    def read(self, i: int, j: int) -> np.ndarray | None:
        if abs(i - j) != 1:
            return None
        path = self.paths(i)["fwd" if j > i else "bwd"]
        if not path.is_file():
            return None
        flow = load_npy(path, "flow field")
        if flow.shape != (*self.size, 2):
            raise ValueError(f"{path}: shape {flow.shape}, expected {(*self.size, 2)} like the images. Delete it.")
        return flow


class MaskKind(PriorKind):
    """`masks/SEQ/NAME.png`: 255 where the scene moves."""

    name, folder_name, needs = "masks", "masks", ("flow", "cameras")

    def paths(self, i: int) -> dict[Hashable, Path]:
        return {"mask": self.folder / f"{self.stems[i]}.png"}

    def write(self, path: Path, array: np.ndarray) -> None:
        self.check_shape(path, array, self.size)
        write_mask(path, array)

    def read(self, i: int, j: int) -> np.ndarray | None:
        path = self.paths(i)["mask"]
        return read_mask(path, self.size) if path.is_file() else None


class DepthKind(PriorKind):
    """`aligned_depth_anything/SEQ/NAME.npy`: disparity 1/z in the cameras' units, 0 where unknown.

    The folder's name is the one Shape of Motion reads; provider.json says what really made the files.
    """

    name, folder_name, needs = "depth", "aligned_depth_anything", ("flow", "cameras", "masks")

    def paths(self, i: int) -> dict[Hashable, Path]:
        return {"disparity": self.folder / f"{self.stems[i]}.npy"}

    def write(self, path: Path, array: np.ndarray) -> None:
        self.check_shape(path, array, self.size)
        write_disparity(path, array)

    def read(self, i: int, j: int) -> np.ndarray | None:
        path = self.paths(i)["disparity"]
        return read_disparity(path, self.size) if path.is_file() else None


class TrackKind(PriorKind):
    """`tracks/SEQ/NAME.npz`: the query pixels of image NAME in the images of a window (see `track_windows.py`).

    A sequence that has none of these but all of Shape of Motion's `bootstapir/SEQ/{Q}_{T}.npy` keeps those.
    """

    name, folder_name, needs = "tracks", "tracks", ("flow", "masks")

    @property
    def pair_folder(self) -> Path:
        """Where Shape of Motion's files of pairs would lie."""
        return self.root / "bootstapir" / self.sequence

    @property
    def uses_pairs(self) -> bool:
        """Whether the tracks are files of pairs, given by somebody else."""
        if not self.pair_folder.is_dir() or any((self.root / self.folder_name / self.sequence).glob("*.npz")):
            return False
        return _pairs_complete(self.pair_folder, self.pair_folder.stat().st_mtime_ns, self.stems)

    @property
    def folder(self) -> Path:
        return self.pair_folder if self.uses_pairs else self.root / self.folder_name / self.sequence

    def paths(self, i: int) -> dict[Hashable, Path]:
        if self.uses_pairs:
            return {t: self.pair_folder / f"{self.stems[i]}_{stem}.npy" for t, stem in enumerate(self.stems)}
        return {"tracks": self.root / self.folder_name / self.sequence / f"{self.stems[i]}.npz"}

    def write(self, path: Path, array: TrackWindow) -> None:  # type: ignore[override]
        write_track_window(path, array, self.stems)

    def read(self, i: int, j: int) -> np.ndarray | None:
        """Rows of frame i's points in frame j; outside of i's window rows that say nothing."""
        path = self.root / self.folder_name / self.sequence / f"{self.stems[i]}.npz"
        if not path.is_file():
            pair = self.pair_folder / f"{self.stems[i]}_{self.stems[j]}.npy"
            return read_track_pair(pair) if self.uses_pairs and pair.is_file() else None
        return _stored_window(path, path.stat().st_mtime_ns).rows_in(self.stems[j])


@functools.lru_cache(maxsize=8)
def _stored_window(path: Path, changed_ns: int) -> StoredWindow:
    """The last files read, as long as they do not change: readers ask for many frames of one window in turn."""
    return read_track_window(path)


@functools.lru_cache(maxsize=8)
def _pairs_complete(folder: Path, changed_ns: int, stems: tuple[str, ...]) -> bool:
    return pairs_complete(folder, stems)


KINDS: dict[str, type[PriorKind]] = {kind.name: kind for kind in (FlowKind, MaskKind, DepthKind, TrackKind)}
"""In the order in which they are made."""
