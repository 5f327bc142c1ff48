"""What an exposure of S instants costs: a training step with it in units of a step with one instant, from one run.

    python scripts/bench_exposure.py demo/clip                               # dyn-som-small with camera paths
    python scripts/bench_exposure.py demo/clip --method dyn-splinegs-small --instants 5 9

Both trainings step in turn, so that other work on the machine hits both. The bar is 1.15 S.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from bench_step import BenchStep, build, seconds, step

from dyngs_plugins.exposure.base import ExposureConfig, InstantExposureConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.choice import choose
from dyngs_plugins.exposure.shutter import ShutterConfig


@dataclass
class BenchExposure:
    """Time training steps with and without an exposure."""

    data: tyro.conf.Positional[Path]
    """A clip folder."""
    method: str = "dyn-som-small"
    instants: tuple[int, ...] = (3, 9)
    frames: int = 2
    """Frames in a batch."""
    num_dynamic: int = 3000
    num_static: int = 5000
    warm_up: int = 10
    rounds: int = 20


def trainer_with(args: BenchExposure, exposure: ExposureConfig, folder: str) -> Any:
    """A trainer of the method with an exposure, at its first rendering step."""

    def change(config: Any) -> None:
        config.pipeline.model.exposure = choose(exposure)
        config.pipeline.datamanager.frames_per_batch = args.frames

    settings = BenchStep(args.data, args.method, args.num_dynamic, args.num_static)
    return build(settings, folder, change)


def main(args: BenchExposure) -> None:
    shutter = ShutterConfig(half_exposure=0.25)
    exposures: dict[int, ExposureConfig] = {1: InstantExposureConfig()}
    exposures |= {count: CameraPathExposureConfig(num_instants=count, shutter=shutter) for count in args.instants}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {count: trainer_with(args, exposure, folder) for count, exposure in exposures.items()}
        times: dict[int, list[float]] = {count: [] for count in trainers}
        for number in range(args.warm_up + args.rounds):
            for count, trainer in trainers.items():
                taken = 1000 * seconds(step, trainer, number)
                if number >= args.warm_up:
                    times[count].append(taken)
    one = statistics.median(times[1])
    print(
        f"{args.method}: {args.frames} frames a step, {torch.get_num_threads()} threads, {args.rounds} rounds in turn"
    )
    for count, taken in times.items():
        ratio = statistics.median(taken) / one
        print(f"  {count:3d} instants: {statistics.median(taken):8.1f} ms a step, {ratio:6.2f} times one instant, "
              f"{ratio / count:5.2f} S")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(BenchExposure))
