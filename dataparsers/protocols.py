"""Evaluation protocols as data: what trains, what tests, and everything else that changes a published number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Protocol:
    """One way in which scores on a dataset are published. Numbers of two protocols do not compare."""

    name: str
    """Short, lower case, unique within its layout: what ``--protocol`` takes."""
    trains: str
    """Which cameras and frames train, in words."""
    tests: str
    """Which cameras and frames test, in words."""
    source: str
    """The paper or code it is from."""
    resolution: str = "as stored"
    background: Literal["white", "black"] | None = None
    """What images with alpha are composited over; None where they have none."""
    mask: str | None = None
    """Which pixels count, in words; None: all of them."""
    lpips: Literal["alex", "vgg"] = "alex"
    poses: str = "given"
    """Whether poses are used as they are or refined, and on what."""

    def __str__(self) -> str:
        """One line, to be printed beside each number."""
        parts = [f"trains on {self.trains}", f"tests on {self.tests}", self.resolution]
        if self.background:
            parts.append(f"{self.background} background")
        parts += [f"pixels: {self.mask or 'all'}", f"LPIPS {self.lpips}", f"poses {self.poses}"]
        return f"{self.name} ({'; '.join(parts)})"


def pick_protocol(protocols: Sequence[Protocol], name: str) -> Protocol:
    """The protocol of that name; the first one for an empty name.

    Raises:
        ValueError: no such protocol; lists what there is.
    """
    if not name:
        return protocols[0]
    for protocol in protocols:
        if protocol.name == name:
            return protocol
    known = "\n".join(f"  {protocol}" for protocol in protocols)
    raise ValueError(f"protocol is {name!r}; expected one of\n{known}")


# Of videos and captures that nobody published a split for, and of those whose splits are LLFF's ----------------------

COLMAP_POSES = "given (COLMAP over the images of all splits)"
MIDDLE = Protocol(
    name="middle",
    trains="all other images",
    tests="every 8th image from half an interval in, never the clip's ends",
    source="this project, for videos: a motion cannot be judged beyond the frames that it was fitted to",
    poses=COLMAP_POSES,
)
EVERY_8TH = Protocol(
    name="llff",
    trains="all other images",
    tests="every 8th image from the first on",
    source="NeRF (Mildenhall et al. 2020), code: llffhold 8; nerf-pytorch's configs",
    resolution="1/8 for fern and the like (downscale_factor 8), 1/4 in the paper",
    lpips="vgg",
    poses=COLMAP_POSES,
)
ALL_IMAGES = Protocol(
    name="all",
    trains="all images",
    tests="the training images: no novel views",
    source="this project, for captures without an evaluation",
    poses=COLMAP_POSES,
)
