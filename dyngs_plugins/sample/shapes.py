"""Convex solids and planes in their own frame: ray intersection, normals, support heights.

A ray is ``origin + s * direction``. Callers pass directions whose camera-space z is 1, so the parameter ``s``
that comes back is the z-depth itself; nothing here depends on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float


class Shape(Protocol):
    """What the ray caster asks of a shape. Everything is in the shape's own frame."""

    def intersect(
        self, origins: Float[np.ndarray, "#n 3"], directions: Float[np.ndarray, "n 3"]
    ) -> Float[np.ndarray, "n"]:
        """Ray parameter of the first hit in front of the origin, ``inf`` where the ray misses."""
        ...

    def normals(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Outward unit normals at points of the surface."""
        ...

    def support(self, direction: Float[np.ndarray, "3"]) -> float:
        """Largest value of ``direction . p`` over the points of the shape (``inf`` for planes)."""
        ...


@dataclass(frozen=True)
class Plane:
    """The plane z = 0, seen from its -z side (its normal is -z)."""

    def intersect(self, origins, directions):
        with np.errstate(divide="ignore", invalid="ignore"):
            s = -origins[:, 2] / directions[:, 2]
        return np.where(s > _NEAR, s, np.inf)  # a parallel ray gives inf or nan, and both end as inf

    def normals(self, points):
        return np.broadcast_to(np.array([0.0, 0.0, -1.0], points.dtype), points.shape)

    def support(self, direction):
        return float("inf")


@dataclass(frozen=True)
class Box:
    """An axis-aligned box around the origin with the given half sizes."""

    half: tuple[float, float, float]

    def intersect(self, origins, directions):
        enter, leave = _slab(origins, directions, 0, self.half[0])
        for axis in (1, 2):
            enter, leave = _overlap(enter, leave, *_slab(origins, directions, axis, self.half[axis]))
        return _first_hit(enter, leave)

    def normals(self, points):
        axis = np.abs(points / np.asarray(self.half, points.dtype)).argmax(axis=1)
        rows = np.arange(len(points))
        normals = np.zeros_like(points)
        normals[rows, axis] = np.sign(points[rows, axis])
        return normals

    def support(self, direction):
        return float(np.abs(direction) @ np.asarray(self.half))


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid around the origin with the given semi-axes."""

    radii: tuple[float, float, float]

    def intersect(self, origins, directions):
        radii = np.asarray(self.radii, directions.dtype)
        o, d = origins / radii, directions / radii
        return _first_hit(*_quadratic((d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1.0))

    def normals(self, points):
        gradient = points / np.asarray(self.radii, points.dtype) ** 2
        return gradient / np.linalg.norm(gradient, axis=1, keepdims=True)

    def support(self, direction):
        return float(np.linalg.norm(np.asarray(direction) * np.asarray(self.radii)))


@dataclass(frozen=True)
class Cylinder:
    """A capped cylinder around the y axis."""

    radius: float
    half_height: float

    def intersect(self, origins, directions):
        o, d = origins[:, [0, 2]], directions[:, [0, 2]]
        wall = _quadratic((d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - self.radius**2)
        return _first_hit(*_overlap(*wall, *_slab(origins, directions, 1, self.half_height)))

    def normals(self, points):
        radial = np.linalg.norm(points[:, [0, 2]], axis=1)
        on_cap = np.abs(points[:, 1]) / self.half_height > radial / self.radius
        normals = points * np.array([1.0, 0.0, 1.0], points.dtype) / np.maximum(radial, 1e-12)[:, None]
        normals[on_cap] = 0.0
        normals[on_cap, 1] = np.sign(points[on_cap, 1])
        return normals

    def support(self, direction):
        return float(self.radius * np.hypot(direction[0], direction[2]) + self.half_height * abs(direction[1]))


_NEAR = 1e-6  # hits closer than this are the surface that the ray starts on


def _slab(origins, directions, axis, half):
    """Entry and exit of the slab ``|p[axis]| <= half``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (-half - origins[:, axis]) / directions[:, axis]
        b = (half - origins[:, axis]) / directions[:, axis]
    return np.fmin(a, b), np.fmax(a, b)


def _quadratic(a, half_b, c):
    """Entry and exit of ``a s^2 + 2 half_b s + c <= 0``; an empty interval where there is none."""
    discriminant = half_b * half_b - a * c
    root = np.sqrt(np.maximum(discriminant, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = (-half_b - root) / a, (-half_b + root) / a
    missed = ~(discriminant > 0.0)
    return np.where(missed, np.inf, enter), np.where(missed, -np.inf, leave)


def _overlap(enter_a, leave_a, enter_b, leave_b):
    return np.fmax(enter_a, enter_b), np.fmin(leave_a, leave_b)


def _first_hit(enter, leave):
    return np.where((enter < leave) & (enter > _NEAR), enter, np.inf)
