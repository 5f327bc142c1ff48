"""Folders of images beside cameras: at full size, and reduced as ``images_4`` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataparsers.checks import common_image_size, image_files, image_size
from dataparsers.resized import reduced_size, resized


def reduced_images(full: Sequence[Path], folder: Path, factor: int) -> list[Path]:
    """The images at 1/factor in ``folder``; those that are missing are made by averaging areas, none is overwritten.

    Copies that somebody else made may differ by one pixel a side from the rounded size.

    Raises:
        ValueError: the factor makes no sense, or the folder holds other images or sizes.
        OSError: the folder cannot be written.
    """
    if factor == 1:
        return list(full)
    size = reduced_size(common_image_size(full), factor)
    present = image_files(folder) if folder.is_dir() else []
    unknown = sorted({path.stem for path in present} - {path.stem for path in full})
    if unknown:
        raise ValueError(
            f"{folder}: {len(unknown)} images have no counterpart in {full[0].parent.name}/; the first is "
            f"{unknown[0]!r}. Remove them, or delete the folder to have it made anew."
        )
    if present:
        found = image_size(present[0])
        if max(abs(found[0] - size[0]), abs(found[1] - size[1])) <= 1:
            size = found
    return list(resized(full, folder, size))
