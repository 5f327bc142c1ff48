"""Normalised device coordinates of forward-facing scenes: NeRF's change of rays, in which infinity lies at 1.

The camera world looks along -z, the near plane is z = -near. A point (x, y, z) becomes
``(-sx x/z, -sy y/z, 1 + 2 near/z)`` with (sx, sy) = (2 fx / width, 2 fy / height): what the mean camera sees fills
[-1, 1] in x and y, the near plane is at -1 and infinity at 1. Lines stay lines, and steps of equal length in z' are
steps of equal disparity.

Source: Mildenhall et al., "NeRF: Representing Scenes as Neural Radiance Fields" (2020), appendix C.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_FLATTEST = 1e-4
"""Rays that do not run along -z have no device coordinates; they are bent to this slope and show nothing sensible."""
_FARTHEST = 1e-4
"""Depths beyond z' = 1 - this are cut off there: at 20,000 near planes."""


def ndc_points(points: Float[Tensor, "*n 3"], scale: tuple[float, float], near: float = 1.0) -> Float[Tensor, "*n 3"]:
    """Device coordinates of points in front of the cameras (z < 0).

    Args:
        scale: (2 fx / width, 2 fy / height) of the camera that the coordinates are made for.
        near: distance of the near plane from the origin, in the points' units.
    """
    x, y, z = points.unbind(-1)
    return torch.stack([-scale[0] * x / z, -scale[1] * y / z, 1.0 + 2.0 * near / z], dim=-1)


def ndc_rays(
    origins: Float[Tensor, "*n 3"], directions: Float[Tensor, "*n 3"], scale: tuple[float, float], near: float = 1.0
) -> tuple[Float[Tensor, "*n 3"], Float[Tensor, "*n 3"]]:
    """Rays in device coordinates: ``origin + t direction`` runs from the near plane (t = 0) to infinity (t = 1).

    Origins must lie in front of the plane z = -near's far side (z > -near is usual) and directions have z < 0; the
    directions' length does not matter. View directions for colours are those of before the change.
    """
    slope = directions[..., 2].clamp(max=-_FLATTEST)
    dx, dy = directions[..., 0] / slope, directions[..., 1] / slope
    back = near + origins[..., 2]  # from the near plane to the origin, along z
    x, y = origins[..., 0] - back * dx, origins[..., 1] - back * dy  # on the near plane, z = -near
    ones = torch.ones_like(x)
    origin = torch.stack([scale[0] * x / near, scale[1] * y / near, -ones], dim=-1)
    direction = torch.stack([-scale[0] * (dx + x / near), -scale[1] * (dy + y / near), 2.0 * ones], dim=-1)
    return origin, direction


def ndc_distance(
    z: Float[Tensor, "*n"], origins: Float[Tensor, "*n 3"], directions: Float[Tensor, "*n 3"], near: float = 1.0
) -> Float[Tensor, "*n"]:
    """Distance along the original rays (in lengths of ``directions``) of points whose third device coordinate is z."""
    depth = -2.0 * near / (1.0 - z.clamp(max=1.0 - _FARTHEST))
    return (depth - origins[..., 2]) / directions[..., 2].clamp(max=-_FLATTEST)
