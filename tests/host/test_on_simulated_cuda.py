"""The host's commands and ours on a CUDA device that is not there, with a checkpoint that was trained on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.colormaps import ColormapOptions
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import CameraState
from simulated_cuda import CUDA, SimulatedCuda

pytest.importorskip("numba", reason="the stand-in for gsplat's kernels is compiled by numba")
from gsplat_stand_in import gsplat_on

from dyngs_plugins import doctor_abilities, doctor_environment, doctor_probe


@pytest.fixture
def cuda(trained_checkpoint) -> Iterator[SimulatedCuda]:  # after it: its training is the CPU's
    with SimulatedCuda() as device, gsplat_on(device):
        yield device


IMAGES = ("--output-format", "images")
RENDERS = {
    "dataset": ("--split", "test", "--rendered-output-names", "rgb"),
    "interpolate": (*IMAGES, "--interpolation-steps", 2, "--pose-source", "train"),
    "spiral": (*IMAGES, "--seconds", 0.1),
}


@pytest.mark.parametrize("kind", RENDERS)
def test_renders_of_a_checkpoint_of_the_cpu(cuda, trained_checkpoint, host, tmp_path, kind):
    before = cuda.operations
    host(
        *("ns-render", kind, "--load-config", trained_checkpoint.config, "--output-path", tmp_path / "made"),
        *RENDERS[kind],
    )
    assert cuda.operations > before + 100
    assert any(file.suffix in (".png", ".jpg", ".jpeg") for file in (tmp_path / "made").rglob("*"))


def test_exports_of_a_checkpoint_of_the_cpu(cuda, trained_checkpoint, host, tmp_path):
    for kind in ("gaussian-splat", "cameras"):
        host("ns-export", kind, "--load-config", trained_checkpoint.config, "--output-dir", tmp_path / kind)
    assert (tmp_path / "gaussian-splat" / "splat.ply").stat().st_size > 10_000
    assert (tmp_path / "cameras" / "transforms_train.json").is_file()


@pytest.mark.slow
def test_scores_are_those_of_the_cpu(trained_checkpoint, host, tmp_path):
    """To the rounding of another way of computing SSIM and the motion."""
    found = []
    for place in ("cpu", "cuda"):
        out = tmp_path / f"{place}.json"
        command = ("ns-eval", "--load-config", trained_checkpoint.config, "--output-path", out)
        if place == "cpu":
            host(*command)
        else:
            with SimulatedCuda() as device, gsplat_on(device):
                host(*command)
                assert device.operations > 1000
        found.append(json.loads(out.read_text())["results"])
    on_cpu, on_cuda = found
    assert on_cpu.keys() == on_cuda.keys()
    for name, value in on_cpu.items():
        if isinstance(value, float) and not name.endswith("_std"):
            assert on_cuda[name] == pytest.approx(value, rel=1e-3), name
    assert on_cpu["modes"].keys() == on_cuda["modes"].keys()


@pytest.mark.parametrize("crop", [False, True])
def test_the_viewers_thread_renders_on_the_device(cuda, trained_checkpoint, crop):
    _, pipeline, _, _ = eval_setup(trained_checkpoint.config, test_mode="inference")
    shown = []
    client: Any = SimpleNamespace(
        camera=SimpleNamespace(aspect=4 / 3),
        scene=SimpleNamespace(set_background_image=lambda image, **kwargs: shown.append((image, kwargs["depth"]))),
    )
    viewer = stub_of_viewer(pipeline, crop)
    dataset = pipeline.datamanager.train_dataset
    assert dataset is not None
    camera = dataset.cameras[0]
    state = CameraState(0.9, 4 / 3, camera.camera_to_worlds.cpu(), CameraType.PERSPECTIVE)
    machine = RenderStateMachine(viewer, 1.0, client)
    machine.state = "high"
    thread = threading.Thread(target=lambda: machine._send_output_to_viewer(machine._render_img(state)))
    before = cuda.operations
    thread.start()
    thread.join()
    assert cuda.operations > before + 50
    ((image, depth),) = shown
    assert isinstance(depth, np.ndarray)
    assert image.shape == (48, 64, 3)
    assert image.std() > 1


def stub_of_viewer(pipeline, crop: bool) -> Any:
    """As much of the host's viewer as its render thread asks for."""
    panel = SimpleNamespace(
        crop_viewport=crop,
        crop_obb=OrientedBox.from_params((0.0, 0.0, 0.0), (0.0, 0.0, 0.1), (50.0, 50.0, 50.0)),
        time=0.4,
        background_color=(38, 42, 55),
        layer_depth=True,
        max_res=64,
        split=True,
        split_percentage=0.5,
        split_output_render="depth",
        split_colormap_options=ColormapOptions(normalize=True),
        output_render="rgb",
        colormap_options=ColormapOptions(),
        update_output_options=lambda names: None,
    )
    return SimpleNamespace(
        control_panel=panel,
        render_tab_state=SimpleNamespace(preview_render=False),
        include_time=True,
        train_lock=None,
        step=0,
        pipeline=pipeline,
        get_model=lambda: pipeline.model,
        update_colormap_options=lambda **options: None,
        update_split_colormap_options=lambda **options: None,
        config=SimpleNamespace(jpeg_quality=90, image_format="jpeg"),
        stats_markdown=SimpleNamespace(content=""),
        make_stats_markdown=lambda step, res: "",
    )


