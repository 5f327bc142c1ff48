"""Writes films, with frames that refer to later ones, so that a reader in the wrong order is found out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8


def write_video(path: Path, images: Sequence[UInt8[np.ndarray, "h w 3"]], fps: int = 30, front: bool = False) -> None:
    """An mp4 in hardly lossy H.264 (MPEG-4 where there is no H.264 encoder); width and height must be even.

    Args:
        front: put the index before the pictures, so that a file that was cut still opens.
    """
    height, width = images[0].shape[:2]
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"} if front else {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "8", "bf": "3"}
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    os.replace(temporary, path)
