"""The files of NVIDIA Dynamic Scenes' packs: which picture is which camera at which time, at the size in use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dataparsers.checks import IMAGE_SUFFIXES, common_image_size, image_files, require_images
from dataparsers.resized import reduced_size, resized, sister

Pack = Literal["dynamicnerf", "nsff"]
NSFF_HEIGHT = 288


@dataclass(frozen=True)
class Picture:
    """One image of a rig of cameras."""

    image: Path
    camera: int
    frame: int
    row: int
    """Of poses_bounds.npy."""
    mask: Path | None = None


def find_pack(root: Path) -> Pack:
    """Which pack a folder is, by the folders that only one of them has.

    Raises:
        FileNotFoundError, ValueError: no such folder, or none or both of the packs.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected an NVIDIA scene; pass its folder with --data.")
    truth, rig = has_ground_truth(root), (root / "mv_images").is_dir()
    if truth and rig:
        raise ValueError(
            f"{root}: found both gt/ (DynamicNeRF's pack) and mv_images/ (NSFF's pack). Say which one to read: "
            "nvidia-data --layout dynamicnerf, or nsff."
        )
    if rig:
        return "nsff"
    if truth or (root / "images").is_dir() or (root / "images_2").is_dir():
        return "dynamicnerf"
    below = sorted(p.parent.name for p in root.glob("*/poses_bounds.npy"))
    near = f" One level too high? Pass --data {root / below[0]}." if below else ""
    raise FileNotFoundError(
        f"{root}: no NVIDIA scene. Expected images/ (or images_2/), poses_bounds.npy, and gt/ or mv_images/.{near}"
    )


def recognise(root: Path) -> str | None:
    """Why a folder is one of the packs, by names alone; never raises."""
    try:
        if not (root / "poses_bounds.npy").is_file():
            return None
        if (root / "mv_images").is_dir():
            return "mv_images/ and poses_bounds.npy: NSFF's pack"
        if has_ground_truth(root):
            return "gt/v000_t*.png and poses_bounds.npy: DynamicNeRF's pack"
        kinds = ("motion_masks", "disp", "flow", "images")
        if all((root / kind).is_dir() for kind in kinds) and len(list((root / "images").iterdir())) == 12:
            return "12 images, motion_masks/, disp/, flow/ and poses_bounds.npy: DynamicNeRF's data pack"
    except OSError:
        return None
    return None


def has_ground_truth(root: Path) -> bool:
    """Whether ``gt/`` holds test images of camera 0."""
    return (root / "gt").is_dir() and any(_TRUTH.match(p.stem) for p in (root / "gt").iterdir())


def frame_pictures(root: Path, pack: Pack, factor: int | None) -> list[Picture]:
    """The frames of the clip in order, with masks, at the size in use. Frame i has row i of poses_bounds.npy.

    Raises:
        FileNotFoundError, ValueError: no images, or masks that are not one per image.
    """
    images = _reduced_frames(root, pack, factor)
    size = common_image_size(images)
    masks = _masks(root / "motion_masks", images, size)
    return [Picture(image, i, i, i, mask) for i, (image, mask) in enumerate(zip(images, masks, strict=True))]


def ground_truth_pictures(root: Path, num_frames: int, size: tuple[int, int]) -> list[Picture]:
    """Camera 0 at every time, ``gt/v000_t{time}.png``. They come at half size; larger ones are reduced to ``size``.

    Raises:
        FileNotFoundError, ValueError: some are missing or twice there.
    """
    if not has_ground_truth(root):
        raise FileNotFoundError(
            f"{root / 'gt'}: no v000_t000.png ... there. Expected camera 0 at every time; these images are not in "
            "DynamicNeRF's data pack but in its result pack, and in RoDynRF's and SplineGS's packs."
        )
    by_time: dict[int, Path] = {}
    for path in image_files(root / "gt"):
        match = _TRUTH.match(path.stem)
        if match and int(match[2]) in by_time:
            raise ValueError(f"{path}: time {int(match[2])} of camera 0 is also {by_time[int(match[2])].name}. Remove "
                             "one of them.")  # fmt: skip
        if match:
            by_time[int(match[2])] = path
    missing = sorted(set(range(num_frames)) - set(by_time))
    if missing:
        raise FileNotFoundError(
            f"{root / 'gt' / f'v000_t{missing[0]:03d}.png'}: no such image; {len(missing)} of {num_frames} are missing. "
            f"Expected camera 0 at every time of the {num_frames} training images. Get the whole pack."
        )
    extra = sorted(set(by_time) - set(range(num_frames)))
    if extra:
        raise ValueError(f"{by_time[extra[0]]}: time {extra[0]}, but there are {num_frames} training images, one per "
                         "time. Remove it, or restore the training images.")  # fmt: skip
    pictures = [Picture(by_time[time], 0, time, 0) for time in range(num_frames)]
    stored = used_size(pictures)
    return _of_size(pictures, root / "gt", size if stored[0] > size[0] and stored[1] > size[1] else stored)


