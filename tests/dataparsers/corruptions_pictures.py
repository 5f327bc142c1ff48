"""Classes of damage to pictures: photos and masks."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corruptions import corruption, is_image, is_mask, is_photo
from PIL import Image


def resave(path: Path, change: Callable[[Image.Image], Image.Image], **options: Any) -> None:
    """Write a changed picture under the same name, in the format of the name's suffix."""
    with Image.open(path) as image:
        changed = change(image.copy())
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    changed.save(path, format=kind, **({"quality": 98} | options if kind == "JPEG" else options))


@corruption("a photo of another size", is_photo)
def _photo_size(path: Path) -> None:
    resave(path, lambda image: image.resize((image.width + 6, image.height + 4)))


@corruption("a mask of another size", is_mask)
def _mask_size(path: Path) -> None:
    resave(path, lambda image: image.resize((image.width + 6, image.height + 4)))


@corruption("turned by 90 degrees", is_image)
def _turned(path: Path) -> None:
    resave(path, lambda image: image.transpose(Image.Transpose.ROTATE_90))


@corruption("a single pixel", is_image)
def _pixel(path: Path) -> None:
    resave(path, lambda image: image.resize((1, 1)))


@corruption("16 bits a channel", lambda path: is_photo(path) and path.suffix.lower() == ".png", late=True)
def _sixteen(path: Path) -> None:
    resave(path, lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))


@corruption("a mask of 16 bits", lambda path: is_mask(path) and path.suffix.lower() == ".png", recovers=True)
def _mask_sixteen(path: Path) -> None:
    resave(path, lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))


@corruption("a mask of 0 and 1", is_mask, recovers=True)
def _mask_ones(path: Path) -> None:
    resave(path, lambda image: Image.fromarray((_any(image) > 0).astype(np.uint8)))


@corruption("a mask in RGBA", lambda path: is_mask(path) and path.suffix.lower() == ".png", recovers=True)
def _mask_rgba(path: Path) -> None:
    resave(path, lambda image: Image.fromarray(np.where(_any(image) > 0, 255, 0).astype(np.uint8)).convert("RGBA"))


def _any(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return values if values.ndim == 2 else values.max(axis=-1)


@corruption("grey", is_photo, recovers=True, may_change=frozenset({"image", "valid", "dynamic"}), lossy=True)
def _grey(path: Path) -> None:
    resave(path, lambda image: image.convert("LA" if image.mode == "RGBA" else "L"))


@corruption("with an opaque alpha", lambda path: is_photo(path) and path.suffix.lower() == ".png", recovers=True)
def _opaque(path: Path) -> None:
    resave(path, lambda image: image.convert("RGBA"))


def _rgb_png(path: Path) -> bool:
    if not (is_photo(path) and path.suffix.lower() == ".png"):
        return False
    with Image.open(path) as image:
        return image.mode == "RGB"


@corruption("with a palette", _rgb_png, recovers=True, lossy=True)
def _palette(path: Path) -> None:
    resave(path, lambda image: image.quantize(256))


@corruption("with a flag of orientation", is_photo, recovers=True, lossy=True)
def _orientation(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # cameras were solved on pixels as stored, so viewers' turning must not be imitated
    resave(path, lambda image: image, exif=exif)


@corruption("in CMYK", lambda path: is_photo(path) and path.suffix.lower() != ".png", recovers=True, lossy=True)
def _cmyk(path: Path) -> None:
    resave(path, lambda image: image.convert("CMYK"))


@corruption("a suffix that is wrong", _rgb_png, recovers=True, lossy=True)
def _wrong_suffix(path: Path) -> None:
    with Image.open(path) as image:
        image.copy().save(path, format="JPEG", quality=98)


@corruption("a header that claims 60000 pixels a side", lambda path: path.suffix.lower() == ".png")
def _bomb(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(content))


@corruption("pixels that fail their checksum", lambda path: path.suffix.lower() == ".png", late=True)
def _checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    middle = start + 4 + length // 2
    content[middle : middle + 8] = bytes(255 - b for b in content[middle : middle + 8])
    path.write_bytes(bytes(content))


@corruption("an upper-case suffix", is_photo, recovers=True)
def _upper(path: Path) -> None:
    path.rename(path.with_suffix(path.suffix.upper()))


@corruption("one picture in another format", _rgb_png, lossy=True)
def _mixed(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").save(path.with_suffix(".jpg"), quality=98)
    path.unlink()


@corruption("two pictures of one name", is_photo)
def _twins(path: Path) -> None:
    with Image.open(path) as image:
        other = image.convert("RGB").rotate(180)
    other.save(path.with_suffix(".jpg" if path.suffix.lower() == ".png" else ".png"))
