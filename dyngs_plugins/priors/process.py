"""The pipeline of `dyngs process`: for each camera and each kind of prior, make the files that are missing.

Files that exist are used and never overwritten. Every file is written complete or not at all, so a run that was killed
continues where it stopped. Beside the files of each kind lies provider.json with the provider's name and settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dyngs_plugins.hooks import find_provider
from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.ingest import PreparedClip
from dyngs_plugins.priors.measures import measure
from dyngs_plugins.priors.previews import write_previews
from dyngs_plugins.priors.prior_kinds import KINDS, PriorKind
from dyngs_plugins.priors.providers.base import FlowProvider, PriorProvider
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs

DEFAULT_PROVIDERS = {"flow": "dis", "masks": "epipolar", "depth": "multiview", "tracks": "chained"}
"""The provider of each kind that needs no downloaded weights."""

PROVIDER_FILE = "provider.json"
T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable in a progress bar with a title; `total` where the iterable has no length."""

    def __call__(self, items: Iterable[T], title: str, total: int | None = None, /) -> Iterable[T]: ...


Say = Callable[[str], None]


@dataclasses.dataclass
class KindReport:
    """What happened to one kind of prior of one camera."""

    sequence: str
    kind: str
    provider: str
    made: int = 0
    kept: int = 0
    seconds: float = 0.0
    measures: dict[str, float] = dataclasses.field(default_factory=dict)


def make_providers(names: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, PriorProvider]:
    """The providers by kind.

    Args:
        names: provider name per kind; kinds that are not named get their default.
        settings: values of provider fields per kind.

    Raises:
        ValueError: for an unknown kind, provider or setting, with the closest known name.
    """
    providers = {}
    for kind, default in DEFAULT_PROVIDERS.items():
        cls = find_provider(kind, names.get(kind, default))
        known = [field.name for field in dataclasses.fields(cls)]
        values = settings.get(kind, {})
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(
                    f"The {kind} provider {cls.name!r} has no setting {name!r}.{hint} Known: {', '.join(known)}."
                )
        providers[kind] = cls(**values)
    return providers


def make_priors(
    clip: PreparedClip, providers: Mapping[str, PriorProvider], track: Track, say: Say, redo: Iterable[str] = (),
    memory_gb: float = 2.0,
) -> list[KindReport]:  # fmt: skip
    """Make every prior that is missing, kind by kind.

    Args:
        track: wraps an iterable in a progress bar with a title.
        say: prints a line for the user.
        redo: kinds whose files are deleted first.
    """
    reports = []
    for frames in clip.training:
        kinds = {name: kind(clip.root, frames.name, frames.stems, frames.size) for name, kind in KINDS.items()}
        for name in redo:
            _delete(kinds[name])
        inputs = prior_inputs(frames, kinds, providers, memory_gb)
        made: list[str] = []
        for name, kind in kinds.items():
            report = make_kind(kind, providers[name], inputs, track, say)
            older = [need for need in kind.needs if need in made]
            if report.kept and older:
                say(f"{kind.sequence}: {report.kept} {name} files are older than the {' and '.join(older)} they are "
                    f"made from. To make them again: --redo {name}.")  # fmt: skip
            if report.made:
                made.append(name)
            report.measures = measure(name, inputs, kind)
            reports.append(report)
        write_previews(clip.root, inputs, suffix=f"_{frames.name}" if len(clip.training) > 1 else "")
    return reports


def prior_inputs(
    frames: FrameSequence, kinds: Mapping[str, PriorKind], providers: Mapping[str, PriorProvider], memory_gb: float,
    readable: Iterable[str] = tuple(KINDS),
) -> PriorInputs:  # fmt: skip
    """What the providers of one camera may look at: its frames, and the files of the `readable` kinds made so far."""
    provider = providers["flow"]
    if not isinstance(provider, FlowProvider):
        raise ValueError(
            f"The flow provider {provider.name!r} is not a subclass of FlowProvider, so it cannot be used."
        )
    return PriorInputs(frames, provider, {name: kinds[name].read for name in readable}, memory_gb)


def make_kind(kind: PriorKind, provider: PriorProvider, inputs: PriorInputs, track: Track, say: Say) -> KindReport:
    """Make the missing files of one kind."""
    remove_unfinished(kind.folder)
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
    for _ in track(_write_results(kind, provider, inputs, missing), title, len(missing)):
        pass
    report.seconds = time.perf_counter() - start
    return report


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
    now = _plain({"provider": provider.name, "settings": provider.settings})
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


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed run was writing when it died; see `atomic_file` for the names."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def _delete(kind: PriorKind) -> None:
    for i in range(len(kind.stems)):
        for path in kind.paths(i).values():
            path.unlink(missing_ok=True)
    (kind.folder / PROVIDER_FILE).unlink(missing_ok=True)


def _describe(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "unknown settings"
    settings = ", ".join(f"{k}={v}" for k, v in record.get("settings", {}).items())
    return f"{record.get('provider')!r} ({settings})" if settings else f"{record.get('provider')!r}"


def _plain(value: Any) -> Any:
    """As it comes back from JSON: tuples become lists."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
