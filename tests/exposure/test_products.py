"""The invariants of exposures, for every motion field with every exposure model (new ones are found by themselves)."""

from __future__ import annotations

import copy

import pytest
import torch
from exposure_scenes import (
    FRAMES,
    VIEWS,
    arguments,
    exposure_configs,
    make_views,
    motion_configs,
    scene_of,
    still,
    stir,
)

from dyngs_plugins.exposure.base import InstantExposureConfig
from dyngs_plugins.exposure.path import PathExposure
from dyngs_plugins.exposure.product import ProductExposureConfig
from dyngs_plugins.exposure.thin_lens import Lens
from dyngs_plugins.gaussian_sets import logit
from dyngs_plugins.scene import Scene

MOTIONS, EXPOSURES = sorted(motion_configs()), sorted(exposure_configs())
PAIRS = [(motion, exposure) for motion in MOTIONS for exposure in EXPOSURES]
each_pair = pytest.mark.parametrize(("motion", "exposure"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
VIEW = make_views(width=24, height=18)


def rendered(scene: Scene, mode="train", **changes):
    return scene.render(VIEW, mode=mode, **changes).channels["rgb"]


def parts_of(scene: Scene, kind: type) -> list:
    return [module for module in scene.exposure.modules() if isinstance(module, kind)]


def test_there_are_products_to_test():
    assert len(MOTIONS) >= 2
    assert len(EXPOSURES) >= 8


@each_pair
def test_an_exposure_of_no_length_is_sharp(motion, exposure):
    scene = scene_of(motion, exposure)
    scene.exposure = copy.deepcopy(scene.exposure)
    for module in scene.exposure.modules():
        if hasattr(module, "half_exposure"):
            module.config = copy.deepcopy(module.config)
    still(scene.exposure)
    blurred = scene.render(VIEW, mode="train", needs=("dynamic", "depth"))
    scene.exposure = InstantExposureConfig().setup(num_views=VIEWS, num_frames=FRAMES)
    sharp = scene.render(VIEW, mode="train", needs=("dynamic", "depth"))
    for name in sharp.channels:
        torch.testing.assert_close(blurred.channels[name], sharp.channels[name], atol=3e-6, rtol=1e-5)
    torch.testing.assert_close(blurred.alpha, sharp.alpha, atol=3e-6, rtol=1e-5)
    torch.testing.assert_close(blurred.depth, sharp.depth, atol=2e-5, rtol=1e-5)


@each_pair
def test_light_is_kept(motion, exposure):
    """Weights sum to one, and a scene of one colour before a wall of that colour stays as it is."""
    scene = scene_of(motion, exposure)
    instants = scene.exposure.instants(*arguments(VIEW), mode="train")
    torch.testing.assert_close(torch.zeros(VIEWS).index_add(0, instants.view, instants.weight), torch.ones(VIEWS))
    assert float(instants.time.min()) >= 0
    assert float(instants.time.max()) <= 1
    color = torch.tensor([0.2, 0.5, 0.8])
    for gaussians in scene.gaussian_sets():
        gaussians.raw["colors"].data[:] = logit(color)
    image = rendered(scene, background=color)
    torch.testing.assert_close(image, color.expand_as(image), atol=1e-5, rtol=1e-5)


@each_pair
def test_time_may_run_backward(motion, exposure):
    scene = scene_of(motion, exposure)
    forward = rendered(scene)
    for part in parts_of(scene, PathExposure):
        path, half = part.path, part.shutter.half_exposure
        part.path = lambda index, cameras, u, path=path: path(index, cameras, 1 - u)
        part.shutter.half_exposure = lambda index, half=half: -half(index)
    torch.testing.assert_close(rendered(scene), forward, atol=2e-6, rtol=1e-5)


@each_pair
def test_gradients_reach_field_and_exposure_and_the_sharp_middle_needs_no_shutter(motion, exposure):
    scene = scene_of(motion, exposure)
    ramp = torch.linspace(0, 1, 24)[:, None] + torch.linspace(0, 1, 18)[:, None, None]
    (rendered(scene).square() * ramp).sum().backward()
    for name, parameter in scene.exposure.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if "view_code" not in name:
            assert parameter.grad.abs().sum() > 0, name
    moving = [p for p in [*scene.motion.parameters(), *scene.dynamic.raw.values()] if p.grad is not None]
    assert sum(float(p.grad.abs().sum()) for p in moving) > 0
    assert all(torch.isfinite(p.grad).all() for p in moving)
    for part in parts_of(scene, PathExposure):
        shutter = part.shutter.half_exposure(VIEW.index).detach().requires_grad_()
        part.shutter.half_exposure = lambda index, shutter=shutter: shutter
        (found,) = torch.autograd.grad(rendered(scene).square().sum(), shutter, allow_unused=True)
        if motion != "StaticMotion":
            assert float(found.abs().sum()) > 0
        (found,) = torch.autograd.grad(rendered(scene, mode="mid").square().sum(), shutter, allow_unused=True)
        assert found is None or not found.any()


@each_pair
def test_the_middle_is_one_sample_and_the_middle_one(motion, exposure):
    scene = scene_of(motion, exposure)
    middle = scene.exposure.instants(*arguments(VIEW), mode="mid")
    assert len(middle.time) == VIEWS
    assert torch.equal(middle.time, VIEW.time)
    several = scene.exposure.instants(*arguments(VIEW), mode="train")
    count = len(several.time) // VIEWS
    if not parts_of(scene, Lens):
        rows = torch.arange(VIEWS) * count + count // 2
        torch.testing.assert_close(several.camera_T_world[rows], middle.camera_T_world, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(several.time[rows], middle.time, atol=1e-6, rtol=0)


@each_pair
def test_cameras_that_are_no_training_views_are_sharp_and_as_given(motion, exposure):
    scene = scene_of(motion, exposure)
    views = make_views(None)
    for mode in ("train", "mid", "start", "end"):
        instants = scene.exposure.instants(*arguments(views), mode=mode)
        assert torch.equal(instants.camera_T_world, views.camera_T_world)
        assert torch.equal(instants.time, views.time)
        assert instants.lens is None
    assert scene.exposure.regularisers(None) == {}


@each_pair
def test_checkpoints_come_back_and_those_of_other_clips_are_refused(motion, exposure):
    scene, other = scene_of(motion, exposure), scene_of(motion, exposure)
    stir(other, 0.1, seed=9)
    other.load_state_dict(scene.state_dict())
    torch.testing.assert_close(rendered(other), rendered(scene))
    longer = exposure_configs()[exposure].setup(num_views=VIEWS + 1, num_frames=FRAMES)
    state = scene.exposure.state_dict()
    if any(len(tensor.shape) and len(tensor) == VIEWS for name, tensor in state.items() if "heads" not in name):
        with pytest.raises(ValueError, match="The first number is that of training views"):
            longer.load_state_dict(state)


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_where_nothing_moves_the_shutter_does_not_matter(exposure):
    scene = scene_of("StaticMotion", exposure)
    image = rendered(scene)
    for part in parts_of(scene, PathExposure):
        half = part.shutter.half_exposure
        part.shutter.half_exposure = lambda index, half=half: 0.1 * half(index)
    torch.testing.assert_close(rendered(scene), image, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("motion", MOTIONS)
def test_more_instants_converge(motion):
    images = {}
    for count in (3, 9, 27, 81):
        torch.manual_seed(0)
        scene = scene_of(motion, "camera-path")
        scene.exposure.config = copy.deepcopy(scene.exposure.config)
        scene.exposure.config.num_instants = count
        images[count] = rendered(scene).detach()
    errors = [float((images[count] - images[81]).abs().mean()) for count in (3, 9, 27)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("name", EXPOSURES)
def test_only_an_instant_is_sharp_alone_and_in_a_product(name: str):
    """Where an exposure is not, the viewer and the evaluation look for cameras that training has found."""
    config = copy.deepcopy(exposure_configs()[name])
    exposure = config.setup(num_views=VIEWS, num_frames=FRAMES)
    product = ProductExposureConfig(parts=(InstantExposureConfig(), config)).setup(num_views=VIEWS, num_frames=FRAMES)
    assert exposure.sharp == product.sharp == (name == "instant")
