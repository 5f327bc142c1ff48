"""Exposures and refined cameras in trainings of a few steps through the host: any method, by name; resume; scores."""

from __future__ import annotations

import json
import math

import pytest
import torch
import tyro
from short_trainings import choose_exposure

from dyngs_plugins.cli.sample import SampleOptions, sample


@pytest.fixture(scope="module")
def blurred_clip(tmp_path_factory):
    out = tmp_path_factory.mktemp("blurred") / "clip"
    sample(out, SampleOptions(frames=6, width=64, height=48, supersample=1, blur=True, shake=1.0, subframes=5))
    return out


def with_exposure(name: str, **model_changes):
    def change(config) -> None:
        model = config.pipeline.model
        choose_exposure(model, name)
        model.prefit_steps = min(model.prefit_steps, 2)
        config.pipeline.datamanager.frames_per_batch = 2
        config.pipeline.alignment.steps = 2
        for key, value in model_changes.items():
            setattr(model, key, value)

    return change


def test_the_command_line_takes_an_exposure_by_name_and_its_settings():
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    exposure = "--pipeline.model.exposure"
    config = tyro.cli(
        AnnotatedBaseConfigUnion,
        args=["dyn-som-small", exposure, "camera-path+defocus", f"{exposure}.defocus.num-points", "5", "som-data"],
    )
    chosen = config.pipeline.model.exposure.chosen()
    assert [type(part).__name__ for part in chosen.parts] == ["CameraPathExposureConfig", "DefocusExposureConfig"]
    assert chosen.parts[1].num_points == 5


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("dyn-som-small", "camera-path+defocus"),
        ("dyn-deblur4dgs-small", "pose-path"),
        ("dyn-mobgs-small", "latent-path"),
        ("deblur-bad-small", "camera-path"),
        ("dyn-gaussian-flow-small", "circle"),
    ],
)
def test_a_method_trains_with_an_exposure_and_every_parameter_of_it_moves(train, blurred_clip, method, name):
    def change(config):
        with_exposure(name, group_starts={})(config)
        config.gradient_accumulation_steps = {}

    trainer = train(6, method=method, data=blurred_clip, change=change)
    model = trainer.pipeline.model
    fresh = model.config.exposure.setup(num_views=6, num_frames=6)
    before = {key: value for key, value in fresh.named_parameters() if not value.any()}
    for key, parameter in model.scene.exposure.named_parameters():
        assert torch.isfinite(parameter).all()
        if key in before:
            assert bool(parameter.any()), key
    if method == "dyn-mobgs-small":  # flows have been looked at
        assert bool((model.scene.exposure.shutter.tau != 0.4).any())


def test_groups_and_exposures_start_when_the_stage_says_so(train, blurred_clip):
    change = with_exposure("camera-path", sharp_steps=3, group_starts={"exposure_knots": 5})
    early = train(2 + 4, "early", data=blurred_clip, change=change).pipeline.model
    assert not early.scene.exposure.knots.any()
    late = train(2 + 8, "late", data=blurred_clip, change=change).pipeline.model
    assert bool(late.scene.exposure.knots.any())


def test_a_resumed_training_goes_on_with_its_exposure_and_cameras(train, blurred_clip):
    def change(config):
        with_exposure("camera-path")(config)
        config.pipeline.model.cameras.poses = config.pipeline.model.cameras.focal = True

    first = train(6, "first", data=blurred_clip, change=change)

    def resume(config):
        change(config)
        config.load_dir = first.checkpoint_dir

    state = {name: value.clone() for name, value in first.pipeline.model.scene.state_dict().items()}
    assert state["cameras.twists"].any()
    assert state["cameras.log_focal"].any()
    resumed = train(1, "resumed", data=blurred_clip, change=resume).pipeline.model
    for name, rate in (("cameras.twists", 1e-4), ("cameras.log_focal", 1e-4), ("exposure.knots", 1e-3)):
        gone_on = (resumed.scene.state_dict()[name] - state[name]).abs().max()
        assert 0 < float(gone_on) < 2 * rate, name


def test_scores_are_stored_by_mode(train, blurred_clip):
    pipeline = train(6, data=blurred_clip, change=with_exposure("camera-path")).pipeline
    pipeline.test_mode = "test"
    modes = pipeline.get_average_eval_image_metrics()["modes"]
    assert set(modes) == {"novel", "rig_transfer", "novel_aligned", "deblur_mid", "deblur_mid_aligned"}
    assert all(math.isfinite(scores["psnr"]) and scores["images"] == 6 for scores in modes.values())
    assert all(scores["poses"] for scores in modes.values())
    assert modes["novel_aligned"]["psnr"] >= 10
    json.dumps(modes)
