"""To D-NeRF: ``transforms_{train,val,test}.json`` with a time per image, which keeps its alpha."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyngs_plugins.convert.images import write_picture
from dyngs_plugins.convert.pinhole import CenteredPinhole, centered_pinhole
from dyngs_plugins.convert.record import Converted, Progress
from dyngs_plugins.convert.source import Picture, Source, pictures, split_pictures
from dyngs_plugins.priors.dnerf_files import DnerfFrame, write_transforms


def write_dnerf(source: Source, out: Path, track: Progress) -> Converted:
    """Write every split with one camera for all its images; PNG, because D-NeRF's readers append that to the names.

    Where the source has no validation views, ``val`` lists the test images, as its loader has it.

    Raises:
        ValueError: test images that train, or all images at one time.
    """
    every, converted = pictures(source.clip), Converted()
    splits = {split: split_pictures(every, split) for split in ("train", "test", "val")}
    shared = [picture for picture in splits["train"] if len(picture.splits) > 1]
    if shared:
        raise ValueError(
            f"{source.root}: the protocol {source.protocol} tests on {len(shared)} of its {len(splits['train'])} "
            f"training images, the first is {source.name(shared[0].file)}; expected others, because the splits of "
            f"D-NeRF share no image. Choose another --protocol ({_others(source)}), or --to colmap, llff or som."
        )
    if len({picture.time for picture in every}) < 2:
        raise ValueError(f"{source.root}: all images are of one time; expected times from 0 to 1. Choose --to llff or "
                         "colmap.")  # fmt: skip
    places: dict[Path, tuple[str, CenteredPinhole]] = {}
    for split, mine in splits.items():
        fresh = [picture for picture in mine if picture.file not in places]
        if fresh:
            places |= _write_images(out, split, fresh, converted, track)
    for split, mine in splits.items():
        _write_split(source, out, split, mine or splits["test"], places)
    if not splits["val"]:
        converted.changed.append("val lists the test images: the source has no validation views of its own")
    if any(len(picture.splits) > 1 for picture in splits["val"]):
        converted.changed.append("val and test share images, as in the source")
    converted.lose(source)
    return converted


def _write_images(
    out: Path, split: str, mine: Sequence[Picture], converted: Converted, track: Progress
) -> dict[Path, tuple[str, CenteredPinhole]]:
    """Name and camera of each image, by its file in the source."""
    pinhole, places = centered_pinhole(mine), {}
    for i, picture in enumerate(track(mine, f"{split}: images")):
        stem, straight = out / split / f"r_{i:03d}", pinhole.straight(picture)
        file = write_picture(picture, stem, straight, transparent=True, png=True)
        converted.files[file.relative_to(out).as_posix()] = picture
        places[picture.file] = f"{split}/{file.stem}", pinhole
    converted.changed += [f"{split}: {change}" for change in pinhole.changes(mine[0])]
    return places


def _write_split(
    source: Source, out: Path, split: str, mine: Sequence[Picture], places: dict[Path, tuple[str, CenteredPinhole]]
) -> None:
    kinds = sorted({(places[p.file][1].focal, places[p.file][1].width) for p in mine})
    if len(kinds) > 1:  # val and test share some images, but not all
        raise ValueError(f"{source.root}: the images of {split} have the focal lengths and widths {kinds}; expected "
                         "one, because a split of D-NeRF has one. Choose --to colmap.")  # fmt: skip
    frames = [DnerfFrame(places[p.file][0], p.time, p.world_T_camera) for p in mine]
    write_transforms(out / f"transforms_{split}.json", *kinds[0], frames)


def _others(source: Source) -> str:
    return ", ".join(p.name for p in source.layout.protocols if p.name != source.protocol) or "it has no other"
