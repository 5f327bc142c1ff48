"""The numbers that make an image gsplat's: chosen by the installed version, honoured by every backend.

All of gsplat's versions composite the same way, front to back over Gaussians sorted by depth (Kerbl et al. 2023,
"3D Gaussian Splatting", section 6; the EWA projection is Zwicker et al. 2001, "EWA Volume Splatting")::

    sigma_i = 1/2 d^T Q_i d,  d = mean2d_i - (x + 1/2, y + 1/2)      Q_i: inverse 2D covariance
    alpha_i = min(max_alpha, opacity_i exp(-sigma_i))                skipped if sigma_i < 0 or alpha_i < alpha_min
    T_{i+1} = T_i (1 - alpha_i)                                      Gaussian i, and all behind it, dropped
                                                                     if T_{i+1} <= transmittance_min
    image   = sum_i alpha_i T_i color_i + T background,  alpha = 1 - T

What has changed between versions is in `Semantics`. Where each number was read (paths inside gsplat's ``cuda/csrc``):

=====================  ==========================================================  ===========================
number                 1.4.0                                                       later
=====================  ==========================================================  ===========================
max_alpha              0.999, ``rasterize_to_pixels_fwd.cu``                       0.99 from 1.6.0
compensation_min       0, ``add_blur`` in ``utils.cuh``                            0.005 from 1.6.0
radius_rule            ``ceil(3 sqrt(lambda))``, ``fully_fused_projection_fwd.cu`` opacity-aware from 1.5.0
=====================  ==========================================================  ===========================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

FALLBACK_VERSION = "1.4.0"
"""The gsplat that nerfstudio 1.1.5 pins: its semantics are used where gsplat is not installed."""


@dataclass(frozen=True)
class Semantics:
    """What one version of gsplat draws. Lengths in pixels."""

    max_alpha: float
    """Upper limit of one Gaussian's alpha. Beyond it no gradient reaches its geometry and opacity, only its colour."""
    compensation_min: float
    """Lower limit of the antialiasing factor ``sqrt(det(S) / det(S + eps2d I))``."""
    radius_rule: Literal["three-sigma", "opacity"]
    """How far a Gaussian reaches.

    ``three-sigma``: a square of half side ``ceil(3 sqrt(b + max(0.1, sqrt(b^2 - det))))``, ``b`` half the trace of the
    2D covariance. A Gaussian is drawn in a tile only where this square touches the tile, although its alpha beyond the
    square can still exceed `alpha_min`: **the image depends on the tiles**.

    ``opacity``: ``ceil(s sqrt(S_xx))`` by ``ceil(s sqrt(S_yy))``, ``s = min(3.33, sqrt(2 ln(opacity / alpha_min)))``.
    Alpha outside that rectangle is below `alpha_min`, so tiles never change the image.
    """
    alpha_min: float = 1.0 / 255.0
    """Smaller alphas are skipped."""
    transmittance_min: float = 1e-4
    """Compositing stops before the Gaussian that would take the transmittance to this value or below."""
    tile_size: int = 16
    field_of_view_margin: float = 0.3
    """The projection's Jacobian is taken no further out than the image plus this fraction of half its size."""


@cache
def semantics_of(gsplat_version: str) -> Semantics:
    """The semantics of one gsplat version.

    Args:
        gsplat_version: such as ``"1.4.0"``; suffixes such as ``"+cu121"`` or ``"rc1"`` are ignored.

    Raises:
        ValueError: when the version does not start with two numbers.
    """
    numbers = re.match(r"(\d+)\.(\d+)", gsplat_version)
    if numbers is None:
        raise ValueError(f"gsplat version {gsplat_version!r}: expected something like '1.4.0'")
    release = (int(numbers[1]), int(numbers[2]))
    newest = release >= (1, 6)
    return Semantics(
        max_alpha=0.99 if newest else 0.999,
        compensation_min=0.005 if newest else 0.0,
        radius_rule="opacity" if release >= (1, 5) else "three-sigma",
    )


@cache
def installed_semantics() -> Semantics:
    """The semantics of the installed gsplat (read from its metadata: nothing of it is imported, CUDA is not needed)."""
    try:
        return semantics_of(version("gsplat"))
    except PackageNotFoundError:
        return semantics_of(FALLBACK_VERSION)
