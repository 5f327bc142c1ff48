"""Smaller copies of the frames say the same as the frames, and results come back sharp."""

from __future__ import annotations

import gc
from pathlib import Path

import cv2
import numpy as np
import pytest

from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.flow_math import pixel_grid
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.multiview import induced_flow
from dyngs_plugins.priors.providers.working_size import _WORKING, WorkingInputs, enlarged, flow_at, working_inputs

SIZE = (60, 96)


@pytest.fixture
def inputs(tmp_path) -> PriorInputs:
    rng, files, poses = np.random.default_rng(0), [], np.tile(np.eye(4), (4, 1, 1))
    for i in range(4):
        poses[i, 0, 3] = 0.1 * i
        files.append(tmp_path / f"{i:05d}.png")
        cv2.imwrite(str(files[-1]), cv2.GaussianBlur(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8), (0, 0), 2))
    K = np.array([[80.0, 0, SIZE[1] / 2], [0, 80.0, SIZE[0] / 2], [0, 0, 1]])
    frames = FrameSequence("camera0", tuple(files), (0, 1, 2, 3), SIZE, poses, np.tile(K, (4, 1, 1)))
    still = np.full(SIZE, 0.5, np.float32)
    mask = np.zeros(SIZE, bool)
    mask[20:40, 30:50] = True
    read = {"flow": lambda i, j: induced_flow(frames, i, j, still), "masks": lambda i, j: mask}
    return PriorInputs(frames, DISFlow(), read)


def test_frames_that_are_small_enough_stay_what_they_are(inputs):
    assert working_inputs(inputs, 96) is inputs
    assert working_inputs(inputs, 0) is inputs
    assert working_inputs(working_inputs(inputs, 48), 24) is working_inputs(inputs, 48)


def test_a_small_world_is_the_same_world(inputs):
    small = working_inputs(inputs, 48)
    assert small is working_inputs(inputs, 48)
    assert small.frames.size == (30, 48)
    assert small.image(2).shape == (30, 48, 3)
    assert small.mask(1).sum() == 100
    still = np.full((30, 48), 0.5, np.float32)
    np.testing.assert_allclose(small.flow(0, 3), induced_flow(small.frames, 0, 3, still), atol=2e-3)


def test_both_sizes_share_one_budget_of_memory(inputs):
    before = inputs.flow_budget
    small = working_inputs(inputs, 48)
    working_inputs(inputs, 48)
    assert inputs.flow_budget + small.flow_budget == pytest.approx(before, abs=4)
    assert inputs._flows.budget + small._flows.budget == pytest.approx(before, abs=4)
    assert small.flow(0, 3).dtype == np.float32


def test_flow_at_points_is_in_pixels_of_the_full_image(inputs):
    small = working_inputs(inputs, 48)
    points = np.array([[10.0, 20.0], [70.5, 33.0]], np.float32)
    for j in (1, 3):
        expected = inputs.flow(0, j)[10, 10]
        np.testing.assert_allclose(flow_at(inputs, small, 0, j)(points), [expected, expected], atol=5e-3)


def test_small_copies_go_with_their_inputs(tmp_path):
    frames = FrameSequence.without_cameras("camera0", (Path("a.png"),), (0,), SIZE)
    inputs = PriorInputs(frames, DISFlow(), {})
    assert isinstance(working_inputs(inputs, 48), WorkingInputs)
    before = len(_WORKING)
    del inputs
    gc.collect()
    assert len(_WORKING) < before


def test_enlarged_maps_break_where_image_and_labels_do():
    height, width = 60, 80
    image = np.zeros((height, width, 3), np.uint8)
    image[:, 33:] = 200
    labels = np.zeros((height, width), np.int32)
    labels[31:] = 1
    values = (image[..., 0] / 100.0 + 5.0 * labels).astype(np.float32)
    small_image = cv2.resize(image, (20, 15), interpolation=cv2.INTER_AREA)
    small_labels = cv2.resize(labels.astype(np.float32), (20, 15), interpolation=cv2.INTER_AREA) > 0.5
    small = np.where(small_image[..., 0] > 100, 2.0, 0.0) + 5.0 * small_labels
    result = enlarged(small.astype(np.float32), small_image, image, small_labels.astype(np.int32), labels)
    np.testing.assert_allclose(result, values, atol=0.05)


def test_enlarged_ramps_are_ramps():
    height, width = 60, 80
    image, labels = np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), np.int32)
    ramp = pixel_grid(height, width)[..., 0]
    small = cv2.resize(ramp, (40, 30), interpolation=cv2.INTER_AREA)
    result = enlarged(small, image[::2, ::2], image, labels[::2, ::2], labels)
    np.testing.assert_allclose(result[:, 4:-4], ramp[:, 4:-4], atol=0.6)
