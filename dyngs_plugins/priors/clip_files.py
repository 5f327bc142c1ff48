"""The optional files of ours beside Shape of Motion's layout: ``clip.json``, ``eval/eval.json``, ``eval/tracks.npz``.

They say what the layout cannot: several simultaneous cameras, the time step of each image, and held-out views with
ground truth to evaluate on. World coordinates are those of the clip's camera files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.priors.files import atomic_file, check_poses, existing, inside, number, whole

CLIP_FORMAT, CLIP_VERSION = "dyngs-clip", 1


@dataclass(frozen=True)
class ClipInfo:
    """``clip.json``: what belongs together in a clip folder."""

    sequences: tuple[str, ...]
    """Image folders of simultaneous training cameras; camera i of the clip is the i-th."""
    num_frames: int
    """Time steps over all splits, held-out ones included."""
    fps: float | None = None
    frame_index: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Time step of each image stem, per sequence; images without an entry count up from 0 in name order."""
    protocol: str | None = None
    seconds: tuple[float, ...] | None = None
    """When each time step was filmed; None: they are evenly spaced."""

    def time(self, step: int, kept: range) -> float | None:
        """The time in [0, 1] of a step over the steps in use; None without ``seconds``, where all are evenly spaced."""
        if self.seconds is None or len(kept) < 2:
            return None
        first, last = self.seconds[kept[0]], self.seconds[kept[-1]]
        return (self.seconds[step] - first) / (last - first)


@dataclass(frozen=True)
class EvalView:
    """One held-out image with its camera, and ground truth where there is any. Paths are relative to ``eval/``."""

    image: str
    camera: int
    """Which physical camera; training cameras come first."""
    frame: int
    """Time step."""
    K: list[list[float]]
    """3x3, pixel centres at +0.5."""
    world_T_camera: list[list[float]]
    """4x4, OpenCV axes."""
    mask: str | None = None
    depth: str | None = None
    """z-depth ``.npy``, 0 = unknown."""


@dataclass(frozen=True)
class GroundTruthTracks:
    """True 3-D tracks of surface points, with where one camera sees them.

    ``points`` are in the frame the owner says: the world of the files when read, the scene frame in a dataparser's
    metadata.
    """

    points: Float[Tensor, "p t 3"]
    xy: Float[Tensor, "p t 2"]
    """Pixels with integer centres."""
    visible: Bool[Tensor, "p t"]
    moving: Bool[Tensor, "p"]
    query_frame: Int[Tensor, "p"]
    object: Int[Tensor, "p"] | None = None
    camera: str | int = 0
    """The training camera that ``xy`` and ``visible`` belong to: a sequence's name or its place in the clip."""


@dataclass(frozen=True)
class Keypoints:
    """Points that people marked in several training images (DyCheck): the k-th is the same surface point in all."""

    frame_index: Int[Tensor, "n"]
    xy: Float[Tensor, "n k 2"]
    """Pixels of the images in use, as the annotation files count them."""
    visible: Bool[Tensor, "n k"]


def write_clip_json(
    path: Path,
    sequences: Sequence[str],
    num_frames: int,
    fps: float | None = None,
    frame_index: Mapping[str, Mapping[str, int]] | None = None,
    protocol: str | None = None,
    seconds: Sequence[float] | None = None,
) -> None:
    """Write ``ROOT/clip.json``; ``path`` is the file. See :class:`ClipInfo` for the fields."""
    info = asdict(ClipInfo(tuple(sequences), int(num_frames), fps, frame_index or {}, protocol))
    del info["seconds"]
    if seconds is not None:
        info["seconds"] = [float(value) for value in seconds]
    write_json(path, {"format": CLIP_FORMAT, "version": CLIP_VERSION, **info})


