"""Losses at their known zeros, and on nothing at all (sheet facts 11 to 13, pitfalls 1 and 2)."""

import math

import pytest
import torch
from simulated_cuda import SimulatedCuda

from dyngs_plugins.losses import image, motion, robust, tracks


def test_masked_l1_weights_and_trims():
    prediction = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
    target = torch.zeros(4, 1)
    assert float(robust.masked_l1(prediction, target)) == pytest.approx(106 / 4)
    assert float(robust.masked_l1(prediction, target, quantile=0.75)) == pytest.approx(2.0)
    weight = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert float(robust.masked_l1(prediction, target, weight)) == pytest.approx(2.0)


def test_constant_error_is_not_trimmed_away():
    prediction = torch.ones(10, 1, requires_grad=True)
    loss = robust.masked_l1(prediction, torch.zeros(10, 1), quantile=0.98)
    loss.backward()
    assert float(loss) == pytest.approx(1.0)
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("quantile", [1.0, 0.98])
def test_empty_and_weightless_input_is_zero_with_a_graph(quantile):
    for rows in (0, 5):
        prediction = torch.randn(rows, 2, requires_grad=True)
        loss = robust.masked_l1(prediction, torch.randn(rows, 2), torch.zeros(rows), quantile)
        loss.backward()
        assert float(loss) == 0.0
        assert prediction.grad.abs().sum() == 0


def test_quantile_of_more_values_than_torch_allows():
    values = torch.arange(17_000_000, dtype=torch.float32)
    assert float(robust.upper_quantile(values, 0.5)) == pytest.approx(8_500_000, rel=1e-6)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 1.0])
def test_a_device_finds_the_same_quantile(q):
    numbers = torch.randn(1001, generator=torch.Generator().manual_seed(2))
    with SimulatedCuda():
        for values in (numbers, numbers.round(decimals=1)):  # the second with equal ones
            assert float(robust.upper_quantile(values.to("cuda"), q)) == float(robust.upper_quantile(values, q))


def depth_image(seed=0):
    return torch.rand(2, 12, 16, 1, generator=torch.Generator().manual_seed(seed)) + 0.5


def test_depth_losses_are_zero_at_the_target():
    depth = depth_image()
    valid = torch.ones(2, 12, 16, dtype=torch.bool)
    assert float(image.depth_l1(depth, depth[..., 0], valid)) == 0.0
    assert float(image.depth_gradient_l1(depth, depth[..., 0], valid)) == 0.0


def test_depth_gradient_ignores_a_constant_in_disparity():
    depth = depth_image().double()
    shifted = 1.0 / (1.0 / (depth + 1e-5) + 0.3) - 1e-5
    valid = torch.ones(2, 12, 16, dtype=torch.bool)
    assert float(image.depth_gradient_l1(shifted, depth[..., 0], valid)) < 1e-6
    assert float(image.depth_l1(shifted, depth[..., 0], valid)) == pytest.approx(0.3, abs=1e-3)


def test_depth_losses_on_no_valid_pixel():
    depth = depth_image().requires_grad_()
    valid = torch.zeros(2, 12, 16, dtype=torch.bool)
    loss = image.depth_l1(depth, depth[..., 0].detach(), valid) + image.depth_gradient_l1(depth, depth[..., 0], valid)
    loss.backward()
    assert float(loss) == 0.0


def test_photometric_paints_invalid_pixels_in_both_images():
    a, b = torch.rand(1, 16, 16, 3), torch.rand(1, 16, 16, 3)
    assert float(image.photometric(a, b, torch.zeros(1, 16, 16, dtype=torch.bool))) == pytest.approx(0.0, abs=1e-6)
    assert float(image.photometric(a, a)) == pytest.approx(0.0, abs=1e-6)
    assert float(image.photometric(a, b)) > 0.1


def test_coverage_is_zero_for_a_full_image_with_the_right_mask():
    mask = (torch.rand(1, 8, 8) > 0.5).float()
    alpha = torch.ones(1, 8, 8, 1)
    assert float(image.coverage(alpha, mask[..., None], mask, None)) == 0.0
    assert float(image.coverage(alpha * 0, mask[..., None], mask, None)) == 1.0


