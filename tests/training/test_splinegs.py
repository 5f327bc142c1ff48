"""SplineGS's control points are taken away and added the same way whether a training is stopped or not."""

import torch


def busy(config) -> None:
    """Pruning and insertion on both sides of a stop at 6 of 12 steps, with density control between."""
    model = config.pipeline.model
    motion = model.motion
    motion.adapt_start, motion.adapt_every, motion.insert_every = 2, 2, 4
    motion.num_control_points, motion.prune_threshold, motion.insert_gradient = 6, 0.05, 1e-5
    model.train_steps = 100
    for control in model.density.values():
        control.every, control.start, control.stop, control.max_gaussians = 3, 0, 1000, 500
        control.grad_threshold, control.pause_growth, control.pause_culling = 1e-7, 1, 1
    config.pipeline.datamanager.frames_per_batch = 2
    config.pipeline.datamanager.dataparser.options = {"som-data": {"mask_erosion": 1}}


def dynamic_rows(trainer) -> dict[str, torch.Tensor]:
    return {name: column.data for name, column in trainer.pipeline.model.scene.dynamic.raw.items()}


def test_six_and_six_steps_keep_the_same_control_points(train):
    whole = train(12, "whole", method="dyn-splinegs-small", change=busy)
    first = train(6, "first", method="dyn-splinegs-small", change=busy)

    def resume(config):
        busy(config)
        config.load_dir = first.checkpoint_dir

    second = train(6, "second", method="dyn-splinegs-small", change=resume)
    expected, found = dynamic_rows(whole), dynamic_rows(second)
    counts = expected["control_counts"].long()
    assert counts.unique().numel() > 1, "some paths must have lost control points for this test to mean anything"
    assert int(counts.min()) >= 4
    assert not torch.equal(dynamic_rows(first)["control_counts"].long().bincount(), counts.bincount())
    assert torch.equal(found["control_counts"], expected["control_counts"])
    for name, column in expected.items():
        torch.testing.assert_close(found[name], column, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
