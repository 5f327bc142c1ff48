"""Cameras of a rig from a COLMAP model of its first frame, ``transforms.json`` or ``poses_bounds``, by camera name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataparsers.clip import SeedPoints
from dataparsers.colmap_model import model_points, posed_images
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.colmap_files import read_model
from dyngs_plugins.priors.files import check_poses, number
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True)
class RigCameras:
    """Parallel to the rig's cameras; OpenCV axes, K for images of the size that was asked for."""

    source: str
    world_T_camera: Float[Tensor, "c 4 4"]
    K: Float[Tensor, "c 3 3"]
    distortion: Float[Tensor, "c 6"] | None = None
    """k1, k2, k3, k4, p1, p2."""
    points: Callable[[Sequence[str]], SeedPoints | None] = lambda train: None
    """The cloud that these training cameras see."""
    llff: LlffCameras | None = None


def colmap_rig(folder: Path, names: Sequence[str], size: Size) -> RigCameras:
    """Cameras of a COLMAP model with one image per camera.

    Image names are cam01.png or cam01/frame_00001.jpg for the camera cam01, or carry its number (image1.jpg).

    Raises:
        FileNotFoundError, ValueError: no model, a damaged one, or cameras that it does not know.
    """
    model = read_model(folder)
    labels = match_cameras(folder, names, sorted(image.name for image in model.images.values()))
    posed = posed_images(folder, model, [labels[name] for name in names], size)
    lenses = [p.distortion for p in posed]
    images = model.by_name()

    def points(train: Sequence[str]) -> SeedPoints | None:
        return model_points(folder, model, [images[labels[name]] for name in train])

    return RigCameras(
        f"COLMAP's model in {folder.name}",
        torch.stack([p.world_T_camera for p in posed]).float(),
        torch.stack([p.K for p in posed]).float(),
        torch.stack([torch.zeros(6) if lens is None else lens for lens in lenses]) if any_lens(lenses) else None,
        points,
    )


def any_lens(lenses: Iterable[Tensor | None]) -> bool:
    """Whether there is distortion at all."""
    return any(lens is not None and bool(lens.any()) for lens in lenses)


def poses_bounds_rig(path: Path, names: Sequence[str], size: Size) -> RigCameras:
    """Cameras of ``poses_bounds.npy``, row k for the k-th name; every row has its own focal length.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, of another shape than the images, or with another number of
            rows.
    """
    cameras = read_poses_bounds(path)
    if len(cameras.hwf) != len(names):
        raise ValueError(
            f"{path}: {len(cameras.hwf)} rows, expected {len(names)}, one per camera in the order of names "
            f"({names[0]} to {names[-1]}). Is a film missing? Leave cameras out with skip_cameras, not by deleting them."
        )
    height, width = cameras.hwf[:, 0], cameras.hwf[:, 1]
    if np.abs(width / height * size[1] / size[0] - 1.0).max() > 0.01:
        raise ValueError(
            f"{path}: it is for images of {width[0]:.0f}x{height[0]:.0f} (width x height), but they are {size[0]}x"
            f"{size[1]}, of another shape. Were they cropped or turned? Solve the cameras for these images."
        )
    return RigCameras(
        path.name, torch.from_numpy(cameras.world_T_camera), torch.from_numpy(cameras.K(*size)), llff=cameras
    )


def transforms_rig(path: Path, names: Sequence[str], size: Size) -> RigCameras:
    """Cameras of nerfstudio's ``transforms.json``: OpenGL camera-to-world, intrinsics once or per entry.

    An entry belongs to the camera of its ``camera_label``, or of the name or a folder of its ``file_path``. A camera
    may have many, with one pose.

    Raises:
        FileNotFoundError, ValueError: missing, incomplete, cameras without entry, or one that moves.
    """
    content = read_json(path, "nerfstudio camera file")
    entries = content.get("frames")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: expected a list 'frames' with an entry per camera; found {sorted(content)}.")
    if content.get("camera_model", "OPENCV") not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE"):
        raise ValueError(f"{path}: camera_model is {content['camera_model']!r}; expected OPENCV or PINHOLE. Undistort "
                         "the films first.")  # fmt: skip
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    absent = []
    for i, entry in enumerate(entries):
        label = entry.get("camera_label") or entry.get("file_path")
        name = camera_of(str(label), names)
        if name is None:
            absent.append(str(label))
            continue
        camera = _entry(path, i, {**content, **entry}, size)
        if name in found and not np.allclose(found[name][0], camera[0], atol=1e-6):
            raise ValueError(f"{path}: the entries of {name} have different poses. Expected cameras that stand still; "
                             "a moving one belongs to another layout.")  # fmt: skip
        found.setdefault(name, camera)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path}: no entry for {len(missing)} of {len(names)} cameras; the first is {missing[0]}. "
                         "Expected one whose camera_label or file_path names it.")  # fmt: skip
    warn_of_absent(path, absent)
    check_poses(path, np.stack([found[name][0] for name in names]), "frames")
    poses, K, lenses = (torch.from_numpy(np.stack(x)).float() for x in zip(*(found[n] for n in names), strict=True))
    return RigCameras(path.name, poses, K, lenses if any_lens(lenses) else None)


