"""Opening a scene wholly, what it then is, and whether two scenes or an error are what they should be."""

from __future__ import annotations

import copy
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from layout_checks import to_file
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from dataparsers.flow_folders import WAYS
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.user_errors import raised_by_us

ADVICE = re.compile(
    r"[Ee]xpected|\b(Add|Choose|Compute|Copy|Correct|Delete|Download|Export|Extract|Get|Give|Leave|Make|Name|Pass|Pick|"
    r"Put|Remove|Rename|Resize|Restore|Run|Say|Set|Solve|Take|Train|Undistort|Use|Write)\b"
)
PLAIN = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
    OSError,
)
_watching: list[set[str]] = []


def _hear(event: str, arguments: tuple) -> None:
    if _watching and event == "open" and isinstance(arguments[0], str | bytes | Path):
        _watching[-1].add(str(arguments[0]))


sys.addaudithook(_hear)  # an audit hook cannot be removed; this one does nothing unless something is watched


@contextmanager
def files_opened() -> Iterator[set[str]]:
    """The names of all files that Python opens meanwhile."""
    _watching.append(set())
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


@dataclass
class Opened:
    """All that a scene gives to training and evaluation, in the world of its files; by part, split and place."""

    parts: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    parsed: bool = False
    """Whether all splits were parsed, so that only reading was left."""
    warned: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)


def open_scene(config: Any, into: Opened) -> None:
    """Parse every split and read every image, map and track of it; what was reached is in ``into`` after an error."""
    with warnings.catch_warnings(record=True) as caught, files_opened() as read:
        warnings.simplefilter("always")
        try:
            parser = config.setup()
            splits = {split: parser.get_dataparser_outputs(split) for split in ("train", "val", "test")}
            into.parsed = True
            same: dict[tuple, str] = {}
            for split, outputs in splits.items():
                key = tuple(outputs.image_filenames), split == "train"
                if key not in same:  # val is often test itself
                    _read_split(split, outputs, into)
                same[key] = split
        finally:
            into.warned += [str(w.message) for w in caught]
            into.read |= read


def _read_split(split: str, outputs: DataparserOutputs, into: Opened) -> None:
    views = ClipViews.from_dataparser_outputs(outputs)
    scale, parts = outputs.dataparser_scale, into.parts
    centers = to_file(outputs, outputs.cameras.camera_to_worlds[:, :, 3])
    turns = outputs.dataparser_transform[:, :3].T @ outputs.cameras.camera_to_worlds[:, :, :3]
    parts["steps", split, ""] = outputs.metadata["num_frames"]
    if outputs.metadata.get("points3D_xyz") is not None:
        parts["points", split, ""] = to_file(outputs, outputs.metadata["points3D_xyz"]).numpy()
    has = {"depth": views.priors.depth_files, "dynamic": views.priors.mask_files, "valid": views.priors.valid_files,
           "covisible": views.priors.covisible_files}  # fmt: skip
    for i, path in enumerate(views.image_files):
        camera = path.parent.parent.name if path.parent.parent.name.startswith("cam") else ""  # cam00/images/8.png
        name = f"{camera}{path.parent.name}/{path.stem}".casefold()
        parts["camera", split, name] = np.concatenate([centers[i].numpy(), turns[i].flatten().numpy()])
        parts["K", split, name] = views.K[i].numpy()
        parts["size", split, name] = (views.width, views.height)
        parts["lens", split, name] = np.zeros(6) if views.distortion is None else views.distortion[i].numpy()
        parts["time", split, name] = (float(views.times[i]), int(views.frame_index[i]), int(views.camera_index[i]))
        parts["image", split, name] = views.image(i).numpy()
        for part, files in has.items():
            if files is not None and files[i] is not None:
                values = getattr(views, part)(i)
                parts[part, split, name] = (values / scale if part == "depth" else values.float()).numpy()
        if views.priors.normal_files is not None and views.priors.normal_files[i] is not None:
            world_R_scene = outputs.dataparser_transform[:, :3]  # normals as they are in the world of the files
            parts["normals", split, name] = (views.normals(i) @ world_R_scene).numpy()
        for way in WAYS:
            found = views.flow(i, way)
            if found is not None:
                parts["flow", split, f"{name} {way}"] = (found.flow * found.visible[..., None]).numpy()
    if split == "train" and views.tracks is not None:
        for query in range(len(views)):
            for target in views.tracks.targets(query).tolist():
                seen = views.tracks.observe(query, target)
                parts["tracks", f"{query}", f"{target}"] = np.column_stack([seen.xy.numpy(), seen.confidence.numpy()])


def differences(clean: Opened, other: Opened, lossy: bool) -> dict[str, str]:
    """Parts that are not as in the clean scene, with the first place; ``-part`` where they are absent."""
    found: dict[str, str] = {}
    for key, value in other.parts.items():
        if key not in clean.parts:
            found.setdefault(f"+{key[0]}", f"{key} is new")
        elif not _equal(key[0], clean.parts[key], value, lossy):
            found.setdefault(key[0], f"{key}: {_short(clean.parts[key])} became {_short(value)}")
    for key in clean.parts.keys() - other.parts.keys():
        found.setdefault(f"-{key[0]}", f"{key} is gone")
    return found


def _equal(part: str, a: Any, b: Any, lossy: bool) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return False
    if part == "image" and lossy:
        return bool(np.abs(a - b).mean() < 0.08)
    if part in ("flow", "normals"):  # in half precision
        return bool(np.allclose(a, b, rtol=3e-3, atol=3e-3))
    if part == "depth":  # a map in half precision
        return bool(np.allclose(a, b, rtol=2e-2 if lossy else 3e-3, atol=1e-5))
    if part in ("dynamic", "valid", "covisible", "steps", "size"):
        return bool((a == b).all())
    return bool(np.allclose(a, b, rtol=1e-3, atol=2e-3 if part in ("camera", "points") else 1e-3))


def _short(value: Any) -> str:
    values = np.asarray(value)
    return str(np.round(values.flatten()[:4], 3).tolist()) + (f" of {values.shape}" if values.size > 4 else "")


def wrong_error(error: Exception, root: Path) -> str | None:
    """What is wrong with an error as something that a user is to read; None: nothing."""
    text = str(error)
    if type(error) not in PLAIN:
        return f"a {type(error).__name__}"
    if not raised_by_us(error):
        return "raised outside of our code"
    if str(root) not in text:
        return "it names no file of the scene"
    if not ADVICE.search(text):
        return "it says neither what was expected nor what to try"
    if "Traceback" in text or len(text) > 2500:
        return "too long to read"
    return None


def fresh(config: Any, root: Path) -> Any:
    """The config for another folder."""
    other = copy.copy(config)
    other.data = root
    return other
