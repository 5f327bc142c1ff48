"""The gauge of paths: a motion of the given camera and its opposite at the start of every path make the same image."""

import pytest
import torch
from exposure_pairs import (
    EXPOSURES,
    VIEW,
    each_pair,
    modules_of,
    moves_the_camera,
    rendered,
    scene_of,
    stirred_model,
)
from exposure_scenes import arguments
from torch import Tensor

from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.path import PathExposure
from dyngs_plugins.scene import Views

G = se3.exp(torch.tensor([0.05, -0.03, 0.08, 0.02, 0.04, -0.03]))


def put_before(part: PathExposure, name: str, cameras: Tensor) -> None:
    """``T <- G T`` for a method of a path that gives ``T``, whatever its own parameters are.

    A path that is a function of the camera's pose stays the one it was for ``cameras``.
    """
    motion = getattr(part, name)
    setattr(part, name, lambda index, _, u: G @ motion(index, cameras[index], u))


@each_pair(moves_the_camera)
def test_another_given_camera_with_the_opposite_motion_before_its_path_makes_the_same_image(motion: str, exposure: str):
    """``world_T_camera <- world_T_camera G^-1`` with ``T <- G T``: what the anchor, or a pinned middle, decides."""
    scene = scene_of(motion, exposure)
    image = rendered(scene)
    moved = Views(G @ VIEW.camera_T_world, VIEW.K, VIEW.time, VIEW.width, VIEW.height, VIEW.index)
    for part in modules_of(scene.exposure, PathExposure):
        put_before(part, "path", VIEW.camera_T_world)
    torch.testing.assert_close(rendered(scene, moved), image, atol=1e-5, rtol=1e-4)
    assert bool(((rendered(scene) - image).abs() > 0.01).any())


@pytest.mark.parametrize("exposure", [name for name in EXPOSURES if moves_the_camera(name)])
def test_a_pinned_middle_leaves_no_such_choice(exposure: str):
    model = stirred_model(exposure)
    for part in modules_of(model, PathExposure):
        part.config.pin_middle = True
    before = model.instants(*arguments(VIEW), mode="train").camera_T_world
    for part in modules_of(model, PathExposure):
        put_before(part, "motion", VIEW.camera_T_world)
    after = model.instants(*arguments(VIEW), mode="train").camera_T_world
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5)
    given = VIEW.camera_T_world.repeat_interleave(len(before) // len(VIEW), dim=0)
    assert bool(((before - given).abs() > 1e-3).any())
