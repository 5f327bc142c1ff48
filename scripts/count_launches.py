"""How many kernels one training step of each method would launch on a GPU, counted on a device that is not there.

    python scripts/count_launches.py demo/clip                                  # every method
    python scripts/count_launches.py demo/clip --methods dyn-mobgs --sites 40   # and where in the code they come from

These are counts, not times: the device is simulated (`tests/shared/simulated_cuda`), and its work is done by the CPU. The
rasterizer's own kernels are left out, whatever package they are from.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests" / "shared"), str(Path(__file__).resolve().parent)]

import bench_step  # noqa: E402
from gsplat_stand_in import gsplat_on  # noqa: E402
from simulated_cuda import SimulatedCuda  # noqa: E402
from simulated_cuda.launches import Launches  # noqa: E402


@dataclass
class CountLaunches:
    """Count what training steps ask of a simulated CUDA device."""

    data: tyro.conf.Positional[Path]
    """A clip folder; the counts hardly depend on its size."""
    methods: tuple[str, ...] = bench_step.METHODS
    steps: int = 4
    """Counted steps, after three that are not."""
    sites: int = 0
    """How many places in the code to name, those with the most launches first."""


def _on_the_device(config: Any) -> None:
    """Train there, and with everything that moves from the first step on."""
    config.machine.device_type = "cuda"
    bench_step.moving_from_the_start(config)


def counted(args: CountLaunches, method: str) -> Launches:
    """What the counted steps of one method ask for, all together."""
    with SimulatedCuda() as device, gsplat_on(device), tempfile.TemporaryDirectory() as folder:
        small = bench_step.BenchStep(data=args.data, method=method, num_dynamic=200, num_static=300)
        trainer = bench_step.build(small, folder, _on_the_device)
        for number in range(1, 4):
            bench_step.step(trainer, number)
        with device.launches.counting(sites=args.sites > 0) as launches:
            for number in range(4, 4 + args.steps):
                bench_step.step(trainer, number)
    return launches


def main(args: CountLaunches) -> None:
    found = {method: counted(args, method) for method in args.methods}
    print(
        "| method | kernels launched in a step | of them backward | copies | waits |", "|---|---|---|---|---|", sep="\n"
    )
    for method, launches in found.items():
        numbers = (launches.kernels, launches.backward, launches.copies, launches.waits)
        print(f"| `{method}` |", " | ".join(f"{number / args.steps:.0f}" for number in numbers), "|")
    for method, launches in found.items():
        for site, number in launches.sites.most_common(args.sites):
            print(f"{method} {number / args.steps:8.1f}  {site}")


if __name__ == "__main__":
    main(tyro.cli(CountLaunches))
