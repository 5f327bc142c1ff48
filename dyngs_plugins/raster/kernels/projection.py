"""From Gaussians in the world to Gaussians on the image plane, sixteen at a time: each lane is one Gaussian.

EWA splatting (Zwicker et al. 2001) in the form of `tiles.project_splats`. With camera point ``p = R m + t`` and slopes
``x/z`` and ``y/z`` (clamped to a slightly larger image), the rows of Jacobian times rotation are::

    row_x = fx/z (R_0 - slope_x R_2)        row_y = fy/z (R_1 - slope_y R_2)

With covariance ``M M^T``, ``M = rotation(quat) diag(scale)``, let ``u = row_x M`` and ``v = row_y M``. Then the 2D covariance
is ``[[a, b], [b, c]] = [[u.u, u.v], [u.v, v.v]]`` and its determinant is ``|u x v|^2`` (Lagrange), which does not cancel.
The image-plane Gaussian has covariance ``[[a + eps, b], [b, c + eps]]``; the conic is its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dyngs_plugins.raster.kernels.algebra import cross, dot, rotation_of, transposed, unit_quaternion
from dyngs_plugins.raster.kernels.buffers import view
from dyngs_plugins.raster.kernels.compiling import kernel
from dyngs_plugins.raster.kernels.elementary import ceil, log2, maximum, minimum, sqrt
from dyngs_plugins.raster.kernels.memory import Array, Rows
from dyngs_plugins.raster.kernels.threads import share, take
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, Lanes, Mask, select

CHUNK = 512
"""Gaussians per item of the parallel loops. Camera gradients are summed chunk by chunk, so it must not depend on the number
of threads."""
_LARGEST = 3.0e38


class Gaussians(NamedTuple):
    """Arrays of all Gaussians: for each camera one after the other (``*_per_camera``), or once for all cameras."""

    count: Any
    means: Any
    quats: Any
    scales: Any
    covars: Any
    """None, or in place of quats and scales, which then are None."""
    opacities: Any
    means_per_camera: Any
    quats_per_camera: Any
    scales_per_camera: Any
    covars_per_camera: Any
    opacities_per_camera: Any


class View(NamedTuple):
    """The cameras and what they can see. See `semantics.Semantics` for the last five."""

    viewmats: Any
    Ks: Any
    width: Any
    height: Any
    near_plane: Any
    far_plane: Any
    radius_clip: Any
    eps2d: Any
    field_of_view_margin: Any
    compensation_min: Any
    alpha_min: Any
    three_sigma: Any


class Projected(NamedTuple):
    """Outputs for all cameras (see `seam.StagedBackend.project`); compensations may be None."""

    radii: Any
    means2d: Any
    depths: Any
    conics: Any
    compensations: Any


class GaussianRows(NamedTuple):
    """The rows of sixteen Gaussians in each array."""

    means: Rows
    quats: Rows
    scales: Rows
    covars: Rows
    opacities: Rows


def rows_of(gaussians: Gaussians, rows: Rows, camera: Int) -> GaussianRows:
    """Rows of Gaussians, as a camera sees them: its own, or those that all cameras share."""
    of_camera = camera * gaussians.count
    return GaussianRows(
        rows.shifted(of_camera * gaussians.means_per_camera),
        rows.shifted(of_camera * gaussians.quats_per_camera),
        rows.shifted(of_camera * gaussians.scales_per_camera),
        rows.shifted(of_camera * gaussians.covars_per_camera),
        rows.shifted(of_camera * gaussians.opacities_per_camera),
    )


class Camera(NamedTuple):
    """One camera, each number in all lanes."""

    rotation: list[list[Lanes]]
    translation: list[Lanes]
    focal: list[Lanes]
    centre: list[Lanes]
    slope_min: list[Lanes]
    slope_max: list[Lanes]


class Seen(NamedTuple):
    """Means in camera coordinates, and how the camera's Jacobian looks there (see the module's docstring)."""

    point: list[Lanes]
    slopes: list[Lanes]
    free: list[Mask]
    """Whether each slope was within its limits."""
    rows: list[list[Lanes]]
    """row_x and row_y."""


class Shape(NamedTuple):
    """2D covariances [[a, b], [b, c]] with their determinants."""

    a: Lanes
    b: Lanes
    c: Lanes
    det: Lanes


def load_camera(view: View, camera: Int) -> Camera:
    """Reads one camera."""
    matrix = [[view.viewmats.broadcast(camera * 16 + (4 * i + j)) for j in range(4)] for i in range(3)]
    focal = [view.Ks.broadcast(camera * 9 + k) for k in (0, 4)]
    centre = [view.Ks.broadcast(camera * 9 + k) for k in (2, 5)]
    sizes = (view.width, view.height)
    extra = [view.field_of_view_margin * 0.5 * size / f for size, f in zip(sizes, focal, strict=True)]
    return Camera(
        rotation=[row[:3] for row in matrix],
        translation=[row[3] for row in matrix],
        focal=focal,
        centre=centre,
        slope_min=[-c / f - e for c, f, e in zip(centre, focal, extra, strict=True)],
        slope_max=[(s - c) / f + e for s, c, f, e in zip(sizes, centre, focal, extra, strict=True)],
    )


def see(camera: Camera, drawn: Mask, mean: Sequence[Lanes]) -> Seen:
    """Looks at Gaussians. Those that are not drawn are put in front of the camera, out of harm's way."""
    point = [dot(row, mean) + t for row, t in zip(camera.rotation, camera.translation, strict=True)]
    point = [select(drawn, p, safe) for p, safe in zip(point, (0.0, 0.0, 1.0), strict=True)]
    inverse = 1.0 / point[2]
    slopes, free, rows = [], [], []
    for axis in range(2):
        slope = point[axis] * inverse
        free.append((slope >= camera.slope_min[axis]) & (slope <= camera.slope_max[axis]))
        slope = minimum(maximum(slope, camera.slope_min[axis]), camera.slope_max[axis])
        slopes.append(slope)
        scale = camera.focal[axis] * inverse
        along, forward = camera.rotation[axis], camera.rotation[2]
        rows.append([scale * (a - slope * f) for a, f in zip(along, forward, strict=True)])
    return Seen(point, slopes, free, rows)


