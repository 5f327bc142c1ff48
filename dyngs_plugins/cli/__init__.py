"""The command ``dyngs``: what nerfstudio's own commands do not do, such as to make the sample or to prepare a video.

Modules of commands import nothing heavy at their top, so that ``dyngs --help`` answers at once.
"""

import difflib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from dyngs_plugins.cli import convert, doctor, inspect, kernels, masks, path, process, relocate, sample
from dyngs_plugins.user_errors import STOPPED_BY_HAND, TRACEBACK_VARIABLE, is_mistake_of_user, message_of

COMMANDS: dict[str, Callable[..., Any]] = {
    "sample": sample.sample,
    "process": process.process,
    "inspect": inspect.inspect,
    "path": path.path,
    "relocate": relocate.relocate,
    "convert": convert.convert,
    "masks": masks.masks,
    "doctor": doctor.doctor,
    "kernels": kernels.kernels,
}
"""Name of each subcommand and the function that is its command line and its help."""


def main(args: Sequence[str] | None = None) -> None:
    """Run ``dyngs``. A mistake of the user ends in one message and exit code 2, ctrl-C in one and 130; a bug keeps its
    traceback.

    Set DYNGS_TRACEBACK=1 to see where it was in every case.
    """
    # Nerfstudio's, about a newer torch than it was written for: nothing that a user could do anything about.
    warnings.filterwarnings("ignore", message="`torch.*is deprecated", category=FutureWarning)
    args = sys.argv[1:] if args is None else args
    _check_command(args)
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="dyngs",
            description="Helpers around nerfstudio for scenes that move. Train with: ns-train dyn-som --data CLIP",
            args=args,
        )
    except Exception as error:
        if not is_mistake_of_user(error):
            raise
        print(f"dyngs: {message_of(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        goes_on = (
            " What is finished is kept: the same command goes on from there." if [*args[:1]] == ["process"] else ""
        )
        print(f"\ndyngs: stopped.{goes_on}", file=sys.stderr)
        sys.exit(STOPPED_BY_HAND)


def _check_command(args: Sequence[str]) -> None:
    """End with the nearest command where the first word is none: tyro would take it for an option, and list its guesses."""
    if not args or args[0].startswith("-") or args[0] in COMMANDS:
        return
    nearest = difflib.get_close_matches(args[0], COMMANDS, n=1)
    meant = f" Did you mean `dyngs {nearest[0]}`?" if nearest else ""
    print(f"dyngs: {args[0]}: no such command; expected one of {', '.join(COMMANDS)}.{meant}", file=sys.stderr)
    sys.exit(2)
