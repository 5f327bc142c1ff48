"""How long each stage took, over all runs on a folder. The only file of a clip that differs between equal runs.

It is a script (`timings = {...}`) so that the summary page, which is the same for equal clips, can show it from disk.
"""

from __future__ import annotations

import json
from pathlib import Path

from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.kind_report import KindReport

TIMINGS_FILE = Path("summary") / "timings.js"
_PREFIX = "const timings = "


def read_timings(root: Path) -> dict[str, float]:
    """Seconds by "SEQUENCE/STAGE"; empty where nothing is known."""
    path = root / TIMINGS_FILE
    try:
        content = json.loads(path.read_text().removeprefix(_PREFIX).rstrip().removesuffix(";"))
        return {str(stage): float(seconds) for stage, seconds in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # it is only told, never relied on


def add_timing(root: Path, report: KindReport) -> None:
    """Add what a stage took in this run."""
    timings = read_timings(root)
    stage = f"{report.sequence}/{report.kind}"
    timings[stage] = round(timings.get(stage, 0.0) + report.seconds, 2)
    with atomic_file(root / TIMINGS_FILE) as file:
        file.write(f"{_PREFIX}{json.dumps(timings, indent=1)};\n".encode())
