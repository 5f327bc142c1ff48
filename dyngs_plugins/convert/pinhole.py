"""The camera that LLFF and D-NeRF can say: no lens, square pixels, the principal point at the centre, one focal length.

Where the source's cameras are others, images are resampled once, lens and all, and cropped evenly on opposite sides
until every pixel has a source: what remains is exact, and nothing in it is made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from dyngs_plugins.convert.source import Picture
from dyngs_plugins.priors.undistort import Lens, PixelMap

TOLERANCE = 1e-3
"""Pixels by which a camera may miss the ideal at its image's edge and still be called ideal."""


@dataclass(frozen=True)
class CenteredPinhole:
    """One camera for many images."""

    focal: float
    """In pixels."""
    width: int
    height: int
    maps: dict[tuple[float, ...], PixelMap] | None
    """Where pixels come from, per source camera; None: images stay as they are."""

    def straight(self, picture: Picture) -> PixelMap | None:
        """The map of one image."""
        return None if self.maps is None else self.maps[_key(picture)]

    def changes(self, picture: Picture) -> list[str]:
        """What is done to images like this one, in words."""
        if self.maps is None:
            return []
        height, width = picture.size
        return [
            f"images are resampled and cropped from {width}x{height} to {self.width}x{self.height}: a pinhole with the "
            f"focal length {self.focal:.6g} and its principal point at the centre, because the target knows no other "
            f"(first camera: K {[round(v, 4) for v in picture.K.flatten().tolist()]}, lens "
            f"{[round(v, 6) for v in picture.lens.tolist()]})"
        ]


def centered_pinhole(pictures: Sequence[Picture]) -> CenteredPinhole:
    """The camera for these images, which have one size.

    Raises:
        ValueError: less than half of an image's width or height would be left.
    """
    height, width = pictures[0].size
    cameras = {_key(picture): picture for picture in pictures}
    if all(_is_ideal(picture, pictures[0]) for picture in cameras.values()):
        return CenteredPinhole(float(pictures[0].K[0, 0]), width, height, None)
    focal = float(max(picture.K.diagonal()[:2].max() for picture in cameras.values()))  # the narrowest view of them
    maps = {key: _pixel_map(picture, focal, width, height) for key, picture in cameras.items()}
    valid = torch.stack([pixel_map.valid for pixel_map in maps.values()]).all(dim=0)
    left, top = _margins(valid)
    if min((width - 2 * left) / width, (height - 2 * top) / height) < 0.5:
        raise ValueError(
            f"{pictures[0].file}: of {width}x{height} pixels {max(width - 2 * left, 0)}x{max(height - 2 * top, 0)} "
            f"would be left as a pinhole with its principal point at the centre (K is {pictures[0].K.tolist()}, the "
            f"lens {pictures[0].lens.tolist()}). Expected at least half of either side. Choose --to colmap, which "
            "keeps cameras as they are."
        )
    inner = slice(top, height - top), slice(left, width - left)
    cropped = {key: PixelMap(pixel_map.xy[inner], pixel_map.valid[inner]) for key, pixel_map in maps.items()}
    return CenteredPinhole(focal, width - 2 * left, height - 2 * top, cropped)


def _key(picture: Picture) -> tuple[float, ...]:
    return *picture.K.flatten().tolist(), *picture.lens.tolist()


def _is_ideal(picture: Picture, first: Picture) -> bool:
    height, width = picture.size
    fx, fy, cx, cy = (float(picture.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    off_center = max(abs(cx - width / 2), abs(cy - height / 2))
    # A focal length that is off by a share moves the edge by that share of half the image.
    other_focal = max(abs(fx - fy), abs(fx - float(first.K[0, 0]))) / fx * max(width, height) / 2
    return not bool(picture.lens.any()) and off_center < TOLERANCE and other_focal < TOLERANCE


def _pixel_map(picture: Picture, focal: float, width: int, height: int) -> PixelMap:
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    plane = torch.stack([(x + 0.5 - width / 2) / focal, (y + 0.5 - height / 2) / focal], dim=-1)
    xy, drawn = Lens(picture.K, picture.lens).bend(plane * picture.K.diagonal()[:2] + picture.K[:2, 2] - 0.5)
    edge = xy.new_tensor([width - 0.5, height - 0.5])
    return PixelMap(xy, drawn & ((xy >= -0.5) & (xy <= edge)).all(dim=-1))


def _margins(valid: Bool[Tensor, "h w"]) -> tuple[int, int]:
    """What to take off left and right, and off top and bottom, until all that remains is valid."""
    height, width = valid.shape
    left = top = 0
    while 2 * left < width - 1 and 2 * top < height - 1:
        inner = valid[top : height - top, left : width - left]
        if bool(inner.all()):
            break
        bad_rows = 1.0 - float(torch.cat([inner[0], inner[-1]]).float().mean())
        bad_columns = 1.0 - float(torch.cat([inner[:, 0], inner[:, -1]]).float().mean())
        left += bad_columns >= bad_rows
        top += bad_rows >= bad_columns
    return left, top
