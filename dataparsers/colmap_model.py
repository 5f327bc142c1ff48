"""Cameras of a COLMAP model, text or binary, by image name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_FOCALS = {"SIMPLE_PINHOLE": 1, "SIMPLE_RADIAL": 1, "RADIAL": 1, "PINHOLE": 2, "OPENCV": 2, "FULL_OPENCV": 2}
"""Camera models whose parameters start with that many focal lengths, then cx, cy, then distortion."""


def read_colmap_cameras(
    folder: Path, names: Sequence[str], size: tuple[int, int]
) -> list[tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]]:
    """Pose (camera-to-world, OpenCV) and K of each named image; K is scaled to images of ``size`` (width, height).

    Raises:
        FileNotFoundError, ValueError: no model in the folder, a damaged one, or images that it does not know.
    """
    cameras, images = _read_model(folder)
    by_name = {Path(image.name).name: image for image in images.values()}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(
            f"{folder}: the COLMAP model lacks {len(missing)} of {len(names)} images; the first is {missing[0]}. Solve "
            "them too, remove them from the split, or train with the captured cameras (camera-type original)."
        )
    return [_camera(folder, by_name[name], cameras, size) for name in names]


def _read_model(folder: Path) -> tuple[dict[int, Any], dict[int, Any]]:
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    readers = {
        ".bin": (colmap.read_cameras_binary, colmap.read_images_binary),
        ".txt": (colmap.read_cameras_text, colmap.read_images_text),
    }
    for suffix, (read_cameras, read_images) in readers.items():
        cameras, images = folder / f"cameras{suffix}", folder / f"images{suffix}"
        if cameras.is_file() and images.is_file():
            try:
                return read_cameras(str(cameras)), read_images(str(images))
            except Exception as error:  # the parser fails in many ways on a damaged file; each means the same
                raise ValueError(f"{folder}: the COLMAP model cannot be read ({error!r}). Export it again.") from error
    raise FileNotFoundError(f"{folder}: no COLMAP model. Expected cameras.bin and images.bin, or both as .txt.")


def _camera(
    folder: Path, image: Any, cameras: dict[int, Any], size: tuple[int, int]
) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    camera = cameras[image.camera_id]
    if camera.model not in _FOCALS:
        raise ValueError(f"{folder}: {image.name} has a {camera.model} camera; expected one of {sorted(_FOCALS)}. "
                         "Undistort the images with COLMAP first.")  # fmt: skip
    count = _FOCALS[camera.model]
    if np.abs(camera.params[count + 2 :]).max(initial=0.0) > 1e-3:
        warnings.warn(f"{folder}: the lens distortion of {camera.model} camera {image.camera_id} "
                      f"({camera.params[count + 2 :].tolist()}) is ignored.", stacklevel=2)  # fmt: skip
    fx, fy = camera.params[0], camera.params[count - 1]
    cx, cy = camera.params[count], camera.params[count + 1]
    sx, sy = size[0] / camera.width, size[1] / camera.height
    camera_T_world = np.eye(4)
    camera_T_world[:3, :3], camera_T_world[:3, 3] = image.qvec2rotmat(), image.tvec
    K = torch.tensor([[fx * sx, 0.0, cx * sx], [0.0, fy * sy, cy * sy], [0.0, 0.0, 1.0]]).float()
    return torch.from_numpy(np.linalg.inv(camera_T_world)).float(), K
