"""The command ``dyngs``: what nerfstudio's own commands do not do, such as to make the sample or to prepare a video.

Modules of commands import nothing heavy at their top, so that ``dyngs --help`` answers at once.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from dyngs_plugins.cli import convert, doctor, inspect, kernels, masks, path, process, relocate, sample
from dyngs_plugins.user_errors import is_mistake_of_user

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
    """Run ``dyngs``. A mistake of the user ends in one message and exit code 2; a bug keeps its traceback.

    Set DYNGS_TRACEBACK=1 to see the traceback of a user's mistake too.
    """
    # Nerfstudio's, about a newer torch than it was written for: nothing that a user could do anything about.
    warnings.filterwarnings("ignore", message="`torch.*is deprecated", category=FutureWarning)
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
        print(f"dyngs: {error}", file=sys.stderr)
        sys.exit(2)
