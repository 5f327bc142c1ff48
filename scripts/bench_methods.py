"""Steps per second and peak memory of every method on this machine's GPU, or on its CPU where it has none.

    python scripts/bench_methods.py demo/clip                            # every method
    python scripts/bench_methods.py demo/clip --methods dyn-som dyn-static --steps 300

Steps are the host's own (frames, render, losses, backward, optimizers, density control), all of them with rendering and
motion. Each method has a process of its own, so that memory is its own. Ratios are to the static baseline in the same run.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench_step  # noqa: E402

METHODS = ("dyn-static", *bench_step.METHODS)


@dataclass
class BenchMethods:
    """Time training steps of methods, and take their peak memory."""

    data: tyro.conf.Positional[Path]
    """A clip folder."""
    methods: tuple[str, ...] = METHODS if torch.cuda.is_available() else tuple(f"{name}-small" for name in METHODS)
    """The first one is what the ratios are to."""
    steps: int = 100
    warm_up: int = 30
    """Steps before the first measured one: kernels compile, and most of the clip's files have been read."""
    num_dynamic: int = 3000
    num_static: int = 5000


@dataclass(frozen=True)
class Measured:
    """One method's steps."""

    milliseconds: float
    """Median of a step."""
    gigabytes: float
    """Peak: of what PyTorch has allocated on the GPU; without one, of the process's memory."""
    gaussians: int
    """At the end."""


def measured(args: BenchMethods, method: str) -> Measured:
    """One method's figures, in a process that has done nothing else."""
    small = bench_step.BenchStep(args.data, method, args.num_dynamic, args.num_static)
    with tempfile.TemporaryDirectory() as folder:
        trainer = bench_step.build(small, folder, bench_step.moving_from_the_start)
        for number in range(args.warm_up):
            bench_step.step(trainer, number)
        numbers = range(args.warm_up, args.warm_up + args.steps)
        times = [bench_step.seconds(bench_step.step, trainer, number) for number in numbers]
        scene = trainer.pipeline.model.scene
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 1e9
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    gaussians = sum(len(part) for part in (scene.dynamic, scene.static) if part is not None)
    return Measured(1000 * statistics.median(times), peak, gaussians)


def in_its_own_process(args: BenchMethods, method: str) -> Measured | Exception:
    """`measured`, or what went wrong: one method that fails leaves the others their figures."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        future = process.submit(measured, args, method)
        error = future.exception()
        return future.result() if error is None else RuntimeError(f"{type(error).__name__}: {error}")


def main(args: BenchMethods) -> None:
    found = {method: in_its_own_process(args, method) for method in args.methods}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}, torch {torch.__version__}, {args.steps} steps each")
    print(
        "| method | steps per second | a step (median) | ratio | peak memory | Gaussians |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    reference = found[args.methods[0]]
    for method, figures in found.items():
        if isinstance(figures, Exception):
            print(f"| `{method}` | failed: {figures} | | | | |")
            continue
        ratio = f"{figures.milliseconds / reference.milliseconds:.2f}" if isinstance(reference, Measured) else ""
        print(
            f"| `{method}` | {1000 / figures.milliseconds:.1f} | {figures.milliseconds:.1f} ms | {ratio} "
            f"| {figures.gigabytes:.2f} GB | {figures.gaussians:,} |"
        )
    if any(isinstance(figures, Exception) for figures in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(BenchMethods))
