"""`dyngs process` as a function: source in, clip folder with priors, previews and a record out."""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dyngs_plugins.priors.clip_files import write_json
from dyngs_plugins.priors.eval_masks import make_eval_masks
from dyngs_plugins.priors.ingest import RECORD, open_clip
from dyngs_plugins.priors.process import KindReport, make_priors, make_providers


def run(
    source: Path, out: Path | None = None, *, height: int | None = None, width: int | None = None,
    max_size: int | None = None, holdout: int = 8, providers: dict[str, str] | None = None,
    track_stride: int | None = None,
    settings: Sequence[str] = (), redo: Sequence[str] = (), eval_masks: bool = True, memory_gb: float = 2.0,
) -> list[KindReport]:  # fmt: skip
    """See `dyngs process --help` (dyngs_plugins/cli/process.py) for the arguments.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: with what was found, expected and what to try.
    """
    console = Console()
    values = parse_settings(settings)
    if track_stride is not None:
        values.setdefault("tracks", {}).setdefault("stride", track_stride)
    chosen = make_providers(providers or {}, values)
    start = time.perf_counter()
    with _progress(console) as track:
        clip = open_clip(source, out, height=height, width=width, max_size=max_size, holdout=holdout, track=track)
        reports = make_priors(clip, chosen, track, lambda line: console.print(line, soft_wrap=True), redo, memory_gb)
        if eval_masks:
            make_eval_masks(clip, chosen, track, memory_gb)
    seconds = time.perf_counter() - start
    write_json(clip.root / RECORD, {"input": clip.source, "status": "complete", "protocol": clip.protocol,
               "seconds": round(seconds, 1), "kinds": [vars(r) for r in reports]})  # fmt: skip
    console.print(_table(reports))
    console.print(
        f"{clip.root}: {clip.protocol}; {seconds:.0f} s. Look at {clip.root / 'preview'} before you train. "
        f"Next: ns-train dyn-som --data {clip.root}",
        soft_wrap=True,
        highlight=False,
    )
    return reports


def parse_settings(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """ "KIND.NAME=VALUE" texts as values by kind and name; numbers, booleans and tuples as in Python.

    Raises:
        ValueError: for a text of another form.
    """
    values: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        kind, dot, name = target.partition(".")
        if not (equals and dot and kind and name and value):
            raise ValueError(f"--settings {text!r} is not understood; expected KIND.NAME=VALUE, as in masks.high=2.0.")
        try:
            values.setdefault(kind, {})[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values.setdefault(kind, {})[name] = value
    return values


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Any]:
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        yield lambda items, title, total=None: bar.track(items, total=total, description=title)


def _table(reports: list[KindReport]) -> Table:
    table = Table("camera", "prior", "provider", "made", "kept", "seconds", "measures")
    for r in reports:
        measures = ", ".join(f"{name} {value:.3g}" for name, value in r.measures.items())
        table.add_row(r.sequence, r.kind, r.provider, str(r.made), str(r.kept), f"{r.seconds:.1f}", measures)
    return table
