"""``dyngs relocate RUN --data DATA``: open a run that was moved, or copied from another machine."""

import shlex
from pathlib import Path
from typing import Annotated

import tyro


def relocate(run: Annotated[Path, tyro.conf.arg(metavar="RUN")], /, data: Path | None = None) -> None:
    """Tell a trained run where it and its data are now, after a move or a copy from another machine.

    Writes the paths into the run's config.yml, absolute, so that the run opens from any folder. Nothing else changes.

    Args:
        run: The run's folder (EXPERIMENT/METHOD/TIME), or the config.yml in it.
        data: Where the data it was trained on is now. Default: where config.yml says.
    """
    from dyngs_plugins import relocation

    place = relocation.relocate(run.expanduser(), None if data is None else data.expanduser())
    config = shlex.quote(f"{place.run}/config.yml")
    print(f"The run is in {place.run}, its data in {place.data}. Next: ns-viewer --load-config {config}")
