"""What the host's trainer offers and a run of Gaussians cannot do ends in one message, before anything is started."""

import copy
import socket
from pathlib import Path

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.scripts import train

from dyngs_plugins.run_options import check_accumulation, check_options
from dyngs_plugins.user_errors import is_mistake_of_user


@pytest.fixture
def config(tmp_path: Path) -> TrainerConfig:
    config = copy.deepcopy(all_methods["dyn-som-small"])
    config.machine.device_type = "cpu"
    config.output_dir, config.experiment_name, config.timestamp = tmp_path / "outputs", "clip", "run"
    return config


def refused(config: TrainerConfig, monkeypatch: pytest.MonkeyPatch) -> str:
    """What ``ns-train`` says instead of starting; nothing has been written by then, and no process started."""
    monkeypatch.setattr(train, "launch", lambda **kwargs: pytest.fail("started"))
    before = sorted(config.output_dir.rglob("*"))
    with pytest.raises((ValueError, OSError)) as error:
        train.main(config)
    assert is_mistake_of_user(error.value)
    assert sorted(config.output_dir.rglob("*")) == before
    return str(error.value)


@pytest.mark.parametrize("option", ["num_devices", "num_machines"])
def test_one_run_uses_one_device(option, config, monkeypatch):
    setattr(config.machine, option, 2)
    said = refused(config, monkeypatch)
    assert f"--machine.{option.replace('_', '-')} 2" in said
    assert "CUDA_VISIBLE_DEVICES=1 ns-train" in said


@pytest.mark.parametrize("option", ["mixed_precision", "use_grad_scaler"])
def test_half_precision_and_its_scaler_are_refused(option, config, monkeypatch):
    setattr(config, option, True)
    said = refused(config, monkeypatch)
    assert f"--{option.replace('_', '-')} True" in said
    assert said.endswith("Leave the option out.")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(device, config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config.machine.device_type = device
    assert f"--machine.device-type {device}" in refused(config, monkeypatch)


def test_rays_are_held_to_what_the_machine_can_do_alone(monkeypatch):
    """The host's NeRF can train on several devices and in half precision."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = copy.deepcopy(all_methods["nerf-llff"])
    config.machine.num_devices, config.mixed_precision = 2, True
    config.machine.device_type = "cpu"
    config.check()
    config.machine.device_type = "cuda"
    assert "--machine.device-type cuda" in refused(config, monkeypatch)


def test_a_run_with_checkpoints_is_not_trained_over(config, monkeypatch):
    folder = config.get_checkpoint_dir()
    folder.mkdir(parents=True)
    (folder / "step-000001200.ckpt").touch()
    said = refused(config, monkeypatch)
    assert "up to step 1200" in said
    assert f"--load-dir {folder}" in said
    started = []
    monkeypatch.setattr(train, "launch", lambda **kwargs: started.append(kwargs))
    config.load_dir = folder
    train.main(config)
    assert len(started) == 1


def test_an_output_folder_that_cannot_be_written(config, monkeypatch, tmp_path):
    (tmp_path / "outputs").touch()  # a file: not even root makes folders in it
    said = refused(config, monkeypatch)
    assert str(tmp_path / "outputs" / "clip" / "dyn-som-small" / "run") in said
    assert "--output-dir" in said


def test_accumulation_of_gradients_names_the_groups():
    groups = {"dynamic_means": [], "static_means": []}
    check_accumulation({"dynamic_means": 4}, groups)
    with pytest.raises(ValueError, match="dynamic_meanz: no such parameter group. .* dynamic_means, static_means"):
        check_accumulation({"dynamic_meanz": 4}, groups)
    with pytest.raises(ValueError, match="static_means 0: expected 1"):
        check_accumulation({"static_means": 0}, groups)


def test_a_port_that_another_viewer_has(config, monkeypatch):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        config.viewer.websocket_port = other.getsockname()[1]
        assert f"--viewer.websocket-port {config.viewer.websocket_port}: " in refused(config, monkeypatch)
    check_options(config)
    config.viewer.websocket_port = 70007
    assert "expected a number from 1 to 65535" in refused(config, monkeypatch)