def predictions(weight: torch.Tensor) -> tracks.TrackPredictions:
    K = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]).expand(3, 3, 3)
    points = torch.tensor([[0.1, 0.2, 2.0], [0, 0, 1.0], [-0.5, 0.1, 4.0]], requires_grad=True)
    xy = (tracks.project(points, K) - 0.5).detach()
    return tracks.TrackPredictions(points, K, xy, points[:, 2].detach(), weight)


def test_track_losses_are_zero_on_the_observation_and_in_pixels_off_it():
    found = predictions(torch.ones(3))
    assert float(tracks.track_2d(found, 100)) == pytest.approx(0.0, abs=1e-6)
    assert float(tracks.track_depth(found)) == pytest.approx(0.0, abs=1e-6)
    off = tracks.TrackPredictions(found.points, found.K, found.xy + 2.0, found.depth, found.weight)
    assert float(tracks.track_2d(off, 100)) == pytest.approx(0.02, abs=1e-6)


def test_hidden_tracks_do_not_use_up_the_trimming():
    """One outlier of 100 visible points is trimmed, however far 50 hidden ones are from where they were looked for."""
    K = torch.eye(3).expand(150, 3, 3)
    points = torch.tensor([0.0, 0.0, 1.0]).repeat(150, 1)
    xy = torch.full((150, 2), 0.5)  # one pixel off
    xy[0] = 1e3
    xy[100:] = 1e4
    weight = (torch.arange(150) < 100).float()
    found = tracks.TrackPredictions(points, K, xy, torch.ones(150), weight)
    assert float(tracks.track_2d(found, 1)) == pytest.approx(1.0)


def test_track_losses_without_any_visible_track():
    found = predictions(torch.zeros(3))
    loss = tracks.track_2d(found, 100) + tracks.track_depth(found)
    loss.backward()
    assert float(loss) == 0.0


def test_points_are_projected_by_their_own_camera():
    K = torch.tensor([[[50.0, 0, 20], [0, 60, 10], [0, 0, 1]], [[5.0, 0, 2], [0, 6, 1], [0, 0, 1]]])
    points = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, -1.0]])
    projected = tracks.project(points, K)
    torch.testing.assert_close(projected, torch.tensor([[32.5, 40.0], [5e6 + 2, 12e6 + 1]]))  # z is at least 1e-6
    assert torch.equal(tracks.project(points[:, None].expand(2, 3, 3), K[:, None]), projected[:, None].expand(2, 3, 2))


