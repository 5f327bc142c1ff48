"""``dyngs convert FOLDER --to TARGET --out OUT``: write a scene of any layout in one that other programs read."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def convert(
    folder: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    /,
    to: Literal["llff", "colmap", "dnerf", "som"],
    out: Path,
    layout: str = "",
    protocol: str = "",
    text: bool = False,
    downscale_factor: int | None = None,
) -> None:
    """Convert a scene of any layout that opens to LLFF, COLMAP, D-NeRF or Shape of Motion's layout.

    Poses, units and names of time stay those of the source; images that need no change are copied byte by byte. What
    the target cannot say (often: which frames test) is printed, and written to OUT/converted.json. The source is never
    touched, and OUT appears complete or not at all.

    Args:
        folder: The scene, in any layout for which there is a loader.
        to: llff: images/ and poses_bounds.npy, one camera. colmap: images/ and sparse/0, lenses kept. dnerf:
            transforms_{train,val,test}.json with times, undistorted. som: images, masks, disparity, tracks and cameras
            of each training camera, test views in eval/, undistorted.
        out: Folder to make. It must not exist yet, or be empty.
        layout: Command of the loader, e.g. llff-data. Default: the one that recognises the folder.
        protocol: Split of the source, by name. Default: the layout's first.
        text: With colmap: write the model as text.
        downscale_factor: Convert the images at 1/n. Default: as the layout's loader reads them.
    """
    from rich.console import Console
    from rich.markup import escape

    from dyngs_plugins.convert.command import run

    for line in run(folder, to, out, layout, protocol, text, downscale_factor):
        Console().print(escape(line), soft_wrap=True)
