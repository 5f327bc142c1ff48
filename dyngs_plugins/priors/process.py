"""The pipeline of `dyngs process`: for each camera and each kind of prior, make the files that are missing.

Files that exist are used and never overwritten. Every file is written complete or not at all, so a run that was killed
continues where it stopped. Beside the files of each kind lies provider.json with the provider's name and settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dyngs_plugins.hooks import find_provider, registry
from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.limits import bytes_to_come, clip_advice, memory_advice, space_advice
from dyngs_plugins.priors.measures import measure
from dyngs_plugins.priors.prepared import PreparedClip
from dyngs_plugins.priors.prior_kinds import KINDS, PriorKind
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.base import FlowProvider, PriorProvider
from dyngs_plugins.priors.providers.camera_base import CameraProvider
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.learned import refuse_unavailable
from dyngs_plugins.priors.redo import PROVIDER_FILE, put_kind_aside
from dyngs_plugins.priors.solve import is_still, plain, put_cameras_aside, solve_cameras

DEFAULT_PROVIDERS = {"flow": "dis", "masks": "epipolar", "depth": "multiview", "tracks": "chained"}
"""The provider of each kind that needs no downloaded weights."""
DEFAULT_CAMERAS = "tracks"


def make_providers(names: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, PriorProvider]:
    """The providers by kind.

    Args:
        names: provider name per kind; kinds that are not named get their default, cameras none.
        settings: values of provider fields per kind.

    Raises:
        ValueError: for an unknown kind, provider or setting, with the closest known name.
    """
    wanted = {**DEFAULT_PROVIDERS, **names}
    unknown = sorted(set(settings) - set(wanted))
    if unknown:
        raise ValueError(
            f"--settings {unknown[0]}...: no such kind of prior here. Expected one of {', '.join(wanted)}."
        )
    providers = {}
    for kind, name in wanted.items():
        cls = find_provider(kind, name)
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
    memory_gb: float = 2.0, focal: float | None = None, done: Callable[[KindReport], None] = lambda report: None,
) -> tuple[PreparedClip, list[KindReport]]:  # fmt: skip
    """Make every prior that is missing: flow, then cameras, then the kinds that need them.

    Args:
        track: wraps an iterable in a progress bar with a title.
        say: prints a line for the user.
        redo: kinds whose files are put aside first.
        focal: focal length in pixels of the source, for clips without cameras.
        done: called with each report as soon as its files are complete.

    Returns:
        the clip with its cameras, and what happened to each kind of each camera's sequence.

    Raises:
        ValueError: among others, where the camera stands still and depth cannot be triangulated.
    """
    redo = set(redo)
    _refuse_what_cannot_run(clip, providers, redo)
    clip = put_cameras_aside(clip, say) if "cameras" in redo else clip
    reports: list[KindReport] = []
    fresh: dict[str, set[str]] = {frames.name: set() for frames in clip.training}

    def make(frames: FrameSequence, names: Iterable[str]) -> None:
        kinds = kinds_of(clip, frames)
        inputs = prior_inputs(frames, kinds, providers, memory_gb)
        for name in names:
            if name in redo:
                put_kind_aside(kinds[name], say)
            report = make_kind(kinds[name], providers[name], inputs, track, say)
            _say_if_older(kinds[name], report, fresh[frames.name], say)
            if report.made:
                fresh[frames.name].add(name)
            reports.append(report)
            done(report)

    for frames in clip.training:
        make(frames, [name for name in KINDS if name == "flow"])
    clip, solved = _cameras(clip, providers, focal, memory_gb, track, say)
    for report in solved:
        fresh[report.sequence] |= {"cameras"} if report.made else set()
        reports.append(report)
        done(report)
    blocked = _depth_is_blocked(clip, providers)
    for frames in clip.training:
        make(frames, [name for name in KINDS if name != "flow" and not (name == "depth" and blocked)])
    if blocked:
        raise ValueError(blocked)
    for frames in clip.training:
        kinds = kinds_of(clip, frames)
        inputs = prior_inputs(frames, kinds, providers, memory_gb)
        for report in reports:
            if report.sequence == frames.name and report.kind in kinds:
                report.measures = measure(report.kind, inputs, kinds[report.kind])
    return clip, sorted(reports, key=lambda r: list(fresh).index(r.sequence))


def kinds_of(clip: PreparedClip, frames: FrameSequence) -> dict[str, PriorKind]:
    """Where the priors of a sequence lie, by the name of the kind."""
    return {name: kind(clip.root, frames.name, frames.stems, frames.size) for name, kind in KINDS.items()}


def _refuse_what_cannot_run(clip: PreparedClip, providers: Mapping[str, PriorProvider], redo: set[str]) -> None:
    """Raise before anything is computed or put aside when a provider with work to do cannot run here."""
    if "cameras" in redo or not all(frames.has_cameras for frames in clip.training):
        refuse_unavailable(_camera_provider(clip, providers), [])
    for frames in clip.training:
        for name, kind in kinds_of(clip, frames).items():
            files = [path for i in range(len(frames)) for path in kind.paths(i).values()]
            refuse_unavailable(providers[name], [] if name in redo else files)


def _camera_provider(clip: PreparedClip, providers: Mapping[str, PriorProvider]) -> CameraProvider:
    solver = providers.get("cameras")
    if not isinstance(solver, CameraProvider):
        what = "no camera provider was named" if solver is None else f"{solver.name!r} is not a CameraProvider"
        raise ValueError(f"{clip.root}: its images have no cameras, and {what}. Name one with --cameras.")
    return solver


def _cameras(
    clip: PreparedClip, providers: Mapping[str, PriorProvider], focal: float | None, memory_gb: float, track: Track,
    say: Say,
) -> tuple[PreparedClip, list[KindReport]]:  # fmt: skip
    """Cameras of clips that lack them, or lacked them in an earlier run."""
    if "cameras" not in providers and all(frames.has_cameras for frames in clip.training):
        return clip, []
    solver = _camera_provider(clip, providers)

    def inputs_of(frames: FrameSequence, has_files: bool) -> PriorInputs:
        return prior_inputs(frames, kinds_of(clip, frames), providers, memory_gb, ("flow",) if has_files else ())

    title = f"{clip.training[0].name}: cameras ({solver.name})"
    with _memory_advice(solver, clip.training[0].size, memory_gb):
        (result,) = list(track((solve_cameras(clip, solver, inputs_of, focal, say, track) for _ in range(1)), title, 1))
    return result


def _depth_is_blocked(clip: PreparedClip, providers: Mapping[str, PriorProvider]) -> str:
    """Why depth cannot be made, or an empty text."""
    provider = providers["depth"]
    if not getattr(provider, "needs_parallax", False) or not is_still(clip):
        return ""
    frames = clip.training[0]
    depth = kinds_of(clip, frames)["depth"]
    if all(path.is_file() for i in range(len(frames)) for path in depth.paths(i).values()):
        return ""
    others = [
        name for name, cls in registry().prior_providers["depth"].items() if not getattr(cls, "needs_parallax", False)
    ]
    return (
        f"{clip.root}: the camera stands still (or only turns), so depth cannot be triangulated: one viewpoint shows no "
        f"parallax. Flow, cameras, masks and tracks are made. Depth must come from elsewhere: put files of your own into "
        f"{depth.folder}, or run the same command again with --depth "
        f"{' or --depth '.join(sorted(others)) or 'NAME of a provider that needs no parallax'}."
    )


def _say_if_older(kind: PriorKind, report: KindReport, fresh: set[str], say: Say) -> None:
    """Kept files may be made from files that have just been made anew."""
    older = [need for need in kind.needs if need in fresh]
    if report.kept and older:
        say(f"{kind.sequence}: {report.kept} {kind.name} files are older than the {' and '.join(older)} they are made "
            f"from. To make them again: --redo {kind.name}.")  # fmt: skip


def prior_inputs(
    frames: FrameSequence, kinds: Mapping[str, PriorKind], providers: Mapping[str, PriorProvider], memory_gb: float,
    readable: Iterable[str] = tuple(KINDS),
) -> PriorInputs:  # fmt: skip
    """What the providers of one camera may look at: its frames, and the files of the `readable` kinds made so far."""
    return PriorInputs(frames, flow_provider(providers), {name: kinds[name].read for name in readable}, memory_gb)


def flow_provider(providers: Mapping[str, PriorProvider]) -> FlowProvider:
    """The estimator of flow among the providers, which must be one that others can ask."""
    provider = providers["flow"]
    if not isinstance(provider, FlowProvider):
        raise ValueError(
            f"The flow provider {provider.name!r} is not a subclass of FlowProvider, so it cannot be used."
        )
    return provider


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
        _memory_advice(provider, kind.size, inputs.memory_gb),
        space_advice(kind.folder, bytes_to_come(kind, len(missing))),
    ):
        for _ in track(_write_results(kind, provider, inputs, missing), title, len(missing)):
            pass
    report.seconds = time.perf_counter() - start
    for note in provider.notes():
        say(f"{kind.sequence}: {note}")
    return report


def _memory_advice(
    provider: PriorProvider, size: tuple[int, int], memory_gb: float
) -> contextlib.AbstractContextManager[None]:
    """The provider's own settings first: they cost least."""
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
