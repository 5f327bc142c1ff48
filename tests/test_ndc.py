"""Normalised device coordinates: closed forms of points, rays and distances."""

from __future__ import annotations

import pytest
import torch

from dyngs_plugins.ndc import ndc_distance, ndc_points, ndc_rays

SCALE = (1.9, 2.5)


@pytest.fixture
def rays():
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(50, 3, generator=generator) * 0.3
    directions = torch.randn(50, 3, generator=generator) * 0.4 - torch.tensor([0.0, 0.0, 1.5])
    return origins.double(), directions.double()


def test_near_plane_and_infinity():
    depths = torch.tensor([1.0, 2.0, 1e9])
    points = torch.stack([torch.zeros(3), torch.zeros(3), -depths], dim=1)
    torch.testing.assert_close(ndc_points(points, SCALE)[:, 2], torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(ndc_points(4.0 * points, SCALE, near=4.0)[:, 2], torch.tensor([-1.0, 0.0, 1.0]))


def test_the_mean_cameras_picture_fills_the_square():
    """A point on the right edge of the image of focal length f and width w has x = z w / 2 f."""
    fx, width, fy, height = 60.0, 64, 61.0, 48
    scale = (2 * fx / width, 2 * fy / height)
    corner = torch.tensor([width / 2 / fx, height / 2 / fy, -1.0])
    torch.testing.assert_close(ndc_points(3.0 * corner, scale)[:2], torch.ones(2))


def test_every_ray_ends_at_infinity_and_starts_at_the_near_plane(rays):
    origins, directions = ndc_rays(*rays, SCALE)
    ones = torch.ones(50, dtype=torch.float64)
    torch.testing.assert_close(origins[:, 2] + directions[:, 2], ones)
    torch.testing.assert_close(origins[:, 2], -ones)


def test_the_centre_ray_of_the_mean_camera_stays_in_the_centre():
    origins, directions = ndc_rays(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -1.0]]), SCALE)
    torch.testing.assert_close(origins, torch.tensor([[0.0, 0.0, -1.0]]))
    torch.testing.assert_close(directions, torch.tensor([[0.0, 0.0, 2.0]]))


@pytest.mark.parametrize("near", [1.0, 0.7])
def test_points_of_a_ray_lie_on_its_device_ray(rays, near):
    origins, directions = rays
    new_origins, new_directions = ndc_rays(origins, directions, SCALE, near)
    for t in (3.0, 10.0, 100.0):
        expected = ndc_points(origins + t * directions, SCALE, near)
        along = (expected[:, 2] - new_origins[:, 2]) / new_directions[:, 2]
        torch.testing.assert_close(new_origins + along[:, None] * new_directions, expected)
        distance = ndc_distance(expected[:, 2], origins, directions, near)
        torch.testing.assert_close(distance, torch.full_like(distance, t))


def test_equal_steps_are_equal_steps_of_disparity():
    origin, direction = ndc_rays(torch.zeros(1, 3), torch.tensor([[0.2, 0.1, -1.0]]), SCALE)
    z = (origin + torch.linspace(0, 0.9, 10)[:, None] * direction)[:, 2]
    disparity = (1.0 - z) / 2.0  # 1 / depth
    torch.testing.assert_close(disparity, 1.0 - torch.linspace(0, 0.9, 10))


def test_rays_that_have_no_device_coordinates_stay_finite():
    directions = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    for part in ndc_rays(torch.zeros(2, 3), directions, SCALE):
        assert torch.isfinite(part).all()
    assert torch.isfinite(ndc_distance(torch.ones(2), torch.zeros(2, 3), directions)).all()
