"""Checkpoints of every pair come back, and those of another clip are refused in words."""

import copy

import pytest
import torch
from exposure_motions import stirred
from exposure_pairs import (
    EXPOSURES,
    MOTIONS,
    each_pair,
    exposure_model,
    keeps_something_of_each_view,
    rendered,
    scene_of,
    scene_with,
    shapes_of,
)
from exposure_scenes import FRAMES, VIEWS, stir
from used_motions import smaller_motion_configs

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.scene import DYNAMIC, STATIC, Scene


@each_pair()
def test_a_checkpoint_brings_everything_back(motion: str, exposure: str):
    scene, other = scene_of(motion, exposure), scene_with(stirred(motion), exposure_model(exposure))
    stir(other, 0.1, seed=9)
    image = rendered(scene)
    assert bool(((rendered(other) - image).abs() > 1e-3).any())
    other.load_state_dict(scene.state_dict())
    torch.testing.assert_close(rendered(other), image)


def field_of(motion: str, frames: int) -> MotionField:
    return copy.deepcopy(smaller_motion_configs()[motion]).setup(num_frames=frames)


def keeps_something_of_each_frame(motion: str) -> bool:
    return shapes_of(field_of(motion, FRAMES)) != shapes_of(field_of(motion, FRAMES + 1))


OF_THEIR_CLIP = [
    (motion, exposure)
    for motion in MOTIONS
    for exposure in EXPOSURES
    if keeps_something_of_each_frame(motion) or keeps_something_of_each_view(exposure)
]
"""Pairs whose checkpoints tell how long their clip is."""
REFUSED = "on the same clip|the clip it was trained on"


@pytest.mark.parametrize(("motion", "exposure"), OF_THEIR_CLIP, ids=["-".join(pair) for pair in OF_THEIR_CLIP])
def test_a_checkpoint_of_a_shorter_clip_is_refused(motion: str, exposure: str):
    field = field_of(motion, FRAMES + 1)
    sets = [GaussianSet(DYNAMIC, field.columns()), GaussianSet(STATIC)]
    longer = Scene(sets, field, exposure_model(exposure, views=VIEWS + 1, frames=FRAMES + 1))
    saved = scene_of(motion, exposure)
    with pytest.raises(ValueError, match=REFUSED):
        longer.load_state_dict(saved.state_dict())
    if keeps_something_of_each_view(exposure):
        with pytest.raises(ValueError, match=REFUSED):
            longer.exposure.load_state_dict(saved.exposure.state_dict())
