"""``converted.json``: where a converted folder comes from, its splits, and what the target cannot say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dyngs_plugins.convert.source import Picture, Source, split_pictures
from dyngs_plugins.priors.clip_files import write_json

RECORD = "converted.json"
Item = TypeVar("Item")
Progress = Callable[[Sequence[Item], str], Iterable[Item]]
"""Wraps a list in a progress bar with a title."""


@dataclass
class Converted:
    """What a writer wrote."""

    files: dict[str, Picture] = field(default_factory=dict)
    """The picture behind each image, by its path in the new folder."""
    changed: list[str] = field(default_factory=list)
    """What is not as in the source, in words."""
    lost: list[str] = field(default_factory=list)
    """What the target cannot say, in words."""

    def lose(self, source: Source, kept: Collection[str] = ()) -> None:
        """Note what the source has and the target has no place for, but for the kinds that are kept."""
        clip, every = source.clip, self.files.values()
        priors = [picture.views.priors for picture in every]
        there = {
            "depths": any(p.depth_files is not None for p in priors),
            "masks": any(p.mask_files is not None for p in priors),
            "tracks": any(p.tracks is not None for p in priors),
            "alpha that says which pixels count": any(p.valid_files is not None for p in priors),
            "masks of what training views see": any(p.covisible_files is not None for p in priors),
            "near and far": bool(source.bounds),
            "points to start from": clip.points is not None,
            "frame rate": clip.fps is not None,
            "true tracks": clip.ground_truth_tracks is not None,
            "cameras' numbers": len({picture.camera for picture in every}) > 1,
        }
        lost = [kind for kind, found in there.items() if found and kind not in kept]
        if lost:
            self.lost.append(f"the source's {', '.join(lost)}")


def write_record(out: Path, source: Source, target: str, converted: Converted) -> None:
    """Write ``OUT/converted.json``."""
    layout, every = source.layout, list(converted.files.values())
    content: dict[str, Any] = {
        "format": "dyngs-converted",
        "version": 1,
        "target": target,
        "source": {
            "folder": str(source.root),
            "layout": layout.command,
            "title": layout.title,
            "recognised": source.why,
            "protocol": source.protocol,
            "protocol_in_words": str(source.clip.protocol),
            "notes": source.notes,
        },
        "num_frames": source.clip.train.num_frames,
        "fps": source.clip.fps,
        "splits": {split: len(split_pictures(every, split)) for split in ("train", "test", "val")},
        "changed": converted.changed,
        "cannot_say": converted.lost,
        "images": [
            {
                "file": name,
                "source": source.name(picture.file),
                "splits": list(picture.splits),
                "camera": picture.camera,
                "frame": picture.step,
                "time": picture.time,
            }
            for name, picture in converted.files.items()
        ],
    }
    write_json(out / RECORD, content)
