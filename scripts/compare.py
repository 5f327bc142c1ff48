"""Train methods on one clip through ns-train, score them through ns-eval, and print one table.

    python scripts/compare.py demo/clip --out outputs/compare
    python scripts/compare.py CLIP --methods dyn-som-small dyn-static-small --train-args="--max-num-iterations 500"
    python scripts/compare.py CLIP --methods every --markdown table.md

A method that has already been trained in ``--out`` is not trained again; ``--redo`` trains all.
"""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

COLUMNS = (
    ("psnr", "PSNR", 2),
    ("psnr_dynamic", "PSNR dynamic", 2),
    ("ssim", "SSIM", 3),
    ("ssim_dynamic", "SSIM dynamic", 3),
    ("lpips", "LPIPS", 3),
    ("track_epe3d_median_percent_of_extent", "3-D track error, % of extent", 2),
)
"""Names in the results, titles, and digits after the point."""


@dataclass
class Compare:
    """Compare methods on one clip."""

    data: tyro.conf.Positional[Path]
    """A clip folder."""
    out: Path = Path("outputs/compare")
    methods: list[str] = field(default_factory=lambda: ["dyn-static-small", "dyn-som-small"])
    """Names of methods. ``every`` stands for all small ones for moving scenes, and the static one."""
    train_args: str = ""
    """Further arguments for every ns-train, as one string."""
    data_args: str = ""
    """The dataparser subcommand and its arguments, e.g. "som-data --eval-interval 8"."""
    redo: bool = False
    markdown: Path | None = None
    """Also write the table to this file."""


def run_host(module: str, arguments: list[str]) -> None:
    """Run one of the host's commands in a process of its own; stop with its output when it fails."""
    command = [sys.executable, "-m", f"nerfstudio.scripts.{module}", *arguments]
    finished = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if finished.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} failed with code {finished.returncode}:\n{finished.stdout[-4000:]}")


def score(args: Compare, method: str) -> tuple[dict, dict[str, float]]:
    """Train one method (unless it is there already) and evaluate it: its results and how long training took."""
    run = args.out / "scene" / method / "run"
    config, timing = run / "config.yml", run / "seconds.json"
    if args.redo or not timing.exists():
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        place = ["--output-dir", str(args.out), "--experiment-name", "scene", "--timestamp", "run"]
        further = [*shlex.split(args.train_args), *shlex.split(args.data_args)]
        run_host("train", [method, "--data", str(args.data), *place, "--vis", "tensorboard", *further])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        timing.write_text(json.dumps({"wall": time.perf_counter() - start, "processor": processor}))
    results = run / "eval.json"
    run_host("eval", ["--load-config", str(config), "--output-path", str(results)])
    return json.loads(results.read_text())["results"], json.loads(timing.read_text())


def all_small_methods() -> list[str]:
    """The static method, and every method for moving scenes that has a preset for small ones."""
    names = sorted(p.name for p in entry_points(group="nerfstudio.method_configs"))
    return ["dyn-static-small"] + [
        n for n in names if n.startswith("dyn-") and n.endswith("-small") and "static" not in n
    ]


def cells(method: str, results: dict, seconds: dict[str, float]) -> list[str]:
    """One method's row: the name, the scores, the Gaussians of each set at the end, and the seconds.

    On a busy machine those on the clock say little; those of the processor, of all its cores together, stay.
    """
    scores = [f"{results[key]:.{digits}f}" if key in results else "-" for key, _, digits in COLUMNS]
    gaussians = " + ".join(f"{count:,} {name}" for name, count in results["gaussians"].items())
    return [method, *scores, gaussians, f"{seconds['wall']:.0f}", f"{seconds['processor']:.0f}"]


def write_markdown(file: Path, caption: str, titles: list[str], rows: list[list[str]]) -> None:
    """The same table as a markdown file."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    partial = file.with_suffix(".tmp")
    partial.write_text(f"{text}\n\n{caption}\n")
    partial.replace(file)


def main(args: Compare) -> None:
    methods = all_small_methods() if args.methods == ["every"] else args.methods
    scored = {method: score(args, method) for method in methods}
    protocols = {results.get("protocol", "") for results, _ in scored.values()}
    caption = f"{args.data}  ({'; '.join(sorted(protocols))})"
    titles = ["method", *(title for _, title, _ in COLUMNS), "Gaussians", "training, s", "processor, s"]
    rows = [cells(method, *both) for method, both in scored.items()]
    table = Table(title=caption)
    for title in titles:
        table.add_column(title, justify="left" if title == "method" else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)
    if args.markdown is not None:
        write_markdown(args.markdown, caption, titles, rows)


if __name__ == "__main__":
    main(tyro.cli(Compare))
