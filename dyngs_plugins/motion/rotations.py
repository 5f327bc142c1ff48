"""Rotations as the methods store them: 6-D vectors, matrices and wxyz quaternions, in structure-of-arrays form.

The functions take and return tuples of equally shaped tensors (one per component) instead of ``[..., 9]`` arrays: on a
CPU the row-wise arithmetic then runs over long contiguous rows, about twice as fast as the batched 3x3 form.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Vector = tuple[Tensor, ...]
"""Three components."""
Matrix = tuple[Vector, ...]
"""The three *columns* of a 3x3 matrix."""

_TINY = 1e-24
"""Squared lengths below this are taken to be this: a zero vector has no direction, and no infinite gradient."""


def dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def scaled(a: Vector, s: Tensor) -> Vector:
    return (a[0] * s, a[1] * s, a[2] * s)


def normalised(a: Vector, eps: float = 1e-12) -> Vector:
    return scaled(a, torch.rsqrt(dot(a, a).clamp_min(eps * eps)))


def gram_schmidt(first: Vector, second: Vector) -> Matrix:
    """The rotation whose first two columns span the given vectors (Zhou et al. 2019, "6-D" representation).

    ``b1 = a1/|a1|``, ``b2 = normalise(a2 - (b1.a2) b1)``, ``b3 = b1 x b2``; the columns are b1, b2, b3.
    """
    entries = _GramSchmidt.apply(*first, *second)
    return (entries[:3], entries[3:6], entries[6:])  # type: ignore[return-value, index]


class _GramSchmidt(torch.autograd.Function):
    """`gram_schmidt` with its derivative in closed form, through the rotation vector r of a small turn.

    ``dR = r x R``, so derivatives g_k with respect to the columns are ``w = sum_k b_k x g_k`` with respect to r. In the
    frame of the columns, with ``u = a2 - (b1.a2) b1`` and ``s = (b1.a2) / |u|``::

        r3 = b2.da1 / |a1|     r2 = -b3.da1 / |a1|     r1 = b3.da2 / |u| + s r2

    and therefore ``d_a1 = (w3 b2 - (w2 + s w1) b3) / |a1|`` and ``d_a2 = w1 b3 / |u|``. A third of the operations that
    differentiating step by step takes.
    """

    @staticmethod
    def forward(ctx: Any, *entries: Tensor) -> tuple[Tensor, ...]:
        a1, a2 = entries[:3], entries[3:]
        per_a1 = torch.rsqrt(dot(a1, a1).clamp_min(_TINY))
        b1 = scaled(a1, per_a1)
        along = dot(b1, a2)
        u = (a2[0] - along * b1[0], a2[1] - along * b1[1], a2[2] - along * b1[2])
        per_u = torch.rsqrt(dot(u, u).clamp_min(_TINY))
        b2 = scaled(u, per_u)
        # Once more: nearly parallel vectors lose digits to cancellation.
        rest = dot(b1, b2)
        b2 = normalised((b2[0] - rest * b1[0], b2[1] - rest * b1[1], b2[2] - rest * b1[2]))
        columns = (*b1, *b2, *cross(b1, b2))
        ctx.save_for_backward(*columns, per_a1, per_u, along)
        return columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        *entries, per_a1, per_u, along = ctx.saved_tensors
        b1, b2, b3 = columns = (tuple(entries[:3]), tuple(entries[3:6]), tuple(entries[6:]))
        turns = [cross(b, grads[3 * k : 3 * k + 3]) for k, b in enumerate(columns)]
        w = tuple(x + y + z for x, y, z in zip(*turns, strict=True))
        w1, w2, w3 = dot(w, b1), dot(w, b2), dot(w, b3)
        on_b2, on_b3 = w3 * per_a1, (w2 + along * per_u * w1) * per_a1
        d_a1 = [on_b2 * y - on_b3 * z for y, z in zip(b2, b3, strict=True)]
        return (*d_a1, *scaled(b3, w1 * per_u))


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

    The derivative is that along rotations, which is all there is of it: a matrix that comes from `gram_schmidt` cannot
    change in any other direction.
    """
    return _Quaternion.apply(*columns[0], *columns[1], *columns[2])  # type: ignore[return-value]


class _Quaternion(torch.autograd.Function):
    """A turn by a small vector r changes R by ``r x R`` (column by column) and q by ``(0, r) q / 2``.

    So a derivative g with respect to q is the derivative ``v_k = g . ((0, e_k) q) / 2`` with respect to r, and
    ``v x R / 2`` with respect to R: their inner product with ``r x R`` is ``v . r``. Many times cheaper than
    differentiating Shepperd's method.
    """

    @staticmethod
    def forward(ctx: Any, *entries: Tensor) -> tuple[Tensor, ...]:
        columns = (entries[:3], entries[3:6], entries[6:])
        q = shepperd(columns)
        ctx.save_for_backward(*entries, *q)
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        m, (w, x, y, z), (gw, gx, gy, gz) = ctx.saved_tensors[:9], ctx.saved_tensors[9:], grads
        v = (
            0.25 * (gx * w - gw * x + gz * y - gy * z),
            0.25 * (gy * w - gw * y + gx * z - gz * x),
            0.25 * (gz * w - gw * z + gy * x - gx * y),
        )
        return (*cross(v, m[:3]), *cross(v, m[3:6]), *cross(v, m[6:]))


def shepperd(columns: Matrix) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The unit quaternion (w, x, y, z) of a rotation matrix by Shepperd's method.

    Of the four expressions ``4 q_i q`` the one with the largest ``q_i`` is used, so that no small number is ever divided
    by.
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