def test_depths_of_tracks_count_where_they_are_known_and_something_is_rendered():
    points = torch.tensor([[0.0, 0, 2], [0, 0, 4], [0, 0, 0], [0, 0, 5]], requires_grad=True)
    depth, weight = torch.tensor([4.0, 0.0, 4.0, 4.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    found = tracks.TrackPredictions(points, torch.eye(3).expand(4, 3, 3), torch.zeros(4, 2), depth, weight)
    loss = tracks.track_depth(found)
    loss.backward()
    assert float(loss) == pytest.approx(1 / 2 - 1 / 4)
    assert points.grad is not None
    assert points.grad.any(dim=1).tolist() == [True, False, False, False]


def test_interval_weight():
    assert float(tracks.interval_weight(torch.tensor(-5), 10)) == pytest.approx(math.exp(-1))
    assert float(tracks.interval_weight(torch.tensor(0), 10)) == 1.0


def test_acceleration_is_zero_for_motion_linear_in_time():
    start, velocity = torch.randn(5, 1, 3), torch.randn(5, 1, 3)
    x = start + torch.arange(6.0)[None, :, None] * velocity
    assert float(motion.acceleration(x)) < 1e-5
    assert float(motion.acceleration(x**2)) > 0.1
    assert float(motion.acceleration(x[:, :2])) == 0.0


def test_derivatives_of_second_differences_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    moved = torch.randn(3, 2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(motion.acceleration, (x,))
    assert torch.autograd.gradcheck(motion.smooth_tracks, (moved,))
    assert torch.autograd.gradcheck(motion.motion_along_ray, (moved, torch.zeros(2, 3, dtype=torch.float64)))


def test_smooth_tracks_is_half_the_bend_and_has_no_gradient_without_one():
    now, step = torch.randn(1, 4, 3).round(), torch.tensor([0.5, 0.25, 1.0])  # sums and differences are exact
    straight = torch.stack([now - step, now, now + step]).requires_grad_()
    bend = torch.tensor([0.0, 3.0, 4.0])
    assert float(motion.smooth_tracks(torch.stack([now, now, now + bend]))) == pytest.approx(2.5, rel=1e-5)
    loss = motion.smooth_tracks(straight)
    loss.backward()
    assert float(loss) < 1e-9
    assert straight.grad is not None
    assert not straight.grad.any()


def test_motion_along_ray_ignores_motion_across_it():
    camera = torch.zeros(1, 3)
    now = torch.tensor([[[0.0, 0, 2], [0, 0, 3]]])
    across = torch.tensor([0.1, -0.2, 0.0])
    assert float(motion.motion_along_ray(torch.stack([now - across, now, now + across]), camera)) < 1e-12
    along = torch.tensor([0.0, 0, 0.1])
    moved = torch.stack([now - along, now, now + along])
    assert float(motion.motion_along_ray(moved, camera)) == pytest.approx(0.02, rel=1e-5)


def test_scale_variance_is_zero_for_isotropic_gaussians():
    assert float(motion.scale_variance(torch.randn(7, 1).expand(7, 3))) == 0.0
    assert float(motion.scale_variance(torch.randn(7, 1))) == 0.0
    assert float(motion.scale_variance(torch.tensor([[0.0, 1.0, 2.0]]))) == pytest.approx(1.0)


def test_rigidity_is_zero_for_rigid_motion_and_finite_at_coincident_points():
    canonical = torch.randn(9, 3)
    canonical[1] = canonical[0]
    canonical.requires_grad_()
    neighbours = torch.stack([(torch.arange(9) + 1) % 9, (torch.arange(9) + 2) % 9], -1)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = (canonical @ turn.T + 3.0)[None]
    loss = motion.rigidity(canonical, moved, neighbours)
    loss.backward()
    assert float(loss) < 1e-5
    assert torch.isfinite(canonical.grad).all()
    assert float(motion.rigidity(canonical, 2 * moved, neighbours)) > 0.1


@pytest.mark.parametrize("function", [motion.scale_variance, motion.acceleration])
def test_motion_losses_on_no_gaussians(function):
    empty = torch.zeros(0, 3) if function is motion.scale_variance else torch.zeros(0, 5, 3)
    assert float(function(empty)) == 0.0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quantile", [1.0, 0.98, 0.5, 0.0])
@pytest.mark.parametrize(("weighted", "counted"), [(False, False), (True, False), (False, True), (True, True)])
def test_compiled_trimmed_l1_is_the_reference(channels, quantile, weighted, counted):
    generator = torch.Generator().manual_seed(channels)
    prediction = torch.rand(4, 50, 60, channels, generator=generator).mul(3).round(decimals=2).requires_grad_()  # ties
    target = torch.rand(4, 50, 60, channels, generator=generator)
    weight = torch.rand(4, 50, 60, generator=generator) if weighted else None
    exists = torch.rand(4, 50, 60, generator=generator) > 0.3 if counted else None
    results = []
    for function in (robust.masked_l1, robust.masked_l1_reference):
        loss = function(prediction, target, weight, quantile, exists)
        (gradient,) = torch.autograd.grad(2.0 * loss, prediction)
        results.append((loss.detach(), gradient))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-9, rtol=1e-4)


def test_trimmed_l1_of_nothing_that_counts_is_zero():
    prediction = torch.rand(5, 1, requires_grad=True)
    loss = robust.masked_l1(prediction, torch.zeros(5, 1), None, 0.98, torch.zeros(5, dtype=torch.bool))
    assert float(loss) == 0.0
    loss.backward()
    assert not prediction.grad.any()
