"""Rotations as the methods store them: 6-D vectors, matrices and wxyz quaternions, with the components in front.

The functions take and return ``[3, ...]``, ``[4, ...]`` and ``[3, 3, ...]`` instead of ``[..., 3]`` and so on. On a CPU the
arithmetic then runs over long contiguous rows, about twice as fast as the batched 3x3 form; on a GPU one launch does all
components.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-24
"""Squared lengths below this are taken to be this: a zero vector has no direction, and no infinite gradient."""


class Frame(NamedTuple):
    """A rotation that two vectors span, and the lengths that its derivative needs."""

    columns: Float[Tensor, "3 3 *b"]
    """Its columns: ``columns[j, i]`` is the matrix's entry in row i and column j."""
    per_first: Float[Tensor, "*b"]
    """One over the first vector's length."""
    per_rest: Float[Tensor, "*b"]
    """One over the length of what of the second is at right angles to the first."""


def dot(a: Float[Tensor, "3 *b"], b: Float[Tensor, "3 *b"]) -> Float[Tensor, "*b"]:
    return (a * b).sum(0)


def cross(a: Float[Tensor, "3 *b"], b: Float[Tensor, "3 *b"]) -> Float[Tensor, "3 *b"]:
    if a.is_cuda:
        return torch.linalg.cross(a, b, dim=0)
    # On the CPU that goes from element to element, five times slower than whole components.
    (ax, ay, az), (bx, by, bz) = a, b
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _direction(a: Float[Tensor, "3 *b"]) -> tuple[Float[Tensor, "3 *b"], Float[Tensor, "*b"]]:
    """A vector of length 1, and one over the length it had."""
    per_length = torch.rsqrt(dot(a, a).clamp_min(_TINY))
    return a * per_length, per_length


def gram_schmidt(first: Float[Tensor, "3 *b"], second: Float[Tensor, "3 *b"]) -> Frame:
    """The rotation whose first two columns span the given vectors (Zhou et al. 2019, "6-D" representation).

    ``b1 = a1/|a1|``, ``b2 = normalise(a2 - (b1.a2) b1)``, ``b3 = b1 x b2``; the columns are b1, b2, b3.
    """
    b1, per_first = _direction(first)
    # The same as a2 - (b1.a2) b1, at right angles to b1 even where nearly parallel vectors lose digits to cancellation.
    b2, per_rest = _direction(cross(cross(b1, second), b1))
    return Frame(torch.stack([b1, b2, cross(b1, b2)]), per_first, per_rest)


def shepperd(columns: Float[Tensor, "3 3 *b"]) -> Float[Tensor, "4 *b"]:
    """The unit quaternion (w, x, y, z) of a rotation matrix by Shepperd's method.

    Of the four expressions ``4 q_i q`` the one with the largest ``q_i`` is used, so that no small number is ever divided
    by.
    """
    mirrored = columns.transpose(0, 1)
    sums, differences = columns + mirrored, columns - mirrored
    twice = torch.stack([sums[0, 0], sums[1, 1], sums[2, 2]])
    trace = 0.5 * twice.sum(0)
    (w2, wx, wy, wz) = (1 + trace, differences[1, 2], differences[2, 0], differences[0, 1])
    (x2, y2, z2), (xy, xz, yz) = twice + (1 - trace), (sums[0, 1], sums[0, 2], sums[1, 2])
    rows = torch.stack([w2, wx, wy, wz, wx, x2, xy, xz, wy, xy, y2, yz, wz, xz, yz, z2]).unflatten(0, (4, 4))
    largest = rows.detach().diagonal().argmax(-1)
    chosen = rows.gather(0, largest.expand(1, 4, *largest.shape))[0]
    return chosen * torch.rsqrt((chosen * chosen).sum(0))


def left_matrix(p: Float[Tensor, "4 *b"]) -> Float[Tensor, "4 4 *b"]:
    """The matrix (rows in front) that multiplies a quaternion (w, x, y, z) by p from the left: first it, then p."""
    (w, x, y, z), (_, m, n, o) = p, -p
    return torch.stack([w, m, n, o, x, w, o, y, y, z, w, m, z, n, x, w]).unflatten(0, (4, 4))


def matrix_to_6d(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """The first two columns of a rotation matrix."""
    return torch.cat([rotation[..., :, 0], rotation[..., :, 1]], dim=-1)


def matrix_from_6d(vectors: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Inverse of :func:`matrix_to_6d` (with orthonormalisation)."""
    return gram_schmidt(*vectors.movedim(-1, 0).split(3)).columns.movedim((0, 1), (-1, -2))
