"""Writes the sample scene as a capture of Nerfies or HyperNeRF: camera files, images at two sizes, splits, points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.clip_files import write_json

from ..cameras import Camera, OrbitPath
from ..scene import build_scene
from ..shots import Shot, surface_points, take_shot
from .lens import WEAK_LENS, LensCamera, save_array, save_image
from .truth import Truth

CENTER, SCALE = (0.25, -0.5, 4.0), 0.2
"""What the writer puts into scene.json."""
ASPECT = 1.05
"""fy / fx of its cameras."""


def write_nerfies(
    out: Path,
    width: int = 64,
    height: int = 48,
    frames: int = 6,
    kind: Literal["vrig", "interp", "nerf-ds"] = "vrig",
) -> Truth:
    """Write a capture into a folder.

    Args:
        width, height: of the images in rgb/1x; those in rgb/2x have half of it.
        kind: vrig: a rig of two cameras, the training one alternating; interp: one camera and no val_ids; nerf-ds: a
            rig without lenses, with masks.
    """
    scene, truth = build_scene(), {}
    paths = [OrbitPath(width, height, azimuth=a, elevation=e, sweep=12.0) for a, e in ((-3.0, 13.0), (3.0, 16.0))]
    sides = ("left", "right") if kind != "interp" else ("",)
    ids: dict[str, tuple[int, int]] = {}
    for step in range(frames):
        for camera, side in enumerate(sides):
            ids[f"{step:06d}_{side}" if side else f"{step:06d}"] = step, camera
    for name, (step, camera) in ids.items():
        time = step / (frames - 1)
        full = _lens_camera(paths[camera].at(time), None if kind == "nerf-ds" else WEAK_LENS)
        write_camera(out / "camera" / f"{name}.json", full)
        for factor in (1, 2):
            shot = take_shot(scene, _reduced(full, factor), time)
            truth[out / "rgb" / f"{factor}x" / f"{name}.png"] = shot
            save_image(out / "rgb" / f"{factor}x" / f"{name}.png", shot.image)
            if kind == "nerf-ds":  # the release's own doubled suffix
                save_image(out / "mask" / f"{factor}x" / f"{name}.png.png", shot.mask.astype(np.uint8) * 255)
    _write_records(out, ids, kind)
    save_array(out / "points.npy", _points(scene, list(truth.values())))
    return Truth(scene, truth)


def write_camera(path: Path, camera: LensCamera) -> None:
    """One camera as Nerfies stores it: rotation from world to camera, centre, lens."""
    k1, k2, p1, p2, k3 = camera.lens
    write_json(
        path,
        {
            "orientation": camera.world_T_camera[:3, :3].T.tolist(),
            "position": camera.world_T_camera[:3, 3].tolist(),
            "focal_length": camera.K[0, 0],
            "principal_point": camera.K[:2, 2].tolist(),
            "skew": 0.0,
            "pixel_aspect_ratio": camera.K[1, 1] / camera.K[0, 0],
            "radial_distortion": [k1, k2, k3],
            "tangential_distortion": [p1, p2],
            "image_size": [camera.width, camera.height],
        },
    )


def _write_records(out: Path, ids: dict[str, tuple[int, int]], kind: str) -> None:
    train = [name for name, (step, camera) in ids.items() if step % 2 == camera]
    val = [name for name in ids if name not in train]
    if kind == "interp":
        train, val = list(ids), []
    write_json(
        out / "dataset.json",
        {"count": len(ids), "num_exemplars": len(train), "ids": list(ids), "train_ids": train, "val_ids": val},
    )
    records = {n: {"warp_id": s, "appearance_id": s, "camera_id": c} for n, (s, c) in ids.items()}
    write_json(out / "metadata.json", records)
    write_json(out / "scene.json", {"scale": SCALE, "center": list(CENTER), "near": 0.1, "far": 2.0})


def _lens_camera(camera: Camera, lens: tuple[float, float, float, float, float] | None) -> LensCamera:
    """Off-centre, not square in its pixels, and with a lens, so that nothing can be mixed up unseen."""
    K = camera.K.copy()
    K[1, 1] *= ASPECT
    K[0, 2] += 0.03 * camera.width
    K[1, 2] -= 0.02 * camera.height
    return LensCamera(camera.width, camera.height, K, camera.world_T_camera, lens or (0.0, 0.0, 0.0, 0.0, 0.0))


def _reduced(camera: LensCamera, factor: int) -> LensCamera:
    K = np.diag([1.0 / factor, 1.0 / factor, 1.0]) @ camera.K
    return replace(camera, width=camera.width // factor, height=camera.height // factor, K=K)


def _points(scene, shots: list[Shot]) -> Float[np.ndarray, "n 3"]:
    return surface_points(scene, shots, 400)[0].astype(np.float32)
