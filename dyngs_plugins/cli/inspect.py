"""``dyngs inspect FOLDER``: what a folder holds, and a picture of it."""

from pathlib import Path
from typing import Annotated

import tyro


def inspect(
    folder: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    /,
    out: Path = Path("inspect.png"),
    layout: str = "",
    protocol: str = "",
) -> None:
    """Say what a folder of data holds, before training: layout, frames, cameras, times, priors, splits, what is missing.

    Draws a picture: cameras from above and from the side (blue train, orange test) and a contact sheet of the images.

    Args:
        folder: What would be given to ns-train --data: a folder, or a film.
        out: PNG to write; anywhere but in the folder that is inspected.
        layout: Command of the layout's loader, such as llff-data. Default: the one that is recognised.
        protocol: Name of the split and evaluation protocol. Default: the layout's first.
    """
    from dataparsers.own_footage import is_footage
    from dyngs_plugins import inspection_footage as footage
    from dyngs_plugins.inspection import contents, inspect_folder, report
    from dyngs_plugins.inspection_picture import check_out, draw, draw_footage
    from dyngs_plugins.priors.footage import find_footage

    folder, out = folder.expanduser(), out.expanduser()
    check_out(folder, out)
    if not layout and is_footage(folder):
        cameras = find_footage(folder)
        draw_footage(folder, cameras, out)
        print(footage.report(folder, cameras))
        print(f"picture   {out}")
        return
    try:
        inspection = inspect_folder(folder, layout, protocol)
    except FileNotFoundError:
        if folder.is_dir():
            print("\n".join([str(folder), *(f"  {line}" for line in contents(folder))]))
        raise
    print(report(inspection))
    print(f"picture   {out}" if draw(inspection, out) else "no images to draw")
    if inspection.problem:
        raise SystemExit(2)
