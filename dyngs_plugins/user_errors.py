"""Mistakes of users end in one message instead of a traceback: in ``dyngs``, and in the host's commands once they run ours.

An error is a user's if code of this project raised it, as the innermost frame, in one of the kinds below or as an
ImportError that is about no module; it then says what was found, what was expected and what to try. A place that the
system will not let anybody write to is a user's too, whoever met it. Whatever else a library raises is a bug, and keeps its
traceback.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from types import TracebackType

OUR_PACKAGES = ("dyngs_plugins", "dataparsers", "method_configs")
USER_ERRORS = (ValueError, OSError, MemoryError, FloatingPointError)
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)
"""What the system says of a place that is read-only, full or somebody else's."""
UNDER_A_FILE = (errno.ENOTDIR, errno.EEXIST)
"""And of one in a folder that is none."""
UNFINISHED = re.compile(r"(?:^|(?<=[/\\]))\.([^/\\]+?)(?:\.\d+\.\d+\.tmp|\.partial-\w+)(?=[/\\]|$)")
"""Names that files and folders have until they are complete; the user knows them by those they take then."""
STOPPED_BY_HAND = 130
"""Exit code of a command that ctrl-C stopped, as shells have it."""
TRACEBACK_VARIABLE = "DYNGS_TRACEBACK"
"""Set to 1 it shows the traceback of a user's mistake too."""


def is_mistake_of_user(error: BaseException) -> bool:
    """Whether an error is to be told in one message."""
    # Python's own import errors name the module; ours say what a machine lacks.
    lacks = isinstance(error, ImportError) and error.name is None
    kind = isinstance(error, USER_ERRORS) or lacks
    told = (kind and raised_by_us(error)) or is_refused(error)
    return told and not os.environ.get(TRACEBACK_VARIABLE)


def is_refused(error: BaseException) -> bool:
    """Whether the system did not let a file or a folder be read or written, which it names."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes):
        return False
    return error.errno in REFUSALS or _is_under_a_file(error)


def _is_under_a_file(error: OSError) -> bool:
    """Whether a folder was to be used or made where there is a file; a folder that is there already is a bug of ours."""
    return error.errno in UNDER_A_FILE and not os.path.isdir(error.filename)


def message_of(error: BaseException) -> str:
    """What a user is told of a mistake."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is None:
        return error.strerror  # ours, raised with the system's number for those who catch it
    if not is_refused(error):
        return str(error)
    place = UNFINISHED.sub(r"\1", os.fsdecode(error.filename))
    if _is_under_a_file(error):
        return f"{place}: it is a file, or in one; expected a folder, or a free name in one. Choose another place."
    return (
        f"{place}: the system does not let it be read or written ({error.strerror}). Expected a place where you may "
        "do both: choose another one, change its permissions, or free some space."
    )


def raised_by_us(error: BaseException) -> bool:
    """Whether the innermost frame of the error is code of this project, which phrases its errors for users."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    module = innermost.tb_frame.f_globals.get("__name__", "") if innermost is not None else ""
    return module.split(".")[0] in OUR_PACKAGES


def end_in_one_message() -> None:
    """From now on an error that ends this process is told in one message, if it is a mistake of the user."""
    if sys.excepthook is not _tell:
        _tell.before = sys.excepthook  # type: ignore[attr-defined]
        sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if is_mistake_of_user(error):
        print(f"{Path(sys.argv[0]).name}: {message_of(error)}\n({TRACEBACK_VARIABLE}=1 shows where.)", file=sys.stderr)
    else:
        _tell.before(kind, error, traceback)  # type: ignore[attr-defined]
