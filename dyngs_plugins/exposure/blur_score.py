"""How blurred a picture is, from its spectrum (MoBGS, Bui et al. 2025)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CENTRE = 20
"""Side of the square of low frequencies, in bins."""


def blur_score(image: Float[Tensor, "h w 3"]) -> float:
    """The share of the spectrum's magnitude in its central 20 x 20 bins: in [0, 1], larger for a more blurred image."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(image.float().mean(dim=-1))).abs()
    h, w = spectrum.shape
    top, left = max(h // 2 - CENTRE // 2, 0), max(w // 2 - CENTRE // 2, 0)
    low = spectrum[top : top + CENTRE, left : left + CENTRE].sum()
    return float(low / spectrum.sum().clamp_min(1e-12))