WITHOUT_A_FLAG = """
import importlib.metadata, sys
sys.path.insert(0, sys.argv.pop(1))
from simulated_cuda import SimulatedCuda
with SimulatedCuda() as device:
    from gsplat_stand_in import gsplat_on
    with gsplat_on(device):
        (script,) = importlib.metadata.entry_points(group="console_scripts", name="ns-train")
        sys.argv[0] = "ns-train"
        script.load()()
    assert device.operations > 1000
"""


@pytest.mark.slow
def test_a_fresh_process_with_a_device_trains_on_it_without_a_flag(trained_checkpoint, tmp_path):
    shared = Path(__file__).resolve().parents[1] / "shared"
    arguments = (
        *("dyn-som-small", "--data", trained_checkpoint.clip, "--output-dir", tmp_path),
        *("--experiment-name", "tiny", "--timestamp", "run", "--vis", "tensorboard"),
        *("--max-num-iterations", 6, "--steps-per-eval-image", 0, "--pipeline.model.prefit-steps", 3),
        *("--pipeline.model.initialise.num-dynamic", 200, "--pipeline.model.initialise.num-static", 300),
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WITHOUT_A_FLAG), shared, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "tiny" / "dyn-som-small" / "run"
    config = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)
    assert config.machine.device_type == "cuda"
    (file,) = (run / "nerfstudio_models").glob("*.ckpt")
    # Where there is no such device, this checkpoint says so; what opens it puts it on the CPU.
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        torch.load(file)
    _, pipeline, _, step = eval_setup(run / "config.yml", test_mode="inference")
    assert step == 5
    assert pipeline.model.device.type == "cpu"


def test_the_doctor_names_the_device(cuda, monkeypatch):
    def here(jobs, timeout_s=180.0):
        return [{"ok": True, **doctor_probe.JOBS[job["do"]](job)} for job in jobs]

    for module in (doctor_environment, doctor_abilities):
        monkeypatch.setattr(module, "run_jobs", here)
    (found,) = doctor_environment.check_gpu()
    assert (found.name, found.state) == ("torch", "ok")
    assert found.text.endswith("Simulated CUDA device, 16 GiB")
    abilities = {finding.name: finding.state for finding in doctor_abilities.check_abilities()}
    assert abilities["gsplat"] == "ok"


def test_a_network_that_estimates_depth_takes_the_device(tmp_path_factory):
    """Learned providers take CUDA where it is, and give what they give on the CPU."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'dyngs-plugins[learned]'")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "priors"))
    import tiny_networks

    from dyngs_plugins.priors.providers.depth_transformers import DepthAnything

    model = str(tiny_networks.depth_anything(tmp_path_factory.mktemp("depth")))
    images = [np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)]
    expected = DepthAnything(model=model, input_size=42).predict(images)
    with SimulatedCuda() as device:
        provider = DepthAnything(model=model, input_size=42)
        assert provider.device == "auto"
        np.testing.assert_allclose(provider.predict(images), expected, rtol=1e-5)
        assert device.operations > 100
        assert torch.zeros(1, device="cuda").device == CUDA
