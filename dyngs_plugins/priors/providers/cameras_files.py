"""Cameras as given: a file of COLMAP, LLFF, MegaSaM, DROID-SLAM, Shape of Motion, or `dyngs process` itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.cameras.locate import locate_frames
from dyngs_plugins.priors.cameras.pose_files import PoseFile, read_pose_file
from dyngs_plugins.priors.cameras.rotation import interpolate_missing
from dyngs_plugins.priors.cameras.tracking import TrackingSettings, track_points
from dyngs_plugins.priors.providers.camera_base import CameraProvider, SolvedCameras
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs


@dataclasses.dataclass
class CameraFiles(CameraProvider):
    """Cameras from a file; see `dyngs_plugins.priors.cameras.pose_files` for the kinds."""

    name: ClassVar[str] = "files"

    #: The camera file, or the folder of a COLMAP model.
    path: str = ""

    def unavailable(self) -> str | None:
        """See :meth:`PriorProvider.unavailable`."""
        if not self.path:
            return "It needs to know where your file is: --settings cameras.path=FILE."
        if not Path(self.path).expanduser().exists():
            return f"{self.path}: no such file or folder. Correct --settings cameras.path=FILE."
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """The file by its name, because where it lies differs between machines."""
        return {"path": Path(self.path).name}

    def solve(self, inputs: PriorInputs, focal: float | None) -> SolvedCameras:
        """See :meth:`CameraProvider.solve`. A focal length that is given is not used: the file has its own."""
        file = self._file(inputs.frames)
        poses, found = poses_of(file, inputs.frames)
        notes = []
        if not found.all():
            notes.append(f"{file.path.name} has no pose for {int((~found).sum())} of {len(found)} images; theirs are "
                         "interpolated between their neighbours.")  # fmt: skip
        if focal is not None and abs(focal / file.K[0, 0] - 1.0) > 0.02:
            notes.append(f"The focal length of {file.path.name} ({file.K[0, 0]:.1f} pixels) is used, not the one known "
                         f"from elsewhere ({focal:.1f}): its poses belong to it.")  # fmt: skip
        still = bool(np.ptp(poses[found, :3, 3], axis=0).max() < 1e-6)
        if still:
            notes.append("All poses are in one place: no depth can be triangulated.")
        report = {"file": file.path.name, "poses_in_file": len(file.world_T_camera), "focal_px": float(file.K[0, 0]),
                  "focal_from": "file"}  # fmt: skip
        missing = tuple(int(i) for i in np.flatnonzero(~found))
        return SolvedCameras(interpolate_missing(poses, found), file.K, missing, still, report, tuple(notes))

    def locate(self, inputs: PriorInputs, solved: SolvedCameras, frames: Sequence[int]) -> Float[np.ndarray, "n 4 4"]:
        """See :meth:`CameraProvider.locate`: from the file where it has them, else against the solved frames."""
        poses, found = poses_of(self._file(inputs.frames), inputs.frames, partial=True)
        poses[list(frames)], found[list(frames)] = solved.world_T_camera, True
        if found.all():
            return poses
        known = np.flatnonzero(found)
        tracks = track_points(inputs, TrackingSettings(), self.track)
        return locate_frames(tracks, poses[known], known.tolist(), solved.K, solved.still)[0]

    def _file(self, frames: FrameSequence) -> PoseFile:
        if not self.path:
            raise ValueError("The camera provider 'files' needs a file: --settings cameras.path=FILE.")
        return read_pose_file(Path(self.path), frames.size)


def poses_of(
    file: PoseFile, frames: FrameSequence, partial: bool = False
) -> tuple[Float[np.ndarray, "n 4 4"], Bool[np.ndarray, "n"]]:
    """The pose of each frame, and which frames have one.

    Matched by name where the file has names and knows any; else by order: one pose per frame, or one per time step of
    the whole video, of which the frames are some.

    Args:
        partial: a file that fits neither gives no poses instead of an error.

    Raises:
        ValueError: names and numbers do not fit.
    """
    count, poses = len(file.world_T_camera), np.tile(np.eye(4), (len(frames), 1, 1))
    place = {name: i for i, name in enumerate(file.names or ())}
    named = np.array([stem in place for stem in frames.stems], bool)
    if named.any():
        poses[named] = file.world_T_camera[[place[stem] for stem in frames.stems if stem in place]]
        return poses, named
    everything = np.ones(len(frames), bool)
    if count == len(frames):
        return file.world_T_camera.copy(), everything
    steps = max(frames.frame_index) + 1
    if len(frames) < steps and count in (steps, steps + 1):  # the video's last frame may be held out
        return file.world_T_camera[list(frames.frame_index)], everything
    if partial:
        return poses, ~everything
    names = "" if file.names is None else f" Its names ({', '.join(file.names[:2])}, ...) are none of the images'."
    raise ValueError(
        f"{file.path}: {count} poses for {len(frames)} images ({', '.join(frames.stems[:2])}, ...).{names} Expected one "
        "pose per image in the order of their names. Use all images that the cameras were solved for (no --fps, no "
        "--max-frames), or solve them again."
    )
