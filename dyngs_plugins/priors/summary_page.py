"""The HTML of a clip's summary page: one table of figures, charts of the frames and the camera's path, contact sheets."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.frame_report import BLURRED_BELOW, FrameFigures, FrameReport

CAPTIONS = {
    "frames": "Training frames, brightened, each with its time step.",
    "flow": "Flow to the next frame. Hue is the direction, saturation the length; white rests.",
    "masks": "What moves, in red. Look for objects that are only half covered and for still things that are.",
    "depth": "Disparity: red is near, blue is far, black is unknown; the same colours in all frames.",
    "tracks": "Tracked points and where they were. Filled: visible. Hollow: hidden.",
}
MEASURES = {
    "visible": "share of pixels whose forward and backward flow agree",
    "epipolar px": "median distance of flow from the epipolar lines, pixels",
    "moving": "share of pixels that move",
    "empty frames": "frames without any moving pixel",
    "reprojection px": "median distance between flow and what depth and cameras predict on still pixels",
    "frame to frame": "relative difference of the depths of neighbouring frames",
    "points": "points per frame",
    "visible at 10": "share of points surely visible ten frames later",
    "round trip px": "median distance after ten frames there and back, pixels",
}


@dataclasses.dataclass(frozen=True)
class KindRow:
    """One line of the table."""

    sequence: str
    kind: str
    provider: str
    settings: Mapping[str, Any]
    files: int
    measures: Mapping[str, float]
    notes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class CameraPath:
    """One camera's path, for the plot from above."""

    name: str
    centres: Float[np.ndarray, "n 3"]
    forward: Float[np.ndarray, "n 3"]
    interpolated: Sequence[bool]
    focal: float
    focal_source: str


@dataclasses.dataclass(frozen=True)
class SummaryPage:
    """Everything that the page shows."""

    title: str
    protocol: str
    source: Mapping[str, Any]
    frames: FrameReport | None
    counts: Mapping[str, tuple[int, int]]
    """Training frames and all frames of each sequence."""
    size: tuple[int, int]
    kinds: Sequence[KindRow]
    paths: Sequence[CameraPath]
    sheets: Mapping[str, Sequence[str]]


def render_page(page: SummaryPage) -> str:
    """The page as text."""
    notes = [
        *(page.frames.notes if page.frames else ()),
        *(f"{k.kind}: {note}" for k in page.kinds for note in k.notes),
    ]
    parts = [
        f"<h1>{_text(page.title)}</h1>",
        f'<p class="lead">{_text(_lead(page))}</p>',
        _section("Worth knowing", "<ul>" + "".join(f"<li>{_text(n)}</li>" for n in notes) + "</ul>") if notes else "",
        _section("Figures", _table(page.kinds)),
        _section("Cameras", '<div class="row">' + "".join(_path_figure(path) for path in page.paths) + "</div>"),
    ]
    if page.frames is not None:
        charts = "".join(_frame_charts(name, listed) for name, listed in page.frames.sequences.items())
        parts.append(_section("Frames over time", charts))
    for name, sheets in page.sheets.items():
        for sheet in sheets:
            kind = sheet.split(".")[0].removesuffix(f"_{name}")
            title = kind.capitalize() + (f" ({name})" if len(page.sheets) > 1 else "")
            figure = f'<a href="{_text(sheet)}"><img src="{_text(sheet)}" alt="{_text(kind)}" loading="lazy"></a>'
            parts.append(_section(title, f"<p>{_text(CAPTIONS.get(kind, ''))}</p>{figure}"))
    return _DOCUMENT.format(
        title=_text(page.title), style=_STYLE, body="\n".join(p for p in parts if p), script=_SCRIPT
    )


def _lead(page: SummaryPage) -> str:
    counted = ", ".join(
        f"{name}: {train} training frames" + (f" and {every - train} held out" if every > train else "")
        for name, (train, every) in page.counts.items()
    )
    return f"{counted}; {page.size[1]}x{page.size[0]} pixels. Evaluation: {page.protocol}. From {page.source.get('source')}."


