"""``dyngs process SOURCE --out CLIP``: make of a video what training needs."""

from pathlib import Path
from typing import Annotated

import tyro

from dyngs_plugins.priors.process_options import DEFAULTS, ProcessOptions


def process(
    source: Annotated[Path, tyro.conf.arg(metavar="SOURCE")],
    /,
    out: Path | None = None,
    options: Annotated[ProcessOptions, tyro.conf.arg(name="")] = DEFAULTS,
) -> None:
    """Make a clip folder that `ns-train dyn-som --data CLIP` opens: images, cameras, masks, depth, tracks.

    A data set in another layout that `dyngs inspect` knows (D2RF, NVIDIA, ...) is left as it is: --out then holds only the
    priors that it lacks, and ns-train --data OUT opens both.

    What exists is used and never overwritten; a run that was stopped continues where it was. Nothing is downloaded.

    Args:
        source: A film, a folder of images, a folder of simultaneous cameras (left/ and right/, or cam*/), a folder with
            images/ and poses_bounds.npy (LLFF axes), or a clip folder that lacks cameras or priors.
        out: The clip folder to make. A clip folder as source is filled in place without it.
        options: The rest.
    """
    from dyngs_plugins.priors.command import run

    run(source.expanduser(), None if out is None else out.expanduser(), options)
