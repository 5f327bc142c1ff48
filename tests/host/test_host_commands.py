"""Every command of the host on one of our checkpoints, through its own command line."""

import json
import shutil
import socket

import av
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ns-render makes videos with ffmpeg")


def video_frames(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


def test_eval_names_its_protocol_and_scores_what_moves(trained_checkpoint, host, tmp_path):
    out = tmp_path / "eval.json"
    host("ns-eval", "--load-config", trained_checkpoint.config, "--output-path", out, "--render-output-path", tmp_path)
    content = json.loads(out.read_text())
    results = content["results"]
    assert results["protocol"] == "held-out camera at the training times"
    assert "LPIPS" in results["notes"]
    for key in ("psnr", "ssim", "psnr_dynamic", "ssim_dynamic", "psnr_std"):
        assert np.isfinite(results[key]), key
    assert results["images"] == trained_checkpoint.num_frames
    for key in ("track_epe3d_median", "track_epe3d_median_percent_of_extent", "track_pck2d_5percent"):
        assert np.isfinite(results[key]), key
    assert len(list(tmp_path.glob("eval_img_*.png"))) == trained_checkpoint.num_frames


@needs_ffmpeg
def test_render_camera_path_plays_its_render_times(trained_checkpoint, host, tmp_path):
    path, video = tmp_path / "path.json", tmp_path / "video.mp4"
    host("dyngs", "path", trained_checkpoint.config, "--kind", "follow", "--out", path)
    times = [frame["render_time"] for frame in json.loads(path.read_text())["camera_path"]]
    assert times[0] == 0.0
    assert times[-1] == 1.0
    host(
        *("ns-render", "camera-path", "--load-config", trained_checkpoint.config),
        *("--camera-path-filename", path, "--output-path", video),
    )
    frames = video_frames(video)
    assert len(frames) >= len(times) - 1
    assert np.abs(frames[0] - frames[-1]).mean() > 1.0


@needs_ffmpeg
def test_render_interpolate_plays_the_video(trained_checkpoint, host, tmp_path):
    video = tmp_path / "video.mp4"
    host(
        *("ns-render", "interpolate", "--load-config", trained_checkpoint.config, "--output-path", video),
        *("--interpolation-steps", 3, "--pose-source", "train", "--rendered-output-names", "rgb", "dynamic"),
    )
    frames = video_frames(video)
    moving = frames[:, :, frames.shape[2] // 2 :]  # the right half is the moving mask
    assert np.abs(moving[0] - moving[-1]).mean() > 0.5


@needs_ffmpeg
def test_render_spiral(trained_checkpoint, host, tmp_path):
    video = tmp_path / "video.mp4"
    host(
        *("ns-render", "spiral", "--load-config", trained_checkpoint.config, "--output-path", video),
        *("--seconds", 1, "--frame-rate", 5),
    )
    assert len(video_frames(video)) >= 4


def test_render_dataset_writes_every_output(trained_checkpoint, host, tmp_path):
    host(
        "ns-render", "dataset", "--load-config", trained_checkpoint.config, "--output-path", tmp_path, "--split", "test"
    )
    for output in ("rgb", "depth", "accumulation", "dynamic", "tracks", "background"):
        images = sorted((tmp_path / "test" / output).rglob("*.*"))
        assert len(images) == trained_checkpoint.num_frames, output
        assert Image.open(images[0]).size == trained_checkpoint.size


def ply_positions(path) -> np.ndarray:
    content = path.read_bytes()
    header, _, body = content.partition(b"end_header\n")
    names = [line.split()[-1].decode() for line in header.splitlines() if line.startswith(b"property")]
    types = [line.split()[1] for line in header.splitlines() if line.startswith(b"property")]
    assert set(types) == {b"float"}
    rows = np.frombuffer(body, dtype="<f4").reshape(-1, len(names))
    return rows[:, [names.index(axis) for axis in "xyz"]]


def test_export_gaussian_splat_at_chosen_times(trained_checkpoint, host, tmp_path, monkeypatch):
    pytest.importorskip("open3d", reason="the host's exporter imports open3d", exc_type=ImportError)
    exported = {}
    for name, time in (("canonical", ""), ("start", "0"), ("end", "1.0")):
        monkeypatch.setenv("DYNGS_EXPORT_TIME", time)
        folder = tmp_path / name
        host("ns-export", "gaussian-splat", "--load-config", trained_checkpoint.config, "--output-dir", folder)
        exported[name] = ply_positions(folder / "splat.ply")
    assert exported["start"].shape == exported["end"].shape
    moved = np.linalg.norm(exported["start"] - exported["end"], axis=1)
    assert (moved > 0.05).mean() > 0.1, "the dynamic Gaussians moved"
    assert (moved == 0).mean() > 0.3, "the static ones did not"


def test_export_time_outside_the_clip_is_refused(trained_checkpoint, host, tmp_path, monkeypatch):
    pytest.importorskip("open3d", reason="the host's exporter imports open3d", exc_type=ImportError)
    monkeypatch.setenv("DYNGS_EXPORT_TIME", "24")
    with pytest.raises(ValueError, match=r"DYNGS_EXPORT_TIME is '24', expected a time in \[0, 1\]"):
        host("ns-export", "gaussian-splat", "--load-config", trained_checkpoint.config, "--output-dir", tmp_path)


def test_export_cameras(trained_checkpoint, host, tmp_path):
    pytest.importorskip("open3d", reason="the host's exporter imports open3d", exc_type=ImportError)
    host("ns-export", "cameras", "--load-config", trained_checkpoint.config, "--output-dir", tmp_path)
    train = json.loads((tmp_path / "transforms_train.json").read_text())
    assert len(train) == trained_checkpoint.num_frames


def test_resume_continues_the_count_of_steps(trained_checkpoint, host, tmp_path):
    host(
        *("ns-train", trained_checkpoint.method, "--data", trained_checkpoint.clip, "--output-dir", tmp_path),
        *("--experiment-name", "resumed", "--timestamp", "run", "--vis", "tensorboard", "--max-num-iterations", 2),
        *("--load-dir", trained_checkpoint.folder / "nerfstudio_models", "--steps-per-eval-image", 0),
        *("--pipeline.datamanager.frames-per-batch", 2, "--pipeline.model.prefit-steps", 20),
        *("--pipeline.model.initialise.num-dynamic", 300, "--pipeline.model.initialise.num-static", 600),
    )
    (checkpoint,) = (tmp_path / "resumed" / trained_checkpoint.method / "run" / "nerfstudio_models").glob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["step"] == trained_checkpoint.steps + 1


def test_training_with_the_viewer(trained_checkpoint, host, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host(
        *("ns-train", trained_checkpoint.method, "--data", trained_checkpoint.clip, "--output-dir", tmp_path),
        *("--experiment-name", "viewed", "--timestamp", "run", "--vis", "viewer", "--max-num-iterations", 3),
        *("--viewer.websocket-port", port, "--viewer.quit-on-train-completion", True),
        *("--pipeline.datamanager.frames-per-batch", 2, "--pipeline.model.prefit-steps", 1),
        *("--pipeline.model.initialise.num-dynamic", 300, "--pipeline.model.initialise.num-static", 600),
    )
    assert list((tmp_path / "viewed" / trained_checkpoint.method / "run" / "nerfstudio_models").glob("*.ckpt"))


def test_checkpoint_is_plain_and_config_round_trips(trained_checkpoint):
    assert torch.load(trained_checkpoint.checkpoint, weights_only=True)["step"] == trained_checkpoint.steps - 1
    text = trained_checkpoint.config.read_text()
    assert yaml.dump(yaml.load(text, Loader=yaml.Loader)) == text
