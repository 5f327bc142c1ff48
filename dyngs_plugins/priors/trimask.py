"""Masks with an honest edge: surely moving, surely static, and a band in between that nobody trusts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int8
from torch import Tensor


def tri_mask(foreground: Bool[Tensor, "h w"], erosion: int) -> Int8[Tensor, "h w"]:
    """+1 surely foreground, -1 surely background, 0 unknown: both sides eroded by an ``erosion`` x ``erosion`` box.

    The image's border erodes nothing. ``erosion`` 1 leaves no band (Shape of Motion uses 7, and 3 for DAVIS).
    """
    if erosion < 1 or erosion % 2 == 0:
        raise ValueError(f"Mask erosion must be an odd number of pixels, found {erosion}; 1 turns it off.")
    if erosion == 1:
        return torch.where(foreground, 1, -1).to(torch.int8)
    sides = torch.stack([foreground, ~foreground]).float()[None]
    eroded = -torch.nn.functional.max_pool2d(-sides, erosion, stride=1, padding=erosion // 2)[0]
    return (eroded[0] - eroded[1]).to(torch.int8)
