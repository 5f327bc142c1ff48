"""``dyngs path`` on a trained run: its JSON goes through ``ns-render camera-path`` and its time reaches the model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.utils.eval_utils import eval_setup


def frames_of(folder: Path) -> np.ndarray:
    images = [cv2.imread(str(path)) for path in sorted(folder.glob("*.png"))]
    assert all(image is not None for image in images)
    return np.stack(images).astype(float)  # type: ignore[arg-type]


def test_follow_has_the_training_cameras_of_the_run(trained_checkpoint, host, tmp_path: Path):
    """Those of the run's own dataparser settings, on which the scene's frame depends."""
    out = tmp_path / "path.json"
    host("dyngs", "path", trained_checkpoint.folder, "--out", out)  # the run's folder will do for its config.yml
    cameras = get_path_from_json(json.loads(out.read_text()))
    _, pipeline, _, _ = eval_setup(trained_checkpoint.config, test_mode="inference")
    assert pipeline.datamanager.train_dataset is not None
    expected = pipeline.datamanager.train_dataset.cameras.to("cpu")
    torch.testing.assert_close(cameras.camera_to_worlds, expected.camera_to_worlds, atol=1e-5, rtol=0)
    torch.testing.assert_close(cameras.times, expected.times)


def test_time_plays_before_a_fixed_camera_and_stands_still_in_bullet_time(trained_checkpoint, host, tmp_path: Path):
    """Before a camera that does not move, frames differ only because time does; frozen time is one moment."""
    moving = {}
    for name, options in (
        ("plays", ("--kind", "stabilised", "--reference", "average")),
        ("stands", ("--kind", "bullet", "--angle", 1e-6, "--time", 0.5, "--seconds", 0.5)),
    ):
        path = tmp_path / f"{name}.json"
        host("dyngs", "path", trained_checkpoint.config, "--out", path, *options)
        host(
            "ns-render",
            "camera-path",
            *("--load-config", trained_checkpoint.config, "--camera-path-filename", path),
            *("--output-path", tmp_path / name, "--output-format", "images", "--image-format", "png"),
        )
        frames = frames_of(tmp_path / name)
        assert frames.shape[1:3] == trained_checkpoint.size[::-1]
        assert len(frames) == len(json.loads(path.read_text())["camera_path"]) > 1
        moving[name] = np.abs(frames - frames[:1]).max(axis=-1).mean()
    assert moving["plays"] > 0.5
    assert moving["stands"] < 0.1 * moving["plays"]
