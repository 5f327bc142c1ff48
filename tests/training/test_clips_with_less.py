"""Clips without depth, masks or tracks train what they can and say what they cannot; several cameras tell the time."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.camera_paths import get_interpolated_camera_path

from dataparsers.dnerf import DynDNerfDataParserConfig
from dyngs_plugins.cli.sample import SampleOptions, sample
from dyngs_plugins.model import DynamicModel
from dyngs_plugins.sample.writers.dnerf import write_dnerf


def quick(config) -> None:
    config.pipeline.datamanager.frames_per_batch = 2


def test_images_and_cameras_alone_train_from_random_points(train, tmp_path, capsys):
    write_dnerf(tmp_path / "scene")

    def change(config):
        quick(config)
        config.pipeline.datamanager.dataparser = DynDNerfDataParserConfig()

    with pytest.warns(UserWarning, match="neither depth nor a point cloud: .* 300 RANDOM points"):
        trainer = train(6, method="dyn-static-small", data=tmp_path / "scene", change=change)
    model: DynamicModel = trainer.pipeline.model
    assert set(model.unfed_losses) == {"mask", "depth", "depth_gradient"}
    assert model._active_losses() == ["rgb", "scale_variance"]
    said = " ".join(capsys.readouterr().out.split())
    assert "Losses that stay off" in said
    assert "'mask' (no masks)" in said
    assert len(model.scene.dynamic) == 0
    assert all(torch.isfinite(p).all() for p in model.parameters())
    background = trainer.pipeline.datamanager.train_dataset.metadata["background"]
    assert float(model.train_background.mean()) == float(background == "white")
    metrics = trainer.pipeline.get_average_eval_image_metrics()
    assert metrics["psnr"] > 5


def test_som_without_tracks_says_what_it_needs(train, tmp_path):
    write_dnerf(tmp_path / "scene")

    def change(config):
        config.pipeline.datamanager.dataparser = DynDNerfDataParserConfig()

    with pytest.raises(ValueError, match="starts its moving Gaussians from point tracks, but the clip has none"):
        train(1, method="dyn-som-small", data=tmp_path / "scene", change=change)


def test_losses_without_input_are_off_and_the_others_on(train):
    model = train(1, change=quick).pipeline.model
    assert model.unfed_losses == {}


def test_interpolating_between_two_moving_cameras_tells_the_time(train, tmp_path):
    """What `ns-render interpolate` does: it walks from pose to pose and drops the times."""
    sample(tmp_path / "rig", SampleOptions(frames=4, width=64, height=48, cameras=2, supersample=1))

    def change(config):
        quick(config)
        config.pipeline.model.prefit_steps = 1

    trainer = train(2, data=tmp_path / "rig", change=change)
    model, cameras = trainer.pipeline.model, trainer.pipeline.datamanager.train_dataset.cameras
    assert cameras.metadata["camera_index"].flatten().tolist() == [0] * 4 + [1] * 4
    path = get_interpolated_camera_path(cameras, steps=3, order_poses=False)
    assert path.times is None
    times = [model.clock.time_of(pose) for pose in path.camera_to_worlds]
    # Three poses a step: the first is a known pose, the last one is the next known pose.
    for camera in (0, 1):
        start = camera * 12
        assert times[start] == pytest.approx(0.0, abs=0.01)
        assert times[start + 8] == pytest.approx(1.0, abs=0.01)
        assert times[start + 4] == pytest.approx(0.5, abs=0.02)
        assert times[start : start + 9] == sorted(times[start : start + 9])
    image = model.eval().get_outputs_for_camera(path[4:5])["rgb"]
    assert image.shape == (48, 64, 3)
