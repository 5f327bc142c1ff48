"""Every small method trains, resumes as if it had never stopped, and exports; its full one starts."""

import pytest
import torch
from short_trainings import SMALL, whole_and_resumed


def busy(config) -> None:
    """Stages of a few steps, with growth and culling on both sides of a stop at 6 of 12."""
    model = config.pipeline.model
    model.prefit_steps = 2 if model.prefit_steps else 0
    model.coarse_steps = 3 if model.coarse_steps else 0
    model.still_steps = 3 if model.still_steps else 0
    model.train_steps = 100
    for control in model.density.values():
        control.every, control.start, control.stop = 2, 0, 1000
        control.grad_threshold, control.pause_growth, control.pause_culling = 1e-7, 1, 1
        control.reset_every, control.max_gaussians, control.prune_above = 100, 700, 0
    config.pipeline.datamanager.frames_per_batch = 2
    config.pipeline.datamanager.dataparser.options = {"som-data": {"mask_erosion": 1}}


def state(trainer) -> dict[str, torch.Tensor]:
    found = trainer.pipeline.model.state_dict()
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def rendered(trainer) -> torch.Tensor:
    trainer.pipeline.eval()
    cameras = trainer.pipeline.datamanager.train_dataset.cameras
    return trainer.pipeline.model.get_outputs_for_camera(cameras[2:3])["rgb"]


def error(trainer) -> float:
    """On the training frames."""
    trainer.pipeline.eval()
    data, model = trainer.pipeline.datamanager, trainer.pipeline.model
    errors = []
    for i, item in enumerate(data.cached_train):
        rgb = model.get_outputs_for_camera(data.train_dataset.cameras[i : i + 1])["rgb"]
        errors.append((rgb - item["image"]).square().mean())
    trainer.pipeline.train()
    return float(torch.stack(errors).mean())


@pytest.mark.parametrize("method", SMALL)
def test_thirty_steps_improve_the_render(train, method: str):
    before = []

    def change(config):
        busy(config)
        for control in config.pipeline.model.density.values():
            control.start = 100  # density control has its own tests

    trainer = train(30, method=method, change=change, started=lambda trainer: before.append(error(trainer)))
    assert error(trainer) < 0.9 * before[0]


@pytest.mark.parametrize("method", SMALL)
def test_six_and_six_steps_are_twelve(train, method: str):
    whole, second = whole_and_resumed(train, method, busy, before=6)
    expected, found = state(whole), state(second)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    torch.testing.assert_close(rendered(second), rendered(whole), atol=1e-4, rtol=1e-3)


def test_a_checkpoint_of_the_coarse_stage_shows_nothing_moving(train):
    """What a checkpoint shows depends on how far its training was: motion that is not in use is not shown."""
    first = train(2, "coarse", method="dyn-4dgs-small", change=busy)
    assert not first.pipeline.model.scene.moves

    def resume(config):
        busy(config)
        config.load_dir = first.checkpoint_dir

    model = train(1, "again", method="dyn-4dgs-small", change=resume).pipeline.model
    assert not model.scene.moves
    assert train(6, "fine", method="dyn-4dgs-small", change=busy).pipeline.model.scene.moves


def test_harmonics_come_one_degree_after_another_and_are_exported(train):
    def change(config):
        busy(config)
        config.pipeline.model.harmonics_every = 3
        config.pipeline.model.motion.least_life = 1.0

    trainer = train(8, method="dyn-rt4dgs", change=change)
    model = trainer.pipeline.model
    assert model.scene.active_degree == 2  # steps 6 and 7
    assert model.shs_rest.shape == (model.num_points, 15, 3)
    assert model.shs_0.shape == (model.num_points, 3)
    exported = model.exported()
    assert torch.isfinite(exported.scales).all()
    assert torch.isfinite(rendered(trainer)).all()


def test_sets_that_do_not_exist_are_named(train):
    def change(config):
        busy(config)
        config.pipeline.model.sets = ("dynamic", "sky")

    with pytest.raises(ValueError, match="--pipeline.model.sets is dynamic sky; expected"):
        train(1, method="dyn-4dgs-small", change=change)


def test_moving_and_static_sets_of_a_field_that_starts_from_points(train):
    """Static Gaussians never pay for motion: only those on the masks are moved."""

    def change(config):
        busy(config)
        model = config.pipeline.model
        model.sets = ("dynamic", "static")
        for name, optimizer in list(config.optimizers.items()):
            if name.startswith("dynamic_"):
                config.optimizers[name.replace("dynamic", "static")] = optimizer

    model = train(4, method="dyn-4dgs-small", change=change).pipeline.model
    assert len(model.scene.static) > 0
    assert len(model.scene.dynamic) > 0
