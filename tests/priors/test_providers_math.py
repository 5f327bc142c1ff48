"""Closed forms behind the providers: flow algebra, still points under known cameras, completion, votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dyngs_plugins.priors.providers.base import query_pixels
from dyngs_plugins.priors.providers.completion import complete
from dyngs_plugins.priors.providers.depth_multiview import carried_disparity
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.flow_math import compose_flow, pixel_grid, round_trip_error, sample, warp
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.masks_epipolar import clean
from dyngs_plugins.priors.providers.moving_depth import contact_disparity
from dyngs_plugins.priors.providers.multiview import (
    FitSettings,
    fit_frame,
    induced_flow,
    observed_disparity_range,
    sampson_error,
)
from dyngs_plugins.priors.providers.temporal import vote
from dyngs_plugins.priors.providers.tracks_chained import carried_by_neighbours

SIZE = (40, 56)


def camera_row(count: int = 9, step: float = 0.1) -> FrameSequence:
    """Cameras in a row along x, all looking along z, with a slight turn; the images do not exist."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        angle = 0.01 * i
        poses[i, :3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        poses[i, :3, 3] = step * i, 0.02 * i, 0.0
    K = np.array([[50.0, 0, SIZE[1] / 2], [0, 50.0, SIZE[0] / 2], [0, 0, 1]])
    files = tuple(Path(f"{i:05d}.png") for i in range(count))
    return FrameSequence("camera0", files, tuple(range(count)), SIZE, poses, np.tile(K, (count, 1, 1)))


def still_inputs(disparity: np.ndarray, frames: FrameSequence, noise: float = 0.0) -> PriorInputs:
    """Inputs whose flow is exactly that of one fronto-parallel world of `disparity`, plus noise."""
    rng = np.random.default_rng(0)

    def flow(i: int, j: int) -> np.ndarray:
        return induced_flow(frames, i, j, disparity) + noise * rng.normal(size=(*SIZE, 2)).astype(np.float32)

    inputs = PriorInputs(frames, DISFlow(), {"flow": flow})
    image = rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    inputs.image = lambda i: image  # type: ignore[method-assign]
    return inputs


def test_constant_flows_compose_by_addition_and_return():
    first, second = np.zeros((*SIZE, 2), np.float32), np.zeros((*SIZE, 2), np.float32)
    first[...] = 2.0, -1.0
    second[...] = 0.5, 3.0
    np.testing.assert_allclose(compose_flow(first, second), first + second)
    error = round_trip_error(first, -first)
    assert np.isinf(error[:, -1]).all(), "what leaves the image has no way back"
    np.testing.assert_allclose(error[5:-5, 5:-5], 0.0, atol=1e-6)


def test_sampling_is_bilinear_with_integer_pixel_centres():
    ramp = pixel_grid(*SIZE)
    points = np.array([[3.25, 7.5], [0.0, 0.0], [54.9, 38.1]], np.float32)
    np.testing.assert_allclose(sample(ramp, points), points, atol=0.02)
    many = np.tile(points, (20000, 1))  # more rows than one call of OpenCV takes
    assert sample(ramp, many).shape == (60000, 2)
    assert sample(ramp, np.zeros((0, 2), np.float32)).shape == (0, 2)
    assert warp(np.zeros((*SIZE, 1), np.float32), ramp * 0).shape == (*SIZE, 1)


def test_induced_flow_of_a_sideways_camera_is_focal_times_baseline_times_disparity():
    frames = camera_row()
    frames.world_T_camera[:, :3, :3] = np.eye(3)
    flow = induced_flow(frames, 0, 3, np.full(SIZE, 0.5, np.float32))
    np.testing.assert_allclose(flow[..., 0], -50.0 * 0.3 * 0.5, atol=1e-4)
    np.testing.assert_allclose(flow[..., 1], -50.0 * 0.06 * 0.5, atol=1e-4)


def test_still_points_lie_on_epipolar_lines_and_moving_ones_do_not():
    frames = camera_row()
    disparity = np.random.default_rng(1).uniform(0.1, 1.0, SIZE).astype(np.float32)
    flow = induced_flow(frames, 2, 6, disparity)
    assert sampson_error(frames, 2, 6, flow).max() < 1e-3
    assert np.median(sampson_error(frames, 2, 6, flow + np.float32([0.0, 3.0]))) > 1.0


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 1e-3), (0.2, 0.04)])
def test_fit_recovers_the_inverse_depth_of_a_still_world(noise, tolerance):
    frames = camera_row()
    truth = np.fromfunction(lambda y, x: 0.3 + 0.004 * x + 0.002 * y, SIZE).astype(np.float32)
    fit = fit_frame(still_inputs(truth, frames, noise), 4, FitSettings())
    seen = fit.trust > 0.5
    assert seen.mean() > 0.5
    assert np.median(np.abs(fit.disparity / truth - 1)[seen]) < tolerance
    assert np.median(fit.misfit[seen]) < 1.2


def test_fit_reports_what_moves_along_epipolar_lines():
    """The epipolar residual of one pair is blind to it; the several baselines are not."""
    frames = camera_row()
    still = np.full(SIZE, 0.4, np.float32)
    inputs = still_inputs(still, frames)
    exact = inputs._read["flow"]

    def moving(i: int, j: int) -> np.ndarray:
        flow = exact(i, j).copy()
        along = induced_flow(frames, i, j, still * 1.5) - induced_flow(frames, i, j, still)
        flow[10:30, 20:40] += along[10:30, 20:40] * abs(j - i) * 0.5  # speeds up: no single depth explains it
        return flow

    inputs._read = {"flow": moving}
    inputs.flow_error = lambda i, j: np.zeros(SIZE, np.float32)  # type: ignore[method-assign]
    fit = fit_frame(inputs, 4, FitSettings())
    assert np.median(fit.misfit[12:28, 22:38]) > 2.0
    assert np.median(fit.misfit[32:, :]) < 0.5


