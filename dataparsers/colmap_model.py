"""Cameras and seed points of a COLMAP model, as loaders want them; read by :mod:`dyngs_plugins.priors.colmap_files`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataparsers.clip import SeedPoints
from dyngs_plugins.priors.colmap_files import ColmapImage, ColmapModel, read_model

_WEAK = 1e-3
"""A distortion coefficient up to here moves no pixel of a usual image by a whole pixel."""


@dataclass(frozen=True)
class PosedImage:
    """The camera of one image file."""

    world_T_camera: Float[Tensor, "4 4"]
    """OpenCV axes."""
    K: Float[Tensor, "3 3"]
    """Pixels of the image that is loaded, pixel centres at +0.5."""
    distortion: Float[Tensor, "6"] | None
    """k1, k2, k3, k4, p1, p2; None: a pinhole."""


def posed_images(
    folder: Path, model: ColmapModel, names: Sequence[str], size: tuple[int, int], hint: str = ""
) -> list[PosedImage]:
    """The camera of each named image, for images of ``size`` (width, height).

    A name is looked up as it is, then without its suffix (reduced copies are PNGs of JPEGs), then without folders.

    Raises:
        ValueError: images that the model does not know, a name that means two of its images, or a fisheye.
    """
    registered = _Names(folder, model)
    found = [registered.find(name) for name in names]
    missing = [name for name, image in zip(names, found, strict=True) if image is None]
    if missing:
        raise ValueError(
            f"{folder}: the COLMAP model lacks {len(missing)} of {len(names)} images; the first is {missing[0]}. "
            + (hint or "Solve them too, or remove them.")
        )
    return [_posed(folder, model, image, size) for image in found if image is not None]


def read_colmap_cameras(
    folder: Path, names: Sequence[str], size: tuple[int, int]
) -> list[tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]]:
    """Pose (camera-to-world, OpenCV) and K of each named image, without its lens; K is scaled to images of ``size``.

    Raises:
        FileNotFoundError, ValueError: no model in the folder, a damaged one, or images that it does not know.
    """
    hint = "Solve them too, remove them from the split, or train with the captured cameras (camera-type original)."
    cameras = posed_images(folder, read_model(folder, points=False), names, size, hint)
    bent = [camera.distortion for camera in cameras if camera.distortion is not None]
    if any(float(lens.abs().max()) > _WEAK for lens in bent):
        warnings.warn(f"{folder}: the lens distortion {bent[0].tolist()} is ignored.", stacklevel=2)
    return [(camera.world_T_camera.float(), camera.K.float()) for camera in cameras]


def model_points(folder: Path, model: ColmapModel) -> SeedPoints | None:
    """The model's sparse cloud; None where it has none."""
    if model.points is None or len(model.points) == 0:
        return None
    xyz, rgb = torch.from_numpy(model.points.xyz).float(), torch.from_numpy(model.points.rgb)
    return SeedPoints(xyz, rgb, f"COLMAP model {folder.name} ({len(xyz)} points)")


class _Names:
    """A model's images by what a file may be called: its path, its path without suffix, its stem."""

    def __init__(self, folder: Path, model: ColmapModel):
        self.folder = folder
        self.images: list[dict[tuple[str, ...], list[ColmapImage]]] = [{}, {}, {}]
        for image in model.images.values():
            for table, key in zip(self.images, self._keys(image.name), strict=True):
                table.setdefault(key, []).append(image)

    def find(self, name: str) -> ColmapImage | None:
        for table, key in zip(self.images, self._keys(name), strict=True):
            found = table.get(key, [])
            if len(found) > 1:
                raise ValueError(
                    f"{self.folder}: {name} may be any of {len(found)} images of the COLMAP model ({found[0].name}, "
                    f"{found[1].name}, ...). Name image files and folders as they were when the model was made."
                )
            if found:
                return found[0]
        return None

    @staticmethod
    def _keys(name: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        path = PurePosixPath(name)
        return path.parts, path.with_suffix("").parts, (path.stem,)


def _posed(folder: Path, model: ColmapModel, image: ColmapImage, size: tuple[int, int]) -> PosedImage:
    camera = model.cameras[image.camera_id]
    expected = size[0] * camera.height / camera.width
    if abs(size[1] - expected) > max(1.5, 0.02 * expected):  # a reduced image's sides are rounded
        raise ValueError(
            f"{folder}: camera {camera.id} of {image.name} is {camera.width}x{camera.height}, but the image is "
            f"{size[0]}x{size[1]}, of another shape. Was it cropped or turned? Solve the cameras for these images."
        )
    try:
        K, distortion = camera.K(*size), camera.distortion()
    except ValueError as error:
        raise ValueError(f"{folder}: {image.name}: {error}") from error
    return PosedImage(
        torch.from_numpy(image.world_T_camera),
        torch.from_numpy(K),
        torch.from_numpy(distortion).float() if np.any(distortion) else None,
    )
