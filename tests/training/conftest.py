"""Tiny in-process trainings through the host's own trainer."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer

from dyngs_plugins.cli.sample import SampleOptions, sample


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    """The project's sample at 64x48 with 6 frames."""
    out = tmp_path_factory.mktemp("sample") / "clip"
    sample(out, SampleOptions(frames=6, width=64, height=48))
    return out


@pytest.fixture
def train(tiny_clip, tmp_path) -> Callable[..., Trainer]:
    """``train(steps, **changes)`` trains on the tiny clip as ns-train would and returns the finished trainer.

    ``change(config)`` before it is built, ``started(trainer)`` before its first step.
    """

    def run(
        steps: int,
        name: str = "run",
        method: str = "dyn-som-small",
        data: Path = tiny_clip,
        change=None,
        started: Callable[[Trainer], None] | None = None,
    ) -> Trainer:
        config = copy.deepcopy(all_methods[method])
        config.data = config.pipeline.datamanager.data = data
        config.output_dir, config.experiment_name, config.timestamp = tmp_path / name, "tiny", "run"
        config.vis, config.max_num_iterations, config.steps_per_save = "tensorboard", steps, 100_000
        config.steps_per_eval_image = 0
        model = config.pipeline.model
        model.initialise.num_dynamic, model.initialise.num_static = 200, 300
        if change is not None:
            change(config)
        writer.EVENT_WRITERS.clear()
        writer.EVENT_STORAGE.clear()
        torch.manual_seed(0)
        config.save_config()
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        if started is not None:
            started(trainer)
        trainer.train()
        return trainer

    return run