def match_cameras(path: Path, names: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """The label (an image's name) of every camera.

    Raises:
        ValueError: cameras without a label, or with two.
    """
    matched: dict[str, str] = {}
    for label in labels:
        name = camera_of(label, names)
        if name is not None and name in matched:
            raise ValueError(f"{path}: {matched[name]!r} and {label!r} are both of camera {name}. Expected one image "
                             "per camera: the first frame.")  # fmt: skip
        if name is not None:
            matched[name] = label
    if not matched:  # hustvl's image1.jpg for cam01
        numbers = {_number(label): label for label in labels}
        ours = {_number(name): name for name in names}
        if None not in ours and len(ours) == len(names) and len(numbers) == len(labels) and set(ours) <= set(numbers):
            matched = {name: numbers[number] for number, name in ours.items()}
    missing = [name for name in names if name not in matched]
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(names)} cameras are not in it; the first is {missing[0]}. It has "
            f"{', '.join(labels[:4])} ... Expected one image per camera, with the camera's name or number."
        )
    warn_of_absent(path, [label for label in labels if label not in matched.values()])
    return matched


def warn_of_absent(path: Path, labels: Sequence[str]) -> None:
    """Cameras that were solved but have no film or folder: left out on purpose, or lost."""
    if labels:
        warnings.warn(f"{path}: {len(labels)} of its cameras have no film or folder of images here and are left out; the "
                      f"first is {labels[0]}. Restore it if it was lost.", stacklevel=3)  # fmt: skip


def camera_of(label: str, names: Sequence[str]) -> str | None:
    """The camera that a file's name, or one of its folders, is called after."""
    path = PurePosixPath(label.replace("\\", "/"))
    return next((part for part in (path.stem, *reversed(path.parts)) if part in names), None)


def _number(label: str) -> int | None:
    digits = re.findall(r"\d+", PurePosixPath(label).stem)
    return int(digits[-1]) if digits else None


def _entry(path: Path, index: int, entry: Mapping[str, Any], size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose (OpenCV), K for ``size``, and distortion of one entry."""
    try:
        pose = np.array(entry["transform_matrix"], np.float64)
        if pose.shape == (3, 4):
            pose = np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]])
        pose = pose.reshape(4, 4)
        width, height, fx = number(entry["w"]), number(entry["h"]), number(entry["fl_x"])
        fy, cx, cy = (number(entry.get(key, default)) for key, default in
                      (("fl_y", fx), ("cx", width / 2), ("cy", height / 2)))  # fmt: skip
        terms = [key for key in ("k1", "k2", "p1", "p2") if key in entry]
        if 0 < len(terms) < 4:
            raise ValueError(f"of the lens there are only {terms}, expected k1, k2, p1 and p2, or none")
        lens = np.array([number(entry.get(key, 0.0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2")])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}: entry {index} is incomplete or malformed ({error!r}). Expected transform_matrix (4x4), and w, h, "
            "fl_x in it or once for all."
        ) from error
    numbers = np.array([width, height, fx, fy, cx, cy, *lens])
    if not np.isfinite(numbers).all() or min(width, height, fx, fy) <= 0:
        raise ValueError(f"{path}: entry {index} has w, h {width, height}, focal lengths {fx, fy}, centre {cx, cy}, "
                         f"distortion {lens.tolist()}. Expected finite numbers, sizes and focal lengths above 0.")  # fmt: skip
    if abs(width / height * size[1] / size[0] - 1.0) > 0.01:
        raise ValueError(
            f"{path}: entry {index} is for images of {width:.0f}x{height:.0f} (width x height), but they are {size[0]}x"
            f"{size[1]}, of another shape. Were they cropped or turned? Solve the cameras for these images."
        )
    pose[:, 1:3] *= -1.0  # OpenGL to OpenCV: y down, z forward
    scale = np.diag([size[0] / width, size[1] / height, 1.0])
    return pose, scale @ np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), lens
