"""A COLMAP model of pictures of the sample scene: exact cameras, and points whose tracks say who sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from dyngs_plugins.priors.colmap_files import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints, write_model

from ..cameras import Camera, OrbitPath
from ..scene import build_scene
from ..shots import Shot, take_shot
from .lens import LensCamera, save_image
from .truth import Truth

LENS = (0.08, -0.03, 0.004, -0.006, 0.0)
"""k1, k2, p1, p2 of the OPENCV cameras; k3 is not among its terms."""


def colmap_model(shots: Mapping[str, Shot], count: int = 200, seed: int = 0) -> ColmapModel:
    """The model of pictures by name; static surface points that at least two of them see.

    One camera per set of intrinsics, PINHOLE or OPENCV.
    """
    cameras: dict[int, ColmapCamera] = {}
    of_shot = {name: _camera_id(cameras, shot.camera) for name, shot in shots.items()}
    xyz, rgb, seen = _points(list(shots.values()), count, seed)
    images, keypoints = {}, {}
    for number, (name, shot) in enumerate(shots.items()):
        mine = np.flatnonzero(seen[:, number])
        xys = shot.camera.project(xyz[mine])[0] + 0.5 if len(mine) else np.zeros((0, 2))
        pose = np.linalg.inv(shot.camera.world_T_camera)
        images[number + 1] = ColmapImage(number + 1, name, of_shot[name], pose, xys, mine + 1)
        keypoints[number] = {int(point): place for place, point in enumerate(mine)}
    tracks = tuple(
        np.array([[number + 1, keypoints[number][point]] for number in np.flatnonzero(seen[point])], np.int64)
        for point in range(len(xyz))
    )
    points = ColmapPoints(np.arange(1, len(xyz) + 1), xyz, rgb, np.zeros(len(xyz)), tracks)
    return ColmapModel(cameras, images, points)


def write_colmap_time(
    out: Path,
    width: int = 64,
    height: int = 48,
    frames: int = 6,
    cameras: int = 1,
    lens: bool = False,
    binary: bool = True,
    timestamps: Literal["", "csv", "json", "txt"] = "",
) -> Truth:
    """A plain COLMAP capture: images/, sparse/0 and, if asked for, timestamps that are not evenly spaced."""
    scene, truth, named = build_scene(), {}, {}
    paths = [OrbitPath(width, height, azimuth=8.0 * i, elevation=14.0 + i, sweep=10.0) for i in range(cameras)]
    seconds = np.linspace(0.0, 1.0, frames)
    if timestamps:
        seconds = seconds**1.5
    for i, path in enumerate(paths):
        for step, time in enumerate(seconds.tolist()):
            camera = path.at(time)
            if lens:
                camera = LensCamera(camera.width, camera.height, camera.K, camera.world_T_camera, LENS)
            name = f"frame_{step + 1:04d}.png" if cameras == 1 else f"cam{i}/frame_{step + 1:04d}.png"
            named[name] = truth[out / "images" / name] = take_shot(scene, camera, time)
            save_image(out / "images" / name, named[name].image)
    write_model(out / "sparse" / "0", colmap_model(named), binary)
    if timestamps:
        _write_timestamps(out / f"timestamps.{timestamps}", {n: 12.0 + 3.0 * s.time for n, s in named.items()})
    return Truth(scene, truth)


def _write_timestamps(path: Path, seconds: Mapping[str, float]) -> None:
    from dyngs_plugins.priors.clip_files import write_json

    if path.suffix == ".json":
        write_json(path, dict(seconds))
        return
    between = "," if path.suffix == ".csv" else " "
    heading = "name,seconds\n" if path.suffix == ".csv" else "# name seconds\n"
    path.write_text(heading + "".join(f"{name}{between}{value!r}\n" for name, value in seconds.items()))


def _camera_id(cameras: dict[int, ColmapCamera], camera: Camera) -> int:
    lens = getattr(camera, "lens", (0.0,) * 5)
    params = [camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2], *(lens[:4] if any(lens) else ())]
    model = "OPENCV" if any(lens) else "PINHOLE"
    for id, other in cameras.items():
        if other.model == model and np.array_equal(other.params, params):
            return id
    cameras[len(cameras) + 1] = ColmapCamera(len(cameras) + 1, model, camera.width, camera.height, np.array(params))
    return len(cameras)


def _points(shots: list[Shot], count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, colours, and which shots see which point."""
    generator = np.random.default_rng(seed)
    xyz, rgb = [], []
    for shot in shots:
        static = np.flatnonzero(~shot.mask.ravel())
        chosen = generator.choice(static, min(len(static), -(-count // len(shots))), replace=False)
        rays = shot.camera.directions(shot.camera.pixel_grid()[chosen])
        xyz.append(shot.camera.world_T_camera[:3, 3] + rays * shot.depth.reshape(-1, 1)[chosen])
        rgb.append(shot.image.reshape(-1, 3)[chosen])
    points, colors = np.concatenate(xyz), np.concatenate(rgb)
    seen = np.stack([_sees(shot, points) for shot in shots], axis=1)
    keep = seen.sum(axis=1) >= 2
    return points[keep], colors[keep], seen[keep]


def _sees(shot: Shot, points: np.ndarray) -> np.ndarray:
    pixels, z = shot.camera.project(points)
    inside = shot.camera.contains(pixels, z)
    column, row = np.where(inside[:, None], pixels, 0.0).round().astype(int).T
    return inside & (np.abs(shot.depth[row, column] - z) < 0.05 * np.abs(z)) & ~shot.mask[row, column]
