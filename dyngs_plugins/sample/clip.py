"""The sample clip as arrays in memory: what any writer of any layout starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from . import ground_truth as gt
from .blur import Exposure, expose
from .cameras import Camera, CameraPath, held_out_path, training_paths
from .raycast import render_linear
from .scene import Scene, build_scene
from .textures import encode

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""Wraps the frames of one stage of the work, with the stage's name, and shows how far it is."""


@dataclass(frozen=True)
class SampleSettings:
    """Everything that decides how a sample clip looks. Two clips of equal settings are equal to the byte.

    Attributes:
        frames: number of frames; the same motion is sampled more finely with more of them.
        width, height: image size in pixels.
        cameras: number of simultaneous training cameras.
        fps: frames per second, for readers that want seconds.
        supersample: rays per pixel and direction; the picture averages its square.
        track_step: spacing in pixels of the grid of query points.
        seed: picks the textures' noise.
        shake: tremor of the training cameras, in pixels of image motion.
        exposure: motion blur and defocus of the training images.
        still: nothing but the cameras moves.
    """

    frames: int = 24
    width: int = 160
    height: int = 120
    cameras: int = 1
    fps: float = 12.0
    supersample: int = 3
    track_step: int = 2
    seed: int = 0
    shake: float = 0.0
    exposure: Exposure = Exposure()
    still: bool = False

    def __post_init__(self):
        lens = self.exposure
        _require(self.frames, "frames", 2, 9999, "flow and motion need two frames")
        _require(self.width, "width", 16, 8192, "smaller images cannot hold the objects")
        _require(self.height, "height", 16, 8192, "smaller images cannot hold the objects")
        _require(self.cameras, "cameras", 1, 9, "more would look past the scene")
        _require(self.fps, "fps", 1e-3, 1e6, "it is a rate in frames per second")
        _require(self.supersample, "supersample", 1, 16, "cost grows with its square")
        _require(self.track_step, "track_step", 1, 64, "it is a spacing in pixels")
        _require(self.seed, "seed", 0, 2**63, "numpy's generators take no negative seeds")
        _require(self.shake, "shake", 0.0, 0.1 * self.width, "a wider tremor looks past the scene")
        _require(lens.fraction, "exposure", 0.0, 1.0, "the shutter cannot stay open for longer than a frame")
        _require(lens.subframes, "subframes", 2 if lens.fraction > 0 else 1, 999, "blur averages that many pictures")
        _require(lens.aperture, "aperture", 0.0, 1.0, "a wider lens would reach into the scene")
        _require(lens.focus_distance, "focus_distance", 0.1, 1e6, "it is a depth in scene units")
        _require(
            lens.lens_samples, "lens_samples", 2 if lens.aperture > 0 else 1, 999, "defocus averages that many pictures"
        )

    @property
    def frame_interval(self) -> float:
        """Time between two frames, as t runs over [0,1]."""
        return 1.0 / (self.frames - 1)

    @property
    def times(self) -> Float[np.ndarray, "t"]:
        """The frames' times, the first 0 and the last 1."""
        return np.linspace(0.0, 1.0, self.frames)


@dataclass(frozen=True)
class View:
    """Everything one camera sees. Images are 8-bit display values, depths are z-depths in scene units."""

    cameras: list[Camera]
    images: UInt8[np.ndarray, "t h w 3"]
    depths: Float[np.ndarray, "t h w"]
    object_ids: Int[np.ndarray, "t h w"]
    masks: Bool[np.ndarray, "t h w"]