def read_clip_json(path: Path) -> ClipInfo:
    """Read ``ROOT/clip.json``.

    Raises:
        ValueError: not our format, no sequences, or time steps outside the clip or used twice by one camera.
    """
    content = read_json(path, "clip description")
    if content.get("format") != CLIP_FORMAT or content.get("version") != CLIP_VERSION:
        raise ValueError(
            f"{path}: format {content.get('format')!r}, version {content.get('version')!r}. Expected "
            f"{CLIP_FORMAT!r}, version {CLIP_VERSION}. Delete the file if it belongs to something else."
        )
    sequences, num_frames, fps = content.get("sequences"), content.get("num_frames"), content.get("fps")
    named = isinstance(sequences, list) and all(isinstance(name, str) and name for name in sequences)
    if not (named and sequences and len(set(sequences)) == len(sequences) and whole(num_frames, least=1)):
        raise ValueError(f"{path}: expected a list 'sequences' of different names and 'num_frames' of at least 1, found "
                         f"{sequences!r} and {num_frames!r}. Correct the file.")  # fmt: skip
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < float("inf")):
        raise ValueError(f"{path}: fps is {fps!r}; expected a positive number of frames per second, or none.")
    frame_index = content.get("frame_index") or {}
    if not isinstance(frame_index, dict) or not all(isinstance(steps, dict) for steps in frame_index.values()):
        raise ValueError(f"{path}: frame_index is {frame_index!r}; expected an object of objects: for each sequence the "
                         "time step of each image's stem. Correct the file.")  # fmt: skip
    for sequence, steps in frame_index.items():
        outside = {stem: step for stem, step in steps.items() if not whole(step) or step >= num_frames}
        if outside or len(set(steps.values())) < len(steps):
            raise ValueError(
                f"{path}: time steps of {sequence} must differ and lie in 0..{num_frames - 1}; "
                f"found {dict(list((outside or steps).items())[:5])}. Expected whole numbers. Correct the file."
            )
    seconds = _seconds(path, content.get("seconds"), num_frames)
    return ClipInfo(tuple(sequences), num_frames, fps, frame_index, content.get("protocol"), seconds)


def _seconds(path: Path, given: Any, num_frames: int) -> tuple[float, ...] | None:
    """The times of all steps, checked: as many, finite and increasing."""
    if given is None:
        return None
    try:
        values = tuple(number(value) for value in given)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{path}: seconds hold something else than numbers ({error}). Correct the file.") from error
    rising = all(a < b for a, b in zip(values, values[1:], strict=False))
    if len(values) != num_frames or not rising or not np.isfinite(values).all():
        raise ValueError(f"{path}: found {len(values)} seconds; expected {num_frames} finite numbers, one for each time "
                         "step, each later than the one before. Correct them, or remove them for even steps.")  # fmt: skip
    return values


def write_eval_json(path: Path, protocol: str, views: Sequence[EvalView]) -> None:
    """Write ``ROOT/eval/eval.json``; ``path`` is the file."""
    write_json(path, {"protocol": protocol, "views": [asdict(view) for view in views]})


def read_eval_json(path: Path) -> tuple[str, list[EvalView]]:
    """Read ``ROOT/eval/eval.json``: the protocol's name and its views, with every named file checked to exist.

    Raises:
        FileNotFoundError, ValueError: a file it names is missing, a field is missing, or a pose is not rigid.
    """
    content = read_json(path, "evaluation list")
    listed = content.get("views")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: no views. Delete the file to evaluate on held-out frames instead.")
    views = [_eval_view(path, i, entry) for i, entry in enumerate(listed)]
    twice = {view.image for view in views if [other.image for other in views].count(view.image) > 1}
    if twice:
        raise ValueError(f"{path}: {len(twice)} images are listed more than once; the first is {min(twice)}. Expected "
                         "every image once: remove the repeated views.")  # fmt: skip
    check_poses(path, np.array([view.world_T_camera for view in views]), "views")
    return str(content.get("protocol") or "held-out views of eval/eval.json"), views


