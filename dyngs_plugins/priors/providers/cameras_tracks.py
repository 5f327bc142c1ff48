"""Cameras from sparse point tracks, without learned weights and without depth: focal search and bundle adjustment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.cameras.bundle import Reconstruction
from dyngs_plugins.priors.cameras.locate import locate_frames
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.planes import plane_share
from dyngs_plugins.priors.cameras.refind import RefindSettings, find_again
from dyngs_plugins.priors.cameras.solution import Solution, SolverSettings
from dyngs_plugins.priors.cameras.solver import PartedTracks, solve_tracks
from dyngs_plugins.priors.cameras.tracking import TrackingSettings, track_points
from dyngs_plugins.priors.providers.camera_base import CameraProvider, SolvedCameras
from dyngs_plugins.priors.providers.inputs import PriorInputs


@dataclasses.dataclass
class TrackCameras(CameraProvider):
    """Our own solver: made for hand-held clips with little parallax and moving objects in them."""

    name: ClassVar[str] = "tracks"

    #: About how many points are followed in each frame.
    points: int = 1500
    #: Side in pixels of the patch around a point.
    window: int = 17
    #: Residuals in pixels from where on an observation loses influence.
    noise_px: float = 1.0
    #: At most so many tracks decide the cameras.
    tracks: int = 2500
    #: Lost points are looked for again in frames up to this many away; 0 switches it off.
    find_again_frames: int = 40

    def solve(self, inputs: PriorInputs, focal: float | None) -> SolvedCameras:
        """See :meth:`CameraProvider.solve`."""
        observations = track_points(inputs, self._tracking, self.track)

        def find_more(scene: Reconstruction, found: Observations) -> Observations:
            return find_again(inputs, scene, found, self._tracking, RefindSettings(max_frames=self.find_again_frames))

        settings = SolverSettings(noise=self.noise_px, tracks=self.tracks)
        more = find_more if self.find_again_frames else None
        try:
            return cameras_of(solve_tracks(observations, inputs.frames.size, focal, settings, more, self.track))
        except PartedTracks as parted:
            before, after = (file.stem for file in inputs.frames.image_files[parted.frame : parted.frame + 2])
            raise ValueError(
                f"Almost no point can be followed from image {before} to image {after}. Is there a cut, or a stretch without "
                "texture? Process the parts on their own (--start and --end; frames.json says at which second an image is), "
                "or give cameras (--cameras files)."
            ) from parted

    def locate(self, inputs: PriorInputs, solved: SolvedCameras, frames: Sequence[int]) -> Float[np.ndarray, "n 4 4"]:
        """See :meth:`CameraProvider.locate`: tracks through all frames, points from the solved ones alone."""
        observations = track_points(inputs, self._tracking, self.track)
        poses = solved.world_T_camera
        return locate_frames(observations, poses, frames, solved.K, solved.still, self.noise_px)[0]

    @property
    def _tracking(self) -> TrackingSettings:
        return TrackingSettings(points=self.points, window=self.window)


def cameras_of(solution: Solution) -> SolvedCameras:
    """What the project is told about a solution."""
    scene, observations = solution.scene, solution.observations
    K = np.array([[scene.focal, 0.0, scene.center[0]], [0.0, scene.focal, scene.center[1]], [0.0, 0.0, 1.0]])
    missing = tuple(int(i) for i in np.flatnonzero(~solution.solved))
    notes = list(solution.notes)
    if missing:
        notes.append(f"{len(missing)} of {len(solution.solved)} frames have too few points that agree with a still "
                     "world; their poses are interpolated between their neighbours.")  # fmt: skip
    planar = 0.0 if solution.still else plane_share(observations, float(np.clip(3 * solution.median_error, 0.3, 1.0)))
    if planar > 0.9:
        notes.append("What stands still is close to one plane: focal length and depth of relief are weakly determined. "
                     "Give the focal length if you know it.")  # fmt: skip
    report: dict[str, Any] = {
        "reprojection_error_px": round(solution.median_error, 4),
        "still_tracks": observations.num_tracks,
        "still_share": round(solution.still_share, 4),
        "fewest_tracks_in_a_frame": int(min(len(places) for places in observations.by_frame)),
        "focal_px": round(scene.focal, 3),
        "focal_from": solution.focal_source,
    }
    if solution.focal_uncertainty:
        report["focal_uncertainty_percent"] = round(100 * min(solution.focal_uncertainty, 10.0), 2)
    return SolvedCameras(scene.world_T_camera, K, missing, solution.still, report, tuple(notes))
