"""Writes the sample scene as a DyCheck iPhone capture: a camera in the hand, two that stand still, LiDAR depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyngs_plugins.priors.clip_files import write_json

from ..cameras import Camera, OrbitPath
from ..scene import build_scene
from ..shots import still_rig, surface_points, take_shot
from .lens import LensCamera, save_array, save_image
from .nerfies import write_camera
from .truth import Truth

CENTER, SCALE = (-0.2, -0.4, 4.5), 0.25
"""What the writer puts into scene.json."""
UNSEEN = 6.9
"""Depths beyond this are unknown (0), as LiDAR leaves them beyond its reach."""
ALPHA_COLUMNS = 2
"""Columns at the right of the images in rgb/2x that alpha marks as not counting (twice as many in 1x)."""


def write_dycheck(out: Path, width: int = 96, height: int = 72, frames: int = 6, validation: bool = True) -> Truth:
    """Write a capture into a folder.

    Args:
        width, height: of the images in 1x; those in 2x have half of it.
        validation: whether there are the two still cameras, at every other time.
    """
    scene, truth = build_scene(), {}
    path, still = OrbitPath(width, height, sweep=14.0), still_rig(width, height, 2, 16.0)
    splits: dict[str, list[tuple[str, int, int]]] = {"train": [], "val": []}
    for step in range(frames):
        splits["train"].append((f"0_{step:05d}", 0, step))
        if validation and step % 2 == 0:
            splits["val"] += [(f"{camera}_{step:05d}", camera, step) for camera in (1, 2)]
    for split, entries in splits.items():
        for name, camera, step in entries:
            time = step / (frames - 1)
            full = path.at(time) if camera == 0 else still[camera - 1]
            write_camera(out / "camera" / f"{name}.json", LensCamera(**vars(full), lens=(0.0, 0.0, 0.0, 0.0, 0.0)))
            for factor in (1, 2):
                shot = take_shot(scene, _reduced(full, factor), time)
                image = out / "rgb" / f"{factor}x" / f"{name}.png"
                truth[image] = shot
                save_image(image, _rgba(shot.image, 2 * ALPHA_COLUMNS // factor))
                if split == "train":
                    depth = np.where(shot.depth < UNSEEN, shot.depth, 0.0).astype(np.float32)
                    save_array(out / "depth" / f"{factor}x" / f"{name}.npy", depth[..., None])
                else:
                    seen = np.zeros_like(shot.image[..., 0])
                    seen[:, : seen.shape[1] // 2] = 255
                    save_image(out / "covisible" / f"{factor}x" / "val" / f"{name}.png", seen)
        if entries or split == "train":
            names, cameras, times = (list(column) for column in zip(*entries, strict=True))
            record = {"frame_names": names, "camera_ids": cameras, "time_ids": times}
            write_json(out / "splits" / f"{split}.json", record)
    write_json(out / "scene.json", {"scale": SCALE, "center": list(CENTER), "near": 0.1, "far": 2.0})
    write_json(out / "extra.json", {"factor": 2, "fps": 30.0, "up": [0.0, -1.0, 0.0]})
    points = surface_points(scene, [truth[out / "rgb" / "2x" / f"{n}.png"] for n, *_ in splits["train"]], 300)[0]
    save_array(out / "points.npy", points.astype(np.float32))
    _write_keypoints(out, truth, points)
    return Truth(scene, truth)


def _write_keypoints(out: Path, truth: dict, points: np.ndarray) -> None:
    """Two still points as the first frame sees them, in pixels of 2x."""
    camera = truth[out / "rgb" / "2x" / "0_00000.png"].camera
    rows = [[*xy, 1.0] for xy in camera.project(points[:2])[0].tolist()]
    folder = out / "keypoint" / "2x" / "train"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0_00000.json").write_text(f"{rows}\n")


def _reduced(camera: Camera, factor: int) -> Camera:
    K = np.diag([1.0 / factor, 1.0 / factor, 1.0]) @ camera.K
    return Camera(camera.width // factor, camera.height // factor, K, camera.world_T_camera)


def _rgba(image: np.ndarray, hidden: int) -> np.ndarray:
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:, -hidden:] = 0
    return np.concatenate([image, alpha], axis=-1)
