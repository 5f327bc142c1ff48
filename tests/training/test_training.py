"""Trainings of a few steps on clips that the reference crashes on, and variants of the method."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dyngs_plugins.cli.sample import SampleOptions, sample


@pytest.fixture
def clip(tiny_clip, tmp_path):
    """A copy of the tiny clip to be damaged."""
    copy = tmp_path / "clip"
    shutil.copytree(tiny_clip, copy)
    return copy


def quick(config) -> None:
    config.pipeline.model.prefit_steps = 3
    config.pipeline.datamanager.frames_per_batch = 2


def model_of(trainer):
    return trainer.pipeline.model


def test_the_render_improves(train):
    def change(config):
        quick(config)
        config.pipeline.model.prefit_steps = 20

    def error(trainer) -> float:
        """On the training frames: most of what is left on the held-out camera is background that none of them shows."""
        trainer.pipeline.eval()
        data = trainer.pipeline.datamanager
        errors = []
        for i, item in enumerate(data.cached_train):
            rgb = model_of(trainer).get_outputs_for_camera(data.train_dataset.cameras[i : i + 1])["rgb"]
            errors.append((rgb - item["image"]).square().mean())
        return float(torch.stack(errors).mean())

    assert error(train(90, "long", change=change)) < 0.8 * error(train(21, "short", change=change))


def test_isotropic_variant_and_rigidity(train):
    def change(config):
        quick(config)
        config.pipeline.model.isotropic = True
        config.pipeline.model.losses["rigidity"].weight = 0.1

    model = model_of(train(6, change=change))
    assert model.scene.dynamic.raw["scales"].shape[1] == 1
    outputs = model.eval().get_outputs(model_cameras(model))
    assert torch.isfinite(outputs["rgb"]).all()


def model_cameras(model):
    from nerfstudio.cameras.cameras import Cameras

    return Cameras(
        camera_to_worlds=torch.eye(4)[None, :3],
        fx=50.0,
        fy=50.0,
        cx=32.0,
        cy=24.0,
        width=64,
        height=48,
        times=torch.zeros(1, 1),
    )


def test_frames_without_moving_pixels(train, clip):
    masks = sorted((clip / "masks" / "camera0").glob("*.png"))
    for mask in masks[2:4]:
        Image.fromarray(np.zeros_like(np.asarray(Image.open(mask)))).save(mask)
        for pair in (clip / "bootstapir" / "camera0").glob(f"{mask.stem}_*.npy"):
            np.save(pair, np.zeros((0, 4), np.float32))
    train(9, data=clip, change=quick)


def test_no_visible_track_in_any_batch(train, clip):
    """All observations but the queries' own are uncertain: the track losses are 0, nothing crashes."""
    for pair in (clip / "bootstapir" / "camera0").glob("*.npy"):
        query, target = pair.stem.split("_")
        if query != target:
            rows = np.load(pair)
            rows[:, 3] = 10.0
            np.save(pair, rows)
    train(6, data=clip, change=quick)


def test_the_machines_seed_picks_points_and_frames(train):
    def start(seed: int) -> torch.Tensor:
        def change(config):
            config.machine.seed = seed

        trainer = train(1, f"{seed}", change=change)
        assert trainer.config.pipeline.datamanager.sampler_seed == seed
        return model_of(trainer).scene.static.raw["means"].detach()

    points, again, other = start(1), start(1), start(2)
    assert torch.equal(points, again)
    assert points.shape != other.shape or not torch.allclose(points, other)


def test_no_targets_are_asked_for(train):
    def change(config):
        config.pipeline.datamanager.targets_per_frame = 0
        config.pipeline.model.prefit_steps = 0

    assert train(2, change=change).pipeline.model.num_points > 0


def test_a_clip_of_three_frames(train, tmp_path):
    sample(tmp_path / "three", SampleOptions(frames=3, width=64, height=48, supersample=1))
    model = model_of(train(6, data=tmp_path / "three", change=quick))
    assert model.num_frames == 3


def test_two_training_cameras_mix_in_batches(train, tmp_path):
    sample(tmp_path / "rig", SampleOptions(frames=4, width=64, height=48, cameras=2, supersample=1))
    trainer = train(8, data=tmp_path / "rig", change=quick)
    views = trainer.pipeline.datamanager.views
    assert views.camera_index.tolist() == [0] * 4 + [1] * 4
    assert views.num_frames == 4


def test_pure_black_and_white_images(train, clip):
    for i, path in enumerate(sorted((clip / "images" / "camera0").glob("*.png"))):
        Image.fromarray(np.full((48, 64, 3), 255 * (i % 2), np.uint8)).save(path)
    model = model_of(train(6, data=clip, change=quick))
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_steps_from_the_schedule_when_none_are_given(train):
    def change(config):
        quick(config)
        config.pipeline.model.train_steps = 5

    assert train(-1, change=change).step == 3 + 5 - 1


def test_full_method_renders_eight_frames_with_four_targets(train):
    def change(config):
        config.pipeline.model.prefit_steps = 1

    trainer = train(3, method="dyn-som", change=change)
    cameras, batch = trainer.pipeline.datamanager.next_train(0)
    assert len(cameras) == 6  # all of the tiny clip
    assert batch["tracks"].target_times.shape == (6, 4)
    assert batch["tracks"].xy.shape[1:] == (4, 2)
    assert batch["image"].shape == (6, 48, 64, 3)


def test_a_loss_that_does_not_exist_is_named(train):
    def change(config):
        config.pipeline.model.losses["track2d"] = config.pipeline.model.losses["track_2d"]

    with pytest.raises(ValueError, match="no loss named 'track2d'. Did you mean 'track_2d'"):
        train(1, change=change)


def test_more_than_one_device_is_refused(train):
    from dyngs_plugins.pipeline import DynamicPipeline

    trainer = train(1, change=quick)
    with pytest.raises(ValueError, match="several scenes side by side"):
        DynamicPipeline(trainer.config.pipeline, "cpu", world_size=2)


def test_camera_without_times_is_placed_on_the_path(train):
    model = model_of(train(4, change=quick))
    pose = model.clock._start[3]
    assert model.clock.time_of(pose) == pytest.approx(3 / 5, abs=1e-4)