def test_a_camera_that_only_turns_shows_no_parallax():
    frames = camera_row(step=0.0)
    frames.world_T_camera[:, :3, 3] = 0.0
    assert observed_disparity_range(still_inputs(np.full(SIZE, 0.5, np.float32), frames)) is None


def test_disparity_carried_from_another_camera_is_the_same_surface():
    frames = camera_row()
    wall = 3.0  # the plane z = 3 of the first camera's axes, seen from cameras that are turned
    normal = np.array([0.0, 0.0, 1.0])

    def disparity(i: int) -> np.ndarray:
        ray = np.concatenate([pixel_grid(*SIZE) + 0.5, np.ones((*SIZE, 1))], -1) @ np.linalg.inv(frames.K[i]).T
        R, t = frames.world_T_camera[i, :3, :3], frames.world_T_camera[i, :3, 3]
        return ((ray @ R.T) @ normal / (wall - t @ normal)).astype(np.float32)

    flow = induced_flow(frames, 1, 5, disparity(1))
    carried = carried_disparity(frames, 1, 5, flow, warp(disparity(5), flow))
    inside = round_trip_error(flow, induced_flow(frames, 5, 1, disparity(5))) < 0.5
    np.testing.assert_allclose(carried[inside], disparity(1)[inside], rtol=2e-3)


def test_completion_keeps_data_fills_gaps_and_stops_at_edges():
    image = np.zeros((64, 160, 3), np.uint8)
    image[:, 80:] = 200
    values = np.where(np.arange(160) < 80, 1.0, 3.0)[None].repeat(64, 0).astype(np.float32)
    weight = np.zeros((64, 160), np.float32)
    weight[::9, ::9] = 1.0
    result = complete(values, weight, image, smoothness=1.0)
    np.testing.assert_allclose(result[:, :70], 1.0, atol=0.1)
    np.testing.assert_allclose(result[:, 90:], 3.0, atol=0.1)
    with pytest.raises(ValueError, match="nothing to complete from"):
        complete(values, np.zeros_like(weight), image)


def test_completion_in_regions_does_not_mix_them():
    image = np.full((40, 40, 3), 90, np.uint8)
    regions = np.zeros((40, 40), np.int32)
    regions[:, 20:] = 1
    values = np.where(regions == 1, 5.0, 2.0).astype(np.float32)
    weight = np.zeros((40, 40), np.float32)
    weight[20, [3, 36]] = 1.0
    result = complete(values, weight, image, regions=regions)
    np.testing.assert_allclose(result, values, atol=1e-2)


def test_coarse_to_fine_completion_agrees_with_the_direct_one(monkeypatch):
    from dyngs_plugins.priors.providers import completion

    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 255, (12, 12, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    values = rng.normal(size=(120, 120)).astype(np.float32)
    weight = (rng.random((120, 120)) < 0.2).astype(np.float32)
    fine = complete(values, weight, image)
    monkeypatch.setattr(completion, "_DIRECT", 10**9)
    np.testing.assert_allclose(fine, complete(values, weight, image), atol=2e-3)


def test_a_thing_on_the_ground_stands_where_it_touches_it():
    background = np.linspace(0.1, 1.0, 60)[:, None].repeat(80, 1).astype(np.float32)  # nearer further down
    thing = np.zeros((60, 80), bool)
    thing[15:41, 30:50] = True
    assert contact_disparity(background, thing, thing) == pytest.approx(background[42, 0], rel=0.03)


def test_hidden_points_move_with_their_neighbours():
    queries = query_pixels(np.ones((24, 24), bool), 4)
    assert queries.shape == (36, 2)
    np.testing.assert_array_equal(queries[:3], [[0, 0], [4, 0], [8, 0]])  # raster order
    known = np.arange(36) % 3 > 0
    shift = np.tile(np.float32([2.0, -1.0]), (36, 1))
    np.testing.assert_allclose(carried_by_neighbours(queries, shift * known[:, None], known, 4), shift, rtol=1e-3)
    assert not carried_by_neighbours(queries, shift, np.zeros(36, bool), 4).any()


def test_votes_follow_the_flow():
    """A square moves two pixels per frame and flickers; the vote sees it in the frame without it too."""
    frames = camera_row(5)
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = 2.0
    inputs = PriorInputs(frames, DISFlow(), {"flow": lambda i, j: flow * (j - i)})

    def square(i: int) -> np.ndarray:
        mask = np.zeros((*SIZE, 1), np.float32)
        if i != 2:
            mask[10:20, 20 + 2 * i : 30 + 2 * i] = 1.0
        return mask

    voted = vote(inputs, 2, 2, square, lambda i: np.ones(SIZE, np.float32))[..., 0]
    assert voted[15, 30] == pytest.approx(0.667, abs=0.01)
    assert voted[30, 30] == 0.0


def test_cleaning_removes_specks_and_fills_holes():
    mask = np.zeros((50, 50), bool)
    mask[10:40, 10:40] = True
    mask[20:22, 20:22] = False
    mask[2:4, 2:4] = True
    cleaned = clean(mask, 0.01)
    assert cleaned[10:40, 10:40].mean() > 0.98
    assert not cleaned[:8, :8].any()


def test_flow_says_when_images_are_too_small():
    with pytest.raises(ValueError, match="12x10 are too small for DIS flow"):
        DISFlow().estimate(np.zeros((10, 12, 3), np.uint8), np.zeros((10, 12, 3), np.uint8))
