"""A folder of bare images as frames: natural order, upright, 8-bit RGB, transparency over white, focal length from EXIF."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from dyngs_plugins.priors.pixels import UNREADABLE, opened, resize_image

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)
_EXIF_IFD, _ORIENTATION = 0x8769, 0x0112
_FOCAL_35MM, _FOCAL_MM, _STORED_WIDTH = 0xA405, 0x920A, 0xA002
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""Millimetres of EXIF's units of the focal plane's resolution: inch (also where none is named), cm, mm, micrometre."""
_SENSOR_WIDTHS_MM = 2.0, 70.0


def still_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order: frame_2 before frame_10."""
    if not folder.is_dir():
        return []
    files = [p for p in folder.iterdir() if p.suffix.lower() in STILL_SUFFIXES and not p.name.startswith(".")]
    return sorted((p for p in files if p.is_file()), key=natural_key)


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """A sorting key that compares runs of digits as numbers."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def still_size(files: Sequence[Path]) -> tuple[int, int]:
    """(height, width) that all images have when they are turned upright, from their headers.

    Raises:
        ValueError: one cannot be read, or has another size than the first.
    """
    sizes = []
    for file in files:
        try:
            with Image.open(file) as image:
                turned = image.getexif().get(_ORIENTATION, 1) >= 5
                sizes.append(image.size if turned else image.size[::-1])
        except UNREADABLE as error:
            raise _unreadable(file, error) from error
        if sizes[-1] != sizes[0]:
            (h, w), (h0, w0) = sizes[-1], sizes[0]
            raise ValueError(
                f"{file}: {w}x{h} pixels, but {files[0].name} has {w0}x{h0}. All images of a clip must have one size; "
                "resize or remove the odd ones. Are two cameras or two recordings mixed in this folder?"
            )
    return sizes[0]


def read_still(path: Path, size: tuple[int, int]) -> tuple[UInt8[np.ndarray, "h w 3"], bool]:
    """An image as upright 8-bit RGB of (height, width), and whether any of its pixels was transparent.

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        with opened(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):
                upright = Image.fromarray(_deep_to_8_bits(np.asarray(upright)))
            transparent = "A" in upright.getbands() or "transparency" in upright.info
            pixels = np.array(upright.convert("RGBA" if transparent else "RGB"))
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    seen_through = transparent and bool((pixels[..., 3] < 255).any())
    if seen_through:
        alpha = pixels[..., 3:].astype(np.float32) / 255.0
        pixels = (pixels[..., :3] * alpha + 255.0 * (1.0 - alpha) + 0.5).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels[..., :3])
    return resize_image(pixels, size), seen_through


def exif_focal(path: Path, size: tuple[int, int]) -> tuple[float, str] | None:
    """Focal length in pixels of upright images of (height, width), and what of EXIF tells it.

    The 35 mm equivalent (by the diagonal, CIPA DCG-001); else the focal length in millimetres and how many pixels of the
    original image lie on a millimetre of the sensor (Exif 2.32, FocalPlaneXResolution). None where neither is there, or
    the sensor would be wider than 70 or narrower than 2 mm.
    """
    try:
        with Image.open(path) as image:
            exif, stored_width = image.getexif(), image.width
            tags = exif.get_ifd(_EXIF_IFD)
            turned = exif.get(_ORIENTATION, 1) >= 5
    except (*UNREADABLE, TypeError):
        return None
    equivalent = _positive(tags.get(_FOCAL_35MM))
    if equivalent:
        return equivalent * math.hypot(*size) / FULL_FRAME_DIAGONAL, "EXIF (35 mm equivalent)"
    focal, resolution = _positive(tags.get(_FOCAL_MM)), _positive(tags.get(_PLANE_X_RESOLUTION))
    unit = _UNIT_MM.get(tags.get(_PLANE_UNIT, 2))
    if not (focal and resolution and unit):
        return None
    sensor_width = (_positive(tags.get(_STORED_WIDTH)) or stored_width) * unit / resolution
    if not _SENSOR_WIDTHS_MM[0] < sensor_width < _SENSOR_WIDTHS_MM[1]:
        return None
    return focal / sensor_width * (size[0] if turned else size[1]), "EXIF (resolution of the focal plane)"


def _positive(value: object) -> float:
    """A number out of EXIF; 0 where it is missing, damaged or not positive."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _deep_to_8_bits(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """16-bit grey (as Pillow gives it, in 32 bits or so) to 8 bits; what fits into 8 bits stays."""
    high = float(values.max(initial=0))
    scale = 1.0 if high <= 255.0 else 255.0 / 65535.0
    return np.clip(values * scale + 0.5, 0, 255).astype(np.uint8)


def _unreadable(path: Path, error: BaseException) -> ValueError:
    return ValueError(
        f"{path}: cannot be decoded as an image ({error}; {path.stat().st_size} bytes). Expected a PNG or JPEG file; it "
        "may be truncated: copy or export it again, or remove it."
    )
