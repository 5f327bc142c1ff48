"""``dyngs process SOURCE --out CLIP``: give a video's frames the priors that training needs."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

Kind = Literal["flow", "masks", "depth", "tracks"]


def process(
    source: Annotated[Path, tyro.conf.arg(metavar="SOURCE")],
    /,
    out: Path | None = None,
    height: int | None = None,
    width: int | None = None,
    max_size: int | None = None,
    holdout: int = 8,
    flow: str = "dis",
    masks: str = "epipolar",
    depth: str = "multiview",
    tracks: str = "chained",
    track_stride: int = 4,
    settings: tuple[str, ...] = (),
    redo: tuple[Kind, ...] = (),
    eval_masks: bool = True,
    memory_gb: float = 2.0,
) -> None:
    """Make a clip folder that `ns-train dyn-som --data CLIP` opens: images, cameras, masks, depth, tracks.

    What exists is used and never overwritten; a run that was stopped continues where it was. Nothing is downloaded.

    Args:
        source: A folder with images/ and poses_bounds.npy (LLFF axes), or a clip folder that lacks priors.
        out: The clip folder to make. A clip folder as source is filled in place without it.
        height: Height of the images to write, in pixels. The default keeps the source's size.
        width: Width of the images to write, in pixels. With height alone or width alone the aspect ratio is kept.
        max_size: Longer side of the images to write, in pixels; smaller images are not enlarged.
        holdout: Every n-th frame, the first included, is held out for evaluation and influences no prior. 0: none.
        flow: Provider of optical flow.
        masks: Provider of moving-object masks.
        depth: Provider of dense depth.
        tracks: Provider of long point tracks.
        track_stride: Spacing in pixels of the tracked points.
        settings: More provider settings, as KIND.NAME=VALUE.
        redo: Kinds of priors whose existing files are deleted and made again.
        eval_masks: Also make masks of the held-out frames, under eval/, for metrics on the moving region.
        memory_gb: How much memory flows and images may take between uses.
    """
    from dyngs_plugins.priors.command import run

    names = {"flow": flow, "masks": masks, "depth": depth, "tracks": tracks}
    run(
        source.expanduser(),
        None if out is None else out.expanduser(),
        height=height,
        width=width,
        max_size=max_size,
        holdout=holdout,
        providers=names,
        track_stride=track_stride,
        settings=settings,
        redo=redo,
        eval_masks=eval_masks,
        memory_gb=memory_gb,
    )
