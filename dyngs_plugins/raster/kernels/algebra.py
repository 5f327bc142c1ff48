"""Vectors, matrices and quaternions whose components are `vector.Lanes`: sixteen of each at a time."""

from __future__ import annotations

from collections.abc import Sequence

from dyngs_plugins.raster.kernels.elementary import absolute, maximum, sqrt
from dyngs_plugins.raster.kernels.vector import Lanes, select


def dot(x: Sequence[Lanes], y: Sequence[Lanes]) -> Lanes:
    """x . y"""
    total = x[0] * y[0]
    for a, b in zip(x[1:], y[1:], strict=True):
        total = total + a * b
    return total


def cross(x: Sequence[Lanes], y: Sequence[Lanes]) -> list[Lanes]:
    """x times y"""
    return [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]


def transposed(matrix: Sequence[Sequence[Lanes]]) -> list[list[Lanes]]:
    """Rows to columns."""
    return [list(column) for column in zip(*matrix, strict=True)]


def unit_quaternion(quat: Sequence[Lanes]) -> tuple[list[Lanes], Lanes]:
    """The quaternion at length 1, and 1 / its length. Zero is taken for the identity, with 0 for the latter."""
    largest = absolute(quat[0])
    for component in quat[1:]:
        largest = maximum(largest, absolute(component))
    is_something = largest > 0.0
    # By the largest component first, so that squares neither overflow nor vanish.
    scale = 1.0 / select(is_something, largest, 1.0)
    scaled = [select(is_something, quat[0] * scale, 1.0), *(component * scale for component in quat[1:])]
    inverse = 1.0 / sqrt(dot(scaled, scaled))
    return [component * inverse for component in scaled], select(is_something, inverse * scale, 0.0)


def rotation_of(unit: Sequence[Lanes]) -> list[list[Lanes]]:
    """The rotation matrix of a unit quaternion wxyz."""
    w, x, y, z = unit
    return [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
