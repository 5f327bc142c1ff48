"""Writes a tiny scene in Gaussian Marbles' layout: see :mod:`dataparsers.marbles` for the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyngs_plugins.priors.clip_files import write_json

from .. import ground_truth as gt
from ..cameras import Camera, OrbitPath
from ..raycast import visible_from
from ..scene import Scene, build_scene
from ..shots import still_rig, take_shot
from .lens import LensCamera, save_array, save_image
from .nerfies import write_camera
from .truth import Truth

TRAIN_CAMERA, TEST_CAMERAS = 4, (3, 5, 6)


def write_marbles(
    out: Path, width: int = 64, height: int = 48, frames: int = 6, window: int = 3, moving_camera: bool = False
) -> Truth:
    """Camera 4 trains at all times and cameras 3, 5, 6 test, all at full size alone, as the repack has them.

    Args:
        window: how many frames to either side tracks are filled for.
        moving_camera: the training camera swings, as in DyCheck's scenes.
    """
    scene, rig, shots = build_scene(), still_rig(width, height, 7), {}
    times = np.linspace(0.0, 1.0, frames).tolist()
    path = OrbitPath(width, height, azimuth=3.0, sweep=10.0)
    training = [path.at(t) if moving_camera else rig[TRAIN_CAMERA] for t in times]
    for camera in (TRAIN_CAMERA, *TEST_CAMERAS):
        for step, time in enumerate(times):
            name, pinhole = f"{camera}_{step:05d}", training[step] if camera == TRAIN_CAMERA else rig[camera]
            shot = take_shot(scene, pinhole, time)
            shots[out / "rgb" / "1x" / f"{name}.png"] = shot
            save_image(out / "rgb" / "1x" / f"{name}.png", shot.image)
            write_camera(
                out / "camera" / f"{name}.json",
                LensCamera(width, height, pinhole.K, pinhole.world_T_camera, (0.0, 0.0, 0.0, 0.0, 0.0)),
            )
            if camera != TRAIN_CAMERA:
                _write_covisible(out / "covisible" / "2x" / "val" / f"{name}.png", scene, pinhole, training[step], time)
    for step in range(frames):
        _write_priors(out, scene, training, times, step, window)
    ids = {"train": [f"{TRAIN_CAMERA}_{step:05d}" for step in range(frames)]}
    ids["val"] = [f"{camera}_{step:05d}" for camera in TEST_CAMERAS for step in range(frames)]
    for split, names in ids.items():
        write_json(out / "splits" / f"{split}.json", {"ids": names, "count": len(names)})
    write_json(out / "dataset.json", {"count": len(ids["train"]) + len(ids["val"]), "ids": ids["train"] + ids["val"]})
    write_json(out / "scene.json", {"scale": 0.9, "center": [0.1, -0.4, 0.2], "near": 0.1, "far": 9.0})
    return Truth(scene, shots)


def _write_priors(
    out: Path, scene: Scene, cameras: Sequence[Camera], times: Sequence[float], step: int, window: int
) -> None:
    """Depth, instance labels and tracks of one training frame."""
    seen = gt.surfaces(scene, cameras[step], times[step])
    name = f"{TRAIN_CAMERA}_{step:05d}"
    save_array(out / "depth" / "1x" / f"{name}.npy", seen.depth.astype(np.float32))
    labels = np.zeros(seen.object_id.shape, np.int64)
    for label, which in enumerate(scene.moving_ids, start=1):
        labels[seen.object_id == which] = label
    save_array(out / "segmentation" / "1x" / f"{name}.npy", labels)
    pixels = gt.query_pixels(np.ones_like(labels, bool), 4)
    tracks = gt.track(scene, cameras, times, seen, pixels)
    table = np.dstack([tracks.xy, tracks.visible]).astype(np.float16)
    far = np.abs(np.arange(len(times)) - step) > window
    table[far] = 0
    save_array(out / "tracks" / "1x" / f"track_{step:05d}.npy", table)


def _write_covisible(path: Path, scene: Scene, camera: Camera, training: Camera, time: float) -> None:
    """Which pixels of a test view, at half size, the training camera sees at the same time."""
    K = np.diag([0.5, 0.5, 1.0]) @ camera.K
    half = Camera(camera.width // 2, camera.height // 2, K, camera.world_T_camera)
    points = gt.surfaces(scene, half, time).points
    visible = visible_from(scene, training, time, points.reshape(-1, 3))[2]
    save_image(path, (visible.reshape(points.shape[:2]) * 255).astype(np.uint8))
