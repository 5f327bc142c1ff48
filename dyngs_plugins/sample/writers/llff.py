"""Writes still scenes of our own as LLFF's scripts make them from COLMAP: forward-facing, and around an object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dyngs_plugins.priors.colmap_files import ColmapModel, write_model

from ..cameras import Camera, OrbitPath
from ..scene import Scene, build_scene
from ..shots import take_shot
from .colmap import colmap_model
from .lens import save_array, save_image
from .llff_rows import write_poses_bounds
from .truth import Truth


def write_llff(
    out: Path, width: int = 64, height: int = 48, frames: int = 9, kind: Literal["forward", "inward"] = "forward"
) -> Truth:
    """images/, poses_bounds.npy and sparse/0 of a scene in which nothing moves.

    Args:
        kind: forward: a handful of views of one side, like fern; inward: most of a circle around the objects, like a
            car that somebody walked around.
    """
    scene = build_scene()
    if kind == "inward":  # nothing stands behind the objects, whichever side one looks from
        scene = Scene(tuple(thing for thing in scene.objects if thing.name in ("ground", "crate", "egg", "pillar")))
    named = {
        f"IMG_{4000 + i}.png": take_shot(scene, c, 0.0) for i, c in enumerate(_cameras(width, height, frames, kind))
    }
    for name, shot in named.items():
        save_image(out / "images" / name, shot.image)
    model = colmap_model(named, count=600)
    write_model(out / "sparse" / "0", model)
    cameras = [shot.camera for shot in named.values()]
    write_poses_bounds(out / "poses_bounds.npy", cameras)
    table = np.load(out / "poses_bounds.npy")
    table[:, 15:] = visible_bounds(model, cameras)
    save_array(out / "poses_bounds.npy", table)
    return Truth(scene, {out / "images" / name: shot for name, shot in named.items()})


def visible_bounds(model: ColmapModel, cameras: Sequence[Camera]) -> np.ndarray:
    """Near and far of each image as LLFF takes them: percentiles 0.1 and 99.9 of the depths of its own points."""
    places = {} if model.points is None else dict(zip(model.points.ids.tolist(), model.points.xyz, strict=True))
    bounds = []
    for image, camera in zip(model.images.values(), cameras, strict=True):
        _, z = camera.project(np.array([places[int(i)] for i in image.point_ids]).reshape(-1, 3))
        bounds.append(np.percentile(z, [0.1, 99.9]))
    return np.array(bounds)


def _cameras(width: int, height: int, frames: int, kind: str) -> list[Camera]:
    if kind == "inward":
        return [
            OrbitPath(width, height, azimuth=a, elevation=36.0 + 3.0 * (i % 2), radius=4.5, sweep=0.0).at(0.0)
            for i, a in enumerate(np.linspace(0.0, 300.0, frames).tolist())
        ]
    angles = np.linspace(0.0, 2.0 * np.pi, frames, endpoint=False)
    return [
        OrbitPath(
            width, height, azimuth=5.0 * float(np.cos(a)), elevation=14.0 + 4.0 * float(np.sin(2 * a)), sweep=0.0
        ).at(0.0)
        for a in angles
    ]
