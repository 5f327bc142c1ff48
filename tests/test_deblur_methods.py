"""The facts of the deblurring methods' sheets that are matters of their configs."""

from __future__ import annotations

import pytest
from nerfstudio.configs.method_configs import all_methods

from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.latent_screw import LatentPathExposureConfig
from dyngs_plugins.exposure.pose_mlp import PosePathExposureConfig
from dyngs_plugins.motion.bases import MotionBasesConfig
from dyngs_plugins.motion.spline import HermiteSplineConfig
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.scene import STATIC
from dyngs_plugins.stages import Schedule
from dyngs_plugins.trainer import adam

METHODS = ("deblur-bad", "dyn-deblur4dgs", "dyn-mobgs")
BOTH = [name + suffix for name in METHODS for suffix in ("", "-small")]


def rate_at(method: str, group: str, step: int) -> float:
    """A group's learning rate at a step of the training proper."""
    config = all_methods[method]
    model = config.pipeline.model
    stage = Schedule(model.stages(24, 1)).stages[-1]
    optimizers = {group: adam(rate) for group, rate in model.exposure.rates().items()} | config.optimizers
    return optimizers[group]["optimizer"].lr * stage.decays[group].at(step)


@pytest.mark.parametrize("method", sorted(name for name in all_methods if name.startswith(("dyn-", "deblur-"))))
def test_the_rates_of_an_exposure_are_its_own_options(method):
    """What a method's optimizers name as well would leave those options without effect."""
    config = all_methods[method]
    assert not set(config.optimizers) & set(config.pipeline.model.exposure.rates())


def test_methods_are_products_of_a_motion_and_an_exposure():
    products = {name: all_methods[name].pipeline.model for name in METHODS}
    kinds = {name: (type(model.motion), type(model.exposure.chosen())) for name, model in products.items()}
    assert kinds == {
        "deblur-bad": (StaticMotionConfig, CameraPathExposureConfig),
        "dyn-deblur4dgs": (MotionBasesConfig, PosePathExposureConfig),
        "dyn-mobgs": (HermiteSplineConfig, LatentPathExposureConfig),
    }
    assert products["deblur-bad"].sets == (STATIC,)


@pytest.mark.parametrize("method", BOTH)
def test_the_middle_is_one_of_the_averaged_images(method):
    assert all_methods[method].pipeline.model.exposure.chosen().num_instants % 2 == 1


@pytest.mark.parametrize("method", BOTH)
def test_the_small_variant_is_the_same_product(method):
    small, full = (all_methods[method.removesuffix("-small") + s].pipeline.model for s in ("-small", ""))
    assert type(small.motion) is type(full.motion)
    assert small.exposure.name == full.exposure.name
    assert set(small.losses) == set(full.losses)


def test_bad_gaussians_pose_rate_falls_to_a_hundredth():
    assert rate_at("deblur-bad", "exposure_knots", 0) == pytest.approx(1e-3)
    assert rate_at("deblur-bad", "exposure_knots", 15_000) == pytest.approx(1e-4)
    assert rate_at("deblur-bad", "exposure_knots", 30_000) == pytest.approx(1e-5)
    assert rate_at("deblur-bad", "static_means", 30_000) == pytest.approx(1.6e-6)


def test_bad_gaussians_moves_poses_every_25_images_and_keeps_its_threshold():
    """The reference divides the threshold by the number of images, because its gradients are divided by it."""
    config = all_methods["deblur-bad"]
    assert config.gradient_accumulation_steps["exposure_knots"] == 25
    assert config.pipeline.datamanager.frames_per_batch == 1
    assert config.pipeline.model.density[STATIC].grad_threshold == pytest.approx(4e-4)


def test_deblur4dgs_learns_exposures_in_a_band_and_poses_after_twenty_epochs():
    config = all_methods["dyn-deblur4dgs"]
    model, exposure = config.pipeline.model, config.pipeline.model.exposure.chosen()
    assert (exposure.num_instants, model.motion.num_bases) == (11, 20)
    shutter = exposure.shutter
    assert (shutter.kind, shutter.half_exposure, shutter.shortest, shutter.longest) == ("learned", 0.5, 0.1, 0.9)
    assert (shutter.band, shutter.band_weight) == ((0.5, 0.75), 0.1)
    assert model.group_starts == {"exposure_predictor": 480}
    assert rate_at("dyn-deblur4dgs", "exposure_predictor", 12_000) == pytest.approx(1e-5)
    assert rate_at("dyn-deblur4dgs", "exposure_shutter", 4800) == pytest.approx(1e-5)


def test_mobgs_estimates_exposures_after_2000_steps_and_its_networks_rate_falls_to_a_millionth():
    model = all_methods["dyn-mobgs"].pipeline.model
    exposure = model.exposure.chosen()
    assert (exposure.num_instants, exposure.blend, model.train_steps) == (9, "display", 10_000)
    shutter = exposure.shutter
    assert (shutter.kind, shutter.half_exposure) == ("estimated", 0.4)
    assert (shutter.observe_from, shutter.observe_every) == (2000, 10)
    assert rate_at("dyn-mobgs", "exposure_latents", 10_000) == pytest.approx(1e-6)


@pytest.mark.parametrize("method", BOTH)
def test_every_group_of_the_exposure_has_an_optimizer_of_its_own(method):
    config = all_methods[method]
    exposure = config.pipeline.model.exposure.setup(num_views=3, num_frames=3)
    assert exposure.param_groups()
    assert set(exposure.param_groups()) <= {*config.optimizers, *config.pipeline.model.exposure.rates()}
