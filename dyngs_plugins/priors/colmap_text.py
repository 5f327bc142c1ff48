"""COLMAP's text encoding; see :mod:`dyngs_plugins.priors.colmap_files`. One record a line, two for an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dyngs_plugins.priors.colmap_types import (
    NUM_PARAMETERS,
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    pose_from,
    quaternion_of,
)
from dyngs_plugins.priors.files import atomic_file


def read_cameras(path: Path) -> list[ColmapCamera]:
    """``cameras.txt``: id, model, width, height, parameters."""
    cameras = []
    for number, line in _records(path):
        words = line.split()
        if len(words) < 5 or words[1] not in NUM_PARAMETERS:
            raise _error(path, number, line, f"id, one of {', '.join(NUM_PARAMETERS)}, width, height and parameters")
        expected = NUM_PARAMETERS[words[1]]
        params = _numbers(path, number, line, words[4:], float)
        if len(params) != expected:
            raise _error(path, number, line, f"{expected} parameters of a {words[1]} camera, not {len(params)}")
        id, width, height = _numbers(path, number, line, [words[0], *words[2:4]], int)
        cameras.append(ColmapCamera(id, words[1], width, height, np.array(params)))
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """``images.txt``: id, quaternion, translation, camera, name; on the next line x, y, point of each keypoint."""
    images = []
    lines = _lines(path)
    for number, line in lines:
        if not line:
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise _error(path, number, line, "id, quaternion (4), translation (3), camera id and name of an image")
        id, camera_id = _numbers(path, number, line, [words[0], words[8]], int)
        pose = np.array(_numbers(path, number, line, words[1:8], float))
        number, line = next(lines, (number + 1, ""))  # an image without keypoints has an empty line, or none at the end
        words_of_points = line.split()
        if len(words_of_points) % 3:
            raise _error(
                path, number, line, f"x, y and point id of each keypoint of {words[9]!r} (an empty line for none)"
            )
        observed = np.array(_numbers(path, number, line, words_of_points, float)).reshape(-1, 3)
        camera_T_world = pose_from(path, words[9], pose[:4], pose[4:])
        images.append(
            ColmapImage(id, words[9], camera_id, camera_T_world, observed[:, :2], observed[:, 2].astype(np.int64))
        )
    return images


def read_points(path: Path) -> ColmapPoints:
    """``points3D.txt``: id, x, y, z, r, g, b, error, then image id and keypoint of each observation."""
    rows, tracks = [], []
    for number, line in _records(path):
        words = line.split()
        if len(words) < 8 or len(words) % 2:
            raise _error(path, number, line, "id, x, y, z, r, g, b, error and pairs of image id and keypoint")
        color = _numbers(path, number, line, words[4:7], int)
        if not all(0 <= value <= 255 for value in color):
            raise _error(path, number, line, "colours between 0 and 255")
        (id,) = _numbers(path, number, line, words[:1], int)
        rows.append((id, _numbers(path, number, line, [*words[1:4], words[7]], float), color))
        tracks.append(np.array(_numbers(path, number, line, words[8:], int), np.int64).reshape(-1, 2))
    numbers = np.array([row[1] for row in rows], np.float64).reshape(-1, 4)
    return ColmapPoints(
        np.array([row[0] for row in rows], np.int64),
        numbers[:, :3].copy(),
        np.array([row[2] for row in rows], np.uint8).reshape(-1, 3),
        numbers[:, 3].copy(),
        tuple(tracks),
    )


def write_cameras(path: Path, cameras: Iterable[ColmapCamera]) -> None:
    """``cameras.txt``."""
    _write(path, "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]", (
        f"{c.id} {c.model} {c.width} {c.height} {_text(c.params)}" for c in cameras
    ))  # fmt: skip


def write_images(path: Path, images: Iterable[ColmapImage]) -> None:
    """``images.txt``."""

    def lines() -> Iterator[str]:
        for image in images:
            pose = image.camera_T_world
            numbers = _text([*quaternion_of(pose[:3, :3]), *pose[:3, 3]])
            yield f"{image.id} {numbers} {image.camera_id} {image.name}"
            yield " ".join(f"{_text(xy)} {int(point)}" for xy, point in zip(image.xys, image.point_ids, strict=True))

    _write(path, "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, POINT3D_ID)", lines())


def write_points(path: Path, points: ColmapPoints) -> None:
    """``points3D.txt``."""
    _write(path, "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)", (
        f"{int(id)} {_text(xyz)} {' '.join(str(int(c)) for c in rgb)} {_text([error])} "
        + " ".join(str(int(n)) for n in np.ravel(track))
        for id, xyz, rgb, error, track in zip(
            points.ids, points.xyz, points.rgb, points.error, points.tracks, strict=True
        )
    ))  # fmt: skip


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: cannot be read as text ({error}). Expected COLMAP's text format; is it a binary file with "
            "another suffix? Export the model again."
        ) from error
    return ((i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if not line.lstrip().startswith("#"))


def _records(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in _lines(path) if line)


def _numbers(path: Path, number: int, line: str, words: Sequence[str], kind: Callable) -> list:
    try:
        return [kind(word) for word in words]
    except ValueError as error:
        raise _error(path, number, line, f"numbers ({error})") from error


def _error(path: Path, number: int, line: str, expected: str) -> ValueError:
    shown = line if len(line) < 80 else line[:77] + "..."
    return ValueError(f"{path}: line {number} is {shown!r}. Expected {expected}. Export the model again.")


def _text(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _write(path: Path, header: str, lines: Iterable[str]) -> None:
    with atomic_file(path) as file:
        file.write(f"{header}\n".encode())
        for line in lines:
            file.write(f"{line}\n".encode())
