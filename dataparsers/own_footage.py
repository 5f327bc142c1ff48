"""A film, or a folder of bare images, as data: made into a clip beside it once, and used from then on.

Imports nothing heavy: every ns-* command imports ``auto-data``, which imports this.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from nerfstudio.utils.rich_utils import CONSOLE

from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.user_errors import STOPPED_BY_HAND

MAX_FRAMES = 300
"""Frames taken of longer footage when nobody says how many; `dyngs process` takes all."""
SECONDS_PER_FRAME, SECONDS_PER_MEGAPIXEL = 1.0, 11.0
"""What all weight-free priors take on two cores, roughly: for a frame of any size, and for a million of its pixels."""
PIXELS = 480 * 853


def is_footage(root: Path) -> bool:
    """Whether a path is a film, or a folder of images that no layout claims."""
    from dataparsers.registry import claims
    from dyngs_plugins.priors.footage import bare_images
    from dyngs_plugins.priors.footage_hints import is_film

    if root.is_file():
        return is_film(root)
    return root.is_dir() and not claims(root) and bare_images(root)


def is_own_footage(root: Path) -> bool:
    """Whether it is footage, and no folder in it or around it is the data set that was meant."""
    from dataparsers.registry import neighbour

    return is_footage(root) and (root.is_file() or neighbour(root) is None)


def prepared_clip(source: Path) -> Path:
    """The clip of some footage: made now, unless it is there already.

    Raises:
        FileExistsError, ValueError, OSError: see :func:`dyngs_plugins.priors.command.run`; or the folder beside the
            footage was made from something else.
    """
    clip = source.resolve().with_name(f"{source.resolve().stem}_clip")
    if _finished(clip, source):
        _say(f"{source}: uses {clip}, which was made from it.")
        return clip
    _make(source, clip)
    return clip


def _finished(clip: Path, source: Path) -> bool:
    """Whether the clip is complete, and of this footage; the two may have been moved or copied together since."""
    record = clip / "process.json"
    if not record.is_file():
        return False
    content = read_json(record, "record of dyngs process")
    made_from = content.get("input", {})
    complete = content.get("status") == "complete"
    origin, here = Path(str(made_from.get("source"))), source.resolve()
    ours = origin == here or (complete and origin.name == here.name)
    listed = made_from.get("footage") or [{}]
    same = not source.is_file() or listed[0].get("bytes") == source.stat().st_size
    if not (ours and same):
        raise ValueError(
            f"{clip}: it was made from {made_from.get('source')}{'' if ours else ', not from ' + str(source)}"
            f"{' as it was before it changed' if ours else ''}. Move this folder away to have it made anew, or make a clip "
            f"of your own with `dyngs process {shlex.quote(str(source))} --out CLIP` and pass --data CLIP."
        )
    return complete


def _make(source: Path, clip: Path) -> None:
    """Say what will be done, and do it."""
    from dyngs_plugins.priors.command import run
    from dyngs_plugins.priors.footage import Choice, find_footage
    from dyngs_plugins.priors.process_options import ProcessOptions

    footage = find_footage(source)
    choice = Choice(max_frames=MAX_FRAMES)
    counts = [f.expected(choice) or MAX_FRAMES for _, f in footage]
    pixels = min(footage[0][1].size[0] * footage[0][1].size[1], PIXELS)
    duration = duration_of(sum(counts), pixels)
    again = "goes on making" if (clip / "process.json").is_file() else "makes"
    _say(
        f"{source}: footage without cameras. This {again} a clip of it in {clip}: about {sum(counts)} frames at 480 pixels "
        f"or less at the shorter side, every 8th held out for evaluation, cameras, masks, depth and tracks without learned "
        f"weights. It is done once and takes {duration} on two cores. If it is stopped, the "
        f"same command continues. For other settings: dyngs process {shlex.quote(str(source))} --out CLIP, then --data CLIP."
    )
    try:
        run(source, clip, ProcessOptions(max_frames=MAX_FRAMES))
    except KeyboardInterrupt as stopped:  # of which the host would print the traceback
        _say(f"Stopped. What is finished in {clip} is kept: the same command goes on from there.")
        raise SystemExit(STOPPED_BY_HAND) from stopped


def duration_of(frames: int, pixels: int) -> str:
    """About how long all priors take for so many frames of so many pixels, in words."""
    minutes = frames * (SECONDS_PER_FRAME + pixels / 1e6 * SECONDS_PER_MEGAPIXEL) / 60
    return f"about {minutes:.0f} minutes" if minutes >= 1.5 else "a minute or less"


def _say(line: str) -> None:
    CONSOLE.print(line, markup=False, soft_wrap=True)
