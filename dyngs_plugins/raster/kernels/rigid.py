"""Gaussians under blended rigid motions: sixteen of them at a time, forward and backward.

A blend is nine numbers: two vectors that Gram-Schmidt turns into a rotation R = (b1, b2, b3), and a translation. Forward::

    mean' = R mean + t                quat' = q(R) quat

Backward everything goes through the rotation vector r of a small turn of R, ``dR = r x R`` and ``dquat' = (0, r) quat' / 2``.
With g and h the derivatives with respect to mean' and quat', the derivative with respect to r is::

    w = (R mean) x g + v,    v_k = h . ((0, e_k) quat') / 2

and Gram-Schmidt takes it on (see `motion.rotations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dyngs_plugins.raster.kernels.algebra import cross, dot
from dyngs_plugins.raster.kernels.buffers import view
from dyngs_plugins.raster.kernels.compiling import kernel
from dyngs_plugins.raster.kernels.elementary import maximum, sqrt
from dyngs_plugins.raster.kernels.memory import Rows
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, Lanes, lanes, select

CHUNK = 64
PARTS = 9
"""Numbers of a blend: two vectors and a translation."""
_TINY = 1e-24


class Blend(NamedTuple):
    """What moves: ``parts`` [n, times, 9], ``means`` [n, 3], ``quats`` [n, 4] or None; all flat."""

    count: Any
    times: Any
    parts: Any
    means: Any
    quats: Any


class Moved(NamedTuple):
    """Where it is [times, n, 3] and how it is turned [times, n, 4] or None; or the derivatives with respect to these."""

    means: Any
    quats: Any


class BlendGradients(NamedTuple):
    """Shaped like the fields of `Blend`."""

    parts: Any
    means: Any
    quats: Any


class Frame(NamedTuple):
    """A rotation's columns, and what its derivative needs: 1 / |a1|, 1 / |u|, b1 . a2 (see `motion.rotations`)."""

    columns: tuple[list[Lanes], list[Lanes], list[Lanes]]
    per_a1: Lanes
    per_u: Lanes
    along: Lanes


def _less(a: Sequence[Lanes], b: Sequence[Lanes], factor: Lanes) -> list[Lanes]:
    return [x - factor * y for x, y in zip(a, b, strict=True)]


def _per_length(a: Sequence[Lanes]) -> Lanes:
    return 1.0 / sqrt(maximum(dot(a, a), lanes(_TINY)))


def _frame(a1: Sequence[Lanes], a2: Sequence[Lanes]) -> Frame:
    per_a1 = _per_length(a1)
    b1 = [x * per_a1 for x in a1]
    along = dot(b1, a2)
    u = _less(a2, b1, along)
    per_u = _per_length(u)
    b2 = [x * per_u for x in u]
    b2 = _less(b2, b1, dot(b1, b2))  # once more: nearly parallel vectors lose digits to cancellation
    per_b2 = _per_length(b2)
    b2 = [x * per_b2 for x in b2]
    return Frame((b1, b2, cross(b1, b2)), per_a1, per_u, along)


def _rotated(frame: Frame, v: Sequence[Lanes]) -> list[Lanes]:
    b1, b2, b3 = frame.columns
    return [x * v[0] + y * v[1] + z * v[2] for x, y, z in zip(b1, b2, b3, strict=True)]


def _quaternion(frame: Frame) -> list[Lanes]:
    """Shepperd's method: of the four expressions 4 q_i q the one with the largest q_i."""
    (m00, m10, m20), (m01, m11, m21), (m02, m12, m22) = frame.columns
    candidates = [
        [1.0 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01],
        [m21 - m12, 1.0 + m00 - m11 - m22, m10 + m01, m02 + m20],
        [m02 - m20, m10 + m01, 1.0 - m00 + m11 - m22, m21 + m12],
        [m10 - m01, m02 + m20, m21 + m12, 1.0 - m00 - m11 + m22],
    ]
    best, largest = candidates[0], candidates[0][0]
    for k, candidate in enumerate(candidates[1:], start=1):
        larger = candidate[k] > largest
        best = [select(larger, new, old) for new, old in zip(candidate, best, strict=True)]
        largest = select(larger, candidate[k], largest)
    length = best[0] * best[0] + best[1] * best[1] + best[2] * best[2] + best[3] * best[3]
    per_length = 1.0 / sqrt(length)
    return [q * per_length for q in best]


def _product(p: Sequence[Lanes], q: Sequence[Lanes]) -> list[Lanes]:
    """Of two quaternions."""
    return [
        p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
        p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
        p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
        p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0],
    ]


