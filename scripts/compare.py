"""Train methods on one clip through ns-train, score them through ns-eval, and print one table.

    python scripts/compare.py demo/clip --out outputs/compare
    python scripts/compare.py CLIP --methods dyn-som-small dyn-static-small --train-args="--max-num-iterations 500"

A method that has already been trained in ``--out`` is not trained again; ``--redo`` trains all.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

COLUMNS = (
    ("psnr", "PSNR"),
    ("psnr_dynamic", "PSNR dynamic"),
    ("ssim", "SSIM"),
    ("ssim_dynamic", "SSIM dynamic"),
    ("lpips", "LPIPS"),
    ("track_epe3d_median_percent_of_extent", "3-D track error, % of extent"),
)


@dataclass
class Compare:
    """Compare methods on one clip."""

    data: tyro.conf.Positional[Path]
    """A clip folder."""
    out: Path = Path("outputs/compare")
    methods: list[str] = field(default_factory=lambda: ["dyn-static-small", "dyn-som-small"])
    train_args: str = ""
    """Further arguments for every ns-train, as one string."""
    data_args: str = ""
    """The dataparser subcommand and its arguments, e.g. "som-data --eval-interval 8"."""
    redo: bool = False


def run_host(module: str, arguments: list[str]) -> None:
    """Run one of the host's commands in a process of its own; stop with its output when it fails."""
    command = [sys.executable, "-m", f"nerfstudio.scripts.{module}", *arguments]
    finished = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if finished.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} failed with code {finished.returncode}:\n{finished.stdout[-4000:]}")


def score(args: Compare, method: str) -> tuple[dict, float]:
    """Train one method (unless it is there already) and evaluate it: its results and its training seconds."""
    run = args.out / "scene" / method / "run"
    config, timing = run / "config.yml", run / "seconds.json"
    if args.redo or not timing.exists():
        start = time.perf_counter()
        place = ["--output-dir", str(args.out), "--experiment-name", "scene", "--timestamp", "run"]
        further = [*shlex.split(args.train_args), *shlex.split(args.data_args)]
        run_host("train", [method, "--data", str(args.data), *place, "--vis", "tensorboard", *further])
        timing.write_text(json.dumps(time.perf_counter() - start))
    results = run / "eval.json"
    run_host("eval", ["--load-config", str(config), "--output-path", str(results)])
    return json.loads(results.read_text())["results"], json.loads(timing.read_text())


def main(args: Compare) -> None:
    scored = {method: score(args, method) for method in args.methods}
    protocols = {results.get("protocol", "") for results, _ in scored.values()}
    table = Table(title=f"{args.data}  ({'; '.join(sorted(protocols))})")
    table.add_column("method")
    for _, title in (*COLUMNS, ("", "training, s")):
        table.add_column(title, justify="right")
    for method, (results, seconds) in scored.items():
        cells = [f"{results[key]:.3f}" if key in results else "-" for key, _ in COLUMNS]
        table.add_row(method, *cells, f"{seconds:.0f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main(tyro.cli(Compare))
