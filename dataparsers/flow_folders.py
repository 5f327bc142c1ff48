"""Folders of optical flow beside a film's images, in the forms that layouts have them.

A film is what one camera saw, image by image, or what one moving camera is made to seem (NVIDIA's packs). Flow is taken
between neighbours of a film that are both views of the split: what was computed from a held-out image is never named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dataparsers.checks import either_case
from dataparsers.clip import Frame
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.flow_files import FlowFile, check_flow
from dyngs_plugins.priors.split_priors import Flows, FlowWay
from dyngs_plugins.priors.views import Priors

WAYS: tuple[FlowWay, FlowWay] = ("forward", "backward")
_SHORT = {"forward": "fwd", "backward": "bwd"}

Find = Callable[[int, FlowWay], "tuple[Path, Path | None] | None"]
"""The flow file, and the file of where it is visible if there is one, of a film's image to its next or previous one."""


class FlowTable:
    """Collects the flow of a split, film by film.

    Args:
        count: how many views the split has.
        size: (width, height) of its images.
    """

    def __init__(self, count: int, size: tuple[int, int]):
        self.size = size
        self._files: dict[str, list[FlowFile | None]] = {way: [None] * count for way in WAYS}

    def add(self, places: Sequence[int | None], find: Find) -> None:
        """One film.

        Args:
            places: place in the split of every image of the film, in time; None for those that are not in it.

        Raises:
            FileNotFoundError, ValueError: a file is missing or damaged, or not of the images' shape.
        """
        for way in WAYS:
            step = 1 if way == "forward" else -1
            for i, place in enumerate(places):
                target = places[i + step] if 0 <= i + step < len(places) else None
                found = None if place is None or target is None else find(i, way)
                if found is None or place is None or target is None:
                    continue
                file = FlowFile(found[0], target, found[1])
                check_flow(file, self.size)
                self._files[way][place] = file

    def onto(self, priors: Priors) -> Priors:
        """The priors with this flow, where there is any."""
        found: dict[str, Flows | None] = {
            way: tuple(files) if any(files) else None for way, files in self._files.items()
        }
        return replace(priors, flow_forward=found["forward"], flow_backward=found["backward"])


def archives(folder: Path, names: Sequence[str]) -> Find:
    """NSFF's form, ``NAME_{fwd,bwd}.npz`` with flow and mask; each must be there."""
    return lambda i, way: (either_case(folder / f"{names[i]}_{_SHORT[way]}.npz"), None)


def arrays(folder: Path, names: Sequence[str]) -> Find:
    """This project's form, ``NAME_{fwd,bwd}.npy`` and ``NAME_{fwd,bwd}_visible.npy``.

    Flow of an image may be absent. Where it is visible may be unsaid for the whole folder, but not for one of its files.
    """
    says = any(path.stem.endswith("_visible") for path in folder.iterdir())

    def find(i: int, way: FlowWay) -> tuple[Path, Path | None] | None:
        path, visible = (either_case(folder / f"{names[i]}_{_SHORT[way]}{end}.npy") for end in ("", "_visible"))
        return (path, visible if says else None) if optional_file(path, "flow file") else None

    return find


def arrivals(folder: Path, names: Sequence[str]) -> Find:
    """ST-4DGS's form: ``K.npy`` leads from the image before to image K. Where it is visible is not said."""

    def find(i: int, way: FlowWay) -> tuple[Path, Path | None] | None:
        path = either_case(folder / f"{names[i + 1]}.npy") if way == "forward" else None
        return (path, None) if path is not None and optional_file(path, "flow file") else None

    return find


def rig_flow(sources: Mapping[str, Path], names: Sequence[str], size: tuple[int, int]) -> Callable:
    """Priors of a rig's frames: ST-4DGS's ``CAMERA/flow/K.npy`` beside the frames of each camera, where there are some.

    Args:
        sources: what each camera's footage is, by its name.
        names: of the cameras, in the order of ``Frame.camera``.
    """

    def priors(frames: Sequence[Frame]) -> Priors:
        table = FlowTable(len(frames), size)
        for camera in sorted({frame.camera for frame in frames}):
            folder = sources[names[camera]] / "flow"
            mine = sorted(
                (i for i, frame in enumerate(frames) if frame.camera == camera), key=lambda i: frames[i].frame
            )
            if not folder.is_dir():
                continue
            for before, after in zip(mine, mine[1:], strict=False):
                if _number(frames[after].name) == _number(frames[before].name) + 1:
                    table.add((before, after), arrivals(folder, (frames[before].name, frames[after].name)))
        return table.onto(Priors())

    return priors


def _number(name: str) -> int:
    return int(re.findall(r"\d+", name)[-1])
