"""Ray intersections against implicit equations, supports against sampled points."""

import numpy as np
import pytest

from dyngs_plugins.sample.shapes import Box, Cylinder, Ellipsoid, Plane

BOX, EGG, CAN = Box((0.5, 0.3, 0.8)), Ellipsoid((0.4, 0.7, 0.5)), Cylinder(0.6, 0.9)


def outside(shape, p):
    """Signed implicit function: 0 on the surface, positive outside."""
    if isinstance(shape, Box):
        return (np.abs(p) / shape.half).max(1) - 1
    if isinstance(shape, Ellipsoid):
        return np.linalg.norm(p / shape.radii, axis=1) - 1
    return np.maximum(np.hypot(p[:, 0], p[:, 2]) / shape.radius, np.abs(p[:, 1]) / shape.half_height) - 1


def random_rays(seed=0, n=4000):
    random = np.random.default_rng(seed)
    origins = random.normal(size=(n, 3))
    origins *= 3 / np.linalg.norm(origins, axis=1, keepdims=True)
    return origins, random.normal(size=(n, 3)) * 0.6 - origins


@pytest.mark.parametrize("shape", [BOX, EGG, CAN], ids=lambda s: type(s).__name__)
def test_hits_lie_on_the_surface_and_are_the_first(shape):
    origins, directions = random_rays()
    s = shape.intersect(origins, directions)
    hit = np.isfinite(s)
    assert 0.2 < hit.mean() < 0.98
    points = origins[hit] + s[hit, None] * directions[hit]
    np.testing.assert_allclose(outside(shape, points), 0, atol=1e-9)
    steps = np.linspace(0, 1.5, 400)
    marched = np.stack([outside(shape, origins + u * directions) < -1e-3 for u in steps])
    assert not marched[:, ~hit].any()  # a missing ray never enters
    before = steps[:, None] < s[None, hit]
    assert not (marched[:, hit] & before).any()  # a hitting ray never enters earlier


@pytest.mark.parametrize("shape", [BOX, EGG, CAN], ids=lambda s: type(s).__name__)
def test_normals_point_outwards_and_are_unit(shape):
    origins, directions = random_rays(1)
    s = shape.intersect(origins, directions)
    hit = np.isfinite(s)
    points = origins[hit] + s[hit, None] * directions[hit]
    normals = shape.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    assert (outside(shape, points + 1e-4 * normals) > 0).all()
    assert ((normals * directions[hit]).sum(1) < 1e-6).all()  # a first hit faces the ray


@pytest.mark.parametrize("shape", [BOX, EGG, CAN], ids=lambda s: type(s).__name__)
def test_support_is_the_extent_of_the_surface(shape):
    origins, directions = random_rays(2, 60_000)
    s = shape.intersect(origins, directions)
    points = (origins + np.where(np.isfinite(s), s, 0)[:, None] * directions)[np.isfinite(s)]
    for direction in np.random.default_rng(3).normal(size=(5, 3)):
        assert (points @ direction).max() <= shape.support(direction) + 1e-9
        assert (points @ direction).max() > 0.97 * shape.support(direction)


def test_a_ray_along_a_face_hits_nothing_undefined():
    origins, directions = np.array([[0.5, 0.0, -3.0], [0.1, 0.0, -3.0]]), np.array([[0.0, 0.0, 1.0]] * 2)
    s = BOX.intersect(origins, directions)
    assert not np.isnan(s).any()
    assert s[1] == pytest.approx(2.2)


def test_the_plane_is_hit_from_the_front_only_once():
    s = Plane().intersect(np.array([[0.0, 0.0, -2.0]]), np.array([[0.0, 0.3, 1.0], [0.0, 0.3, -1.0], [1.0, 0.0, 0.0]]))
    assert s.tolist() == [2.0, np.inf, np.inf]
