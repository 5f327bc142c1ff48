"""Images on their way: copied byte by byte where nothing changes, else straightened, composited and written as PNG."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from dataparsers.checks import IMAGE_SUFFIXES
from dyngs_plugins.convert.source import Picture
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.pixels import composited, read_pixels
from dyngs_plugins.priors.undistort import Lens, PixelMap


def write_picture(
    picture: Picture, stem: Path, straight: PixelMap | None = None, transparent: bool = False, png: bool = False
) -> Path:
    """Write one image and say where; the suffix is appended to ``stem``.

    Every image is decoded, so that a damaged one is found here and not by whoever opens the copy.

    Args:
        straight: where its pixels come from, if not from the same place.
        transparent: the target composites alpha itself. Where it does not, what the source's protocol composites
            is composited here.
        png: the target reads nothing else.

    Raises:
        FileNotFoundError, ValueError: the image is missing, damaged or of another size than its camera's.
    """
    pixels = read_pixels(picture.file, picture.size)
    suffix = picture.file.suffix.lower()
    fits = suffix == ".png" if png else suffix in IMAGE_SUFFIXES
    if straight is None and fits and not _recolours(picture, pixels, transparent):
        target = Path(f"{stem}{suffix if png else picture.file.suffix}")  # who reads only .png reads no .PNG
        with open(picture.file, "rb") as content, atomic_file(target) as file:
            shutil.copyfileobj(content, file)
        return target
    if straight is not None:
        pixels = straight.bilinear(pixels)
    if _recolours(picture, pixels, transparent):
        pixels = _opaque(picture, pixels)
    target = Path(f"{stem}.png")
    with atomic_file(target) as file:
        Image.fromarray(np.ascontiguousarray(pixels.numpy())).save(file, format="PNG")
    return target


def lens_map(picture: Picture) -> PixelMap | None:
    """From the image on disk to a pinhole of the same K and size, as for its masks and depths; None: it is one."""
    if not bool(picture.lens.any()):
        return None
    return _lens_map(tuple(picture.K.flatten().tolist()), tuple(picture.lens.tolist()), picture.size)


@functools.lru_cache(maxsize=4)  # images of one camera follow each other
def _lens_map(K: tuple[float, ...], lens: tuple[float, ...], size: tuple[int, int]) -> PixelMap:
    return PixelMap.of(Lens(torch.tensor(K).double().reshape(3, 3), torch.tensor(lens).double()), size)


def background(picture: Picture) -> Tensor | None:
    """The colour that the source's protocol puts behind alpha, if it does."""
    name = picture.views.background
    return None if name is None else torch.full((3,), float(name == "white"))


def _recolours(picture: Picture, pixels: UInt8[Tensor, "h w c"], transparent: bool) -> bool:
    """Whether alpha has to go: it is composited here, or the target would composite what only says what counts."""
    return pixels.shape[-1] == 4 and transparent == (picture.views.background is None)


def _opaque(picture: Picture, pixels: UInt8[Tensor, "h w 4"]) -> UInt8[Tensor, "h w 3"]:
    return (composited(pixels, background(picture)) * 255.0).round().to(torch.uint8)
