"""Cameras of a clip that has none: solved from the training frames; held-out frames are located afterwards.

Files, in the order in which they are written: `eval/eval.json` with the held-out views, `droid_recon/SEQ.json` with who
solved them and how, and `droid_recon/SEQ.npy` itself. A run that is killed in between solves them again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.prepared import PreparedClip, choose_keyframes, eval_view
from dyngs_plugins.priors.progress import Say, Track, silent
from dyngs_plugins.priors.providers.camera_base import CameraProvider, SolvedCameras
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.redo import put_aside
from dyngs_plugins.priors.som_files import write_cameras, write_eval_json
from dyngs_plugins.priors.sources import subset, with_camera_file

WEAK_FOCAL_PERCENT = 3.0
"""Relative standard deviation from where on a user is warned of a focal length that was searched for."""
InputsOf = Callable[[FrameSequence, bool], PriorInputs]
"""What a provider may look at: the frames, and whether the flow files on disk are theirs."""


def camera_file(root: Path, sequence: str) -> Path:
    return root / "droid_recon" / f"{sequence}.npy"


def record_file(root: Path, sequence: str) -> Path:
    return root / "droid_recon" / f"{sequence}.json"


def camera_record(root: Path, sequence: str) -> dict[str, Any] | None:
    """Who solved the cameras of a sequence; None where they were given."""
    path = record_file(root, sequence)
    return read_json(path, "camera record") if path.is_file() else None


def put_cameras_aside(clip: PreparedClip, say: Say) -> PreparedClip:
    """For --redo cameras: the clip without cameras; their files are kept in `before_redo/`.

    Raises:
        ValueError: these cameras were not made by `dyngs process`.
    """
    for frames in clip.training:
        if frames.has_cameras and camera_record(clip.root, frames.name) is None:
            raise ValueError(
                f"--redo cameras: {camera_file(clip.root, frames.name)} was not solved by `dyngs process` (there is no "
                f"{record_file(clip.root, frames.name).name} beside it). If you do not need it, remove it yourself."
            )
    for frames in clip.training:
        files = [camera_file(clip.root, frames.name), record_file(clip.root, frames.name)]
        put_aside(clip.root, "cameras", frames.name, files, say)
    bare = tuple(_without(frames) for frames in clip.training)
    return dataclasses.replace(clip, training=bare, everything=tuple(_without(frames) for frames in clip.everything))


def solve_cameras(
    clip: PreparedClip, provider: CameraProvider, inputs_of: InputsOf, focal: float | None, say: Say,
    track: Track = silent,
) -> tuple[PreparedClip, list[KindReport]]:  # fmt: skip
    """The clip with cameras, from files where they exist.

    Args:
        focal: focal length in pixels of the source, if the user knows it.
        track: shows how far each phase of the provider is.

    Raises:
        ValueError: the provider finds no cameras, or only some of several simultaneous cameras have theirs.
    """
    lacking = [frames.name for frames in clip.training if not frames.has_cameras]
    if not lacking:
        return clip, [_kept(clip, frames, provider, focal, say) for frames in clip.training]
    if len(lacking) < len(clip.training):
        raise ValueError(
            f"{clip.root / 'droid_recon'}: no cameras for {', '.join(lacking)}, but for the other simultaneous cameras. "
            "They must share one world: give all of them, or remove all to have them solved together."
        )
    start, name = time.perf_counter(), clip.training[0].name
    provider.track = lambda items, phase, total=None: track(items, f"{name}: cameras: {phase}", total)
    focal_px, focal_source = _known_focal(clip, focal)
    solved = provider.solve(inputs_of(clip.training[0], True), focal_px)
    _check(solved, clip.training[0], provider)
    posed = _locate_all(clip, provider, solved, inputs_of)
    source = _source_of_focal(solved, focal_source)
    record = _record(clip, provider, solved, focal, focal_px, source)
    say(f"{name}: focal length {float(solved.K[0, 0]):.1f} pixels ({source})")
    for note in record["notes"]:
        say(f"{name}: {note}")
    _write(clip, posed, solved, record)
    clip = with_cameras(clip)
    seconds = time.perf_counter() - start
    figures = _figures(solved.report)
    return clip, [
        KindReport(frames.name, "cameras", provider.name, made=1, seconds=seconds if i == 0 else 0.0, measures=figures)
        for i, frames in enumerate(clip.training)
    ]


def with_cameras(clip: PreparedClip) -> PreparedClip:
    """The clip with the cameras of its files attached to the training frames."""
    training = []
    for frames, every in zip(clip.training, clip.everything, strict=True):
        named = _in_camera_file(clip.root, every)
        stored = with_camera_file(subset(every, named), camera_file(clip.root, frames.name))
        places = {file: i for i, file in enumerate(stored.image_files)}
        training.append(subset(stored, [places[file] for file in frames.image_files]))
    return dataclasses.replace(clip, training=tuple(training))


def is_still(clip: PreparedClip) -> bool:
    """Whether the record says that the camera stands, so that no depth can be triangulated."""
    records = [camera_record(clip.root, frames.name) for frames in clip.training]
    return len(records) == 1 and bool(records[0] and records[0].get("still"))


def _in_camera_file(root: Path, frames: FrameSequence) -> list[int]:
    """The frames that the camera file has poses for: those in images/SEQ."""
    folder = root / "images" / frames.name
    return [i for i, file in enumerate(frames.image_files) if file.parent == folder]


def _known_focal(clip: PreparedClip, focal: float | None) -> tuple[float | None, str]:
    if focal is not None:
        return focal * clip.scale, "--focal"
    if clip.report is not None and clip.report.focal is not None:
        return float(clip.report.focal["pixels"]), str(clip.report.focal["source"])
    return None, "solved"


def _source_of_focal(solved: SolvedCameras, known: str) -> str:
    """Where the focal length comes from: what the provider says of it, unless it used the one that was known.

    Args:
        known: where the one that the provider was given comes from; "solved" where it was given none.
    """
    says = solved.report.get("focal_from")
    return known if says in (None, "given") else str(says)


def _focal_notes(solved: SolvedCameras, source: str) -> list[str]:
    """A warning where the focal length is a guess, or nearly one, and the provider has not said so itself."""
    uncertainty = solved.report.get("focal_uncertainty_percent")
    if source == "assumed":
        note = "The focal length is assumed: nothing in the images tells it."
    elif source == "turning":
        note = "The focal length is weakly determined: it comes from how the camera turns alone."
    elif source == "searched" and uncertainty is not None and uncertainty > WEAK_FOCAL_PERCENT:
        note = f"The focal length is weakly determined (standard deviation {uncertainty:.1f} %)."
    else:
        return []
    if any("focal length" in said.lower() and ("assumed" in said or "weakly" in said) for said in solved.notes):
        return []
    return [f"{note} Give it with --focal if you know it."]


def _check(solved: SolvedCameras, frames: FrameSequence, provider: CameraProvider) -> None:
    poses = np.asarray(solved.world_T_camera)
    if poses.shape != (len(frames), 4, 4) or not np.isfinite(poses).all() or not np.isfinite(solved.K).all():
        raise ValueError(
            f"The camera provider {provider.name!r} is at fault: it gave poses of shape {poses.shape}, expected "
            f"{(len(frames), 4, 4)} finite numbers."
        )


def _locate_all(
    clip: PreparedClip, provider: CameraProvider, solved: SolvedCameras, inputs_of: InputsOf
) -> list[Float[np.ndarray, "n 4 4"]]:
    """Poses of every frame of every camera: solved where it was, else located against what the solved ones saw."""
    if len(clip.everything) == 1 and len(clip.everything[0]) == len(clip.training[0]):
        return [np.asarray(solved.world_T_camera)]
    order = sorted(
        (frames.frame_index[i], camera, i) for camera, frames in enumerate(clip.everything) for i in range(len(frames))
    )
    joined = FrameSequence.without_cameras(
        clip.training[0].name,
        tuple(clip.everything[camera].image_files[i] for _, camera, i in order),
        tuple(range(len(order))),
        clip.training[0].size,
    )
    place = {file: i for i, file in enumerate(joined.image_files)}
    known = [place[file] for file in clip.training[0].image_files]
    poses = np.asarray(provider.locate(inputs_of(joined, False), solved, known))
    return [poses[[place[file] for file in frames.image_files]] for frames in clip.everything]


def _record(
    clip: PreparedClip, provider: CameraProvider, solved: SolvedCameras, given: float | None, focal: float | None,
    source: str,
) -> dict[str, Any]:  # fmt: skip
    frames = clip.training[0]
    return {
        "provider": provider.name,
        "settings": {**provider.settings, "focal": given},
        "focal": {"pixels": round(float(solved.K[0, 0]), 4), "given": focal, "source": source},
        "still": solved.still,
        "interpolated": [frames.stems[i] for i in solved.interpolated],
        "held_out": "located against the training frames' structure" if len(clip.everything[0]) > len(frames) else None,
        "report": dict(solved.report),
        "notes": [*solved.notes, *_focal_notes(solved, source)],
    }


def _write(
    clip: PreparedClip, posed: Sequence[Float[np.ndarray, "n 4 4"]], solved: SolvedCameras, record: Mapping[str, Any]
) -> None:
    K = np.asarray(solved.K, np.float64)
    views, files = [], []
    for camera, (frames, every, poses) in enumerate(zip(clip.training, clip.everything, posed, strict=True)):
        full = dataclasses.replace(every, world_T_camera=poses, K=np.tile(K, (len(every), 1, 1)))
        stored = subset(full, _in_camera_file(clip.root, every))
        files.append((frames.name, stored))
        outside = [i for i, file in enumerate(every.image_files) if clip.root / "eval" in file.parents]
        views += [eval_view(full, i, camera, clip.root) for i in outside]
    if views:
        write_eval_json(clip.root / "eval" / "eval.json", clip.protocol, views)
    intrinsics = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    for name, _ in files:
        write_json(record_file(clip.root, name), record)
    for name, stored in files:
        poses = np.asarray(stored.world_T_camera, np.float64)
        write_cameras(camera_file(clip.root, name), poses, intrinsics, stored.size, choose_keyframes(stored))


def _kept(
    clip: PreparedClip, frames: FrameSequence, provider: CameraProvider, focal: float | None, say: Say
) -> KindReport:
    """What to say of cameras that are there."""
    record = camera_record(clip.root, frames.name)
    if record is None:
        return KindReport(frames.name, "cameras", "files", kept=1)
    was, now = (record["provider"], record["settings"]), (provider.name, {**provider.settings, "focal": focal})
    if was != (now[0], plain(now[1])):
        say(f"{frames.name}: cameras solved by {was[0]!r} ({was[1]}) are kept; now it would be {now[0]!r} ({now[1]}). To "
            "solve them again: --redo cameras masks depth tracks.")  # fmt: skip
    return KindReport(frames.name, "cameras", record["provider"], kept=1, measures=_figures(record["report"]))


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a provider's report, under names for people."""
    numbers = {name: value for name, value in report.items() if isinstance(value, int | float)}
    return {name.replace("_", " "): float(value) for name, value in numbers.items()}


def _without(frames: FrameSequence) -> FrameSequence:
    return FrameSequence.without_cameras(frames.name, frames.image_files, frames.frame_index, frames.size)


def plain(value: Any) -> Any:
    """As it comes back from JSON: tuples become lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
