"""How fast the CPU rasterizer and the fused SSIM are, against their PyTorch versions in the same process.

Run ``python scripts/bench_raster.py``. All times are medians in milliseconds over rounds in which the contestants take
turns, so that a busy machine slows both. Peak memory is what one forward and backward pass adds to a fresh process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.ssim import ssim, ssim_reference

SIZES = [(5_000, 128, 128), (20_000, 256, 256), (50_000, 400, 400), (100_000, 960, 540)]
SOM_STEP = (8, 8_000, 160, 120, 17)
"""Views, Gaussians, width, height and channels of one training step of the main method."""


@dataclass
class Scene:
    """Random Gaussians in front of cameras: 3-sigma radii of 2.5 to 9 pixels, about 45 of them over each pixel."""

    gaussians: dict[str, Tensor]
    width: int
    height: int
    options: dict

    def render(self, backend: str) -> tuple[Tensor, Tensor]:
        """Image and alpha."""
        arguments: dict[str, Any] = {**self.gaussians, **self.options}
        image, alpha, _ = rasterize(**arguments, width=self.width, height=self.height, backend=backend)
        return image, alpha

    def forward(self, backend: str) -> None:
        """Without gradients."""
        with torch.no_grad():
            self.render(backend)

    def forward_backward(self, backend: str) -> None:
        """With gradients for everything but the intrinsics."""
        for tensor in self.gaussians.values():
            tensor.grad = None
        image, alpha = self.render(backend)
        torch.autograd.backward([image, alpha], [torch.ones_like(image), torch.ones_like(alpha)])


def make_scene(count: int, width: int, height: int, channels: int = 3, views: int | None = None) -> Scene:
    """A scene for one camera (RGB and depth), or with `views` one whose Gaussians move from view to view (RGB only)."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    focal = 0.9 * max(width, height)
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    depth = 2 + 6 * uniform(count)
    pixels = (uniform(count, 2) * 1.05 - 0.525) * torch.tensor([width, height])
    means = torch.cat([pixels / focal * depth[:, None], depth[:, None]], dim=-1)
    radius = (2.5 + 6.5 * uniform(count)) / 3 * depth / focal
    gaussians = {
        "means": means,
        "quats": torch.randn(count, 4, generator=generator),
        "scales": radius[:, None] * (0.35 + 0.65 * uniform(count, 3)),
        "opacities": torch.sigmoid(1.2 * torch.randn(count, generator=generator) - 2.2),
        "colors": uniform(count, channels),
    }
    cameras = views or 1
    if views is not None:
        gaussians["means"] = means + 0.02 * torch.randn(views, 1, 3, generator=generator)
        gaussians["quats"] = gaussians["quats"].repeat(views, 1, 1)
    gaussians["viewmats"] = torch.eye(4).repeat(cameras, 1, 1)
    gaussians = {name: tensor.requires_grad_() for name, tensor in gaussians.items()}
    options = {
        "Ks": K.repeat(cameras, 1, 1),
        "backgrounds": torch.zeros(cameras, channels),
        "render_mode": "RGB" if views is not None else "RGB+D",
    }
    return Scene(gaussians, width, height, options)


def take_turns(contestants: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Median milliseconds of functions that run one after the other, each so many times per round."""
    for function, _ in contestants.values():
        function()  # compiles, allocates
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (function, repeats) in contestants.items():
            for _ in range(repeats):
                start = time.perf_counter()
                function()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def bench_scene(label: str, scene: Scene, rounds: int) -> None:
    """One line of the first table."""
    medians = take_turns(
        {
            "torch": (lambda: scene.forward("torch"), 1),
            "numba": (lambda: scene.forward("numba"), 5),
            "torch backward": (lambda: scene.forward_backward("torch"), 1),
            "numba backward": (lambda: scene.forward_backward("numba"), 5),
        },
        rounds,
    )
    forward, both = medians["torch"] / medians["numba"], medians["torch backward"] / medians["numba backward"]
    print(
        f"{label:<28}{medians['torch']:>10.1f}{medians['numba']:>9.2f}{forward:>8.1f}x"
        f"{medians['torch backward']:>11.1f}{medians['numba backward']:>9.2f}{both:>8.1f}x",
        flush=True,
    )


def bench_ssim(width: int, height: int, rounds: int) -> None:
    """One line of the SSIM table."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.rand(1, height, width, 3, generator=generator) for _ in range(2))
    prediction.requires_grad_()
    medians = take_turns(
        {
            "convolutions": (lambda: ssim_reference(prediction, target).backward(), 1),
            "fused": (lambda: ssim(prediction, target).backward(), 5),
        },
        rounds,
    )
    ratio = medians["convolutions"] / medians["fused"]
    size = f"{width}x{height}"
    print(f"{size:<28}{medians['convolutions']:>10.1f}{medians['fused']:>9.2f}{ratio:>8.1f}x", flush=True)


def resident_megabytes(field: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (the most so far) of this process, as Linux counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}; peak memory can be measured on Linux only.")


def added_peak_memory(backend: str, count: int, width: int, height: int) -> float:
    """Megabytes that one forward and backward pass adds to what this process holds before it."""
    small = make_scene(100, 32, 32)
    small.forward_backward(backend)  # compiled code and thread stacks do not count
    scene = make_scene(count, width, height)
    # Importing torch peaks higher than a pass: begin the high-water mark anew (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_megabytes("VmRSS")
    scene.forward_backward(backend)
    return resident_megabytes("VmHWM") - before


def bench_memory(backend: str, count: int, width: int, height: int) -> None:
    """One line of the memory table, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak-memory", backend, str(count), str(width), str(height)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"{backend:<8}{f'{count:,} {width}x{height}':<20}{float(result.stdout):>10.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes only")
    parser.add_argument(
        "--peak-memory", nargs=4, metavar=("BACKEND", "COUNT", "WIDTH", "HEIGHT"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.peak_memory:
        backend, *size = arguments.peak_memory
        print(added_peak_memory(backend, *(int(number) for number in size)))
        return
    sizes = SIZES[:2] if arguments.quick else SIZES
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; median ms; 4 channels unless said\n")
    print(f"{'':<28}{'forward':^27}{'forward + backward':^30}")
    print(f"{'':<28}{'torch':>10}{'numba':>9}{'':>9}{'torch':>11}{'numba':>9}")
    for count, width, height in sizes:
        bench_scene(f"{count:,} {width}x{height}", make_scene(count, width, height), arguments.rounds)
    views, count, width, height, channels = SOM_STEP
    label = f"{views} x {count:,} {width}x{height}, {channels} ch."
    bench_scene(label, make_scene(count, width, height, channels, views), arguments.rounds)
    print(f"\n{'SSIM, forward + backward':<28}{'conv2d':>10}{'fused':>9}")
    for width, height in ((256, 256), (960, 540)):
        bench_ssim(width, height, arguments.rounds)
    print("\npeak memory of forward + backward")
    for backend in ("torch", "numba"):
        for count, width, height in sizes[1::2]:
            bench_memory(backend, count, width, height)


if __name__ == "__main__":
    main()
