"""Writes the sample scene as Neu3D has it: films of fixed cameras whose numbers have gaps, and poses_bounds.npy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyngs_plugins.priors.ply_files import write_ply

from ..scene import build_scene
from ..shots import Shot, still_rig, surface_points, take_shot
from .lens import save_image
from .llff_rows import write_poses_bounds
from .truth import Truth
from .video import write_video

CAMERAS = ("cam00", "cam02", "cam05")


def write_neu3d(
    out: Path,
    width: int = 64,
    height: int = 48,
    frames: int = 5,
    names: tuple[str, ...] = CAMERAS,
    films: bool = True,
    cloud: bool = True,
    factor: int = 2,
) -> Truth:
    """Write a scene into a folder.

    Args:
        width, height: of the films; the truth knows their frames at 1/factor too.
        films: mp4 files; else a folder of PNG frames per camera.
        cloud: whether there is 4DGS's cloud of the first frame.
    """
    scene, truth, first = build_scene(), {}, []
    rig = still_rig(width, height, len(names), 20.0)
    for name, camera in zip(names, rig, strict=True):
        shots = [take_shot(scene, camera, step / (frames - 1)) for step in range(frames)]
        first.append(shots[0])
        truth |= written_frames(out, name, shots, films, factor)
    write_poses_bounds(out / "poses_bounds.npy", rig)
    if cloud:
        xyz, rgb = surface_points(scene, first, 300)
        write_ply(out / "points3D_downsample2.ply", xyz.astype(np.float32), rgb)
    return Truth(scene, truth)


def written_frames(out: Path, name: str, shots: list[Shot], films: bool, factor: int) -> dict[Path, Shot]:
    """Write what one camera filmed, and say which files will hold its frames: those on disk and the reduced ones."""
    if films:
        write_video(out / f"{name}.mp4", [shot.image for shot in shots])
        return {out / f"frames_{factor}" / name / f"{step:05d}.png": shot for step, shot in enumerate(shots)}
    truth = {}
    for step, shot in enumerate(shots):  # 4DGS's names: images/0000.png
        image = out / name / "images" / f"{step:04d}.png"
        save_image(image, shot.image)
        truth |= {image: shot, out / f"frames_{factor}" / name / image.name: shot}
    return truth