def _eval_view(path: Path, place: int, entry: Any) -> EvalView:
    """One entry of ``eval.json``, its files looked up."""
    try:
        view = EvalView(**{name: entry[name] for name in ("image", "camera", "frame", "K", "world_T_camera")},
                        mask=entry.get("mask"), depth=entry.get("depth"))  # fmt: skip
        K, pose = (np.array([[number(x) for x in row] for row in matrix]) for matrix in (view.K, view.world_T_camera))
        if not (whole(view.camera) and whole(view.frame) and isinstance(view.image, str)):
            raise TypeError("image must be text, camera and frame whole numbers")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        shown = str(entry) if len(str(entry)) < 300 else f"{str(entry)[:297]}..."
        raise ValueError(f"{path}: view {place} is incomplete or malformed ({error!r}): {shown}. Expected image, camera, "
                         "frame, K and world_T_camera. Write the file again.") from error  # fmt: skip
    if (K.shape, pose.shape) != ((3, 3), (4, 4)):
        raise ValueError(f"{path}: view {place} has K {K.shape} and world_T_camera {pose.shape}; expected 3x3, 4x4.")
    skewed = np.abs(K[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] - [0, 0, 0, 0, 1]).max()
    if not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0 or skewed > 1e-6 * K[0, 0]:
        raise ValueError(f"{path}: K of view {place} is {K.tolist()}; expected finite numbers, positive focal lengths, no "
                         "skew and a last row of 0, 0, 1. Write the file again.")  # fmt: skip
    found = {}
    for kind in ("image", "mask", "depth"):
        name = getattr(view, kind)
        if name is not None:
            found[kind] = _eval_file(path, place, name)
    return replace(view, **found)


def _eval_file(path: Path, place: int, name: Any) -> str:
    """The name of a file that a view of ``eval.json`` names; its suffix may be in upper case on disk."""
    file = inside(path.parents[1], f"{path.parent.name}/{name}", path)
    upper = file.with_suffix(file.suffix.upper())
    if not file.is_file() and upper.is_file():
        file = upper
    existing(file, "evaluation file", f"It is named by view {place} of {path}. Restore it, or remove the view.")
    return os.path.relpath(file, path.parent)


def write_ground_truth_tracks(path: Path, tracks: GroundTruthTracks) -> None:
    """Write ``ROOT/eval/tracks.npz`` (points in the world of the camera files)."""
    arrays = {name: np.asarray(value) for name, value in vars(tracks).items() if value is not None}
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)


def read_ground_truth_tracks(path: Path) -> GroundTruthTracks:
    """Read ``ROOT/eval/tracks.npz``.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or with arrays whose shapes do not belong together.
    """
    path = existing(path, "ground-truth track file", "Delete eval/ to do without.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        tracks = GroundTruthTracks(
            points=torch.from_numpy(arrays["points"].astype(np.float32)),
            xy=torch.from_numpy(arrays["xy"].astype(np.float32)),
            visible=torch.from_numpy(arrays["visible"].astype(bool)),
            moving=torch.from_numpy(arrays["moving"].astype(bool)),
            query_frame=torch.from_numpy(arrays["query_frame"].astype(np.int64)),
            object=torch.from_numpy(arrays["object"].astype(np.int64)) if "object" in arrays else None,
            camera=arrays["camera"].item() if "camera" in arrays else 0,
        )
    except Exception as error:  # numpy and zipfile raise many kinds on damaged files; each means the same
        raise ValueError(f"{path}: cannot be read as ground-truth tracks ({error}). Expected points [P,T,3], "
                         "xy [P,T,2], visible [P,T], moving [P], query_frame [P].") from error  # fmt: skip
    p, t = tracks.points.shape[:2]
    shapes = [tuple(x.shape) for x in (tracks.points, tracks.xy, tracks.visible, tracks.moving, tracks.query_frame)]
    if shapes != [(p, t, 3), (p, t, 2), (p, t), (p,), (p,)]:
        raise ValueError(f"{path}: shapes {shapes} of points, xy, visible, moving, query_frame do not fit together. "
                         "Write the file again, or delete it to do without.")  # fmt: skip
    return tracks


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, indented, complete or not at all."""
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object, with an error that names the file where it is none."""
    path = existing(path, what, "")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise ValueError(f"{path}: cannot be read as JSON ({error}). Write this {what} again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object as {what}, found a {type(content).__name__}. Write it again.")
    return content
