"""What a whole training step costs in units of its rasterization: medians and their ratio, from one run.

    python scripts/bench_step.py demo/clip                       # dyn-som: 8 frames with 4 targets
    python scripts/bench_step.py demo/clip --method dyn-som-small

The step is the host's own (frames, render, losses, backward, optimizers, density control). The rasterization is the
seam's forward and backward on the very tensors of such a step. The two are measured in turn.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.callbacks import TrainingCallbackLocation

from dyngs_plugins import scene as scene_module

METHODS = (
    "dyn-som",
    "dyn-mobgs",
    "dyn-deblur4dgs",
    "deblur-bad",
    "dyn-4dgs",
    "dyn-rt4dgs",
    "dyn-deformable",
    "dyn-splinegs",
    "dyn-gaussian-flow",
)
"""Every method of Gaussians but the static baseline."""


@dataclass
class BenchStep:
    """Time a training step against its own rasterization."""

    data: tyro.conf.Positional[Path]
    """A clip folder."""
    method: str = "dyn-som"
    num_dynamic: int = 3000
    num_static: int = 5000
    warm_up: int = 40
    """Steps before the first measured one: kernels compile, and most of the clip's files have been read."""
    rounds: int = 40


def build(args: BenchStep, folder: str, change: Callable[[Any], None] | None = None) -> Any:
    """A trainer of the method on the clip, set up and at its first rendering step; ``change`` edits its config."""
    config = copy.deepcopy(all_methods[args.method])
    config.data = config.pipeline.datamanager.data = args.data
    config.output_dir, config.experiment_name, config.timestamp = Path(folder), "bench", "run"
    config.vis, config.max_num_iterations = "tensorboard", 1
    model = config.pipeline.model
    model.prefit_steps = 0
    model.initialise.num_dynamic, model.initialise.num_static = args.num_dynamic, args.num_static
    model.initialise.static_from = "frames"
    if change is not None:
        change(config)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.pipeline.train()
    return trainer


def moving_from_the_start(config: Any) -> None:
    """Leave out the stages in which nothing is rendered, or nothing moves."""
    for stage in ("prefit_steps", "coarse_steps", "still_steps"):
        if hasattr(config.pipeline.model, stage):
            setattr(config.pipeline.model, stage, 0)


def step(trainer: Any, number: int) -> None:
    """One training step as the host runs it."""
    before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
    for location in (before, None, after):
        if location is None:
            trainer.train_iteration(number)
            continue
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, location=location)


def captured_rasterization(trainer: Any, number: int) -> tuple[tuple, dict[str, Any]]:
    """The arguments of the rasterizer in one step."""
    found: list[tuple[tuple, dict[str, Any]]] = []
    original = scene_module.rasterize

    def spy(*args: Any, **kwargs: Any) -> Any:
        found.append((args, kwargs))
        return original(*args, **kwargs)

    scene_module.rasterize = spy
    try:
        step(trainer, number)
    finally:
        scene_module.rasterize = original
    return found[0]


def rasterize_again(args: tuple, kwargs: dict[str, Any]) -> None:
    """Forward and backward on detached copies of the arguments."""

    def leaf(value: Any) -> Any:
        return value.detach().requires_grad_(value.is_floating_point()) if torch.is_tensor(value) else value

    leaves = [leaf(value) for value in args]
    leaves[6] = leaves[6].detach()  # intrinsics are not trained
    image, alpha, _ = scene_module.rasterize(*leaves, **{name: leaf(value) for name, value in kwargs.items()})
    torch.autograd.backward([image, alpha], [torch.ones_like(image), torch.ones_like(alpha)])


def seconds(function: Any, *args: Any) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(args: BenchStep) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(args, folder)
        for number in range(args.warm_up):
            step(trainer, number)
        raster_args, raster_kwargs = captured_rasterization(trainer, args.warm_up)
        rasterize_again(raster_args, raster_kwargs)
        whole, raster = [], []
        for number in range(args.warm_up + 1, args.warm_up + 1 + args.rounds):
            whole.append(1000 * seconds(step, trainer, number))
            raster.append(1000 * seconds(rasterize_again, raster_args, raster_kwargs))
    views, channels = raster_args[5].shape[0], raster_args[4].shape[-1]
    size = f"{raster_args[7]}x{raster_args[8]}"
    counts = f"{args.method}: {raster_args[3].shape[-1]} Gaussians, {views} views of {size}, {channels} channels"
    print(f"{counts}, {torch.get_num_threads()} threads, {args.rounds} rounds in turn")
    print(f"  whole step              {statistics.median(whole):8.1f} ms (median)")
    print(f"  rasterization, fwd+bwd  {statistics.median(raster):8.1f} ms (median)")
    print(f"  ratio                   {statistics.median(whole) / statistics.median(raster):8.2f}")


if __name__ == "__main__":
    main(tyro.cli(BenchStep))
