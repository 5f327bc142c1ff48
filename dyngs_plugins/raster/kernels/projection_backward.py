"""Gradients of `projection`: the chain rule from the image plane back to the world.

The names follow that module's docstring; ``d_x`` is the derivative of the loss with respect to ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dyngs_plugins.raster.kernels.algebra import cross, dot, rotation_of, transposed, unit_quaternion
from dyngs_plugins.raster.kernels.buffers import view
from dyngs_plugins.raster.kernels.compiling import kernel
from dyngs_plugins.raster.kernels.elementary import sqrt
from dyngs_plugins.raster.kernels.memory import Rows
from dyngs_plugins.raster.kernels.projection import (
    CHUNK,
    Camera,
    GaussianRows,
    Gaussians,
    Seen,
    Shape,
    View,
    blurred,
    load_camera,
    matrix_of,
    rows_of,
    see,
    shape_of,
)
from dyngs_plugins.raster.kernels.shuffles import sums_of_lanes
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Flag, Int, Lanes, Mask, lanes, select

POSE_FLOATS = 12
"""Derivatives with respect to a camera's rotation (row by row) and translation."""


class Incoming(NamedTuple):
    """Derivatives with respect to the outputs of the projection; `radii` are those outputs, compensations may be None."""

    radii: Any
    means2d: Any
    depths: Any
    conics: Any
    compensations: Any


class Outgoing(NamedTuple):
    """Derivatives with respect to the inputs, shaped like them; None like the inputs."""

    means: Any
    quats: Any
    scales: Any
    covars: Any


class Fresh(NamedTuple):
    """Whether a camera is the first, or the only one, to write its rows of each array of `Outgoing`."""

    means: Flag
    quats: Flag
    scales: Flag
    covars: Flag


class ShapeGradient(NamedTuple):
    """With respect to a, b, c of the 2D covariance and, apart from them, to its determinant before blurring."""

    a: Lanes
    b: Lanes
    c: Lanes
    det: Lanes


def _masked(drawn: Mask, values: Sequence[Lanes]) -> list[Lanes]:
    return [select(drawn, value, 0.0) for value in values]


def _scaled(factor: Lanes, vector: Sequence[Lanes]) -> list[Lanes]:
    return [factor * x for x in vector]


def _sum(*vectors: Sequence[Lanes]) -> list[Lanes]:
    total = list(vectors[0])
    for vector in vectors[1:]:
        total = [a + b for a, b in zip(total, vector, strict=True)]
    return total


def _backward_shape(shape: Shape, drawn: Mask, view: View, rows: Rows, incoming: Incoming) -> ShapeGradient:
    """From the conic Q = S^-1 to the covariance S, d_S = -Q d_Q Q; and from the compensation."""
    wide = blurred(shape, view.eps2d)
    inverse = 1.0 / select(drawn, wide.det, 1.0)
    q0, q1, q2 = wide.c * inverse, -wide.b * inverse, wide.a * inverse
    d0, d1, d2 = _masked(drawn, rows.columns(incoming.conics, 3))
    d1 = 0.5 * d1
    t00, t01, t10, t11 = q0 * d0 + q1 * d1, q0 * d1 + q1 * d2, q1 * d0 + q2 * d1, q1 * d1 + q2 * d2
    d_a, d_b, d_c = -(t00 * q0 + t01 * q1), -2.0 * (t00 * q1 + t01 * q2), -(t10 * q1 + t11 * q2)
    if incoming.compensations is None:
        return ShapeGradient(d_a, d_b, d_c, lanes(0.0))
    # r = sqrt(D / det) with det = D + eps (a + c) + eps^2: 2 r dr = (dD - r^2 ddet) / det. At its floor r is constant.
    ratio = shape.det * inverse
    free = drawn & (ratio > view.compensation_min * view.compensation_min)
    r = sqrt(select(free, ratio, 1.0))
    half = select(free, rows.column(incoming.compensations, 1), 0.0) * 0.5 * inverse
    blur = half * r * view.eps2d
    return ShapeGradient(d_a - blur, d_b, d_c - blur, half * (1.0 / r - r))