def _table(kinds: Sequence[KindRow]) -> str:
    several = len({kind.sequence for kind in kinds}) > 1
    head = (["camera"] if several else []) + ["kind", "made by", "files", "figures", "seconds"]
    rows = []
    for kind in kinds:
        settings = ", ".join(f"{name} {value}" for name, value in kind.settings.items() if value is not None)
        figures = "".join(
            f'<span class="figure" title="{_text(MEASURES.get(name, ""))}"><b>{_number(value)}</b> {_text(name)}</span>'
            for name, value in kind.measures.items()
        )
        cells = ([_text(kind.sequence)] if several else []) + [
            f"<b>{_text(kind.kind)}</b>",
            f'{_text(kind.provider)}<details><summary>settings</summary><span class="small">{_text(settings)}</span></details>'
            if settings
            else _text(kind.provider),
            str(kind.files),
            figures,
            f'<span data-stage="{_text(kind.sequence)}/{_text(kind.kind)}"></span>',
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "<table><tr>" + "".join(f"<th>{_text(h)}</th>" for h in head) + "</tr>" + "".join(rows) + "</table>"


def _path_figure(path: CameraPath, width: int = 460, sight: float = 16.0, margin: float = 44.0) -> str:
    """The path from above (x to the right, z up the page) with lines of sight; interpolated poses are orange."""
    ground = path.centres[:, [0, 2]] * [1.0, -1.0]
    low, extent = ground.min(0), np.ptp(ground, axis=0)
    scale = min((width - 2 * margin) / max(float(extent[0]), 1e-9), 320.0 / max(float(extent[1]), 1e-9))
    scale = scale if extent.max() > 0 else 0.0
    places = (ground - low) * scale + margin
    height = float(extent[1]) * scale + 2 * margin
    line_of_sight = path.forward[:, [0, 2]] * [1.0, -1.0]
    line_of_sight *= sight / np.maximum(np.linalg.norm(path.forward, axis=1, keepdims=True), 1e-9)
    marks = []
    for (x, y), (dx, dy), guess in zip(places, line_of_sight, path.interpolated, strict=True):
        colour = "#d9730d" if guess else "#2f6f9f"
        marks.append(f'<path d="M{x:.1f} {y:.1f}l{dx:.1f} {dy:.1f}" stroke="{colour}" stroke-opacity=".45"/>'
                     f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>')  # fmt: skip
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[0]
    return (
        f'<figure><svg viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img">'
        f'<polyline points="{line}" fill="none" stroke="#9ab" stroke-width="1"/>{"".join(marks)}'
        f'<text x="{x - 12:.1f}" y="{y + 18:.1f}">start</text></svg>'
        f"<figcaption>{_text(path.name)} from above; {sum(path.interpolated)} of {len(ground)} poses interpolated; focal "
        f"length {path.focal:.1f} pixels ({_text(path.focal_source)}).</figcaption></figure>"
    )


def _frame_charts(name: str, frames: Sequence[FrameFigures]) -> str:
    blurred = [frame.blurred for frame in frames]
    sharp = _chart([f.relative_sharpness for f in frames], blurred, level=BLURRED_BELOW)
    bright = _chart([f.luminance for f in frames], [False] * len(frames))
    return (
        f'<div class="row"><figure>{sharp}<figcaption>{_text(name)}: sharpness relative to the neighbours; '
        f"{sum(blurred)} of {len(frames)} frames are blurred (orange).</figcaption></figure>"
        f"<figure>{bright}<figcaption>{_text(name)}: mean brightness, from 0 to 1.</figcaption></figure></div>"
    )


def _chart(
    values: Sequence[float], marked: Sequence[bool], level: float | None = None, width: int = 520, height: int = 130
) -> str:
    """A line over the frames from 0 on, with marked ones as dots."""
    top = max([*values, level or 0.0, 1e-6]) * 1.1
    left, bottom = 34, 18

    def place(i: int, value: float) -> tuple[float, float]:
        x = left + (width - left - 6) * i / max(len(values) - 1, 1)
        return x, (height - bottom) * (1.0 - value / top) + 2

    line = " ".join("{:.1f},{:.1f}".format(*place(i, value)) for i, value in enumerate(values))
    dots = "".join(
        '<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="#d9730d"/>'.format(*place(i, value))
        for i, (value, mark) in enumerate(zip(values, marked, strict=True))
        if mark
    )
    rule = ""
    if level is not None:
        y = place(0, level)[1]
        rule = f'<path d="M{left} {y:.1f}H{width - 6}" stroke="#d9730d" stroke-dasharray="4 4" stroke-opacity=".6"/>'
    ticks = "".join(
        f'<text x="{left - 5}" y="{place(0, v)[1] + 4:.1f}" text-anchor="end">{v:.2g}</text>' for v in (0.0, top / 1.1)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f'<path d="M{left} 2V{height - bottom + 2}H{width - 6}" stroke="#9ab" fill="none"/>{rule}{ticks}'
        f'<text x="{width - 6}" y="{height - 2}" text-anchor="end">frame {len(values) - 1}</text>'
        f'<polyline points="{line}" fill="none" stroke="#2f6f9f" stroke-width="1.5"/>{dots}</svg>'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>"


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "unknown"


def _text(value: Any) -> str:
    return html.escape(str(value))


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2429; --soft: #5c6a73; --line: #dde3e7; --page: #f6f8f9; --card: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebee; --soft: #9aa8b1; --line: #333d44; --page: #14191c; --card: #1c2327; }
}
body { margin: 0 auto; max-width: 1180px; padding: 28px 20px 60px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 0 0 8px; }
.lead { color: var(--soft); margin: 0 0 18px; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 14px 0; }
section p { margin: 0 0 10px; color: var(--soft); } ul { margin: 0; padding-left: 20px; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; } td:nth-last-child(1) { white-space: nowrap; }
.figure { display: inline-block; margin: 0 16px 0 0; color: var(--soft); } .figure b { color: var(--ink); }
details { color: var(--soft); font-size: 13px; max-width: 340px; } summary { cursor: pointer; }
.row { display: flex; flex-wrap: wrap; gap: 24px; } figure { margin: 0; }
figcaption { color: var(--soft); font-size: 13px; max-width: 520px; }
img { width: 100%; border-radius: 4px; display: block; } svg { max-width: 100%; height: auto; }
svg text { font-size: 11px; fill: var(--soft); }
"""

_SCRIPT = """
if (typeof timings !== "undefined") {
  for (const cell of document.querySelectorAll("[data-stage]")) {
    const seconds = timings[cell.dataset.stage];
    if (seconds !== undefined) cell.textContent = seconds.toFixed(1);
  }
}
"""

_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: frames, cameras and priors</title>
<style>{style}</style>
</head>
<body>
{body}
<script src="timings.js"></script>
<script>{script}</script>
</body>
</html>
"""
