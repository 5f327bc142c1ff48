"""Writes tiny scenes in the two packs of NVIDIA Dynamic Scenes: see :mod:`dataparsers.nvidia` for the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.som_files import write_disparity, write_image, write_mask

from ..scene import build_scene
from ..shots import Shot, still_rig, take_shot
from .flow import write_flow_archives
from .llff_rows import write_poses_bounds
from .truth import Truth


def write_dynamicnerf(out: Path, width: int = 64, height: int = 48, frames: int = 12) -> Truth:
    """DynamicNeRF's pack with its test images: camera i at time i trains, camera 0 at all times tests.

    ``disp`` is relative, as MiDaS gives it; ``aligned_disp`` is 1/z at half size, and so is the flow.
    """
    scene, rig, shots = build_scene(), still_rig(width, height, frames), {}
    times = np.linspace(0.0, 1.0, frames)
    for i, camera in enumerate(rig):
        shot = take_shot(scene, camera, times[i])
        path = out / "images" / f"{i:03d}.png"
        write_image(path, shot.image)
        shots[path] = shot
        write_mask(out / "motion_masks" / f"{i:03d}.png", shot.mask)
        _write_relative_disparity(out / "disp" / f"{i:03d}.npy", shot, i)
    small = still_rig(width // 2, height // 2, frames)
    film = [take_shot(scene, camera, time) for camera, time in zip(small, times, strict=True)]
    for i, time in enumerate(times):
        path = out / "gt" / f"v000_t{i:03d}.png"
        shots[path] = take_shot(scene, small[0], time)
        write_image(path, shots[path].image)
        write_disparity(out / "aligned_disp" / f"{i:03d}.npy", 1.0 / film[i].depth)
    write_flow_archives(out / "flow", [f"{i:03d}" for i in range(frames)], scene, film)
    write_poses_bounds(out / "poses_bounds.npy", rig)
    return Truth(scene, shots)


def write_nsff(out: Path, width: int = 64, height: int = 48, frames: int = 8, cameras: int = 5) -> Truth:
    """NSFF's pack: camera t mod ``cameras`` at time t trains; every camera at every time with its moving pixels."""
    scene, rig, shots = build_scene(), still_rig(width, height, cameras), {}
    times = np.linspace(0.0, 1.0, frames)
    for t, time in enumerate(times):
        for c, camera in enumerate(rig):
            shot = take_shot(scene, camera, time)
            path = out / "mv_images" / f"{t:05d}" / f"cam{c + 1:02d}.jpg"
            write_image(path, shot.image)
            shots[path] = shot
            write_mask(out / "mv_masks" / f"{t:05d}" / f"cam{c + 1:02d}.png", shot.mask)
            if c == t % cameras:
                path = out / "images" / f"{t:05d}.png"
                write_image(path, shot.image)
                shots[path] = shot
                write_mask(out / "motion_masks" / f"{t:05d}.png", shot.mask)
                _write_relative_disparity(out / "disp" / f"{t:05d}.npy", shot, t)
    film = [shots[out / "images" / f"{t:05d}.png"] for t in range(frames)]
    write_flow_archives(out / "flow_i1", [f"{t:05d}" for t in range(frames)], scene, film)
    write_poses_bounds(out / "poses_bounds.npy", [rig[t % cameras] for t in range(frames)])
    return Truth(scene, shots)


def _write_relative_disparity(path: Path, shot: Shot, place: int) -> None:
    """What a monocular network says: a scale and a shift of its own for every image."""
    disparity = (300.0 + 40.0 * place) / shot.depth + 17.0 * (place % 3)
    with atomic_file(path) as file:
        np.save(file, disparity.astype(np.float32), allow_pickle=False)
