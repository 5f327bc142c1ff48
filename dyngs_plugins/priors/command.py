"""`dyngs process` as a function: source in, clip folder with priors, a summary page and a record out."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dyngs_plugins.hooks import find_provider
from dyngs_plugins.priors.clip_files import write_json
from dyngs_plugins.priors.eval_masks import make_eval_masks
from dyngs_plugins.priors.footage import Choice
from dyngs_plugins.priors.ingest import open_clip
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.layout_source import is_data_set, process_data_set
from dyngs_plugins.priors.limits import clip_bytes, space_advice, space_warning
from dyngs_plugins.priors.prepared import RECORD, PreparedClip, remove_leftovers
from dyngs_plugins.priors.process import make_priors, make_providers
from dyngs_plugins.priors.process_options import DEFAULTS, OF_CLIPS, OF_DATA_SETS, ProcessOptions
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.base import PriorProvider
from dyngs_plugins.priors.summary import write_summary
from dyngs_plugins.priors.timings import add_timing


def run(source: Path, out: Path | None = None, options: ProcessOptions = DEFAULTS) -> list[KindReport]:
    """Do what `dyngs process` says: make of the source a clip folder with priors, or the priors that a data set lacks.

    Raises:
        FileNotFoundError, FileExistsError, ValueError, OSError, MemoryError: with what was found, expected and what to
            try.
    """
    if options.focal is not None and not options.focal > 0:
        raise ValueError(f"--focal is {options.focal}; expected a focal length in pixels of the source's images.")
    chosen = make_providers(*_named(options))
    make = _fill_data_set if _is_data_set(source, options) else _fill_clip
    return make(source, out, options, chosen, Console())


def _is_data_set(source: Path, options: ProcessOptions) -> bool:
    """Whether the source is to be left as it is, and gets only priors.

    Raises:
        ValueError: options that the source has no use for.
    """
    chosen = options.given(OF_DATA_SETS)
    if chosen and source.is_file():
        raise ValueError(f"{' '.join(chosen)}: expected of a data set, and {source} is a file. Leave it out; --height, "
                         "--width and --max-size say how large the images of a film become.")  # fmt: skip
    if not (chosen or is_data_set(source)):
        return False
    unused = options.given(OF_CLIPS)
    if unused:
        raise ValueError(f"{' '.join(unused)}: {source} is taken as a data set, whose images and split stay as they are. Leave "
                         "it out; --views, --protocol and --downscale-factor choose from a data set.")  # fmt: skip
    return True


def _fill_data_set(
    source: Path, out: Path | None, options: ProcessOptions, chosen: Mapping[str, PriorProvider], console: Console
) -> list[KindReport]:
    begin, say = time.perf_counter(), _says(console)
    with _progress(console) as track, space_advice(out or source, _about(source)):
        reports = process_data_set(
            source, out, chosen, track, say, views=options.views, protocol=options.protocol,
            downscale_factor=options.downscale_factor, redo=options.redo, memory_gb=options.memory_gb,
        )  # fmt: skip
    console.print(_table(reports))
    say(f"{out}: priors for {source}, which is as it was; {time.perf_counter() - begin:.0f} s. Next: "
        f"{training_command(out or source)}")  # fmt: skip
    return reports


def _fill_clip(
    source: Path, out: Path | None, options: ProcessOptions, chosen: Mapping[str, PriorProvider], console: Console
) -> list[KindReport]:
    begin, say = time.perf_counter(), _says(console)
    with _progress(console) as track, space_advice(out or source, _about(source)):
        clip = _open(source, out, options, track, say)
        with space_advice(clip.root, _needed(clip)):
            clip, reports = make_priors(
                clip, chosen, track, say, options.redo, options.memory_gb, options.focal,
                done=lambda report: add_timing(clip.root, report),
            )  # fmt: skip
            if options.eval_masks:
                make_eval_masks(clip, chosen, track, options.memory_gb)
            _write_record(clip, reports)
            page = write_summary(clip, chosen, reports, options.memory_gb)
    console.print(_table(reports))
    say(f"{clip.root}: {clip.protocol}; {time.perf_counter() - begin:.0f} s. Look at {page} before you train. Next: "
        f"{training_command(clip.root)}")  # fmt: skip
    return reports


def _open(source: Path, out: Path | None, options: ProcessOptions, track: Track, say: Say) -> PreparedClip:
    """The clip folder with its images, and what there is to say before work begins."""
    choice = Choice(options.fps, options.max_frames, options.start, options.end)
    right = None if options.right is None else options.right.expanduser()
    clip = open_clip(source, out, height=options.height, width=options.width, max_size=options.max_size,
                     holdout=options.holdout, track=track, choice=choice, right=right, say=say)  # fmt: skip
    remove_leftovers(clip.root)
    for note in clip.report.notes if clip.report is not None else ():
        say(note)
    warning = None if (clip.root / "tracks").is_dir() else space_warning(clip.root, _needed(clip))
    if warning:
        say(warning)
    return clip


def training_command(data: Path) -> str:
    """What to run next on a clip with priors: the flagship at full size on a GPU, sized for processors elsewhere."""
    import torch

    return f"ns-train dyn-som{'' if torch.cuda.is_available() else '-small'} --data {shlex.quote(str(data))}"


def _named(options: ProcessOptions) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Provider names, cameras included, and their settings."""
    values = parse_settings(options.settings)
    tracker = find_provider("tracks", options.tracks)
    if "stride" in {field.name for field in dataclasses.fields(tracker)}:
        values.setdefault("tracks", {}).setdefault("stride", options.track_stride)
    return options.providers, values


def _needed(clip: PreparedClip) -> float:
    """Disk that the whole clip will take, roughly."""
    return sum(clip_bytes(len(frames), frames.size) for frames in clip.everything)


def _about(source: Path) -> float:
    """Disk that extracted frames will take before anything is known about them."""
    return 4.0 * source.stat().st_size if source.is_file() else 1e8


def _write_record(clip: PreparedClip, reports: Sequence[KindReport]) -> None:
    """What was done, without what differs between equal runs."""
    kinds = [{"sequence": r.sequence, "kind": r.kind, "provider": r.provider, "files": r.made + r.kept,
              "measures": r.measures} for r in reports]  # fmt: skip
    write_json(
        clip.root / RECORD, {"input": clip.source, "status": "complete", "protocol": clip.protocol, "kinds": kinds}
    )


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


def _says(console: Console) -> Say:
    return lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Track]:
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        yield lambda items, title, total=None: bar.track(items, total=total, description=title)


def _table(reports: list[KindReport]) -> Table:
    table = Table("camera", "prior", "provider", "made", "kept", "seconds", "measures")
    for r in reports:
        measures = ", ".join(f"{name} {value:.3g}" for name, value in r.measures.items())
        table.add_row(r.sequence, r.kind, r.provider, str(r.made), str(r.kept), f"{r.seconds:.1f}", measures)
    return table
