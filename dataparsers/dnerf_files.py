"""The transforms files of D-NeRF's scenes: the image, time and camera of every frame, checked. See ``dnerf.py``."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dataparsers.checks import IMAGE_SUFFIXES
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.files import check_poses, inside, optional_file


@dataclass(frozen=True)
class Entry:
    """One frame of a transforms file."""

    image: Path
    time: float
    world_T_camera: Float[np.ndarray, "4 4"]
    """OpenCV axes."""
    angle: float
    """Horizontal field of view in radians."""


def require_layout(root: Path) -> None:
    """Refuse a folder that holds no scene of this layout.

    Raises:
        FileNotFoundError: no such folder, or no ``transforms_train.json`` in it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a D-NeRF scene; pass its folder with --data.")
    if (root / "transforms_train.json").is_file():
        return
    below = sorted(p.parent.name for p in root.glob("*/transforms_train.json"))
    near = f"One level too high? Pass --data {root / below[0]}." if below else ""
    raise FileNotFoundError(
        f"{root / 'transforms_train.json'}: no such file. Expected transforms_train.json, transforms_test.json and "
        f"their images. {near}"
    )


def has_split(root: Path, split: str) -> bool:
    """Whether a split that the protocol does not need is there. Its times count, so it must not get lost unseen.

    Raises:
        FileNotFoundError: its images are there without it.
    """
    path = root / f"transforms_{split}.json"
    if optional_file(path, "Blender transforms file"):
        return True
    if (root / split).is_dir():
        raise FileNotFoundError(f"{path}: no such file, but there is a folder {split}/ of its images. Expected both, for "
                                "times are counted over all splits. Restore the file, or remove the folder.")  # fmt: skip
    return False


def read_split(root: Path, split: str) -> list[Entry]:
    """The frames of ``transforms_{split}.json``, checked.

    Raises:
        FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
    """
    path = root / f"transforms_{split}.json"
    content = read_json(path, "Blender transforms file")
    angle, listed = content.get("camera_angle_x"), content.get("frames")
    if isinstance(angle, bool) or not isinstance(angle, int | float) or not 0 < angle < math.pi:
        raise ValueError(
            f"{path}: camera_angle_x is {angle!r}; expected the horizontal field of view, 0 to pi radians."
        )
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: found no frames; expected a list 'frames' of at least one. Download it again.")
    entries = [_read_entry(root, path, i, frame, float(angle)) for i, frame in enumerate(listed)]
    twice = [image for image, count in Counter(entry.image for entry in entries).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} images are listed more than once; the first is {min(twice)}. Expected "
                         "every image once: remove the repeated frames.")  # fmt: skip
    check_poses(path, np.stack([entry.world_T_camera for entry in entries]), "frames")
    return entries


def _read_entry(root: Path, path: Path, index: int, frame: Any, angle: float) -> Entry:
    if not isinstance(frame, dict):
        raise ValueError(f"{path}: frame {index} is {frame!r}; expected an object with file_path, time and matrix.")
    time = frame.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < math.inf:
        raise ValueError(
            f"{path}: the time of frame {index} is {time!r}; expected a finite number. A static Blender scene has no "
            "times and is not this layout."
        )
    try:
        matrix = np.array(frame.get("transform_matrix"), np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4):
        raise ValueError(f"{path}: transform_matrix of frame {index} has shape {matrix.shape}; expected 4x4 numbers.")
    matrix[:, 1:3] *= -1.0  # OpenGL to OpenCV: y down, z forward
    return Entry(_image(root, path, index, frame.get("file_path")), float(time), matrix, angle)


def _image(root: Path, path: Path, index: int, name: Any) -> Path:
    """The file of ``./train/r_000``: the suffix is left out in the release, and present in files of some exporters."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path}: file_path of frame {index} is {name!r}; expected a name like ./train/r_000.")
    bare = inside(root, name, path)
    folder = bare.parent
    if bare.suffix.lower() in IMAGE_SUFFIXES and bare.is_file():
        return bare
    suffixes = [s for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
    found = [folder / f"{bare.name}{suffix}" for suffix in suffixes if (folder / f"{bare.name}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"{path}: frame {index} names {name!r}, which is {len(found)} files "
                         f"({', '.join(p.name for p in found)}). Expected one: remove the others.")  # fmt: skip
    if found:
        return found[0]
    holds = f"{folder} holds {len(list(folder.iterdir()))} files" if folder.is_dir() else f"there is no folder {folder}"
    raise FileNotFoundError(
        f"{folder / (bare.name + '.png')}: no such image, but frame {index} of {path.name} names it; {holds}. "
        "Download the scene again, or remove the frame."
    )