def rig_pictures(root: Path, num_frames: int, rows: int, factor: int | None) -> list[Picture]:
    """Every camera at every time, ``mv_images/{time}/cam{camera + 1}.jpg`` with its mask, at the size in use.

    Raises:
        FileNotFoundError, ValueError: times or cameras are missing, or the cameras have no row in poses_bounds.npy.
    """
    times = _times(root / "mv_images", num_frames)
    pictures, count = [], 0
    for time, folder in enumerate(times):
        files = {_camera(path): path for path in require_images(folder, "Expected cam01.jpg and so on.")}
        count = count or len(files)
        if sorted(files) != list(range(count)):
            raise ValueError(
                f"{folder}: found the cameras {[c + 1 for c in sorted(files)]}; expected 1 to {count}, every camera at "
                f"every time as in {times[0].name}. Get the whole pack."
            )
        pictures += [Picture(files[camera], camera, time, camera) for camera in range(count)]
    if count > rows:
        raise ValueError(f"{root / 'poses_bounds.npy'}: {rows} rows, but mv_images/ has {count} cameras, whose poses are "
                         "its first rows. The file is cut off, or of another scene.")  # fmt: skip
    target = _target("nsff", common_image_size([p.image for p in pictures]), factor)
    result = []
    for time, folder in enumerate(times):
        mine = _of_size([p for p in pictures if p.frame == time], folder, target, level=1)
        masks = _masks(root / "mv_masks" / folder.name, [p.image for p in mine], target, level=1)
        result += [replace(picture, mask=mask) for picture, mask in zip(mine, masks, strict=True)]
    return result


def used_size(pictures: Sequence[Picture]) -> tuple[int, int]:
    """(width, height) of the pictures as they are read."""
    return common_image_size([picture.image for picture in pictures])


# Sizes ----------------------------------------------------------------------------------------------------------------


def _reduced_frames(root: Path, pack: Pack, factor: int | None) -> list[Path]:
    """The frames at the size in use: a folder that is there, or copies of ``images/``."""
    full, nominal = root / "images", 2 if factor is None else factor
    if pack == "dynamicnerf":
        stored = root / f"images_{nominal}"
        if nominal != 1 and stored.is_dir() and _complete(stored, full):
            return image_files(stored)
        hint = "nvidia-data reads images/, or images_2/ alone, beside poses_bounds.npy."
        images = require_images(full, hint)
        size = reduced_size(common_image_size(images), nominal)
        return images if nominal == 1 else list(resized(images, stored, size))
    images = require_images(full, "nvidia-data reads images/ beside poses_bounds.npy and mv_images/.")
    size = _target(pack, common_image_size(images), factor)
    return list(resized(images, root / f"images_{size[0]}x{size[1]}", size))


def _complete(stored: Path, full: Path) -> bool:
    """Whether a folder of reduced images has them all, as far as the full ones say."""
    reduced = {path.stem for path in image_files(stored)}
    expected = {path.stem for path in image_files(full)} if full.is_dir() else reduced
    if reduced - expected:
        raise ValueError(
            f"{stored}: {len(reduced - expected)} images have no counterpart in images/; the first is "
            f"{min(reduced - expected)!r}. Remove them, or delete the folder to have it made anew."
        )
    return bool(reduced) and reduced == expected


def _target(pack: Pack, size: tuple[int, int], factor: int | None) -> tuple[int, int]:
    if factor is not None:
        return reduced_size(size, factor)
    if pack == "nsff" and size[1] > NSFF_HEIGHT:
        return round(size[0] * NSFF_HEIGHT / size[1]), NSFF_HEIGHT
    return size


def _of_size(pictures: list[Picture], folder: Path, size: tuple[int, int], level: int = 0) -> list[Picture]:
    """The pictures at another size, as copies in a sister of ``folder`` (of its parent, at level 1)."""
    copies = resized([p.image for p in pictures], sister(folder, size, level), size)
    return [replace(picture, image=copy) for picture, copy in zip(pictures, copies, strict=True)]


def _masks(folder: Path, images: Sequence[Path], size: tuple[int, int], level: int = 0) -> Sequence[Path | None]:
    """The mask of every image at its size; None for each where there is no such folder at all."""
    if not (folder if level == 0 else folder.parent).is_dir():
        return [None] * len(images)
    by_stem = {path.stem: path for path in image_files(folder)} if folder.is_dir() else {}
    missing = [image.stem for image in images if image.stem not in by_stem]
    if missing:
        raise FileNotFoundError(
            f"{folder / (missing[0] + '.png')}: no such mask; {len(missing)} of {len(images)} are missing. Expected one "
            f"for every image in {images[0].parent}. Compute the missing ones, or remove the folder to do without."
        )
    files = [by_stem[image.stem] for image in images]
    common_image_size(files)
    return resized(files, sister(folder, size, level), size, "mask")


# Names ----------------------------------------------------------------------------------------------------------------

_TRUTH = re.compile(r"^v(0+)_t(\d+)$", re.IGNORECASE)
_CAMERA = re.compile(r"^cam(\d+)$", re.IGNORECASE)


def _camera(path: Path) -> int:
    match = _CAMERA.match(path.stem)
    if not match or int(match[1]) < 1:
        raise ValueError(f"{path}: not the name of a camera; expected cam01{IMAGE_SUFFIXES[1]}, counted from 1.")
    return int(match[1]) - 1


def _times(folder: Path, num_frames: int) -> list[Path]:
    """The folders of the first ``num_frames`` times."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Expected every camera at every time, 00000/cam01.jpg.")
    by_time = {int(p.name): p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()}
    missing = [time for time in range(num_frames) if time not in by_time]
    if missing:
        raise FileNotFoundError(
            f"{folder / f'{missing[0]:05d}'}: no such folder; {len(missing)} of {num_frames} times are missing. Expected "
            "one folder per image of images/. Get the whole pack."
        )
    return [by_time[time] for time in range(num_frames)]
