"""Images as they lie on disk: 8-bit pixels, and their colours over a background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from dyngs_plugins.priors.files import existing

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises on damaged pictures."""


def read_pixels(path: Path, size: tuple[int, int]) -> UInt8[Tensor, "h w c"]:
    """Read an image as 8-bit RGB, or RGBA if any of its pixels is transparent.

    Args:
        size: height and width that it must have.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, deeper than 8 bits a channel, or of another size.
    """
    path = existing(path, "image", "Was it moved while the clip was in use?")
    try:
        with opened(path) as image:
            require_8_bits(image)
            transparent = "A" in image.getbands() or "transparency" in image.info
            pixels = torch.from_numpy(np.array(image.convert("RGBA" if transparent else "RGB")))
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}). Write this image again.") from error
    if pixels.shape[:2] != size:
        raise ValueError(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels; expected {size[1]}x{size[0]} like the "
                         "cameras of its split. Resize it, or prepare the clip again.")  # fmt: skip
    return pixels[..., :3].contiguous() if transparent and bool((pixels[..., 3] == 255).all()) else pixels


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose checksums hold, where its format has any: decoding alone does not look at those of pixels.

    Raises:
        UNREADABLE: see there.
    """
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        yield image


def require_8_bits(image: Image.Image) -> None:
    """Raise a ValueError for pictures of deeper channels, whose values Pillow would clip to white."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"one channel of mode {image.mode}; expected 8 bits a channel")


def resize_image(image: Shaped[np.ndarray, "a b c"], size: tuple[int, int]) -> Shaped[np.ndarray, "h w c"]:
    """The image at (height, width): area-averaged when shrinking, bicubic when enlarging."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def composited(pixels: UInt8[Tensor, "*n c"], background: Float[Tensor, "3"] | None) -> Float[Tensor, "*n 3"]:
    """Colours in [0, 1] of RGB or RGBA pixels over a background; None drops alpha."""
    colors = pixels.float() / 255.0
    if pixels.shape[-1] == 3 or background is None:
        return colors[..., :3]
    alpha = colors[..., 3:]
    return colors[..., :3] * alpha + background.to(colors) * (1.0 - alpha)
