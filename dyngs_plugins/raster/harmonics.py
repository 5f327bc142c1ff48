"""View-dependent colour: real spherical harmonics up to degree 3, in the order and signs of 3D Gaussian Splatting.

Source: Sloan 2008, "Stupid Spherical Harmonics Tricks", appendix A2 (polynomial forms); Kerbl et al. 2023 for the order
``(l, m) = (0,0), (1,-1), (1,0), (1,1), (2,-2), ...`` and the offset of 0.5.
"""

from __future__ import annotations

from math import pi, sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3
SH_C0 = sqrt(1 / (4 * pi))
"""The constant basis function."""


def sh_basis(degree: int, directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch k"]:
    """The ``k = (degree + 1)^2`` basis functions in the given directions (normalised here; zero is safe).

    Raises:
        ValueError: when the degree is not 0 to 3.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree is {degree}: expected 0 to {MAX_DEGREE}")
    x, y, z = F.normalize(directions, dim=-1).unbind(-1)
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        c = sqrt(3 / (4 * pi))
        basis += [-c * y, c * z, -c * x]
    if degree >= 2:
        c = sqrt(15 / (4 * pi))
        basis += [
            c * x * y,
            -c * y * z,
            sqrt(5 / (16 * pi)) * (3 * z * z - 1),
            -c * x * z,
            c / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        c3, c2, c1 = sqrt(35 / (32 * pi)), sqrt(105 / (4 * pi)), sqrt(21 / (32 * pi))
        basis += [
            -c3 * y * (3 * x * x - y * y),
            c2 * x * y * z,
            -c1 * y * (5 * z * z - 1),
            sqrt(7 / (16 * pi)) * z * (5 * z * z - 3),
            -c1 * x * (5 * z * z - 1),
            c2 / 2 * z * (x * x - y * y),
            -c3 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, dim=-1)


def sh_colors(
    degree: int, directions: Float[Tensor, "c n 3"], coefficients: Float[Tensor, "*c n k 3"]
) -> Float[Tensor, "c n 3"]:
    """Colours seen along `directions` (from camera to Gaussian): ``max(0, basis . coefficients + 0.5)``.

    Only the first ``(degree + 1)^2`` coefficients are used, so that bands can be switched on one after another.

    Raises:
        ValueError: when there are fewer coefficients than the degree needs.
    """
    basis = sh_basis(degree, directions)
    needed, found = basis.shape[-1], coefficients.shape[-2]
    if found < needed:
        raise ValueError(f"sh_degree {degree} needs {needed} coefficients per Gaussian, colors has {found}")
    values = (basis[..., None] * coefficients[..., :needed, :]).sum(dim=-2)
    return torch.clamp_min(values + 0.5, 0.0)
