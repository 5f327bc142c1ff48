"""Cameras and seed points of a COLMAP model, as loaders want them; read by :mod:`dyngs_plugins.priors.colmap_files`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataparsers.clip import SeedPoints
from dyngs_plugins.priors.colmap_files import ColmapCamera, ColmapImage, ColmapModel, find_model, read_model

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


def registered(folder: Path, model: ColmapModel, names: Sequence[str]) -> dict[str, ColmapImage]:
    """The model's image of each name that it knows.

    A name is looked up as it is, then without its suffix (reduced copies are PNGs of JPEGs), then without folders.

    Raises:
        ValueError: a name that may mean two of the model's images, or two names that mean the same one.
    """
    tables: list[dict[tuple[str, ...], list[ColmapImage]]] = [{}, {}, {}]
    for image in model.images.values():
        for table, key in zip(tables, _keys(image.name), strict=True):
            table.setdefault(key, []).append(image)
    found: dict[str, ColmapImage] = {}
    taken: dict[int, str] = {}
    for name in names:
        like = next((t[key] for t, key in zip(tables, _keys(name), strict=True) if key in t), [])
        if len(like) > 1 or (like and like[0].id in taken):
            others = f"{like[0].name}, {like[1].name}" if len(like) > 1 else f"that of {taken[like[0].id]}"
            raise ValueError(f"{folder}: {name} is not one image of the COLMAP model alone ({others}). Name image "
                             "files and folders as they were when the model was made.")  # fmt: skip
        if like:
            found[name], taken[like[0].id] = like[0], name
    return found


def posed_images(
    folder: Path, model: ColmapModel, names: Sequence[str], size: tuple[int, int], hint: str = ""
) -> list[PosedImage]:
    """The camera of each named image, for images of ``size`` (width, height).

    Raises:
        ValueError: images that the model does not know (see :func:`registered`), or a fisheye.
    """
    found = registered(folder, model, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"{folder}: the COLMAP model lacks {len(missing)} of {len(names)} images; the first is {missing[0]}. "
            + (hint or "Solve them too, or remove them.")
        )
    return [_posed(folder, model, found[name], size) for name in names]


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


def model_points(folder: Path, model: ColmapModel, train: Sequence[ColmapImage] | None = None) -> SeedPoints | None:
    """The model's sparse cloud; None where it has none.

    Args:
        train: leave out points that fewer than two of these images observe, so that no point comes from held-out
            images alone. None keeps all of them; so do models without any tracks, whose points cannot be told apart.
    """
    cloud = model.points
    if cloud is None or len(cloud) == 0:
        return None
    keep = np.ones(len(cloud), bool)
    if train is not None and any(len(track) for track in cloud.tracks):
        ids = np.array([image.id for image in train])
        keep = np.array([len(np.intersect1d(track[:, 0], ids)) >= 2 for track in cloud.tracks])
        if not keep.any():
            return None
    xyz, rgb = torch.from_numpy(cloud.xyz[keep]).float(), torch.from_numpy(cloud.rgb[keep])
    return SeedPoints(xyz, rgb, f"COLMAP's points ({len(xyz)} of {len(cloud)})")


def model_folder(root: Path, given: Path | None = None) -> Path:
    """Where a scene's COLMAP model lies: as given, or in the usual places.

    Raises:
        FileNotFoundError: none there.
    """
    if given is not None:
        return root / given
    places = [root / name for name in ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse")]
    found = next((place for place in places if find_model(place)), None)
    if found is None:
        numbered = sorted(p.parent.relative_to(root) for p in root.glob("sparse/*/cameras.*"))
        more = f"There is one in {numbered[0]}: give it by `sparse`. " if numbered else ""
        raise FileNotFoundError(
            f"{root / 'sparse' / '0'}: no COLMAP model, nor in sparse/, colmap/sparse/0 or colmap/sparse. Expected "
            f"cameras.bin and images.bin, or both as .txt. {more}Solve the cameras with COLMAP first."
        )
    return found


def require_shape(folder: Path, camera: ColmapCamera, name: str, size: tuple[int, int]) -> None:
    """Raise unless an image of ``size`` (width, height) has its camera's shape, to the rounding of a reduced image."""
    expected = size[0] * camera.height / camera.width
    if abs(size[1] - expected) > max(1.5, 0.02 * expected):
        raise ValueError(
            f"{folder}: camera {camera.id} of {name} is {camera.width}x{camera.height}, but the image is "
            f"{size[0]}x{size[1]}, of another shape. Was it cropped or turned? Solve the cameras for these images."
        )


def warn_of_lost(folder: Path, model: ColmapModel, known: Mapping[str, ColmapImage]) -> None:
    """Say how many of the model's images have no file: left out on purpose, or lost."""
    if len(known) < len(model.images):
        warnings.warn(f"{folder}: {len(model.images) - len(known)} of {len(model.images)} images of the COLMAP model "
                      "have no file and are left out.", stacklevel=3)  # fmt: skip


def _keys(name: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    path = PurePosixPath(name)
    return path.parts, path.with_suffix("").parts, (path.stem,)


def _posed(folder: Path, model: ColmapModel, image: ColmapImage, size: tuple[int, int]) -> PosedImage:
    camera = model.cameras[image.camera_id]
    require_shape(folder, camera, image.name, size)
    try:
        K, distortion = camera.K(*size), camera.distortion()
    except ValueError as error:
        raise ValueError(f"{folder}: {image.name}: {error}") from error
    return PosedImage(
        torch.from_numpy(image.world_T_camera),
        torch.from_numpy(K),
        torch.from_numpy(distortion).float() if np.any(distortion) else None,
    )