def shape_of(gaussians: Gaussians, rows: GaussianRows, seen: Seen) -> Shape:
    """The 2D covariance before blurring, from either form of the 3D covariance."""
    x, y = seen.rows
    if gaussians.covars is not None:
        covar = matrix_of(gaussians.covars, rows.covars)
        covar_x, covar_y = [dot(row, x) for row in covar], [dot(row, y) for row in covar]
        a, b, c = dot(x, covar_x), dot(x, covar_y), dot(y, covar_y)
        return Shape(a, b, c, a * c - b * b)
    unit, _ = unit_quaternion(rows.quats.columns4(gaussians.quats, 4))
    scales = rows.scales.columns(gaussians.scales, 3)
    axes = transposed(rotation_of(unit))
    u = [dot(x, axis) * s for axis, s in zip(axes, scales, strict=True)]
    v = [dot(y, axis) * s for axis, s in zip(axes, scales, strict=True)]
    normal = cross(u, v)
    return Shape(dot(u, u), dot(u, v), dot(v, v), dot(normal, normal))


def matrix_of(table: Array, rows: Rows) -> list[list[Lanes]]:
    """3x3 matrices."""
    entries = rows.columns(table, 9)
    return [entries[0:3], entries[3:6], entries[6:9]]


def blurred(shape: Shape, eps2d: Lanes) -> Shape:
    """The covariance with `eps2d` added to its diagonal."""
    det = shape.det + eps2d * (shape.a + shape.c) + eps2d * eps2d
    return Shape(shape.a + eps2d, shape.b, shape.c + eps2d, det)