@dataclass(frozen=True)
class TrainingView(View):
    """A training camera: what it sees, sharp pictures if its images are blurred, flow, and tracks between all frames.

    Flow is in pixels; entry k of ``flow_forward`` goes from frame k to k+1, of ``flow_backward`` from k+1 to k.
    Normals are of the camera's frame, towards the camera. Entry q of ``query_pixels`` and ``tracks`` are the query points of frame q and where they are in every frame.
    """

    sharp: UInt8[np.ndarray, "t h w 3"] | None
    flow_forward: Float[np.ndarray, "s h w 2"]
    flow_forward_visible: Bool[np.ndarray, "s h w"]
    flow_backward: Float[np.ndarray, "s h w 2"]
    flow_backward_visible: Bool[np.ndarray, "s h w"]
    query_pixels: list[Int[np.ndarray, "p 2"]]
    tracks: list[gt.PointTracks]
    normals: Float[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class EvaluationTracks:
    """Surface points followed through the clip, to measure tracks against. ``xy`` is in the first training camera."""

    points: Float[np.ndarray, "p t 3"]
    xy: Float[np.ndarray, "p t 2"]
    visible: Bool[np.ndarray, "p t"]
    moving: Bool[np.ndarray, "p"]
    object_id: Int[np.ndarray, "p"]
    query_frame: Int[np.ndarray, "p"]


@dataclass(frozen=True)
class SampleClip:
    """The whole sample: training views by name, the held-out view at the same times, tracks and measured facts."""

    settings: SampleSettings
    scene: Scene
    training_paths: Mapping[str, CameraPath]
    training: dict[str, TrainingView]
    held_out: View
    evaluation_tracks: EvaluationTracks
    facts: dict[int, gt.ObjectFacts]


def build_clip(settings: SampleSettings, progress: Progress | None = None) -> SampleClip:
    """Render the clip and compute its ground truth.

    Args:
        progress: called with each stage's frames and name; the default shows nothing.
    """
    progress = progress or (lambda frames, name: frames)
    scene = build_scene(settings.seed, settings.still)
    paths = training_paths(
        settings.width, settings.height, settings.cameras, settings.shake, _SHAKE_FRAMES * settings.frame_interval
    )
    training = {name: _training_view(settings, scene, path, name, progress) for name, path in paths.items()}
    held_out, _ = _view(settings, scene, held_out_path(settings.width, settings.height), "held-out camera", progress)
    first = next(iter(training.values()))
    facts = {
        i: gt.object_facts(scene, first.cameras, settings.times.tolist(), first.object_ids, i) for i in scene.moving_ids
    }
    tracks = _evaluation_tracks(settings, scene, first)
    return SampleClip(settings, scene, paths, training, held_out, tracks, facts)


_SHAKE_FRAMES = 4.0  # frames that the tremor's slower part takes: a hand at 12 frames a second trembles at some 3 Hz


def _view(
    settings: SampleSettings, scene: Scene, path: CameraPath, name: str, progress: Progress
) -> tuple[View, list[gt.Surfaces]]:
    times = settings.times.tolist()
    cameras = [path.at(t) for t in times]
    images, seen = [], []
    for camera, t in progress(list(zip(cameras, times, strict=True)), f"{name}: images"):
        images.append(to_8bit(render_linear(scene, camera, t, settings.supersample)))
        seen.append(gt.surfaces(scene, camera, t))
    ids = np.stack([s.object_id for s in seen])
    depths = np.stack([s.depth for s in seen])
    return View(cameras, np.stack(images), depths, ids, np.isin(ids, scene.moving_ids)), seen


def _training_view(
    settings: SampleSettings, scene: Scene, path: CameraPath, name: str, progress: Progress
) -> TrainingView:
    view, seen = _view(settings, scene, path, name, progress)
    times, frames = settings.times.tolist(), list(range(settings.frames))
    images, sharp = view.images, None
    if settings.exposure.blurs:
        sharp, blurred = images, []
        for t in progress(times, f"{name}: exposures"):
            blurred.append(
                to_8bit(expose(scene, path, t, settings.frame_interval, settings.exposure, settings.supersample))
            )
        images = np.stack(blurred)
    flows = {+1: [], -1: []}
    for k in progress(frames, f"{name}: flow"):
        for step, collected in flows.items():
            if 0 <= k + step < settings.frames:
                collected.append(gt.flow(scene, seen[k], view.cameras[k + step], times[k + step]))
    queries = [gt.query_pixels(mask, settings.track_step) for mask in view.masks]
    tracks = [gt.track(scene, view.cameras, times, seen[k], queries[k]) for k in progress(frames, f"{name}: tracks")]
    (forward, forward_visible), (backward, backward_visible) = (
        [np.stack(parts) for parts in zip(*flows[step], strict=True)] for step in (+1, -1)
    )
    return TrainingView(
        view.cameras,
        images,
        view.depths,
        view.object_ids,
        view.masks,
        sharp,
        forward,
        forward_visible,
        backward,
        backward_visible,
        queries,
        tracks,
        np.stack([gt.normals(scene, s, c) for s, c in zip(seen, view.cameras, strict=True)]),
    )


def _evaluation_tracks(settings: SampleSettings, scene: Scene, view: TrainingView) -> EvaluationTracks:
    """Points on a coarser grid, taken from frames across the clip so that every side an object shows has some."""
    times = settings.times.tolist()
    parts: list[tuple] = []
    for frame in sorted({round(k * (settings.frames - 1) / 4) for k in range(5)}):
        mask = view.masks[frame]
        pixels = np.concatenate(
            [
                gt.query_pixels(mask, 2 * settings.track_step),
                gt.query_pixels(~mask, 8 * settings.track_step),
            ]
        )
        seen = gt.surfaces(scene, view.cameras[frame], times[frame])
        tracks = gt.track(scene, view.cameras, times, seen, pixels)
        ids = seen.object_id[pixels[:, 1], pixels[:, 0]]
        parts.append((tracks.points, tracks.xy, tracks.visible, ids, np.full(len(pixels), frame)))
    points, xy, visible, ids, query_frame = zip(*parts, strict=True)
    object_id = np.concatenate(ids)
    return EvaluationTracks(
        points=np.concatenate(points, axis=1).swapaxes(0, 1),
        xy=np.concatenate(xy, axis=1).swapaxes(0, 1),
        visible=np.concatenate(visible, axis=1).swapaxes(0, 1),
        moving=np.isin(object_id, scene.moving_ids),
        object_id=object_id,
        query_frame=np.concatenate(query_frame),
    )


def to_8bit(linear: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """8-bit display values of a linear-light picture."""
    return np.round(encode(linear) * 255.0).astype(np.uint8)


def _require(value: float, name: str, low: float, high: float, reason: str) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected between {low} and {high}: {reason}.")
