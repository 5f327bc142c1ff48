"""Where every exposure is sharp: closed to nothing, in its middle, and for cameras that are no training views."""

import pytest
import torch
from exposure_pairs import (
    EXPOSURES,
    MOTIONS,
    VIEW,
    each_pair,
    exposure_configs,
    opens_a_shutter,
    rendered,
    scene_of,
    set_half_exposure,
    stand_still,
)
from exposure_scenes import FRAMES, VIEWS, arguments, make_views

from dyngs_plugins.exposure.base import InstantExposure, InstantExposureConfig
from dyngs_plugins.exposure.product import ProductExposureConfig
from dyngs_plugins.scene import Views


def instant() -> InstantExposure:
    return InstantExposureConfig().setup(num_views=VIEWS, num_frames=FRAMES)


def test_there_are_pairs_to_test():
    assert len(MOTIONS) >= 2
    assert len(EXPOSURES) >= 8


@each_pair()
def test_an_exposure_of_no_length_is_sharp(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    stand_still(scene.exposure)
    set_half_exposure(scene.exposure, 0.0)
    blurred = scene.render(VIEW, mode="train", needs=("dynamic", "depth"))
    scene.exposure = instant()
    sharp = scene.render(VIEW, mode="train", needs=("dynamic", "depth"))
    for name in sharp.channels:
        torch.testing.assert_close(blurred.channels[name], sharp.channels[name], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(blurred.alpha, sharp.alpha, atol=1e-6, rtol=1e-6)
    # Depth is divided by alpha, whose rounding counts where little is seen.
    torch.testing.assert_close(blurred.depth * sharp.alpha, sharp.depth * sharp.alpha, atol=1e-6, rtol=2e-6)


@each_pair()
def test_the_middle_is_one_instant_and_among_those_averaged(motion: str, exposure: str):
    """That at u = 1/2. Of a lens it is the centre: the mean of its points."""
    scene = scene_of(motion, exposure)
    several = scene.exposure.instants(*arguments(VIEW), mode="train")
    start, middle, end = (scene.exposure.instants(*arguments(VIEW), mode=mode) for mode in ("start", "mid", "end"))
    for one in (start, middle, end):
        assert torch.equal(one.view, torch.arange(VIEWS))
        assert torch.equal(one.weight, torch.ones(VIEWS))
        assert one.lens is None
    assert torch.equal(middle.time, VIEW.time)
    for view in range(VIEWS):
        times = several.time[several.view == view]
        assert start.time[view] <= times.min() <= middle.time[view] <= times.max() <= end.time[view]
        assert (start.time[view] < end.time[view]) == opens_a_shutter(exposure)
        rows = (several.view == view) & ((several.time - middle.time[view]).abs() < 1e-6)
        torch.testing.assert_close(several.camera_T_world[rows].mean(0), middle.camera_T_world[view])
        torch.testing.assert_close(several.K[rows].mean(0), middle.K[view])


@each_pair()
def test_the_middle_is_what_its_camera_sees(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    middle = scene.exposure.instants(*arguments(VIEW), mode="mid")
    image = rendered(scene, mode="mid")
    scene.exposure = instant()
    there = Views(middle.camera_T_world, middle.K, middle.time, VIEW.width, VIEW.height, VIEW.index)
    torch.testing.assert_close(image, rendered(scene, there), atol=1e-6, rtol=1e-6)


@each_pair()
def test_cameras_that_are_no_training_views_are_sharp_and_as_given(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    foreign = make_views(None, VIEW.width, VIEW.height)
    for mode in ("train", "mid", "start", "end"):
        instants = scene.exposure.instants(*arguments(foreign), mode=mode)
        assert torch.equal(instants.camera_T_world, foreign.camera_T_world)
        assert torch.equal(instants.time, foreign.time)
        assert torch.equal(instants.K, foreign.K)
        assert instants.lens is None
    assert scene.exposure.regularisers(None) == {}
    image = rendered(scene, foreign)
    scene.exposure = instant()
    assert torch.equal(image, rendered(scene, foreign))


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_only_an_instant_is_sharp_alone_and_in_a_product(exposure: str):
    """Where an exposure is not, the viewer and the evaluation look for cameras that training has found."""
    config = exposure_configs()[exposure]
    model = config.setup(num_views=VIEWS, num_frames=FRAMES)
    product = ProductExposureConfig(parts=(InstantExposureConfig(), config)).setup(num_views=VIEWS, num_frames=FRAMES)
    assert model.sharp == product.sharp == isinstance(model, InstantExposure)
