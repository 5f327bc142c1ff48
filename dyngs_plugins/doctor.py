"""`dyngs doctor`: what is installed, what can run, what cannot and why, and what stands in whose way.

Each check is guarded: one that fails is itself a finding. What may break an interpreter is tried in another process
(`doctor_probe.py`). Standard library only, so that `python -m dyngs_plugins.doctor` works when little else does.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def examine(checks: Sequence[tuple[str, Check]] | None = None) -> Iterator[Finding]:
    """All findings, in the order of the checks, as they are made. Never raises."""
    for group, check in checks if checks is not None else all_checks():
        try:
            yield from check()
        except Exception as error:  # that is what a doctor is for
            text = f"this check failed itself: {type(error).__name__}: {error}"
            yield Finding(group, "check", "problem", text, "Please report it.")


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


def report(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings as lines, as they come; problems once more at the end."""
    group = ""
    problems = []
    for finding in findings:
        if finding.group != group:
            group = finding.group
            yield group
        yield f"{_SIGNS[finding.state]}{finding.name}: {finding.text}"
        if finding.fix and finding.state != "ok":
            yield f"       fix: {finding.fix}"
        if finding.state == "problem":
            problems.append(f"{finding.group} / {finding.name}")
    if problems:
        yield f"\n{len(problems)} problem(s): {'; '.join(problems)}"
    else:
        yield "\nNo problems. What is marked with - is optional or only worth knowing."


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for programs."""
    problems = sum(finding.state == "problem" for finding in findings)
    return json.dumps({"problems": problems, "findings": [dataclasses.asdict(f) for f in findings]}, indent=1)


def run(as_data: bool = False) -> int:
    """Print the report; 0 without problems, else 1."""
    findings: list[Finding] = []
    if as_data:
        findings += examine()
        print(as_json(findings))
    else:
        for line in report(_kept(examine(), findings)):
            print(line, flush=True)
    return int(any(finding.state == "problem" for finding in findings))


def _kept(findings: Iterable[Finding], into: list[Finding]) -> Iterator[Finding]:
    """The findings, each also put into a list."""
    for finding in findings:
        into.append(finding)
        yield finding


if __name__ == "__main__":
    sys.exit(run("--json" in sys.argv[1:]))