def _backward_factor(
    gaussians: Gaussians, rows: GaussianRows, seen: Seen, d: ShapeGradient, drawn: Mask, fresh: Fresh, out: Outgoing
) -> list[list[Lanes]]:
    """To quaternions and scales. Returns the derivatives with respect to row_x and row_y."""
    x, y = seen.rows
    unit, inverse_length = unit_quaternion(rows.quats.columns4(gaussians.quats, 4))
    scales = rows.scales.columns(gaussians.scales, 3)
    rotation = rotation_of(unit)
    axes = transposed(rotation)
    x_axes, y_axes = [dot(x, axis) for axis in axes], [dot(y, axis) for axis in axes]
    u = [p * s for p, s in zip(x_axes, scales, strict=True)]
    v = [p * s for p, s in zip(y_axes, scales, strict=True)]
    normal = cross(u, v)
    # a = u.u, b = u.v, c = v.v and D = n.n with n = u x v: dD = 2 (v x n).du + 2 (n x u).dv
    d_u = _sum(_scaled(2.0 * d.a, u), _scaled(d.b, v), _scaled(2.0 * d.det, cross(v, normal)))
    d_v = _sum(_scaled(2.0 * d.c, v), _scaled(d.b, u), _scaled(2.0 * d.det, cross(normal, u)))
    d_scales = [du * p + dv * q for du, dv, p, q in zip(d_u, d_v, x_axes, y_axes, strict=True)]
    rows.scales.add_columns(out.scales, _masked(drawn, d_scales), fresh.scales)
    d_x_axes = [du * s for du, s in zip(d_u, scales, strict=True)]
    d_y_axes = [dv * s for dv, s in zip(d_v, scales, strict=True)]
    d_rotation = [_sum(_scaled(x[i], d_x_axes), _scaled(y[i], d_y_axes)) for i in range(3)]
    d_quat = _backward_rotation(unit, inverse_length, d_rotation)
    rows.quats.add_columns(out.quats, _masked(drawn, d_quat), fresh.quats)
    return [[dot(row, d_x_axes) for row in rotation], [dot(row, d_y_axes) for row in rotation]]


def _backward_rotation(unit: Sequence[Lanes], inverse_length: Lanes, g: list[list[Lanes]]) -> list[Lanes]:
    """From a rotation matrix to the quaternion before it was normalised."""
    w, x, y, z = unit
    turn = [g[2][1] - g[1][2], g[0][2] - g[2][0], g[1][0] - g[0][1]]
    xy, xz, yz = g[0][1] + g[1][0], g[0][2] + g[2][0], g[1][2] + g[2][1]
    d_unit = [
        2.0 * dot((x, y, z), turn),
        2.0 * (w * turn[0] + y * xy + z * xz - 2.0 * x * (g[1][1] + g[2][2])),
        2.0 * (w * turn[1] + x * xy + z * yz - 2.0 * y * (g[0][0] + g[2][2])),
        2.0 * (w * turn[2] + x * xz + y * yz - 2.0 * z * (g[0][0] + g[1][1])),
    ]
    # What is parallel to the quaternion is lost in the normalisation.
    along = dot(d_unit, unit)
    return [(d - along * q) * inverse_length for d, q in zip(d_unit, unit, strict=True)]


def _backward_covars(
    gaussians: Gaussians,
    rows: GaussianRows,
    seen: Seen,
    shape: Shape,
    d: ShapeGradient,
    drawn: Mask,
    fresh: Fresh,
    out: Outgoing,
) -> list[list[Lanes]]:
    """To the nine entries of each covariance, as if they were independent. Returns as `_backward_factor`."""
    x, y = seen.rows
    # Here D = a c - b^2.
    d_a, d_b, d_c = d.a + d.det * shape.c, d.b - 2.0 * d.det * shape.b, d.c + d.det * shape.a
    d_covar = [_sum(_scaled(d_a * x[i], x), _scaled(d_b * x[i], y), _scaled(d_c * y[i], y)) for i in range(3)]
    rows.covars.add_columns(out.covars, _masked(drawn, [entry for row in d_covar for entry in row]), fresh.covars)
    covar = matrix_of(gaussians.covars, rows.covars)
    both = [_sum(row, column) for row, column in zip(covar, transposed(covar), strict=True)]
    d_x = [d_a * dot(s, x) + d_b * dot(row, y) for s, row in zip(both, covar, strict=True)]
    d_y = [d_b * dot(column, x) + d_c * dot(s, y) for s, column in zip(both, transposed(covar), strict=True)]
    return [d_x, d_y]


