"""Copies of images and masks at another size, made once beside the originals (in the user's cache where these are
read-only) and never overwritten.

Colours are averaged over areas, weighted by alpha, so that a copy composited over any background is the average of
the composited original. Masks take the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image

from dataparsers.checks import common_image_size, image_size
from dyngs_plugins.folders import place_for
from dyngs_plugins.priors.files import atomic_file, check_size
from dyngs_plugins.priors.pixels import UNREADABLE, opened, require_8_bits

Size = tuple[int, int]
"""Width and height."""


def reduced_size(size: Size, factor: int) -> Size:
    """Width and height at 1/factor, rounded.

    Raises:
        ValueError: the factor is not a whole number of at least 1, or leaves no pixels.
    """
    if int(factor) != factor or factor < 1:
        raise ValueError(f"downscale_factor is {factor}; expected a whole number of at least 1.")
    if min(size) < factor:
        raise ValueError(f"downscale_factor is {factor}, but the images are {size[0]}x{size[1]}. Choose a smaller one.")
    return round(size[0] / factor), round(size[1] / factor)


def resized(
    files: Sequence[Path], folder: Path, size: Size, kind: Literal["image", "mask"] = "image"
) -> tuple[Path, ...]:
    """PNG copies of ``files`` in ``folder``, of one ``size``; those that are there already are kept as they are.

    Args:
        files: pictures of any one size (masks may differ by a pixel); those that have ``size`` already are returned themselves.

    Raises:
        ValueError: an image cannot be read, or a copy that is there has another size.
        OSError: the folder cannot be written.
    """
    if all(image_size(path) == size for path in files):
        return tuple(files)
    if kind == "image":
        common_image_size(files)
    place = place_for(folder)
    copies = tuple(_present(folder, path) or _present(place, path) or place / f"{path.stem}.png" for path in files)
    missing = [(path, copy) for path, copy in zip(files, copies, strict=True) if not copy.is_file()]
    if missing:
        why = "" if place == folder else f" ({folder.parent} is read-only)"
        CONSOLE.print(f"Making {len(missing)} {kind}s of {size[0]}x{size[1]} in {place}{why}")
    for path, copy in missing:
        pixels = _pixels(path, kind)
        _write(copy, _by_area(pixels, size) if kind == "image" else _nearest(pixels, size))
    for copy in copies:
        width, height = image_size(copy)
        check_size(copy, f"reduced {kind}", (height, width), (size[1], size[0]))
    return copies


def sister(folder: Path, size: Size, level: int = 0) -> Path:
    """Where copies of a folder's files at another size go: ``masks_32x24`` beside ``masks``.

    Args:
        level: which folder of the path gets another name, counted from the last: 1 is the parent.
    """
    suffix = f"_{size[0]}x{size[1]}"
    if level == 0:
        return folder.with_name(folder.name + suffix)
    return sister(folder.parent, size, level - 1) / folder.name


def _present(folder: Path, path: Path) -> Path | None:
    """The copy that somebody else made, whatever its suffix."""
    candidates = (folder / f"{path.stem}{suffix}" for suffix in (".png", ".PNG", ".jpg", ".JPG", ".jpeg"))
    return next((copy for copy in candidates if copy.is_file()), None)


def _pixels(path: Path, kind: Literal["image", "mask"]) -> Image.Image:
    try:
        with opened(path) as image:
            image.load()
            if kind == "image":
                require_8_bits(image)
            return image.copy()
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}). Write this image again.") from error


def _by_area(image: Image.Image, size: Size) -> UInt8[np.ndarray, "h w c"]:
    def averaged(channel: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BOX))

    alpha = "A" in image.getbands() or "transparency" in image.info
    values = np.asarray(image.convert("RGBA" if alpha else "RGB"), np.float32)
    if not alpha:
        return np.stack([averaged(values[..., c]) for c in range(3)], axis=-1).round().astype(np.uint8)
    weight = averaged(values[..., 3])
    weighted = [averaged(values[..., c] * values[..., 3]) / np.maximum(weight, 1e-6) for c in range(3)]
    return np.stack([*weighted, weight], axis=-1).round().clip(0, 255).astype(np.uint8)


def _nearest(image: Image.Image, size: Size) -> UInt8[np.ndarray, "h w"]:
    """Any channel (or palette index) above 0, as 0 or 255, of the source pixel under each target pixel's centre."""
    values = np.asarray(image)
    if values.ndim == 3:
        values = (values[..., :-1] if image.mode in ("RGBA", "LA") else values).max(axis=-1)
    y = ((np.arange(size[1]) + 0.5) * values.shape[0] / size[1]).astype(int)
    x = ((np.arange(size[0]) + 0.5) * values.shape[1] / size[0]).astype(int)
    return (values[y][:, x] > 0).astype(np.uint8) * 255


def _write(path: Path, pixels: np.ndarray) -> None:
    try:
        with atomic_file(path) as file:
            Image.fromarray(pixels).save(file, format="PNG")
    except OSError as error:
        raise OSError(
            f"{path.parent}: cannot be written ({error}). Reduced copies go beside the originals: copy the scene to a "
            "folder of your own, or train at the size that is there."
        ) from error
