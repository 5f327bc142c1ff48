"""Writes a sample clip in Shape of Motion's layout for custom videos, with exact ground truth beside it.

Conventions of the files (see also :mod:`dyngs_plugins.sample.cameras`):

- ``intrinsics`` and every ``K`` put pixel centres at +0.5 (gsplat, nerfstudio): a centred camera has cx = width / 2.
- Track and flow coordinates put them at integers: x = 0 is the centre of the first pixel. A reader projects with
  ``K`` and subtracts 0.5. (The reference feeds this ``K`` to gsplat and samples at integers, and lives with half a
  pixel of looseness.)
- Poses are camera-to-world with OpenCV axes. Training depth is disparity 1/z, evaluation depth is z; float32.
- A track row is [x, y, occlusion logit, uncertainty logit]: (-10, -10) visible, (10, -10) hidden,
  (10, 10) outside the image, where it counts neither as visible nor as hidden.

::

    clip.json                                    frames, sequences, rate
    images/SEQ/NAME.png    masks/SEQ/NAME.png    8-bit RGB; 0 or 255
    aligned_depth_anything/SEQ/NAME.npy          disparity
    bootstapir/SEQ/{Q}_{T}.npy                   query points of frame Q as seen in frame T
    droid_recon/SEQ.npy                          cameras, a pickled dict
    flow/SEQ/NAME_{fwd,bwd}.npy, NAME_{fwd,bwd}_visible.npy
    normals/SEQ/NAME.npy                         of the camera's frame, towards the camera
    sharp/SEQ/NAME.png                           only if the images are blurred: mid-exposure, all in focus
    eval/eval.json, images/, masks/, depths/     the held-out camera, always sharp
    eval/tracks.npz                              surface points followed through the clip
    ground_truth.json                            poses of everything, settings, measured facts, exposure
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from dyngs_plugins.priors.clip_files import EvalView, GroundTruthTracks, write_ground_truth_tracks, write_json
from dyngs_plugins.priors.normal_files import write_normals
from dyngs_plugins.priors.som_files import (
    write_cameras,
    write_clip_json,
    write_depth,
    write_disparity,
    write_eval_json,
    write_image,
    write_mask,
    write_track_pair,
)

from .clip import Progress, SampleClip, TrainingView
from .ground_truth import PointTracks
from .writers.lens import save_array

PROTOCOL = "held-out camera at the training times"


def write_som(clip: SampleClip, out: Path, progress: Progress | None = None) -> None:
    """Write all files of the layout into an existing folder.

    Args:
        out: the folder. Files of the same name are overwritten.
        progress: called with each sequence's frames and a name; the default shows nothing.
    """
    progress = progress or (lambda frames, name: frames)
    names = frame_names(clip)
    for sequence, view in clip.training.items():
        for k in progress(range(len(names)), f"{sequence}: writing"):
            _write_frame(out, sequence, view, names, k)
        K, first = view.cameras[0].K, view.cameras[0]
        poses = np.stack([camera.world_T_camera for camera in view.cameras])
        intrinsics, shape = (K[0, 0], K[1, 1], K[0, 2], K[1, 2]), (first.height, first.width)
        write_cameras(out / "droid_recon" / f"{sequence}.npy", poses, intrinsics, shape, keyframes=range(len(poses)))
    _write_evaluation(clip, out, names)
    index = {sequence: {name: k for k, name in enumerate(names)} for sequence in clip.training}
    write_clip_json(out / "clip.json", list(clip.training), len(names), clip.settings.fps, index, PROTOCOL)
    write_json(out / "ground_truth.json", _ground_truth(clip))


def frame_names(clip: SampleClip) -> list[str]:
    """File stems of the frames; their lexicographic order is the order in time."""
    return [f"{k:05d}" for k in range(clip.settings.frames)]


def track_rows(tracks: PointTracks, frame: int) -> Float[np.ndarray, "p 4"]:
    """The rows of one track file: x, y and the two logits that say visible, hidden or outside."""
    visible, inside = tracks.visible[frame], tracks.inside[frame]
    occlusion = np.where(visible, -10.0, 10.0)
    uncertainty = np.where(inside, -10.0, 10.0)
    return np.column_stack([tracks.xy[frame], occlusion, uncertainty]).astype(np.float32)


def _write_frame(out: Path, sequence: str, view: TrainingView, names: list[str], k: int) -> None:
    name = names[k]
    write_image(out / "images" / sequence / f"{name}.png", view.images[k])
    write_mask(out / "masks" / sequence / f"{name}.png", view.masks[k])
    if view.sharp is not None:
        write_image(out / "sharp" / sequence / f"{name}.png", view.sharp[k])
    write_disparity(out / "aligned_depth_anything" / sequence / f"{name}.npy", 1.0 / view.depths[k])
    write_normals(out / "normals" / sequence / f"{name}.npy", view.normals[k])
    flows = out / "flow" / sequence
    if k + 1 < len(names):
        save_array(flows / f"{name}_fwd.npy", view.flow_forward[k].astype(np.float32))
        save_array(flows / f"{name}_fwd_visible.npy", view.flow_forward_visible[k])
    if k > 0:
        save_array(flows / f"{name}_bwd.npy", view.flow_backward[k - 1].astype(np.float32))
        save_array(flows / f"{name}_bwd_visible.npy", view.flow_backward_visible[k - 1])
    for target, target_name in enumerate(names):
        rows = track_rows(view.tracks[k], target)
        if target == k:
            rows[:, :2] = view.query_pixels[k]  # exact, where projecting leaves 1e-14 of a pixel
        write_track_pair(out / "bootstapir" / sequence / f"{name}_{target_name}.npy", rows)


def _write_evaluation(clip: SampleClip, out: Path, names: list[str]) -> None:
    view, views = clip.held_out, []
    for k, name in enumerate(names):
        image, mask, depth = f"images/{name}.png", f"masks/{name}.png", f"depths/{name}.npy"
        write_image(out / "eval" / image, view.images[k])
        write_mask(out / "eval" / mask, view.masks[k])
        write_depth(out / "eval" / depth, view.depths[k])
        camera = len(clip.training)  # training cameras are 0, 1, ...; this is the next one
        K, pose = view.cameras[k].K.tolist(), view.cameras[k].world_T_camera.tolist()
        views.append(EvalView(image, camera, k, K, pose, mask, depth))
    write_eval_json(out / "eval" / "eval.json", PROTOCOL, views)
    tracks = clip.evaluation_tracks
    write_ground_truth_tracks(
        out / "eval" / "tracks.npz",
        GroundTruthTracks(
            points=torch.from_numpy(tracks.points).float(),
            xy=torch.from_numpy(tracks.xy).float(),
            visible=torch.from_numpy(tracks.visible),
            moving=torch.from_numpy(tracks.moving),
            query_frame=torch.from_numpy(tracks.query_frame).int(),
            object=torch.from_numpy(tracks.object_id).int(),
            camera=next(iter(clip.training)),
        ),
    )


def _ground_truth(clip: SampleClip) -> dict[str, Any]:
    times, scene, settings = clip.settings.times.tolist(), clip.scene, clip.settings
    views = {**clip.training, "held_out": clip.held_out}
    record = {
        "format": "dyngs-ground-truth",
        "version": 1,
        "world": "OpenCV axes (x right, y down, z forward), ground at y = 0",
        "linear_light": "display ** 2.2",
        "settings": asdict(settings),
        "times": times,
        "cameras": {
            name: {
                "K": view.cameras[0].K.tolist(),
                "world_T_camera": [camera.world_T_camera.tolist() for camera in view.cameras],
            }
            for name, view in views.items()
        },
        "objects": [
            {
                "id": i,
                "name": thing.name,
                "shape": {"kind": type(thing.shape).__name__.lower(), **asdict(thing.shape)},  # type: ignore[arg-type]
                "moving": thing.moving,
                "world_T_object": [thing.motion.at(t).tolist() for t in times],
                **(asdict(clip.facts[i]) if i in clip.facts else {}),
            }
            for i, thing in enumerate(scene.objects)
        ],
    }
    if settings.exposure.blurs:
        record["exposure"] = _exposure_record(clip)
    return record


def _exposure_record(clip: SampleClip) -> dict[str, Any]:
    """The samples that each training image averages, and where camera and objects were at each of them."""
    settings, samples = clip.settings, clip.settings.exposure.samples()
    moments = [[t + s.offset * settings.frame_interval for s in samples] for t in settings.times.tolist()]
    return {
        "samples": [asdict(sample) for sample in samples],
        "cameras": {
            name: [[path.at(t).world_T_camera.tolist() for t in row] for row in moments]
            for name, path in clip.training_paths.items()
        },
        "objects": {
            clip.scene.objects[i].name: [[clip.scene.objects[i].motion.at(t).tolist() for t in row] for row in moments]
            for i in clip.scene.moving_ids
        },
    }
