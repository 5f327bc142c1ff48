"""Positional encodings: what lets a small network tell near places, times and poses apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frequency_encoding(x: Float[Tensor, "*b d"], frequencies: int, base: float = 1.0) -> Float[Tensor, "*b e"]:
    """``x`` and the sines and cosines of ``base 2^k x`` for k below ``frequencies``; ``e = d (1 + 2 frequencies)``.

    Source: Mildenhall et al. 2020, Eq. 4, whose ``base`` is pi; Deformable 3D Gaussians has 1.
    """
    if frequencies == 0:
        return x
    bands = x[..., None, :] * (base * 2.0 ** torch.arange(frequencies, dtype=x.dtype, device=x.device))[:, None]
    return torch.cat([x, torch.sin(bands).flatten(-2), torch.cos(bands).flatten(-2)], dim=-1)
