"""Writes a tiny scene as D-NeRF's Blender exporter does: see :mod:`dataparsers.dnerf` for the files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from dyngs_plugins.priors.dnerf_files import DnerfFrame, write_transforms
from dyngs_plugins.priors.files import atomic_file

from .. import ground_truth as gt
from ..cameras import OrbitPath
from ..scene import Scene, build_scene
from ..shots import Shot, take_shot
from .truth import Truth


def write_dnerf(out: Path, width: int = 64, height: int = 48, frames: int = 6, held_out: int = 3) -> Truth:
    """``frames`` training images, whose camera jumps at every time, and ``held_out`` ones for each of val and test.

    Ground and wall are transparent, as the emptiness around D-NeRF's objects is.
    """
    scene, shots = build_scene(), {}
    times: Mapping[str, list[float]] = {
        "train": np.linspace(0.0, 1.0, frames).tolist(),
        "val": np.linspace(0.05, 0.95, held_out).tolist(),
        "test": np.linspace(0.0, 1.0, held_out).tolist(),
    }
    for number, (split, instants) in enumerate(times.items()):
        listed, focal = [], 0.0
        for i, time in enumerate(instants):
            camera = OrbitPath(
                width, height, azimuth=25.0 * math.sin(2.4 * i + number), elevation=14.0 + 4.0 * (i % 3), sweep=0.0
            ).at(0.0)
            shot = take_shot(scene, camera, time)
            path = out / split / f"r_{i:03d}.png"
            _write_rgba(path, scene, shot)
            shots[path] = shot
            focal = camera.K[0, 0]
            listed.append(DnerfFrame(f"{split}/r_{i:03d}", time, camera.world_T_camera))
        write_transforms(out / f"transforms_{split}.json", focal, width, listed)
    return Truth(scene, shots)


def _write_rgba(path: Path, scene: Scene, shot: Shot) -> None:
    seen = gt.surfaces(scene, shot.camera, shot.time).object_id
    empty = [i for i, thing in enumerate(scene.objects) if thing.name in ("ground", "wall")]
    alpha = np.where(np.isin(seen, empty), 0, 255).astype(np.uint8)
    with atomic_file(path) as file:
        Image.fromarray(np.dstack([shot.image, alpha])).save(file, format="PNG")
