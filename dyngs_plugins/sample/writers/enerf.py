"""Writes the sample scene as an ENeRF-Outdoor sequence: OpenCV's YAML, lenses, clean plates, hulls, a cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.ply_files import write_ply

from ..cameras import Camera
from ..scene import Scene, build_scene
from ..shots import still_rig, surface_points, take_shot
from .lens import WEAK_LENS, LensCamera, save_array, save_image
from .truth import Truth

HULL = ((-2.2, -1.6, 3.6), (2.2, 0.0, 6.2))
"""A box around what moves."""
CROP = (48, 40)
"""The crop of the images at 3/4 that the truth knows."""


def write_enerf(
    out: Path,
    width: int = 96,
    height: int = 64,
    cameras: int = 10,
    frames: Sequence[int] = (0, 1, 2, 400, 800),
    vectors: bool = False,
) -> Truth:
    """Write a sequence into a folder. The truth knows the copies of both protocols too, the cropped one for CROP.

    Args:
        frames: numbers of the frames; the last one is t = 1.
        vectors: rotations as vectors (R_) alone; else as matrices too.
    """
    scene, truth = build_scene(), {}
    still = Scene(tuple(thing for thing in scene.objects if not thing.moving))
    pinholes = still_rig(width, height, cameras, 36.0)
    rig = [LensCamera(c.width, c.height, c.K, c.world_T_camera, WEAK_LENS) for c in pinholes]
    names = [f"{i:02d}" for i in range(cameras)]
    first = []
    for name, camera in zip(names, rig, strict=True):
        for number in frames:
            time = number / max(frames)
            image = out / "images" / name / f"{number:06d}.jpg"
            shot = take_shot(scene, camera, time, supersample=2)
            save_image(image, shot.image)
            half = out / f"frames_{width // 2}x{height // 2}" / name / f"{number:06d}.png"
            truth |= {image: shot, half: shot}
            if number % 400 == 0:
                cut, folder = _cropped(camera)
                truth[out / folder / name / half.name] = take_shot(scene, cut, time)
        first.append(take_shot(still, camera, 0.0))
        save_image(out / "bkgd" / f"{name}.jpg", first[-1].image)
    for number in frames:
        save_array(out / "vhull" / f"{number:06d}.npy", np.array(HULL, np.float32))
    xyz, rgb = surface_points(still, first, 300)
    write_ply(out / "background.ply", xyz.astype(np.float32), rgb)
    _write_cameras(out, names, rig, vectors)
    return Truth(scene, truth)


def _cropped(camera: LensCamera) -> tuple[LensCamera, str]:
    """The camera of the crop, and the folder that its images go to."""
    width, height = camera.width * 3 // 4, camera.height * 3 // 4
    K = np.diag([0.75, 0.75, 1.0]) @ camera.K
    K[0, 2] -= (width - CROP[0]) // 2
    K[1, 2] -= int(0.65 * (height - CROP[1]))
    return replace(camera, width=CROP[0], height=CROP[1], K=K), f"frames_{CROP[0]}x{CROP[1]}_of_{width}x{height}"


def _write_cameras(out: Path, names: Sequence[str], rig: Sequence[Camera], vectors: bool) -> None:
    inside: dict[str, np.ndarray] = {}
    outside: dict[str, np.ndarray] = {}
    for name, camera in zip(names, rig, strict=True):
        pose = np.linalg.inv(camera.world_T_camera)
        inside |= {f"K_{name}": camera.K, f"dist_{name}": np.array([WEAK_LENS]).T}
        outside[f"R_{name}"] = cv2.Rodrigues(pose[:3, :3])[0]
        if not vectors:
            outside[f"Rot_{name}"] = np.ascontiguousarray(pose[:3, :3])
        outside[f"T_{name}"] = np.ascontiguousarray(pose[:3, 3:])
    write_storage(out / "intri.yml", names, inside)
    write_storage(out / "extri.yml", names, outside)


def write_storage(path: Path, names: Sequence[str], matrices: dict[str, np.ndarray]) -> None:
    """A list ``names`` and matrices, as OpenCV's FileStorage writes them."""
    storage = cv2.FileStorage(".yml", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    storage.startWriteStruct("names", cv2.FILE_NODE_SEQ)
    for name in names:
        storage.write("", name)
    storage.endWriteStruct()
    for key, matrix in matrices.items():
        storage.write(key, matrix)
    with atomic_file(path) as file:
        file.write(storage.releaseAndGetString().encode())
