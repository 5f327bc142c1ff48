"""Writes the sample scene as multi-view video in the forms that are about: with COLMAP, transforms.json or rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dyngs_plugins.priors.clip_files import write_json
from dyngs_plugins.priors.colmap_files import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints, write_model
from dyngs_plugins.priors.ply_files import write_ply

from ..cameras import Camera
from ..scene import build_scene
from ..shots import Shot, still_rig, surface_points, take_shot
from .flow import write_arriving_flow
from .lens import WEAK_LENS, LensCamera, save_image
from .llff_rows import write_poses_bounds
from .truth import Truth
from .video import write_video

Kind = Literal["hustvl", "st4dgs", "transforms", "rows"]
NAMES = {
    "hustvl": ("cam01", "cam02", "cam03", "cam10"),
    "st4dgs": ("cam00", "cam01", "cam02", "cam03"),
    "transforms": ("left", "middle", "right", "top"),
    "rows": ("gopro1", "gopro2", "gopro3", "gopro4"),
}


def write_multiview_video(
    out: Path, kind: Kind = "hustvl", width: int = 64, height: int = 48, frames: int = 4
) -> Truth:
    """Write a scene into a folder.

    Args:
        kind: hustvl: folders of JPEGs, binary COLMAP in sparse_ whose images are numbered, a PLY; st4dgs: folders of
            PNGs with unpadded numbers and flow, COLMAP as text; transforms: films and transforms.json, with lenses as hustvl;
            rows: films and poses_bounds.npy.
    """
    scene, truth, first = build_scene(), {}, []
    pinholes = still_rig(width, height, 4, 20.0)
    bent = kind in ("hustvl", "transforms")
    rig = [LensCamera(c.width, c.height, c.K, c.world_T_camera, WEAK_LENS) if bent else c for c in pinholes]
    for name, camera in zip(NAMES[kind], rig, strict=True):
        shots = [take_shot(scene, camera, step / (frames - 1)) for step in range(frames)]
        first.append(shots[0])
        if kind == "st4dgs":
            write_arriving_flow(out / name / "flow", [f"{step + 8}" for step in range(frames)], scene, shots)
        truth |= _write_frames(out, name, shots, kind)
    points, colors = surface_points(scene, first, 300)
    if kind == "hustvl":
        write_ply(out / "points3D_multipleview.ply", points.astype(np.float32), colors)
        write_poses_bounds(out / "poses_bounds_multipleview.npy", rig)
        labels = [f"image{int(name[3:])}.jpg" for name in NAMES[kind]]
        write_model(out / "sparse_", colmap_model(rig, labels, points, colors))
    elif kind == "st4dgs":
        labels = [f"{name}.png" for name in NAMES[kind]]
        write_model(out / "colmap" / "sparse" / "0", colmap_model(rig, labels, points, colors), binary=False)
    elif kind == "transforms":
        write_json(out / "transforms.json", _transforms(rig, NAMES[kind]))
    else:
        write_poses_bounds(out / "poses_bounds.npy", rig)
    return Truth(scene, truth)


def colmap_model(rig: Sequence[Camera], labels: Sequence[str], points: np.ndarray, colors: np.ndarray) -> ColmapModel:
    """A model with an image per camera; every point is observed by all images that have it in their frame."""
    cameras, images, tracks = {}, {}, [[] for _ in points]
    for i, (camera, label) in enumerate(zip(rig, labels, strict=True), start=1):
        lens = camera.lens[:4] if isinstance(camera, LensCamera) else (0.0,) * 4  # OPENCV: k1, k2, p1, p2
        k3 = camera.lens[4] if isinstance(camera, LensCamera) else 0.0
        params = [camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2], *lens, k3, 0.0, 0.0, 0.0]
        model = "FULL_OPENCV" if k3 else "OPENCV"
        size = 12 if k3 else 8
        cameras[i] = ColmapCamera(i, model, camera.width, camera.height, np.array(params[:size]))
        xy, z = camera.project(points)
        seen = np.flatnonzero(camera.contains(xy, z))
        for place, point in enumerate(seen):
            tracks[point].append((i, place))
        pose = np.linalg.inv(camera.world_T_camera)
        images[i] = ColmapImage(i, label, i, pose, xy[seen] + 0.5, seen + 1)
    cloud = ColmapPoints(
        np.arange(1, len(points) + 1),
        points,
        colors,
        np.zeros(len(points)),
        tuple(np.array(track, np.int64).reshape(-1, 2) for track in tracks),
    )
    return ColmapModel(cameras, images, cloud)


def _write_frames(out: Path, name: str, shots: list[Shot], kind: Kind) -> dict[Path, Shot]:
    """What one camera filmed; says which files will hold it, those reduced to half included."""
    if kind in ("transforms", "rows"):
        write_video(out / f"{name}.mp4", [shot.image for shot in shots], fps=25)
        folders = [out / f"frames_{factor}" / name for factor in (1, 2)]
        return {folder / f"{step:05d}.png": shot for folder in folders for step, shot in enumerate(shots)}
    truth = {}
    for step, shot in enumerate(shots, start=1):
        image = out / name / (f"frame_{step:05d}.jpg" if kind == "hustvl" else f"images/{step + 7}.png")  # 8, 9, 10 ...
        save_image(image, shot.image)
        truth |= {image: shot, out / "frames_2" / name / f"{image.stem}.png": shot}
    return truth


def _transforms(rig: Sequence[Camera], names: Sequence[str]) -> dict:
    """nerfstudio's file, an entry per camera: OpenGL axes, distortion once for all."""
    k1, k2, p1, p2, k3 = WEAK_LENS
    entries = []
    for camera, name in zip(rig, names, strict=True):
        pose = camera.world_T_camera.copy()
        pose[:, 1:3] *= -1.0
        entries.append({
            "file_path": f"{name}.mp4", "transform_matrix": pose.tolist(),
            "fl_x": camera.K[0, 0], "fl_y": camera.K[1, 1], "cx": camera.K[0, 2], "cy": camera.K[1, 2],
        })  # fmt: skip
    lens = {"k1": k1, "k2": k2, "k3": k3, "p1": p1, "p2": p2}
    return {"camera_model": "OPENCV", "w": rig[0].width, "h": rig[0].height, **lens, "frames": entries}
