"""``dyngs masks CLIP``: look at a clip's masks in the browser and correct them."""

from pathlib import Path
from typing import Annotated

import tyro


def masks(
    clip: Annotated[Path, tyro.conf.arg(metavar="CLIP")],
    /,
    sequence: str | None = None,
    port: int = 8090,
    host: str = "127.0.0.1",
    model: str = "",
) -> None:
    """Open a page to click, inspect and correct masks: add the object under a click, paint, erase, carry on along flow.

    Objects are found by SAM where its weights are on this machine, else by colour. Masks are written on Save; what was
    there before is kept in masks_before_editing/.

    Args:
        clip: A clip folder, as `dyngs process` makes one.
        sequence: Which camera of the clip. Default: the first.
        port: Port of the page.
        host: Address to listen on; 0.0.0.0 lets other machines in.
        model: SAM model (id or folder) for clicks. Default: SAM 2.1 small, if it is there.
    """
    from dyngs_plugins.mask_page import run

    run(clip.expanduser(), sequence, host, port, model)
