"""``with_priors.json``: priors for the training views of a data set that lies elsewhere and is left as it is.

The folder holds this file and the priors, in the clip folder's convention (docs/priors.md): ``KIND/SEQ/NAME``. Frames are
named by the camera and the time step that the data set's own loader gives them, so that priors find their views whatever
the images are called.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.files import inside, whole

RECORD = "with_priors.json"
FORMAT, VERSION = "dyngs-with-priors", 1
_ADVICE = "Run `dyngs process` on the data set again, with a new --out."


@dataclass(frozen=True)
class AddedFrame:
    """One training view that has priors here."""

    name: str
    """Of its files, without suffix."""
    camera: int
    step: int
    """Time step, over all splits."""


@dataclass(frozen=True)
class AddedPriors:
    """Whose priors a folder holds, and which."""

    dataset: Path
    layout: str
    """Command of the data set's loader."""
    protocol: str
    downscale_factor: int | None
    """That of the images that the priors belong to; None: the loader's own."""
    sequences: Mapping[str, tuple[AddedFrame, ...]]
    """Frames of one film in time, by the name of their folders."""
    kinds: tuple[str, ...] = ()
    """Kinds of priors that are complete here; they come before what the data set has."""

    def write(self, root: Path) -> None:
        """Write the record into a folder; a data set beside it is named from there."""
        dataset = self.dataset.resolve()
        near = dataset.is_relative_to(root.resolve().parent)
        content = {
            "format": FORMAT, "version": VERSION,
            "dataset": os.path.relpath(dataset, root.resolve()) if near else str(dataset),
            "layout": self.layout, "protocol": self.protocol, "downscale_factor": self.downscale_factor,
            "kinds": list(self.kinds),
            "sequences": {name: [vars(frame) for frame in frames] for name, frames in self.sequences.items()},
        }  # fmt: skip
        write_json(root / RECORD, content)


def read_added_priors(root: Path) -> AddedPriors:
    """The record of a folder.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or the data set is no longer there.
    """
    path = root / RECORD
    content = read_json(path, "record of added priors")
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ValueError(
            f"{path}: not a record of added priors. Expected format {FORMAT!r}, version {VERSION}. {_ADVICE}"
        )
    texts = {key: content.get(key) for key in ("dataset", "layout", "protocol")}
    wrong = [key for key, value in texts.items() if not isinstance(value, str) or (key != "protocol" and not value)]
    factor, sequences, kinds = content.get("downscale_factor"), content.get("sequences"), content.get("kinds")
    if wrong or not (factor is None or whole(factor, 1)) or not isinstance(sequences, dict) or not sequences:
        raise ValueError(f"{path}: expected text as dataset, layout and protocol, a whole downscale_factor or null, and "
                         f"sequences; found {_short(texts | {'downscale_factor': factor})}. {_ADVICE}")  # fmt: skip
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError(f"{path}: kinds is {_short(kinds)}; expected a list of names. {_ADVICE}")
    dataset = Path(os.path.normpath(root / str(texts["dataset"])))
    if not dataset.is_dir():
        raise FileNotFoundError(f"{path}: the data set {dataset} is not there. Expected its folder; was it moved? Correct "
                                "\"dataset\", or put it back.")  # fmt: skip
    frames = {str(inside(root, name, path).name): _frames(path, name, listed) for name, listed in sequences.items()}
    return AddedPriors(dataset, str(texts["layout"]), str(texts["protocol"]), factor, frames, tuple(kinds))


def _frames(path: Path, sequence: str, listed: Any) -> tuple[AddedFrame, ...]:
    def good(entry: Any) -> bool:
        keys = isinstance(entry, dict) and set(entry) == {"name", "camera", "step"}
        return keys and isinstance(entry["name"], str) and whole(entry["camera"]) and whole(entry["step"])

    if not isinstance(listed, list) or not listed or not all(good(entry) for entry in listed):
        bad = next((e for e in listed if not good(e)), listed) if isinstance(listed, list) else listed
        raise ValueError(f"{path}: sequence {sequence!r} holds {_short(bad)}; expected entries of name, camera and step. "
                         f"{_ADVICE}")  # fmt: skip
    for entry in listed:
        inside(path.parent, entry["name"], path)
    frames = tuple(AddedFrame(**entry) for entry in listed)
    if len({frame.name for frame in frames}) < len(frames) or len({(f.camera, f.step) for f in frames}) < len(frames):
        raise ValueError(f"{path}: sequence {sequence!r} names a frame twice. {_ADVICE}")
    return frames


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) < 120 else repr(value)[:117] + "..."
