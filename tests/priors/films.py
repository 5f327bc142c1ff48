"""Films of every kind that a user may have, a few small frames each."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BAR = 8


def bars(count: int, height: int = 32, width: int = 96, noise: int = 0) -> list[np.ndarray]:
    """Pictures with a bright bar that wanders to the right: each can be told by where it is."""
    rng = np.random.default_rng(0)
    pictures = []
    for i in range(count):
        picture = np.full((height, width, 3), 40, np.int64) + (
            rng.integers(0, noise, (height, width, 3)) if noise else 0
        )
        picture[:, BAR * i : BAR * i + BAR] += 180
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def bar_of(picture: np.ndarray) -> int:
    """Which picture of `bars` it is."""
    columns = picture.astype(float).mean(axis=(0, 2))
    return round(float(columns.argmax()) // BAR)


def write_film(
    path: Path, pictures: Sequence[np.ndarray], times: Sequence[float] | None = None, codec: str = "libx264",
    pixels: str = "yuv420p", options: dict[str, str] | None = None, transfer: int | None = None, fps: int = 30,
    title: str = "",
) -> Path:  # fmt: skip
    """A film with the given times of presentation (seconds)."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], pixels
        stream.options = options or {"crf": "8"}
        stream.codec_context.time_base = Fraction(1, 90000)
        if transfer is not None:
            stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9
            stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=9 if transfer else None)
            frame.pts = round((i / fps if times is None else times[i]) * 90000)
            frame.time_base = Fraction(1, 90000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_sound(path: Path) -> Path:
    """A film file with sound and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for i in range(10):
            samples = (1000 * np.sin(np.arange(1024) / 5)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * i
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def turn_header(path: Path) -> None:
    """Make a film claim that it has to be turned by a quarter clockwise to be shown, as phones held upright do."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # version 0: nine numbers of 32 bits, here (x, y) -> (-y, x)
    if content[matrix : matrix + 4] != struct.pack(">i", 1 << 16):
        raise ValueError("the header is not where it should be")
    content[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -(1 << 16), 0)
    path.write_bytes(content)


def damage(path: Path, where: float, share: float = 0.05) -> None:
    """Overwrite a part of a file by noise."""
    content = bytearray(path.read_bytes())
    start, count = int(len(content) * where), int(len(content) * share)
    content[start : start + count] = np.random.default_rng(1).integers(0, 255, count, np.uint8).tobytes()
    path.write_bytes(content)
