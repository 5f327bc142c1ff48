"""Exposure models by name: on the command line, in configs, and from other packages."""

import dataclasses

import pytest
import tyro
import yaml

from dyngs_plugins.exposure.base import InstantExposureConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.choice import EXPOSURES, ExposureChoice, choose
from dyngs_plugins.exposure.product import ProductExposureConfig
from dyngs_plugins.exposure.thin_lens import DefocusExposureConfig
from dyngs_plugins.hooks import registry


@dataclasses.dataclass
class Options:
    exposure: ExposureChoice = dataclasses.field(
        default_factory=lambda: choose(CameraPathExposureConfig(num_instants=11))
    )


def parse(*arguments: str) -> ExposureChoice:
    # As the host wraps its configs.
    return tyro.cli(tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[Options]], args=list(arguments)).exposure


def test_the_method_decides_unless_a_name_is_given():
    assert parse().chosen() == CameraPathExposureConfig(num_instants=11)
    assert parse("--exposure", "instant").chosen() == InstantExposureConfig()
    assert parse("--exposure", "defocus").chosen() == DefocusExposureConfig()


def test_settings_of_each_model_are_options():
    found = parse("--exposure", "defocus", "--exposure.defocus.num-points", "17").chosen()
    assert found == DefocusExposureConfig(num_points=17)
    found = parse("--exposure.camera-path.trajectory", "bspline").chosen()
    assert found == CameraPathExposureConfig(num_instants=11, trajectory="bspline")
    found = parse("--exposure.camera-path.shutter.kind", "learned").chosen()
    assert found.shutter.kind == "learned"


def test_several_names_make_a_product_with_the_lens_last():
    found = parse("--exposure", "defocus+camera-path").chosen()
    assert isinstance(found, ProductExposureConfig)
    assert [type(part) for part in found.parts] == [CameraPathExposureConfig, DefocusExposureConfig]
    assert found.parts[0].num_instants == 11
    assert set(found.rates()) >= {"exposure_knots", "exposure_log_aperture"}


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(ValueError, match="no exposure model named 'defocous'. Did you mean 'defocus'"):
        ExposureChoice(name="defocous").chosen()


def test_built_in_models_are_registered_with_options_of_their_own():
    assert set(EXPOSURES) <= set(registry().exposure_models)
    own = {field.name.replace("_", "-") for field in dataclasses.fields(ExposureChoice)}
    assert set(EXPOSURES) - own == {"instant"}  # which has no settings


def test_models_of_other_packages_are_found(monkeypatch):
    @dataclasses.dataclass
    class Foreign(InstantExposureConfig):
        pass

    found = dataclasses.replace(registry(), exposure_models={"foreign": Foreign})
    monkeypatch.setattr("dyngs_plugins.hooks.registry", lambda: found)
    assert isinstance(ExposureChoice(name="foreign").chosen(), Foreign)


def test_every_parameter_group_has_a_rate():
    for name, kind in EXPOSURES.items():
        for shutter in ("fixed", "learned", "estimated"):
            config = kind()
            if hasattr(config, "shutter"):
                config.shutter.kind = shutter
            groups = config.setup(num_views=3, num_frames=3).param_groups()
            assert set(groups) <= set(config.rates()), name


def test_a_choice_survives_a_config_file():
    choice = choose(CameraPathExposureConfig(num_instants=5), DefocusExposureConfig(num_points=3))
    again = yaml.load(yaml.dump(choice), Loader=yaml.Loader)
    assert again == choice
    assert again.chosen() == choice.chosen()


def test_a_model_without_a_name_is_refused():
    with pytest.raises(ValueError, match="ProductExposureConfig has no name"):
        choose(ProductExposureConfig())
