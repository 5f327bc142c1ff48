"""Priors that stereo clips ship beside their images: masks, and disparities without a scale.

A network's disparity is known up to a scale and a shift per image. Those are found from sparse points, or from the near
and far bounds where an image sees too few of them, and the result is written beside the originals, anew whenever they
change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from dataparsers.checks import IMAGE_SUFFIXES, companions, image_size
from dataparsers.colmap_model import require_shape
from dataparsers.resized import resized, sister
from dyngs_plugins.priors.colmap_files import ColmapImage, ColmapModel
from dyngs_plugins.priors.files import atomic_file, check_size, load_npy, map_shape

MIN_POINTS = 10
"""Fewer sparse points than this do not fix a scale and a shift."""


def masks_beside(images: Sequence[Path], folder: Path, size: tuple[int, int]) -> tuple[Path, ...] | None:
    """The mask of every image, by its name with any suffix, at the images' size; None without the folder.

    Raises:
        FileNotFoundError, ValueError: some are missing, cannot be read, or are of several sizes.
    """
    if not folder.is_dir():
        return None
    present = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
    missing = [image.stem for image in images if image.stem not in present]
    if missing:
        raise FileNotFoundError(
            f"{folder / missing[0]}.png: no such mask; {len(missing)} of {len(images)} are missing. Expected one for "
            "every image. Copy the folder again, or remove it to do without masks."
        )
    files = [present[image.stem] for image in images]
    first = image_size(files[0])
    for path in files:
        width, height = image_size(path)
        check_size(path, "mask", (height, width), (first[1], first[0]))
    return resized(files, sister(folder, size), size, "mask")


def aligned_disparity(
    images: Sequence[Path],
    folder: Path,
    size: tuple[int, int],
    bounds: Float[np.ndarray, "n 2"],
    model: ColmapModel | None,
    known: Mapping[str, ColmapImage],
    cameras_file: Path,
) -> tuple[Path, ...]:
    """Disparity maps in the world's units at the images' size, written beside ``folder``.

    Args:
        bounds: near and far of each image, between which its disparities lie where points do not say it better.
        known: the model's image of each image's file name.
        cameras_file: what the alignment is made anew for when it changes.

    Raises:
        FileNotFoundError, ValueError: maps are missing or damaged.
    """
    sources = companions(images, folder, ".npy", "disparity map")
    target = sister(folder, size).with_name(f"{folder.name}_aligned_{size[0]}x{size[1]}")
    made = tuple(target / f"{image.stem}.npy" for image in images)
    for image, source, path, near_far in zip(images, sources, made, bounds, strict=True):
        newest = max(source.stat().st_mtime_ns, cameras_file.stat().st_mtime_ns)
        if path.is_file() and path.stat().st_mtime_ns > newest:
            continue
        raw = load_npy(source, "disparity map")
        shape = map_shape(raw.shape)
        if len(shape) != 2 or min(shape) < 2 or not np.isfinite(raw).all():
            raise ValueError(f"{source}: an array of shape {raw.shape}, or not finite. Expected one finite disparity "
                             "per pixel. Compute it again.")  # fmt: skip
        expected = size[1] * shape[1] / size[0]
        if abs(shape[0] - expected) > max(2.5, 0.1 * expected):  # networks round sides to whole patches
            raise ValueError(f"{source}: the map is {shape[1]}x{shape[0]}, but its image is {size[0]}x{size[1]} (width x "
                             "height), of another shape. Expected a map of the whole image. Compute it again.")  # fmt: skip
        resampled = cv2.resize(raw.reshape(shape).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        scale, shift = _fit(source, resampled, size, model, known.get(image.name), near_far)
        with atomic_file(path) as file:
            np.save(file, np.maximum(scale * resampled + shift, 0.0).astype(np.float32), allow_pickle=False)
    return made


def _fit(
    source: Path,
    disparity: Float[np.ndarray, "h w"],
    size: tuple[int, int],
    model: ColmapModel | None,
    image: ColmapImage | None,
    near_far: Float[np.ndarray, "2"],
) -> tuple[float, float]:
    """Scale and shift to the world's disparity."""
    if model is not None and model.points is not None and image is not None:
        value, inverse = _pairs(source, disparity, size, model, image)
        fit = _robust_line(value, inverse)
        if fit is not None:
            return fit
    low, high = np.percentile(disparity, [0.1, 99.9])
    near, far = near_far
    if not (high > low and 0 < near < far):
        raise ValueError(
            f"{source}: disparities from {low:g} to {high:g} cannot be brought to scale by the bounds {near:g} to "
            f"{far:g}. Expected a map that varies and bounds that are positive. Compute the map again, or remove its "
            "folder to do without depth."
        )
    scale = (1.0 / near - 1.0 / far) / (high - low)
    return float(scale), float(1.0 / far - scale * low)


def _pairs(
    source: Path, disparity: np.ndarray, size: tuple[int, int], model: ColmapModel, image: ColmapImage
) -> tuple[np.ndarray, np.ndarray]:
    """The map's value and the true disparity at each point that the image observes."""
    assert model.points is not None  # _fit asks only then
    camera = model.cameras[image.camera_id]
    require_shape(source, camera, image.name, size)
    place = {int(id): i for i, id in enumerate(model.points.ids)}
    seen = np.array([int(id) in place for id in image.point_ids], bool)
    points = model.points.xyz[[place[int(id)] for id in image.point_ids[seen]]].reshape(-1, 3)
    z = points @ image.camera_T_world[2, :3] + image.camera_T_world[2, 3]
    pixel = (image.xys[seen] * [size[0] / camera.width, size[1] / camera.height] - 0.5).astype(np.float32)
    if len(pixel) == 0:
        return np.zeros(0), np.zeros(0)
    value = cv2.remap(disparity, pixel[:, :1], pixel[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    return value[z > 0].astype(np.float64), 1.0 / z[z > 0]


def _robust_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Least squares without what lies far off, three times over; None for too few points or a falling line."""
    keep = np.ones(len(x), bool)
    scale, shift = 0.0, 0.0
    for _ in range(3):
        if keep.sum() < MIN_POINTS or np.ptp(x[keep]) <= 0:
            return None
        (scale, shift), *_ = np.linalg.lstsq(np.column_stack([x[keep], np.ones(keep.sum())]), y[keep], rcond=None)
        error = np.abs(scale * x + shift - y)
        keep = error <= 3.0 * 1.4826 * np.median(error[keep]) + 1e-9
    return (float(scale), float(shift)) if scale > 0 else None
