"""The pipeline of `dyngs process`: for each camera and each kind of prior, make the files that are missing.

Files that exist are used and never overwritten. Every file is written complete or not at all, so a run that was killed
continues where it stopped. Beside the files of each kind lies provider.json with the provider's name and settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dyngs_plugins.hooks import find_provider, registry
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.measures import measure
from dyngs_plugins.priors.missing_files import make_kind, memory_advice_of
from dyngs_plugins.priors.prepared import PreparedClip
from dyngs_plugins.priors.prior_kinds import KINDS, PriorKind
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.base import FlowProvider, PriorProvider
from dyngs_plugins.priors.providers.camera_base import CameraProvider
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.learned import refuse_unavailable
from dyngs_plugins.priors.redo import put_kind_aside
from dyngs_plugins.priors.solve import is_still, put_cameras_aside, solve_cameras


def make_providers(names: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, PriorProvider]:
    """The providers by kind.

    Args:
        names: provider name per kind.
        settings: values of provider fields per kind.

    Raises:
        ValueError: for an unknown kind, provider or setting, with the closest known name.
    """
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise ValueError(f"--settings {unknown[0]}...: no such kind of prior here. Expected one of {', '.join(names)}.")
    providers = {}
    for kind, name in names.items():
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
    making = _Making(providers, track, say, redo, memory_gb, done)
    for frames in clip.training:
        making.make(clip, frames, [name for name in KINDS if name == "flow"])
    clip, solved = _cameras(clip, providers, focal, memory_gb, track, say)
    for report in solved:
        making.note(report)
    blocked = _depth_is_blocked(clip, providers)
    for frames in clip.training:
        making.make(clip, frames, [name for name in KINDS if name != "flow" and not (name == "depth" and blocked)])
    if blocked:
        raise ValueError(blocked)
    _measure(clip, providers, memory_gb, making.reports)
    order = [frames.name for frames in clip.training]
    return clip, sorted(making.reports, key=lambda r: order.index(r.sequence))


@dataclasses.dataclass
class _Making:
    """What is made so far, and what making more of it needs."""

    providers: Mapping[str, PriorProvider]
    track: Track
    say: Say
    redo: set[str]
    memory_gb: float
    done: Callable[[KindReport], None]
    reports: list[KindReport] = dataclasses.field(default_factory=list)

    def make(self, clip: PreparedClip, frames: FrameSequence, names: Iterable[str]) -> None:
        """Make kinds of one camera's sequence, in this order."""
        kinds = kinds_of(clip, frames)
        inputs = prior_inputs(frames, kinds, self.providers, self.memory_gb)
        for name in names:
            if name in self.redo:
                put_kind_aside(kinds[name], self.say)
            fresh = {report.kind for report in self.reports if report.sequence == frames.name and report.made}
            report = make_kind(kinds[name], self.providers[name], inputs, self.track, self.say)
            _say_if_older(kinds[name], report, fresh, self.say)
            self.note(report)

    def note(self, report: KindReport) -> None:
        """Files of a kind are complete."""
        self.reports.append(report)
        self.done(report)


def _measure(
    clip: PreparedClip, providers: Mapping[str, PriorProvider], memory_gb: float, reports: Iterable[KindReport]
) -> None:
    """Put into each report how good its files are."""
    for frames in clip.training:
        kinds = kinds_of(clip, frames)
        inputs = prior_inputs(frames, kinds, providers, memory_gb)
        for report in reports:
            if report.sequence == frames.name and report.kind in kinds:
                report.measures = measure(report.kind, inputs, kinds[report.kind])


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
    with memory_advice_of(solver, clip.training[0].size, memory_gb):
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
        f"{' or --depth '.join(sorted(others)) or 'NAME of a provider that needs no parallax'}. Without any "
        "depth the filmed views can be learned: ns-train dyn-deformable-small --data "
        f"{shlex.quote(str(clip.root))} som-data --required-priors masks tracks"
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
