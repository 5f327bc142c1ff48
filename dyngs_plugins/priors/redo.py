"""--redo: existing files are put aside, never deleted, because some of them may be a user's own.

A record says who made a kind, not who made each file: a frame's depth that a user gave in the place of a missing one looks
like the files around it. So all of them are kept in `before_redo/KIND/SEQ/`, and a line says where.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dyngs_plugins.priors.prior_kinds import PriorKind
from dyngs_plugins.priors.progress import Say

FOLDER = "before_redo"
PROVIDER_FILE = "provider.json"


def put_kind_aside(kind: PriorKind, say: Say) -> None:
    """Move the files of one kind of one sequence, and their record, to `before_redo/`."""
    files = [path for i in range(len(kind.stems)) for path in kind.paths(i).values()]
    put_aside(kind.root, kind.name, kind.sequence, [*files, kind.folder / PROVIDER_FILE], say)


def put_aside(root: Path, kind: str, sequence: str, files: Iterable[Path], say: Say) -> None:
    """Move those of the files that exist to `before_redo/KIND/SEQ/` (`SEQ-2/`, ... if there is one), and say so.

    Args:
        root: the clip folder.
        say: prints a line for the user.
    """
    there = [file for file in files if file.is_file()]
    if not there:
        return
    size = sum(file.stat().st_size for file in there)
    target = _free_folder(root / FOLDER / kind, sequence)
    target.mkdir(parents=True)
    for file in there:
        os.replace(file, target / file.name)
    say(
        f"{sequence}: --redo {kind}: {len(there)} files ({size / 1e6:.1f} MB) are put aside in {target}. Remove that "
        "folder when you do not need them."
    )


def _free_folder(parent: Path, name: str) -> Path:
    number, folder = 1, parent / name
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder
