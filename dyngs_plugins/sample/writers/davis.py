"""Writes a tiny video in DAVIS's folders, or in plain ones, with cameras beside it: see :mod:`dataparsers.davis`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dyngs_plugins.priors.colmap_files import write_model
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.som_files import write_cameras, write_disparity, write_track_pair

from .. import ground_truth as gt
from ..cameras import Camera, OrbitPath
from ..scene import Scene, build_scene
from ..shots import Shot, take_shot
from .colmap import colmap_model
from .lens import save_image
from .llff_rows import write_poses_bounds
from .truth import Truth

CameraKind = Literal["droid", "llff", "colmap", "none"]


def write_davis(
    out: Path,
    width: int = 64,
    height: int = 48,
    frames: int = 10,
    sequence: str = "camel",
    cameras: CameraKind = "droid",
    plain: bool = False,
    priors: bool = False,
) -> Truth:
    """A moving camera's video with palette masks, whose indices are instances.

    Args:
        plain: ``images/`` and ``masks/`` of one video, in place of DAVIS's folders.
        priors: disparity and tracks of Shape of Motion's ``davis`` layout beside it.
    """
    scene, path, shots = build_scene(), OrbitPath(width, height), {}
    images = out / "images" if plain else out / "JPEGImages" / "480p" / sequence
    masks = out / "masks" if plain else out / "Annotations" / "480p" / sequence
    for step, time in enumerate(np.linspace(0.0, 1.0, frames).tolist()):
        shot = take_shot(scene, path.at(time), time)
        shots[images / f"{step:05d}.jpg"] = shot
        save_image(images / f"{step:05d}.jpg", shot.image)
        write_palette_mask(masks / f"{step:05d}.png", _instances(scene, shot))
    _write_cameras(out, sequence, plain, list(shots.values()), [file.name for file in shots], cameras)
    if priors:
        _write_som_priors(out, scene, sequence, list(shots.values()))
    return Truth(scene, shots)


def write_palette_mask(path: Path, labels: UInt8[np.ndarray, "h w"]) -> None:
    """A PNG of palette indices, as DAVIS's annotations are: what a reader must see is the index, not the colour."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    with atomic_file(path) as file:
        image.save(file, format="PNG")


def _instances(scene: Scene, shot: Shot) -> UInt8[np.ndarray, "h w"]:
    seen = gt.surfaces(scene, shot.camera, shot.time).object_id
    labels = np.zeros(seen.shape, np.uint8)
    for label, which in enumerate(scene.moving_ids, start=1):
        labels[seen == which] = label
    return labels


def _write_cameras(
    out: Path, sequence: str, plain: bool, shots: Sequence[Shot], names: Sequence[str], kind: CameraKind
) -> None:
    folder = out if plain else out / "cameras" / sequence
    first: Camera = shots[0].camera
    if kind == "droid":  # solved on smaller images, as SLAM systems do
        K = first.K / 2.0
        poses = np.stack([shot.camera.world_T_camera for shot in shots])
        intrinsics = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        name = out.name if plain else sequence
        keyframes = [0, len(shots) // 2]
        shape = first.height // 2, first.width // 2
        write_cameras(out / "droid_recon" / f"{name}.npy", poses, intrinsics, shape, keyframes)
    elif kind == "llff":
        write_poses_bounds(folder / "poses_bounds.npy", [shot.camera for shot in shots])
    elif kind == "colmap":
        write_model(folder / "sparse" / "0", colmap_model(dict(zip(names, shots, strict=True))))


def _write_som_priors(out: Path, scene: Scene, sequence: str, shots: Sequence[Shot]) -> None:
    cameras, times = [shot.camera for shot in shots], [shot.time for shot in shots]
    for step, shot in enumerate(shots):
        disparity = 1.0 / shot.depth
        write_disparity(out / "aligned_depth_anything" / "480p" / sequence / f"{step:05d}.npy", disparity)
        seen = gt.surfaces(scene, shot.camera, shot.time)
        tracks = gt.track(scene, cameras, times, seen, gt.query_pixels(shot.mask, 4))
        for target in range(len(shots)):
            visible = tracks.visible[target]
            logits = np.stack([np.where(visible, -10.0, 10.0), np.full(len(visible), -10.0)], axis=1)
            rows = np.concatenate([tracks.xy[target], logits], axis=1)
            write_track_pair(out / "bootstapir" / "480p" / sequence / f"{step:05d}_{target:05d}.npy", rows)
