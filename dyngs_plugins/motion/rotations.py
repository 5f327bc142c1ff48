"""Rotations as the methods store them: 6-D vectors, matrices and wxyz quaternions, in structure-of-arrays form.

The functions take and return tuples of equally shaped tensors (one per component) instead of ``[..., 9]`` arrays: on a
CPU the row-wise arithmetic then runs over long contiguous rows, about twice as fast as the batched 3x3 form.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Vector = tuple[Tensor, ...]
"""Three components."""
Matrix = tuple[Vector, ...]
"""The three *columns* of a 3x3 matrix."""


def dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def scaled(a: Vector, s: Tensor) -> Vector:
    return (a[0] * s, a[1] * s, a[2] * s)


def normalised(a: Vector, eps: float = 1e-12) -> Vector:
    return scaled(a, torch.rsqrt(dot(a, a).clamp_min(eps * eps)))


def _orthogonal(v: Vector, axis: Vector) -> Vector:
    along = dot(axis, v)
    return (v[0] - along * axis[0], v[1] - along * axis[1], v[2] - along * axis[2])


def gram_schmidt(first: Vector, second: Vector) -> Matrix:
    """The rotation whose first two columns span the given vectors (Zhou et al. 2019, "6-D" representation).

    ``b1 = a1/|a1|``, ``b2 = normalise(a2 - (b1.a2) b1)``, ``b3 = b1 x b2``; the columns are b1, b2, b3.
    """
    b1 = normalised(first)
    b2 = normalised(_orthogonal(second, b1))
    b2 = normalised(_orthogonal(b2, b1))  # once more: nearly parallel vectors lose digits to cancellation
    return (b1, b2, cross(b1, b2))


def rotate(columns: Matrix, v: Vector) -> Vector:
    """Matrix times vector."""
    c1, c2, c3 = columns
    return (
        c1[0] * v[0] + c2[0] * v[1] + c3[0] * v[2],
        c1[1] * v[0] + c2[1] * v[1] + c3[1] * v[2],
        c1[2] * v[0] + c2[2] * v[1] + c3[2] * v[2],
    )


def quaternion(columns: Matrix) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The unit quaternion (w, x, y, z) of a rotation matrix, differentiable everywhere.

    Shepperd's method: of the four expressions ``4 q_i q`` the one with the largest ``q_i`` is used, so that no small
    number is ever divided by.
    """
    (m00, m10, m20), (m01, m11, m21), (m02, m12, m22) = columns
    squared = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22])
    largest = squared.detach().argmax(0, keepdim=True)
    rows = torch.stack(
        [
            torch.stack([squared[0], m21 - m12, m02 - m20, m10 - m01]),
            torch.stack([m21 - m12, squared[1], m10 + m01, m02 + m20]),
            torch.stack([m02 - m20, m10 + m01, squared[2], m21 + m12]),
            torch.stack([m10 - m01, m02 + m20, m21 + m12, squared[3]]),
        ]
    )
    chosen = rows.gather(0, largest[None].expand(1, 4, *largest.shape[1:]))[0]
    w, x, y, z = (chosen * torch.rsqrt((chosen * chosen).sum(0, keepdim=True))).unbind(0)
    return w, x, y, z


def multiply(p: tuple[Tensor, ...], q: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hamilton product of two quaternions (w, x, y, z): the rotation q followed by p."""
    pw, px, py, pz = p
    qw, qx, qy, qz = q
    return (
        pw * qw - px * qx - py * qy - pz * qz,
        pw * qx + px * qw + py * qz - pz * qy,
        pw * qy - px * qz + py * qw + pz * qx,
        pw * qz + px * qy - py * qx + pz * qw,
    )


def matrix_to_6d(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """The first two columns of a rotation matrix."""
    return torch.cat([rotation[..., :, 0], rotation[..., :, 1]], dim=-1)


def matrix_from_6d(vectors: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Inverse of :func:`matrix_to_6d` (with orthonormalisation)."""
    components = vectors.unbind(-1)
    columns = gram_schmidt(components[:3], components[3:])
    return torch.stack([torch.stack(column, dim=-1) for column in columns], dim=-1)
