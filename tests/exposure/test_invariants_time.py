"""Time in an exposure: it may run backward, matters only to what moves, and draws streaks as long as what moved."""

import pytest
import torch
from exposure_motions import at_rest, can_move, gliding
from exposure_pairs import (
    each_pair,
    exposure_model,
    modules_of,
    opens_a_shutter,
    rendered,
    scene_of,
    scene_with,
    set_half_exposure,
    stand_still,
    stirred_model,
)
from exposure_scenes import FRAMES, IDENTITY
from torch import Tensor

from dyngs_plugins.exposure.base import GAMMA
from dyngs_plugins.exposure.path import PathExposure
from dyngs_plugins.exposure.shutter import Shutter
from dyngs_plugins.scene import Scene, Views


@each_pair(opens_a_shutter)
def test_time_may_run_backward(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    forward = rendered(scene)
    for part in modules_of(scene.exposure, PathExposure):
        part.path = lambda index, cameras, u, path=part.path: path(index, cameras, 1 - u)
    for shutter in modules_of(scene.exposure, Shutter):
        shutter.half_exposure = lambda index, half=shutter.half_exposure: -half(index)
    torch.testing.assert_close(rendered(scene), forward, atol=1e-6, rtol=1e-5)


@each_pair(opens_a_shutter)
def test_where_nothing_moves_the_exposure_time_does_not_matter(motion: str, exposure: str):
    scene = scene_with(at_rest(motion), stirred_model(exposure))
    images = []
    for half_exposure in (0.0, 0.05, 0.9):
        set_half_exposure(scene.exposure, half_exposure)
        images.append(rendered(scene))
    torch.testing.assert_close(images[1], images[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(images[2], images[0], atol=1e-6, rtol=1e-5)


# Streaks --------------------------------------------------------------------------------------------------------------

FOCAL, DEPTH, SPEED, INSTANTS = 40.0, 4.0, 4.0, 41
"""Focal length in pixels, depth in scene units, speed in pixels per frame, instants of an exposure."""


def along_x(scene: Scene, mode: str) -> Tensor:
    """Linear light, summed over the rows of the image."""
    K = torch.tensor([[FOCAL, 0, 16], [0, FOCAL, 10], [0, 0, 1]])[None]
    views = Views(IDENTITY[None], K, torch.tensor([0.5]), 32, 20, torch.tensor([0]))
    image = rendered(scene, views, mode)[0, ..., 0].detach()
    return (image**GAMMA if scene.exposure.blend == "linear" else image).sum(0)


def middle_and_variance(light: Tensor) -> tuple[float, float]:
    x = torch.arange(len(light)) + 0.5
    middle = (light * x).sum() / light.sum()
    return float(middle), float((light * (x - middle) ** 2).sum() / light.sum())


@each_pair(opens_a_shutter, can_move)
def test_what_moves_leaves_a_streak_of_twice_the_half_exposure_times_its_speed(motion: str, exposure: str):
    moved = gliding(motion, (SPEED * (FRAMES - 1) * DEPTH / FOCAL, 0.0, 0.0), size=0.1)
    field, dynamic = moved
    scene = Scene([dynamic], field, exposure_model(exposure, instants=INSTANTS))
    stand_still(scene.exposure)
    for half_exposure in (0.4, 0.8):
        set_half_exposure(scene.exposure, half_exposure)
        streak, sharp = along_x(scene, "train"), along_x(scene, "mid")
        torch.testing.assert_close(streak.sum(), sharp.sum(), atol=0.0, rtol=0.02)
        (middle, variance), (sharp_middle, sharp_variance) = middle_and_variance(streak), middle_and_variance(sharp)
        assert middle == pytest.approx(sharp_middle, abs=0.1)
        length = (12 * (variance - sharp_variance)) ** 0.5  # of a box
        assert length == pytest.approx(2 * half_exposure * SPEED, rel=0.05)
