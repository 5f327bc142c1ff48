"""Make the missing files of one kind of prior as its provider gives them, and note who made which."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.limits import bytes_to_come, clip_advice, memory_advice, space_advice
from dyngs_plugins.priors.prior_kinds import PriorKind
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.base import PriorProvider
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.redo import PROVIDER_FILE
from dyngs_plugins.priors.solve import plain


def make_kind(kind: PriorKind, provider: PriorProvider, inputs: PriorInputs, track: Track, say: Say) -> KindReport:
    """Make the missing files of one kind."""
    wanted = {i: kind.paths(i) for i in range(len(inputs.frames))}
    missing = {i: {k: p for k, p in paths.items() if not p.is_file()} for i, paths in wanted.items()}
    missing = {i: paths for i, paths in missing.items() if paths}
    total = sum(len(paths) for paths in wanted.values())
    left = sum(len(paths) for paths in missing.values())
    report = KindReport(kind.sequence, kind.name, provider.name, made=left, kept=total - left)
    _settle_provider_file(kind, provider, kept=total - left, left=left, say=say)
    if not missing:
        return report
    start = time.perf_counter()
    title = f"{kind.sequence}: {kind.name} ({provider.name})"
    with (
        memory_advice_of(provider, kind.size, inputs.memory_gb),
        space_advice(kind.folder, bytes_to_come(kind, len(missing))),
    ):
        for _ in track(_write_results(kind, provider, inputs, missing), title, len(missing)):
            pass
    report.seconds = time.perf_counter() - start
    for note in provider.notes():
        say(f"{kind.sequence}: {note}")
    return report


def memory_advice_of(
    provider: PriorProvider, size: tuple[int, int], memory_gb: float
) -> contextlib.AbstractContextManager[None]:
    """What to try where memory runs out: the provider's own settings first, since they cost least."""
    return memory_advice(provider.title, f"{provider.less_memory()} {clip_advice(size, memory_gb)}".lstrip())


def _write_results(
    kind: PriorKind, provider: PriorProvider, inputs: PriorInputs, missing: Mapping[int, Mapping[Any, Path]]
) -> Iterator[int]:
    """Write what the provider makes as it comes; yield each frame when its last missing file is written.

    Raises:
        ValueError: when the provider leaves out a file.
    """
    open_files = {i: dict(paths) for i, paths in missing.items()}
    for i, arrays in provider.compute(inputs, sorted(missing)):
        wanted = open_files.get(i, {})
        for key in [key for key in arrays if key in wanted]:
            kind.write(wanted.pop(key), arrays[key])
        if i in open_files and not wanted:
            del open_files[i]
            yield i
    if open_files:
        i, paths = next(iter(open_files.items()))
        raise ValueError(
            f"The {kind.name} provider {provider.name!r} is at fault: of frame {kind.stems[i]} it left out "
            f"{', '.join(repr(key) for key in paths)}."
        )


def _settle_provider_file(kind: PriorKind, provider: PriorProvider, kept: int, left: int, say: Say) -> None:
    """Say when existing files were made otherwise, and note who makes the new ones."""
    path = kind.folder / PROVIDER_FILE
    now = plain({"provider": provider.name, "settings": provider.settings})
    there = read_json(path, "provider record") if path.is_file() else None
    earlier = [] if there is None else there.pop("earlier", [])
    if kept and there is None:
        there = {"provider": "files", "settings": {}}
        say(f"{kind.sequence}: {kept} {kind.name} files are there already and are used as given.")
    elif kept and there != now:
        say(
            f"{kind.sequence}: {kept} {kind.name} files made with {_describe(there)} are kept; now it would be "
            f"{_describe(now)}. To make them again: --redo {kind.name} (and what was made from them)."
        )
    if left and there != now:
        before = [*earlier, there] if kept and there is not None else []
        write_json(path, {**now, **({"earlier": before} if before else {})})


def _describe(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "unknown settings"
    settings = ", ".join(f"{k}={v}" for k, v in record.get("settings", {}).items())
    return f"{record.get('provider')!r} ({settings})" if settings else f"{record.get('provider')!r}"
