"""`dyngs doctor`: what is installed, what can run, what cannot and why, and what stands in whose way.

Each check is guarded: one that fails is itself a finding. What may break an interpreter is tried in another process
(`doctor_probe.py`). Standard library only, so that `python -m dyngs_plugins.doctor` works when little else does.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

State = Literal["ok", "note", "problem"]
_SIGNS = {"ok": "  ok ", "note": "  -  ", "problem": "  !! "}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report."""

    group: str
    name: str
    state: State
    """ok; note: something optional is missing, or worth knowing; problem: commands fail or do the wrong thing."""
    text: str
    fix: str = ""
    """A command or an action, where there is one."""


Check = Callable[[], Iterable[Finding]]


def examine(checks: Sequence[tuple[str, Check]] | None = None) -> list[Finding]:
    """All findings, in the order of the checks. Never raises."""
    findings: list[Finding] = []
    for group, check in checks if checks is not None else all_checks():
        try:
            findings += list(check())
        except Exception as error:  # that is what a doctor is for
            text = f"this check failed itself: {type(error).__name__}: {error}"
            findings.append(Finding(group, "check", "problem", text, "Please report it."))
    return findings


def all_checks() -> list[tuple[str, Check]]:
    """The checks by the group that they report to."""
    from dyngs_plugins import doctor_abilities, doctor_environment, doctor_names

    return [
        ("python", doctor_environment.check_python),
        ("packages", doctor_environment.check_packages),
        ("gpu", doctor_environment.check_gpu),
        ("system", doctor_environment.check_system),
        ("disk", doctor_environment.check_disk),
        ("installation", doctor_names.check_origins),
        ("installation", doctor_names.check_duplicates),
        ("entry points", doctor_names.check_entry_points),
        ("entry points", doctor_names.check_variables),
        ("abilities", doctor_abilities.check_abilities),
    ]


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, problems once more at the end."""
    lines: list[str] = []
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            lines.append(group)
        lines.append(f"{_SIGNS[finding.state]}{finding.name}: {finding.text}")
        if finding.fix and finding.state != "ok":
            lines.append(f"       fix: {finding.fix}")
    problems = [finding for finding in findings if finding.state == "problem"]
    if problems:
        lines.append(f"\n{len(problems)} problem(s): " + "; ".join(f"{p.group} / {p.name}" for p in problems))
    else:
        lines.append("\nNo problems. What is marked with - is optional or only worth knowing.")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for programs."""
    problems = sum(finding.state == "problem" for finding in findings)
    return json.dumps({"problems": problems, "findings": [dataclasses.asdict(f) for f in findings]}, indent=1)


def run(as_data: bool = False) -> int:
    """Print the report; 0 without problems, else 1."""
    findings = examine()
    print(as_json(findings) if as_data else report(findings))
    return int(any(finding.state == "problem" for finding in findings))


if __name__ == "__main__":
    sys.exit(run("--json" in sys.argv[1:]))
