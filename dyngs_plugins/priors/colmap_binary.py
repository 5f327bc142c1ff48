"""COLMAP's binary encoding; see :mod:`dyngs_plugins.priors.colmap_files`. Little-endian, counts before contents."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dyngs_plugins.priors.colmap_types import (
    CAMERA_MODELS,
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    pose_from,
    quaternion_of,
)
from dyngs_plugins.priors.files import atomic_file

_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_MODEL_NUMBERS = {name: number for number, (name, _) in enumerate(CAMERA_MODELS)}


class _Bytes:
    """A file's bytes, taken from front to back; says where it ends too early."""

    def __init__(self, path: Path):
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, layout: str, what: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + layout)
        self._require(size, what)
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += size
        return values

    def array(self, dtype: np.dtype, count: int, what: str) -> np.ndarray:
        size = count * dtype.itemsize
        self._require(size, what)
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += size
        return values

    def count(self, smallest: int, what: str) -> int:
        """How many records follow, which at ``smallest`` bytes each must fit in the file."""
        (count,) = self.take("Q", f"the number of {what}")
        self._require(count * smallest, f"{count} {what}")
        return count

    def name(self, what: str) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self._error(f"{what} has no end")
        text = self.data[self.at : end]
        self.at = end + 1
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(f"{what} is no text ({error})") from error

    def finish(self) -> None:
        if self.at != len(self.data):
            raise self._error(f"{len(self.data) - self.at} bytes are left over")

    def _require(self, size: int, what: str) -> None:
        if self.at + size > len(self.data):
            raise self._error(f"it ends inside {what}")

    def _error(self, found: str) -> ValueError:
        return ValueError(
            f"{self.path}: {found} (byte {self.at} of {len(self.data)}). Expected a complete binary COLMAP file; this "
            "one is truncated or of another kind. Copy it again, or export the model again."
        )


def read_cameras(path: Path) -> list[ColmapCamera]:
    """``cameras.bin``."""
    data, cameras = _Bytes(path), []
    for i in range(data.count(24, "cameras")):
        id, model, width, height = data.take("iiQQ", f"camera {i}")
        if not 0 <= model < len(CAMERA_MODELS):
            raise ValueError(f"{path}: camera {id} has the model number {model}; expected 0 to "
                             f"{len(CAMERA_MODELS) - 1}. The file is damaged or of another kind.")  # fmt: skip
        name, count = CAMERA_MODELS[model]
        params = np.array(data.take(f"{count}d", f"the parameters of camera {id}"))
        cameras.append(ColmapCamera(id, name, width, height, params))
    data.finish()
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """``images.bin``."""
    data, images = _Bytes(path), []
    for i in range(data.count(73, "images")):
        id, *pose, camera_id = data.take("i7di", f"image {i}")
        name = data.name(f"the name of image {id}")
        count = data.count(_OBSERVATION.itemsize, f"keypoints of image {name!r}")
        observed = data.array(_OBSERVATION, count, f"the keypoints of image {name!r}")
        camera_T_world = pose_from(path, name, np.array(pose[:4]), np.array(pose[4:]))
        images.append(
            ColmapImage(id, name, camera_id, camera_T_world, np.array(observed["xy"]), np.array(observed["point"]))
        )
    data.finish()
    return images


def read_points(path: Path) -> ColmapPoints:
    """``points3D.bin``."""
    data = _Bytes(path)
    rows, tracks = [], []
    for i in range(data.count(51, "points")):
        *row, length = data.take("q3d3BdQ", f"point {i}")
        rows.append(row)
        tracks.append(data.array(np.dtype("<i4"), 2 * length, f"the track of point {row[0]}").reshape(-1, 2))
    data.finish()
    ids = np.array([row[0] for row in rows], np.int64)
    numbers = np.array([row[1:] for row in rows], np.float64).reshape(-1, 7)
    return ColmapPoints(
        ids, numbers[:, :3].copy(), numbers[:, 3:6].astype(np.uint8), numbers[:, 6].copy(), tuple(tracks)
    )


def write_cameras(path: Path, cameras: Iterable[ColmapCamera]) -> None:
    """``cameras.bin``."""
    cameras = list(cameras)
    with atomic_file(path) as file:
        file.write(struct.pack("<Q", len(cameras)))
        for camera in cameras:
            file.write(struct.pack("<iiQQ", camera.id, _MODEL_NUMBERS[camera.model], camera.width, camera.height))
            file.write(np.asarray(camera.params, "<f8").tobytes())


def write_images(path: Path, images: Iterable[ColmapImage]) -> None:
    """``images.bin``."""
    images = list(images)
    with atomic_file(path) as file:
        file.write(struct.pack("<Q", len(images)))
        for image in images:
            pose = image.camera_T_world
            file.write(struct.pack("<i7di", image.id, *quaternion_of(pose[:3, :3]), *pose[:3, 3], image.camera_id))
            file.write(image.name.encode("utf-8") + b"\0")
            observed = np.zeros(len(image.xys), _OBSERVATION)
            observed["xy"], observed["point"] = image.xys, image.point_ids
            file.write(struct.pack("<Q", len(observed)) + observed.tobytes())


def write_points(path: Path, points: ColmapPoints) -> None:
    """``points3D.bin``."""
    with atomic_file(path) as file:
        file.write(struct.pack("<Q", len(points)))
        for id, xyz, rgb, error, track in zip(
            points.ids, points.xyz, points.rgb, points.error, points.tracks, strict=True
        ):
            file.write(struct.pack("<q3d3BdQ", int(id), *xyz, *(int(c) for c in rgb), error, len(track)))
            file.write(np.asarray(track, "<i4").tobytes())
