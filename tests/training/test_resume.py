"""A stopped training goes on as if it had never stopped, and its checkpoint is plain tensors."""

import pytest
import torch
import yaml
from nerfstudio.engine.trainer import TrainerConfig


def busy_schedule(config) -> None:
    """Pre-fit, growth and culling on both sides of the stop, and an opacity reset."""
    model = config.pipeline.model
    model.prefit_steps = 4 if model.prefit_rates else 0
    for control in model.density.values():
        control.every, control.start, control.stop = 5, 0, 1000
        control.grad_threshold, control.pause_growth, control.pause_culling = 1e-6, 1, 1
        control.reset_every, control.max_gaussians = 30, 600
    config.pipeline.datamanager.frames_per_batch = 2
    config.steps_per_eval_image = 7


def parameters(trainer) -> dict[str, torch.Tensor]:
    state = trainer.pipeline.model.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def test_fifty_plus_fifty_steps_are_a_hundred(train):
    whole = train(100, "whole", change=busy_schedule)
    first = train(50, "first", change=busy_schedule)
    counts = {name: value.shape for name, value in parameters(first).items()}

    def resume(config):
        busy_schedule(config)
        config.load_dir = first.checkpoint_dir

    second = train(50, "second", change=resume)
    expected, resumed = parameters(whole), parameters(second)
    assert expected.keys() == resumed.keys()
    grown = [name for name in counts if counts[name] != expected[name].shape]
    assert grown, "density control must have worked after the stop for this test to mean anything"
    for name, value in expected.items():
        assert resumed[name].shape == value.shape, name
        torch.testing.assert_close(resumed[name], value, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    for group, optimizer in whole.optimizers.optimizers.items():
        ours = second.optimizers.optimizers[group]
        for a, b in zip(optimizer.state.values(), ours.state.values(), strict=True):
            torch.testing.assert_close(b["exp_avg"], a["exp_avg"], atol=1e-5, rtol=1e-3)


def test_checkpoint_loads_with_weights_only_and_config_round_trips(train):
    trainer = train(3, change=busy_schedule)
    (path,) = trainer.checkpoint_dir.glob("*.ckpt")
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert {"step", "pipeline", "optimizers"} <= state.keys()
    file = trainer.base_dir / "config.yml"
    config = yaml.load(file.read_text(), Loader=yaml.Loader)
    assert isinstance(config, TrainerConfig)
    assert yaml.dump(config) == file.read_text()
    assert config.pipeline.model.losses == trainer.config.pipeline.model.losses


def test_static_method_resumes_too(train):
    whole = train(12, "whole", method="dyn-static-small", change=busy_schedule)
    first = train(6, "first", method="dyn-static-small", change=busy_schedule)

    def resume(config):
        busy_schedule(config)
        config.load_dir = first.checkpoint_dir

    second = train(6, "second", method="dyn-static-small", change=resume)
    for name, value in parameters(whole).items():
        torch.testing.assert_close(parameters(second)[name], value, atol=1e-5, rtol=1e-4)


def test_a_checkpoint_of_another_scene_frame_is_refused(train):
    first = train(2, "first", change=busy_schedule)

    def other_frame(config):
        busy_schedule(config)
        config.load_dir = first.checkpoint_dir
        config.pipeline.datamanager.dataparser.options["som-data"] = {"scene_normalisation": False}

    with pytest.raises(ValueError, match="scene frame .* is not the one this checkpoint was trained in"):
        train(1, "second", change=other_frame)


@pytest.mark.parametrize("method", ["dyn-static-small", "dyn-splinegs-small", "dyn-som-small"])
def test_a_checkpoint_of_a_clip_of_another_length_is_refused(train, method):
    first = train(2, "first", method=method)

    def shorter(config):
        config.load_dir = first.checkpoint_dir
        config.pipeline.datamanager.dataparser.options["som-data"] = {"end": first.pipeline.model.num_frames - 2}

    frames = first.pipeline.model.num_frames
    with pytest.raises(
        ValueError, match=rf"trained on a clip of {frames} frames; the clip that was given has {frames - 2}"
    ):
        train(1, "second", method=method, change=shorter)


def test_a_finished_training_has_nothing_left_to_do(train):
    """The host would go through no step and save what it loaded as the checkpoint of step 0."""

    def short(config):
        config.pipeline.model.prefit_steps, config.pipeline.model.train_steps = 0, 2

    first = train(2, "first", change=short)

    def resume(config):
        short(config)
        config.load_dir = first.checkpoint_dir

    with pytest.raises(ValueError, match="Nothing is left to do; --max-num-iterations N trains N steps more"):
        train(-1, "again", change=resume)


def test_a_save_that_fails_leaves_the_checkpoints_that_there_are(train, monkeypatch):
    trainer = train(3)
    (before,) = trainer.checkpoint_dir.iterdir()
    content = before.read_bytes()

    def cut_off(state, path):
        path.write_bytes(content[:100])
        raise OSError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(torch, "save", cut_off)
        with pytest.raises(OSError, match="No space"):
            trainer.save_checkpoint(7)
    assert [(path.name, path.read_bytes()) for path in trainer.checkpoint_dir.iterdir()] == [(before.name, content)]
    trainer.save_checkpoint(8)
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000008.ckpt"]
    trainer.config.save_only_latest_checkpoint = False
    trainer.save_checkpoint(9)
    assert len(list(trainer.checkpoint_dir.iterdir())) == 2
    assert sorted(path.name for path in trainer.base_dir.glob(".*")) == []


def test_gradients_accumulate_while_density_control_works(train):
    """Of every fourth step; and a group that there is not is named instead of passed over."""
    counts = []

    def change(config):
        busy_schedule(config)
        config.gradient_accumulation_steps = {"dynamic_means": 4, "static_means": 4}

    trainer = train(14, change=change, started=lambda t: counts.append(t.pipeline.model.num_points))
    assert trainer.pipeline.model.num_points != counts[0]

    def mistaken(config):
        config.gradient_accumulation_steps = {"dynamic_meanz": 4}

    with pytest.raises(ValueError, match="dynamic_meanz: no such parameter group. Expected some of .*dynamic_means"):
        train(1, "mistaken", change=mistaken)