def _backward_point(
    camera: Camera, seen: Seen, d_rows: list[list[Lanes]], drawn: Mask, rows: Rows, incoming: Incoming
) -> list[Lanes]:
    """To the point in camera coordinates: through rows, slopes, 2D mean and depth."""
    inverse = 1.0 / seen.point[2]
    d_mean2d = _masked(drawn, rows.columns(incoming.means2d, 2))
    d_z = select(drawn, rows.column(incoming.depths, 1), 0.0)
    d_point = []
    for axis in range(2):
        # row = f/z (R_axis - slope R_2), slope = point/z where it is not clamped, mean2d = f point/z + c everywhere.
        forward = dot(d_rows[axis], camera.rotation[2])
        d_slope = select(seen.free[axis], -camera.focal[axis] * inverse * forward, 0.0)
        d = (d_slope + camera.focal[axis] * d_mean2d[axis]) * inverse
        d_z = d_z - inverse * (dot(d_rows[axis], seen.rows[axis]) + d * seen.point[axis])
        d_point.append(d)
    return [*d_point, d_z]


@traced
def _backward_lanes(
    camera_index: Int, first: Int, count: Int, gaussians: Gaussians, view: View, incoming: Incoming, out: Outgoing
) -> Lanes:
    """Adds up to sixteen Gaussians' derivatives to `out`. Returns their camera's, one per lane (see `POSE_FLOATS`)."""
    camera = load_camera(view, camera_index)
    own_rows = Rows(first, count)
    rows = own_rows.shifted(camera_index * gaussians.count)
    inputs = rows_of(gaussians, own_rows, camera_index)
    first_camera = camera_index.is_zero()
    fresh = Fresh(
        first_camera | gaussians.means_per_camera,
        first_camera | gaussians.quats_per_camera,
        first_camera | gaussians.scales_per_camera,
        first_camera | gaussians.covars_per_camera,
    )
    drawn = rows.column(incoming.radii, 1) > 0.0
    mean = _masked(drawn, inputs.means.columns(gaussians.means, 3))
    seen = see(camera, drawn, mean)
    shape = shape_of(gaussians, inputs, seen)
    d_shape = _backward_shape(shape, drawn, view, rows, incoming)
    if gaussians.covars is not None:
        d_rows = _backward_covars(gaussians, inputs, seen, shape, d_shape, drawn, fresh, out)
    else:
        d_rows = _backward_factor(gaussians, inputs, seen, d_shape, drawn, fresh, out)
    d_rows = [_masked(drawn, row) for row in d_rows]
    d_point = _backward_point(camera, seen, d_rows, drawn, rows, incoming)
    inputs.means.add_columns(out.means, [dot(column, d_point) for column in transposed(camera.rotation)], fresh.means)

    once = own_rows.real()
    d_rotation = [_scaled(d, mean) for d in d_point]
    for axis in range(2):
        scale = camera.focal[axis] / seen.point[2]
        d_rotation[axis] = _sum(d_rotation[axis], _scaled(scale, d_rows[axis]))
        d_rotation[2] = _sum(d_rotation[2], _scaled(-scale * seen.slopes[axis], d_rows[axis]))
    return sums_of_lanes(_masked(once, [*(d for row in d_rotation for d in row), *d_point]))


@traced
def _no_pose() -> Lanes:
    return lanes(0.0)


@traced
def _add_pose(total: Lanes, more: Lanes) -> Lanes:
    return total + more


@traced
def _store_pose(poses: Any, row: Int, total: Lanes) -> None:
    poses.store_first(POSE_FLOATS, row * POSE_FLOATS, total)


@kernel
def project_backward(team, cameras, all_gaussians, all_cameras, all_incoming, all_outgoing, pose_array):
    """Fills `Outgoing` and the cameras' derivatives chunk by chunk, `poses` [chunks, cameras, POSE_FLOATS]."""
    gaussians, cameras_of, poses = view(all_gaussians), view(all_cameras), view(pose_array)
    incoming, out = view(all_incoming), view(all_outgoing)
    chunks = (gaussians.count + CHUNK - 1) // CHUNK
    loop = share(team, chunks)
    chunk = take(loop)
    while chunk >= 0:
        # Cameras one after the other: where they share Gaussians, their derivatives add up in this order.
        for camera in range(cameras):
            pose = _no_pose()
            for first in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, gaussians.count), LANES):
                count = min(LANES, gaussians.count - first)
                pose = _add_pose(pose, _backward_lanes(camera, first, count, gaussians, cameras_of, incoming, out))
            _store_pose(poses, chunk * cameras + camera, pose)
        chunk = take(loop)
