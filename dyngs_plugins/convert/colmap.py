"""To COLMAP: ``images/``, ``sparse/0`` with every camera's lens, and timestamps where names do not tell the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dataparsers.capture_times import instants_of_order
from dataparsers.clip import SeedPoints
from dyngs_plugins.convert.images import lens_map, write_picture
from dyngs_plugins.convert.names import target_stems
from dyngs_plugins.convert.pinhole import CenteredPinhole
from dyngs_plugins.convert.record import Converted, Progress
from dyngs_plugins.convert.source import Picture, Source, pictures
from dyngs_plugins.priors.colmap_files import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints, write_model
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.undistort import PixelMap

UNKNOWN_ERROR = -1.0
"""What COLMAP itself writes for points whose reprojection error was never computed."""


def write_colmap(source: Source, out: Path, track: Progress, binary: bool = True) -> Converted:
    """Write all images of all splits; one folder each where there are several cameras.

    Seed points become points without observations: who saw them is not known.
    """
    every = sorted(pictures(source.clip), key=lambda picture: (picture.camera, picture.step))
    converted = Converted()
    names = _write_images(out, every, converted, track)
    write_model(out / "sparse" / "0", colmap_model(names, source.clip.points), binary)
    if _needs_timestamps(source, names):
        _write_timestamps(source, out / "timestamps.csv", names, converted)
    sizes = sorted({picture.size[::-1] for picture in every})
    if len(sizes) > 1:
        converted.lost.append(f"colmap-time-data wants one size, but the images have {sizes}; COLMAP itself does not")
    converted.lost.append("which images train and which test: see `splits` of each image")
    if source.clip.points is None:
        converted.lost.append("the model has no points: the source has none")
    converted.lose(source, kept=("points to start from", "frame rate", "cameras' numbers"))
    return converted


def _write_images(
    out: Path, every: Sequence[Picture], converted: Converted, track: Progress
) -> list[tuple[str, Picture]]:
    cameras = sorted({picture.camera for picture in every})
    stems: dict[int, str] = {}
    for camera in cameras:
        mine = [picture for picture in every if picture.camera == camera]
        folder = "" if len(cameras) == 1 else f"cam{camera:0{len(str(max(cameras)))}d}/"
        stems |= {id(p): folder + stem for p, stem in zip(mine, target_stems(mine), strict=True)}
    names, straightened = [], 0
    for picture in track(every, "images"):
        straight = _straight(picture)
        straightened += straight is not None
        file = write_picture(picture, out / "images" / stems[id(picture)], straight)
        converted.files[file.relative_to(out).as_posix()] = picture
        names.append((file.relative_to(out / "images").as_posix(), picture))
    if straightened:
        converted.changed.append(f"{straightened} images are undistorted, because COLMAP's lenses have no term of the "
                                 "eighth power of the radius")  # fmt: skip
    return names


def _straight(picture: Picture) -> PixelMap | None:
    """How an image is undistorted whose lens COLMAP cannot say (it has no k4 but in a denominator)."""
    return lens_map(picture) if bool(picture.lens[3]) else None


def colmap_model(
    names: Sequence[tuple[str, Picture]], points: SeedPoints | None, pinhole: CenteredPinhole | None = None
) -> ColmapModel:
    """The model of named images.

    Args:
        points: they become points without observations.
        pinhole: the one camera of all images; None: each has its own.
    """
    cameras: dict[tuple, ColmapCamera] = {}
    images = {}
    for number, (name, picture) in enumerate(names, 1):
        camera = _camera(picture) if pinhole is None else _pinhole(pinhole)
        key = picture.camera, camera.model, camera.width, camera.height, *camera.params.tolist()
        known = cameras.setdefault(key, replace(camera, id=len(cameras) + 1))
        images[number] = ColmapImage(number, name, known.id, np.linalg.inv(picture.world_T_camera))
    return ColmapModel({c.id: c for c in cameras.values()}, images, None if points is None else _points(points))


def _pinhole(pinhole: CenteredPinhole) -> ColmapCamera:
    focal, width, height = pinhole.focal, pinhole.width, pinhole.height
    return ColmapCamera(0, "PINHOLE", width, height, np.array([focal, focal, width / 2, height / 2]))


def _camera(picture: Picture) -> ColmapCamera:
    """The simplest model that has all terms of the lens; its number is to be given."""
    fx, fy, cx, cy = (float(picture.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    k1, k2, k3, k4, p1, p2 = picture.lens.tolist()
    model, params = "OPENCV", [fx, fy, cx, cy, k1, k2, p1, p2]
    if k4 or not any((k1, k2, k3, p1, p2)):
        model, params = "PINHOLE", params[:4]
    elif k3:
        model, params = "FULL_OPENCV", [*params, k3, 0.0, 0.0, 0.0]
    height, width = picture.size
    return ColmapCamera(0, model, width, height, np.array(params))


def _points(points: SeedPoints) -> ColmapPoints:
    count = len(points.xyz)
    rgb = torch.full((count, 3), 128, dtype=torch.uint8) if points.rgb is None else points.rgb
    return ColmapPoints(
        ids=np.arange(1, count + 1),
        xyz=points.xyz.double().numpy(),
        rgb=rgb.numpy(),
        error=np.full(count, UNKNOWN_ERROR),
        tracks=(np.zeros((0, 2), np.int64),) * count,
    )


def _needs_timestamps(source: Source, names: Sequence[tuple[str, Picture]]) -> bool:
    """Whether the order of the names gives other times than the source, or its frame rate is known."""
    if source.clip.fps is not None:
        return True
    try:
        steps = instants_of_order([(Path(name), picture.camera) for name, picture in names])
    except ValueError:
        return True
    last = max(*steps, 1)
    return any(abs(step / last - p.time) > 1e-6 for step, (_, p) in zip(steps, names, strict=True))


def _write_timestamps(source: Source, path: Path, names: Sequence[tuple[str, Picture]], converted: Converted) -> None:
    last = max(source.clip.train.num_frames - 1, 1)
    if len({picture.time for _, picture in names}) < 2:
        return  # one instant: no file can say it, and none needs to
    if source.clip.fps is None:
        converted.lost.append("seconds: the frame rate is not known, so timestamps.csv counts time steps as seconds")
    rate = source.clip.fps or 1.0
    with atomic_file(path) as file:
        file.write(b"name,seconds\n")
        for name, picture in names:
            file.write(f'"{name}",{picture.time * last / rate!r}\n'.encode())