def _load_blend(blend: Blend, rows: Rows, time: Int) -> tuple[Frame, list[Lanes]]:
    """The rotation and the translation of sixteen Gaussians at one time."""
    width = blend.times * PARTS
    at = time * PARTS
    p = [*rows.columns4(blend.parts, width, at), *rows.columns4(blend.parts, width, at + 4)]
    return _frame(p[:3], p[3:6]), [*p[6:], rows.column(blend.parts, width, at + 8)]


@traced
def _move_lanes(blend: Blend, first: Int, count: Int, time: Int, out: Moved) -> None:
    own = Rows(first, count)
    moved = own.shifted(time * blend.count)
    frame, translation = _load_blend(blend, own, time)
    turned = _rotated(frame, own.columns(blend.means, 3))
    moved.store_columns(out.means, [x + t for x, t in zip(turned, translation, strict=True)])
    if blend.quats is not None:
        moved.store_columns(out.quats, _product(_quaternion(frame), own.columns(blend.quats, 4)))


def _turn_of_quats(turned: Sequence[Lanes], h: Sequence[Lanes]) -> list[Lanes]:
    """v_k = h . ((0, e_k) quat') / 2."""
    w, x, y, z = turned
    return [
        0.5 * (h[1] * w - h[0] * x + h[3] * y - h[2] * z),
        0.5 * (h[2] * w - h[0] * y + h[1] * z - h[3] * x),
        0.5 * (h[3] * w - h[0] * z + h[2] * x - h[1] * y),
    ]


@traced
def _backward_lanes(
    blend: Blend, first: Int, count: Int, time: Int, incoming: Moved, out: BlendGradients, sums: Any
) -> tuple[Lanes, ...]:
    """Writes the derivatives of sixteen blends, and adds to those of what they move: means, then quaternions."""
    own = Rows(first, count)
    moved = own.shifted(time * blend.count)
    frame, _ = _load_blend(blend, own, time)
    b1, b2, b3 = frame.columns
    g = moved.columns(incoming.means, 3)
    w = cross(_rotated(frame, own.columns(blend.means, 3)), g)
    more = [dot(b, g) for b in frame.columns]
    if blend.quats is not None:
        quats, h = own.columns(blend.quats, 4), moved.columns(incoming.quats, 4)
        turn = _quaternion(frame)
        turned = _product(turn, quats)
        w = [a + b for a, b in zip(w, _turn_of_quats(turned, h), strict=True)]
        more += _product([turn[0], -turn[1], -turn[2], -turn[3]], h)
    w1, w2, w3 = (dot(w, b) for b in frame.columns)
    on_b2, on_b3 = w3 * frame.per_a1, (w2 + frame.along * frame.per_u * w1) * frame.per_a1
    d_parts = [on_b2 * y - on_b3 * z for y, z in zip(b2, b3, strict=True)]
    d_parts += [w1 * frame.per_u * x for x in b3]
    for k, value in enumerate([*d_parts, *g]):
        own.store(out.parts, blend.times * PARTS, time * PARTS + k, value)
    return tuple(total + value for total, value in zip(sums, more, strict=True))


@traced
def _no_sums(quats: Any) -> tuple[Lanes, ...]:
    return (lanes(0.0),) * (3 if quats is None else 7)


@traced
def _store_sums(first: Int, count: Int, sums: Any, out: BlendGradients) -> None:
    own = Rows(first, count)
    own.store_columns(out.means, sums[:3])
    if len(sums) > 3:
        own.store_columns(out.quats, sums[3:])


@kernel
def move(team, all_blend, all_moved):
    """Fills `Moved`."""
    blend, out = view(all_blend), view(all_moved)
    loop = share(team, (blend.count + CHUNK - 1) // CHUNK)
    chunk = take(loop)
    while chunk >= 0:
        for first in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, blend.count), LANES):
            for time in range(blend.times):
                _move_lanes(blend, first, min(LANES, blend.count - first), time, out)
        chunk = take(loop)


@kernel
def move_backward(team, all_blend, all_incoming, all_gradients):
    """Fills `BlendGradients`. Times are added up one after the other, so the result does not depend on threads."""
    blend, incoming, out = view(all_blend), view(all_incoming), view(all_gradients)
    loop = share(team, (blend.count + CHUNK - 1) // CHUNK)
    chunk = take(loop)
    while chunk >= 0:
        for first in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, blend.count), LANES):
            count = min(LANES, blend.count - first)
            sums = _no_sums(blend.quats)
            for time in range(blend.times):
                sums = _backward_lanes(blend, first, count, time, incoming, out, sums)
            _store_sums(first, count, sums, out)
        chunk = take(loop)
