"""Checkpoints of every pair come back, and those of another clip are refused in words."""

import pytest
import torch
from exposure_pairs import (
    EXPOSURES,
    each_pair,
    exposure_model,
    keeps_something_of_each_view,
    rendered,
    scene_of,
    stirred_model,
)
from exposure_scenes import VIEWS, stir


@each_pair()
def test_a_checkpoint_brings_everything_back(motion: str, exposure: str):
    scene, other = scene_of(motion, exposure), scene_of(motion, exposure)
    stir(other, 0.1, seed=9)
    image = rendered(scene)
    assert float((rendered(other) - image).abs().max()) > 1e-3
    other.load_state_dict(scene.state_dict())
    torch.testing.assert_close(rendered(other), image)


@pytest.mark.parametrize("exposure", [name for name in EXPOSURES if keeps_something_of_each_view(name)])
def test_a_checkpoint_of_a_clip_with_other_views_is_refused(exposure: str):
    longer = exposure_model(exposure, views=VIEWS + 1)
    with pytest.raises(ValueError, match="The first number is that of training views"):
        longer.load_state_dict(stirred_model(exposure).state_dict())
