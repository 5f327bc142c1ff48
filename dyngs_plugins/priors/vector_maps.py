"""Maps of vectors (flow, normals) read between pixels, without mixing a thing with what is behind it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def pixel_grid(size: tuple[int, int]) -> Float[Tensor, "h w 2"]:
    """(x, y) of every pixel of an image of (height, width), integer centres."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    return torch.stack([x, y], dim=-1)


def rescaled_pixels(xy: Float[Tensor, "*n 2"], size: tuple[int, int], other: tuple[int, int]) -> Float[Tensor, "*n 2"]:
    """Pixels of an image of ``size`` (height, width) as pixels of a copy of ``other`` size, integer centres."""
    scale = torch.tensor([other[1] / size[1], other[0] / size[0]], dtype=xy.dtype)
    return (xy + 0.5) * scale - 0.5


def of_one_shape(stored: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether two sizes can be those of one picture and its copy, each side rounded to whole pixels."""
    if stored[0] == size[0] or stored[1] == size[1]:
        return stored == size
    expected = stored[0] * size[1] / size[0]
    return abs(stored[1] - expected) <= 0.5 + 0.5 * size[1] / size[0]


def between_pixels(
    values: Float[Tensor, "h w c"], known: Bool[Tensor, "h w"], xy: Float[Tensor, "*n 2"], spread: float
) -> tuple[Float[Tensor, "*n c"], Bool[Tensor, "*n"]]:
    """Values at fractional pixels, and whether they are known there.

    Bilinear where the four pixels around are known and differ by at most ``spread`` in every channel: there they are
    one surface. Elsewhere the nearest pixel, whose value some pixel really has. Beyond the border the border counts.
    """
    height, width = known.shape
    xy = torch.stack([xy[..., 0].clamp(-0.5, width - 0.5), xy[..., 1].clamp(-0.5, height - 0.5)], dim=-1)
    low = xy.floor().long()
    x0, y0 = low[..., 0].clamp(0, max(width - 2, 0)), low[..., 1].clamp(0, max(height - 2, 0))
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    corners = [values[y, x] for y in (y0, y1) for x in (x0, x1)]
    highest = torch.stack(corners).amax(dim=0)
    lowest = torch.stack(corners).amin(dim=0)
    smooth = ((highest - lowest) <= spread).all(dim=-1)
    smooth &= known[y0, x0] & known[y0, x1] & known[y1, x0] & known[y1, x1]
    fx, fy = (xy[..., 0] - x0)[..., None], (xy[..., 1] - y0)[..., None]
    top, bottom = torch.lerp(corners[0], corners[1], fx), torch.lerp(corners[2], corners[3], fx)
    x, y = xy[..., 0].round().long().clamp(0, width - 1), xy[..., 1].round().long().clamp(0, height - 1)
    mixed = torch.where(smooth[..., None], torch.lerp(top, bottom, fy), values[y, x])
    return mixed, smooth | known[y, x]