def reaches(wide: Shape, opacity: Lanes, view: View) -> tuple[Lanes, Lanes]:
    """Half sides in pixels of the rectangle a Gaussian covers, by the radius rule of the installed gsplat."""
    half = 0.5 * (wide.a - wide.c)
    spread = sqrt(maximum(half * half + wide.b * wide.b, 0.01))
    square = ceil(3.0 * sqrt(0.5 * (wide.a + wide.c) + spread))
    # sqrt(2 ln(opacity / alpha_min)) standard deviations, at most 3.33
    sigmas = minimum(sqrt(1.3862943611 * log2(maximum(opacity / view.alpha_min, 1.0))), 3.33)
    by_sigma = view.three_sigma.mask()
    return tuple(select(by_sigma, square, ceil(sigmas * sqrt(variance))) for variance in (wide.a, wide.c))  # type: ignore


@traced
def _project_lanes(camera_index: Int, first: Int, count: Int, gaussians: Gaussians, view: View, out: Projected) -> None:
    """Projects up to sixteen Gaussians. Those in front of nobody cost as much as the others."""
    camera = load_camera(view, camera_index)
    rows = Rows(first, count)
    inputs = rows_of(gaussians, rows, camera_index)
    mean = inputs.means.columns(gaussians.means, 3)
    depth = dot(camera.rotation[2], mean) + camera.translation[2]
    # A comparison with NaN is false, so a Gaussian with a NaN anywhere is not drawn.
    drawn = (depth >= view.near_plane) & (depth <= view.far_plane)
    seen = see(camera, drawn, mean)
    shape = shape_of(gaussians, inputs, seen)
    wide = blurred(shape, view.eps2d)
    compensation = sqrt(maximum(shape.det / wide.det, view.compensation_min * view.compensation_min))
    opacity = inputs.opacities.column(gaussians.opacities, 1)
    if out.compensations is not None:
        opacity = opacity * compensation
    drawn = drawn & (view.three_sigma.mask() | (opacity >= view.alpha_min))
    mean2d = [f * (p / seen.point[2]) + c for f, p, c in zip(camera.focal, seen.point, camera.centre, strict=False)]
    reach = reaches(wide, opacity, view)
    radius = maximum(*reach)
    drawn = drawn & (wide.det > 0.0) & (wide.det < _LARGEST) & (radius < _LARGEST) & (radius > view.radius_clip)
    for centre, r, size in zip(mean2d, reach, (view.width, view.height), strict=True):
        drawn = drawn & (centre + r > 0.0) & (centre - r < size)

    inverse = 1.0 / wide.det
    conic = [wide.c * inverse, -wide.b * inverse, wide.a * inverse]
    rows = rows.shifted(camera_index * gaussians.count)
    rows.store_columns(out.radii, [select(drawn, minimum(radius, 2.0**30), 0.0)])
    rows.store_columns(out.means2d, [select(drawn, m, 0.0) for m in mean2d])
    rows.store_columns(out.depths, [select(drawn, depth, 0.0)])
    rows.store_columns(out.conics, [select(drawn, q, 0.0) for q in conic])
    if out.compensations is not None:
        rows.store_columns(out.compensations, [select(drawn, compensation, 0.0)])


@kernel
def project_forward(team, cameras, all_gaussians, all_cameras, all_outputs):
    """Fills `Projected` for the given number of cameras."""
    gaussians, cameras_of, out = view(all_gaussians), view(all_cameras), view(all_outputs)
    chunks = (gaussians.count + CHUNK - 1) // CHUNK
    loop = share(team, cameras * chunks)
    item = take(loop)
    while item >= 0:
        start = item % chunks * CHUNK
        for first in range(start, min(start + CHUNK, gaussians.count), LANES):
            _project_lanes(item // chunks, first, min(LANES, gaussians.count - first), gaussians, cameras_of, out)
        item = take(loop)
