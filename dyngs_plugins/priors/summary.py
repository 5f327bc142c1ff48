"""The summary of a clip: contact sheets of its frames and priors, and a page that shows them with all figures.

`summary/index.html` needs nothing but the files beside it. It says the same for equal clips; what took how long is read
from `timings.js`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.prepared import PreparedClip
from dyngs_plugins.priors.previews import FOLDER, write_previews
from dyngs_plugins.priors.process import kinds_of, prior_inputs
from dyngs_plugins.priors.providers.base import PriorProvider
from dyngs_plugins.priors.redo import PROVIDER_FILE
from dyngs_plugins.priors.solve import camera_record
from dyngs_plugins.priors.summary_page import CameraPath, KindRow, SummaryPage, render_page


def write_summary(
    clip: PreparedClip, providers: Mapping[str, PriorProvider], reports: Sequence[KindReport], memory_gb: float
) -> Path:
    """Write the sheets and the page.

    Returns:
        the page.
    """
    sheets: dict[str, list[str]] = {}
    for frames in clip.training:
        inputs = prior_inputs(frames, kinds_of(clip, frames), providers, memory_gb)
        suffix = f"_{frames.name}" if len(clip.training) > 1 else ""
        sheets[frames.name] = [file.name for file in write_previews(clip.root, inputs, suffix)]
    page = SummaryPage(
        title=clip.root.resolve().name or "clip",
        protocol=clip.protocol,
        source=clip.source,
        frames=clip.report,
        counts={s.name: (len(s), len(every)) for s, every in zip(clip.training, clip.everything, strict=True)},
        size=next(iter(clip.training)).size,
        kinds=[_row(clip, report) for report in reports],
        paths=[_path(clip, i) for i in range(len(clip.training))],
        sheets=sheets,
    )
    file = clip.root / FOLDER / "index.html"
    with atomic_file(file) as out:
        out.write(render_page(page).encode())
    return file


def _row(clip: PreparedClip, report: KindReport) -> KindRow:
    frames = next(s for s in clip.training if s.name == report.sequence)
    record = None
    if report.kind == "cameras":
        record = camera_record(clip.root, report.sequence)
    else:
        path = kinds_of(clip, frames)[report.kind].folder / PROVIDER_FILE
        record = read_json(path, "provider record") if path.is_file() else None
    return KindRow(
        sequence=report.sequence,
        kind=report.kind,
        provider=str(record["provider"]) if record else "files as given",
        settings=dict(record.get("settings", {})) if record else {},
        files=report.made + report.kept,
        measures=report.measures,
        notes=[str(note) for note in record.get("notes", [])] if record else [],
    )


def _path(clip: PreparedClip, i: int) -> CameraPath:
    frames = clip.training[i]
    record = camera_record(clip.root, frames.name) or {}
    interpolated = set(record.get("interpolated", []))
    return CameraPath(
        name=frames.name,
        centres=frames.world_T_camera[:, :3, 3],
        forward=frames.world_T_camera[:, :3, 2],
        interpolated=[stem in interpolated for stem in frames.stems],
        focal=float(frames.K[0, 0, 0]),
        focal_source=str(record.get("focal", {}).get("source", "given")),
    )
