"""COLMAP's sparse models: cameras, images with their observations, and points with their tracks; text or binary.

Our own reader and writer, because a damaged file has to say what is wrong with it instead of running out of memory or
giving other cameras.

Source: COLMAP's documentation, "Output Format" (Schoenberger and Frahm, "Structure-from-Motion Revisited", 2016).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyngs_plugins.priors import colmap_binary, colmap_text
from dyngs_plugins.priors.colmap_types import ColmapCamera, ColmapImage, ColmapPoints
from dyngs_plugins.priors.files import existing, optional_file

__all__ = [
    "ColmapCamera",
    "ColmapImage",
    "ColmapModel",
    "ColmapPoints",
    "find_model",
    "read_model",
    "read_points",
    "write_model",
]

_HINT = "Expected a whole COLMAP model beside it. Copy the folder again, or export the model again."
_ENCODINGS = {".bin": colmap_binary, ".txt": colmap_text}


@dataclass(frozen=True)
class ColmapModel:
    """A sparse reconstruction."""

    cameras: Mapping[int, ColmapCamera]
    images: Mapping[int, ColmapImage]
    points: ColmapPoints | None = None
    """None where the model has no file of points."""

    def by_name(self) -> dict[str, ColmapImage]:
        """Images by name, in the order of the names."""
        return {image.name: image for image in sorted(self.images.values(), key=lambda image: image.name)}


def find_model(folder: Path) -> str | None:
    """``.bin`` or ``.txt`` where the folder holds a model in that encoding (binary first), else None."""
    for complete in (all, any):  # half a model is one that is damaged, and no reason to take other cameras
        for suffix in _ENCODINGS:
            if complete(os.path.lexists(folder / f"{part}{suffix}") for part in ("cameras", "images")):
                return suffix
    return None


def read_model(folder: Path, points: bool = True) -> ColmapModel:
    """Read the model of a folder, binary where it has both encodings.

    Args:
        points: read the points too, if there are any.

    Raises:
        FileNotFoundError: no model in the folder.
        ValueError: a damaged or contradictory one; names the file and what is wrong in it.
    """
    folder = Path(folder)
    suffix = find_model(folder)
    if suffix is None:
        raise FileNotFoundError(
            f"{folder}: no COLMAP model. Expected cameras.bin and images.bin, or both as .txt; "
            + (f"found {_listing(folder)}." if folder.is_dir() else "there is no such folder.")
        )
    code = _ENCODINGS[suffix]
    path = existing(folder / f"cameras{suffix}", "COLMAP cameras", _HINT)
    cameras = _by_id(path, "camera", code.read_cameras(path))
    for camera in cameras.values():
        _check_camera(path, camera)
    path = existing(folder / f"images{suffix}", "COLMAP images", _HINT)
    images = _by_id(path, "image", code.read_images(path))
    _check_images(path, images, cameras)
    path = folder / f"points3D{suffix}"
    cloud = code.read_points(path) if points and optional_file(path, "COLMAP points") else None
    if cloud is not None:
        _check_points(path, cloud)
        _warn_of_missing(path, cloud, images)
    return ColmapModel(cameras, images, cloud)


def read_points(folder: Path) -> ColmapPoints:
    """The points of a folder's model, binary where it has both encodings.

    Raises:
        FileNotFoundError: there is no file of points.
        ValueError: it is damaged.
    """
    for suffix, code in _ENCODINGS.items():
        path = Path(folder) / f"points3D{suffix}"
        if optional_file(path, "COLMAP points"):
            cloud = code.read_points(path)
            _check_points(path, cloud)
            return cloud
    raise FileNotFoundError(f"{folder}: no points3D.bin and no points3D.txt. Export the COLMAP model with its points.")


def write_model(folder: Path, model: ColmapModel, binary: bool = True) -> None:
    """Write a model; each file takes its name only when it is complete. Points are written as none where it has none."""
    code, suffix = (colmap_binary, ".bin") if binary else (colmap_text, ".txt")
    nothing = ColmapPoints(
        np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), tracks=()
    )  # COLMAP's own tools want the three files
    code.write_cameras(folder / f"cameras{suffix}", model.cameras.values())
    code.write_images(folder / f"images{suffix}", model.images.values())
    code.write_points(folder / f"points3D{suffix}", model.points or nothing)


def _by_id(path: Path, what: str, items: Iterable) -> dict:
    found: dict = {}
    for item in items:
        if item.id in found:
            raise ValueError(f"{path}: the {what} id {item.id} is used twice; expected every id once. Export it again.")
        found[item.id] = item
    if not found:
        raise ValueError(f"{path}: found 0 {what}s; expected at least one. The reconstruction failed: run it again.")
    return found


def _warn_of_missing(path: Path, cloud: ColmapPoints, images: Mapping[int, ColmapImage]) -> None:
    """Text has no counts: a file of points that was cut at a line looks whole but for what the images observe."""
    observed = np.unique(np.concatenate([image.point_ids for image in images.values()] or [np.zeros(0, np.int64)]))
    observed = observed[observed >= 0]
    lost = int((~np.isin(observed, cloud.ids)).sum())
    if lost:
        warnings.warn(f"{path}: {lost} of {len(observed)} points that the images observe are not in it. Was it cut "
                      "off, or were points removed? Export the model again for all of them.", stacklevel=3)  # fmt: skip


def _check_camera(path: Path, camera: ColmapCamera) -> None:
    finite = np.isfinite(camera.params).all()
    focals = camera.params[:2] if camera.model in ("PINHOLE", "OPENCV", "FULL_OPENCV") else camera.params[:1]
    if not finite or camera.width < 1 or camera.height < 1 or (focals <= 0).any():
        raise ValueError(
            f"{path}: camera {camera.id} is {camera.width}x{camera.height} with {camera.params.tolist()}. Expected a "
            "size of at least one pixel, finite parameters and positive focal lengths. Export the model again."
        )


def _check_images(path: Path, images: Mapping[int, ColmapImage], cameras: Mapping[int, ColmapCamera]) -> None:
    seen: dict[str, int] = {}
    for image in images.values():
        if image.camera_id not in cameras:
            raise ValueError(
                f"{path}: image {image.name!r} has the camera {image.camera_id}, but the model's cameras are "
                f"{sorted(cameras)[:8]}. Expected files of one model. Export them together."
            )
        if image.name in seen:
            raise ValueError(f"{path}: the images {seen[image.name]} and {image.id} are both named {image.name!r}. "
                             "Expected every name once: export the model again.")  # fmt: skip
        seen[image.name] = image.id


def _check_points(path: Path, points: ColmapPoints) -> None:
    if len(np.unique(points.ids)) < len(points):
        raise ValueError(f"{path}: {len(points) - len(np.unique(points.ids))} points have the id of another one. Expected "
                         "every id once. Export the model again.")  # fmt: skip
    bad = np.flatnonzero(~np.isfinite(points.xyz).all(axis=1))
    if len(bad):
        raise ValueError(f"{path}: {len(bad)} of {len(points)} points are not finite; the first has the id "
                         f"{int(points.ids[bad[0]])}. Export the model again.")  # fmt: skip


def _listing(folder: Path, count: int = 4) -> str:
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return f"{len(names)} entries ({', '.join(names[:count])}{', ...' if len(names) > count else ''})"
