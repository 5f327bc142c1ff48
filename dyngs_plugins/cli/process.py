"""``dyngs process SOURCE --out CLIP``: make of a video what training needs."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

Kind = Literal["flow", "cameras", "masks", "depth", "tracks"]


def process(
    source: Annotated[Path, tyro.conf.arg(metavar="SOURCE")],
    /,
    out: Path | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    right: Path | None = None,
    height: int | None = None,
    width: int | None = None,
    max_size: int | None = None,
    holdout: int = 8,
    focal: float | None = None,
    flow: str = "dis",
    cameras: str = "tracks",
    masks: str = "epipolar",
    depth: str = "multiview",
    tracks: str = "chained",
    track_stride: int = 4,
    settings: tuple[str, ...] = (),
    redo: tuple[Kind, ...] = (),
    eval_masks: bool = True,
    memory_gb: float = 2.0,
    views: str = "",
    protocol: str = "",
    downscale_factor: int | None = None,
) -> None:
    """Make a clip folder that `ns-train dyn-som --data CLIP` opens: images, cameras, masks, depth, tracks.

    A data set in another layout that `dyngs inspect` knows (D2RF, NVIDIA, ...) is left as it is: --out then holds only the
    priors that it lacks, and ns-train --data OUT opens both.

    What exists is used and never overwritten; a run that was stopped continues where it was. Nothing is downloaded.

    Args:
        source: A film, a folder of images, a folder of simultaneous cameras (left/ and right/, or cam*/), a folder with
            images/ and poses_bounds.npy (LLFF axes), or a clip folder that lacks cameras or priors.
        out: The clip folder to make. A clip folder as source is filled in place without it.
        fps: Frames per second to take of a film, at most. For a folder of images: the rate at which they were taken.
        max_frames: Take at most so many frames, thinned evenly.
        start: Second of the footage to begin at.
        end: Second of the footage to stop before.
        right: A second film or folder of images, filmed at the same time: the right view of a stereo pair.
        height: Height of the images to write, in pixels. Default: films and bare images get 480 pixels at their shorter
            side if they are larger; images with cameras keep their size.
        width: Width of the images to write, in pixels. With height alone or width alone the aspect ratio is kept.
        max_size: Longer side of the images to write, in pixels; smaller images are not enlarged.
        holdout: Every n-th frame is held out for evaluation and influences no prior; of footage never the first or last.
            0: none.
        focal: Focal length in pixels of the source's images, if you know it. Default: from EXIF, else it is solved.
        flow: Provider of optical flow.
        cameras: Provider of cameras, for sources without any.
        masks: Provider of moving-object masks.
        depth: Provider of dense depth.
        tracks: Provider of long point tracks.
        track_stride: Spacing in pixels of the tracked points.
        settings: More provider settings, as KIND.NAME=VALUE.
        redo: Kinds of priors to make again. Existing files are not deleted: they are put aside in before_redo/, yours
            among them. Cameras that were given and not solved are refused.
        eval_masks: Also make masks of the held-out frames, under eval/, for metrics on the moving region.
        memory_gb: How much memory flows and images may take between uses.
        views: Of a data set, only the training images with this text in their names, such as left.
        protocol: Of a data set, the name of the split. Default: the layout's first.
        downscale_factor: Of a data set, take images at 1/n. Default: its loader's own.
    """
    from dyngs_plugins.priors.command import run

    names = {"flow": flow, "cameras": cameras, "masks": masks, "depth": depth, "tracks": tracks}
    run(
        source.expanduser(),
        None if out is None else out.expanduser(),
        fps=fps,
        max_frames=max_frames,
        start=start,
        end=end,
        right=None if right is None else right.expanduser(),
        height=height,
        width=width,
        max_size=max_size,
        holdout=holdout,
        focal=focal,
        providers=names,
        track_stride=track_stride,
        settings=settings,
        redo=redo,
        eval_masks=eval_masks,
        memory_gb=memory_gb,
        views=views,
        protocol=protocol,
        downscale_factor=downscale_factor,
    )
