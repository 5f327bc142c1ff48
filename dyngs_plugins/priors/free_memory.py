"""How much memory this process may still take: of the machine, or of the container or cluster job that it runs in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

_KINDS = (
    # where its groups are, the limit, what is in use, and what of that is files that give way
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes; None where the system does not say (it is no Linux).

    Args:
        root: of the file system whose ``proc`` and ``sys`` are read.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    return max(0, round(min([free, *_left_by_groups(root)])))


def _left_by_groups(root: Path) -> Iterator[float]:
    """What each control group around this process leaves, the innermost first (version 2 and 1)."""
    for mount, limit, used, files in _KINDS:
        for group in _groups(root, mount):
            try:
                left = float(_number(group / limit)) - float(_number(group / used))
                for line in (group / "memory.stat").read_text().splitlines():
                    if line.split()[0] == files:
                        left += float(line.split()[1])
            except (OSError, ValueError, IndexError):
                continue  # the outermost group has no limit, and no file of one
            yield left


def _groups(root: Path, mount: str) -> Iterator[Path]:
    """A container sees its own group as the outermost one, whatever the path says."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    base = root / mount
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        group = base / path.lstrip("/")
        while group != base and base in group.parents:
            yield group
            group = group.parent
    yield base


def _number(file: Path) -> float:
    text = file.read_text().strip()
    return math.inf if text == "max" else int(text)
