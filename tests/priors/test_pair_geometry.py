"""Evidence of motion without poses: a turning camera, a moving one, and poses that are wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.masks_epipolar import EpipolarMasks, poses_are_usable
from dyngs_plugins.priors.providers.multiview import FitSettings, induced_flow
from dyngs_plugins.priors.providers.pair_geometry import pair_fit, pair_geometry, poses_explain_flow

SIZE = (60, 80)
THING = np.s_[20:40, 30:50]


def inputs_of(step: float, jump: tuple[float, float] = (0.0, 0.0), turned: float = 0.02) -> PriorInputs:
    """A camera that turns and moves `step` per frame past a hilly world, in which a square jumps `jump` px a frame."""
    count = 9
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        angle = turned * i
        poses[i, :3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        poses[i, :3, 3] = step * i, 0.3 * step * i, 0.0
    K = np.array([[70.0, 0, SIZE[1] / 2], [0, 70.0, SIZE[0] / 2], [0, 0, 1]])
    files = tuple(Path(f"{i:05d}.png") for i in range(count))
    frames = FrameSequence("camera0", files, tuple(range(count)), SIZE, poses, np.tile(K, (count, 1, 1)))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    hills = (0.4 + 0.2 * np.sin(x / 9.0) + 0.15 * np.cos(y / 7.0)).astype(np.float32)

    def flow(i: int, j: int) -> np.ndarray:
        field = induced_flow(frames, i, j, hills)
        field[THING] += np.array(jump, np.float32) * (j - i)
        return field

    inputs = PriorInputs(frames, DISFlow(), {"flow": flow})
    inputs.flow_error = lambda i, j: np.zeros(SIZE, np.float32)  # type: ignore[method-assign]
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    inputs.image = lambda i: image  # type: ignore[method-assign]
    return inputs


def test_a_turning_camera_is_a_homography_and_a_moving_one_is_not():
    assert pair_geometry(inputs_of(step=0.0), 2, 6).planar
    assert not pair_geometry(inputs_of(step=0.2), 2, 6).planar


@pytest.mark.parametrize("step", [0.0, 0.2])
def test_flow_of_what_stands_still_is_its_own_still_flow(step):
    inputs = inputs_of(step)
    flow = inputs.flow(2, 6)
    np.testing.assert_allclose(pair_geometry(inputs, 2, 6).still_flow(flow), flow, atol=0.05)


def test_the_still_flow_is_the_nearest_point_on_the_epipolar_line():
    inputs = inputs_of(step=0.2)
    geometry, flow = pair_geometry(inputs, 2, 6), inputs.flow(2, 6)
    there = np.random.default_rng(1).normal(size=(*SIZE, 2)).astype(np.float32) * 4 + flow
    still = geometry.still_flow(there)
    np.testing.assert_allclose(geometry.still_flow(still), still, atol=1e-3)
    along = still - flow  # both on the line, so their difference runs along it
    np.testing.assert_allclose(((there - still) * along).sum(-1), 0.0, atol=0.05 * 16)


@pytest.mark.parametrize("step", [0.0, 0.2])
def test_what_moves_stands_out_whether_the_camera_moves_or_turns(step):
    fit = pair_fit(inputs_of(step, jump=(0.5, 1.0)), 4, FitSettings())
    outside = np.ones(SIZE, bool)
    outside[THING] = False
    assert np.median(fit.misfit[THING]) > 3.0
    assert np.quantile(fit.misfit[outside], 0.95) < 1.5
    assert (fit.trust == 1).all()


def test_right_poses_are_used_and_wrong_ones_are_not():
    inputs = inputs_of(step=0.2)
    assert poses_explain_flow(inputs)
    assert poses_are_usable(inputs)
    poses = inputs.frames.world_T_camera.copy()
    poses[3:, :3, :3] = np.eye(3)
    inputs.frames = dataclasses.replace(inputs.frames, world_T_camera=poses)
    assert not poses_explain_flow(inputs)
    assert not EpipolarMasks().uses_poses(inputs)
    assert EpipolarMasks(geometry="poses").uses_poses(inputs)


def test_a_camera_that_only_turns_needs_no_poses():
    assert not poses_are_usable(inputs_of(step=0.0))
    assert not poses_are_usable(inputs_of(step=0.0, turned=0.0))
