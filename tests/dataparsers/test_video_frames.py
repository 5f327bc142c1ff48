"""Frames of films: in the order in which they are shown, once, complete, and honestly refused."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from own_process import started
from PIL import Image

from dataparsers import video_frames
from dataparsers.video_frames import extract_frames, video_size
from dyngs_plugins.sample.writers.video import write_video

COUNT = 12


def pictures(count: int = COUNT) -> list[np.ndarray]:
    """A bright bar that wanders from left to right: each frame can be told by where it is."""
    images = []
    for i in range(count):
        image = np.full((32, 96, 3), 40, np.uint8)
        image[:, 8 * i : 8 * i + 8] = 220
        images.append(image)
    return images


def bar(path: Path) -> int:
    """Which frame a file holds."""
    columns = np.asarray(Image.open(path).convert("L"), float).mean(axis=0)
    return round((columns.argmax() * 96 / len(columns)) // 8)


@pytest.fixture
def film(tmp_path) -> Path:
    write_video(tmp_path / "Kamera é.mp4", pictures())
    return tmp_path / "Kamera é.mp4"


def test_frames_are_in_the_order_in_which_they_are_shown(film, tmp_path):
    frames = extract_frames(film, tmp_path / "out", 2)
    assert list(frames.images) == list(range(COUNT))
    assert [bar(path) for path in frames.images.values()] == list(range(COUNT))
    assert Image.open(frames.images[0]).size == (48, 16)
    assert (frames.fps, frames.full_size) == (30.0, (96, 32))
    assert video_size(film) == (96, 32)


def test_a_range_counts_from_the_films_start(film, tmp_path):
    frames = extract_frames(film, tmp_path / "out", 1, 4, 7)
    assert {n: bar(path) for n, path in frames.images.items()} == {4: 4, 5: 5, 6: 6}
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    more = extract_frames(film, tmp_path / "out", 1, 2, 99)  # ends where the film ends
    assert list(more.images) == list(range(2, COUNT))


def test_what_is_there_is_not_decoded_again(film, tmp_path, monkeypatch):
    extract_frames(film, tmp_path / "out", 1)
    monkeypatch.setattr(video_frames, "decode", lambda video: pytest.fail("decoded again"))
    assert len(extract_frames(film, tmp_path / "out", 1).images) == COUNT
    assert len(extract_frames(film, tmp_path / "out", 1, 3, 99).images) == COUNT - 3


def _slow_extraction(film: Path, folder: Path) -> None:
    whole = video_frames._write

    def slowly(*args, **kwargs):
        whole(*args, **kwargs)
        time.sleep(0.2)

    video_frames._write = slowly
    extract_frames(film, folder, 1)


def test_a_killed_extraction_goes_on_where_it_was(film, tmp_path):
    folder = tmp_path / "out"
    process = started(_slow_extraction, film, folder)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("0*.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("0*.png")}
    assert 3 <= len(before) < COUNT
    assert json.loads((folder / "frames.json").read_text())["count"] is None
    frames = extract_frames(film, folder, 1)
    assert [bar(path) for path in frames.images.values()] == list(range(COUNT))
    assert all((folder / name).stat().st_mtime_ns == stamp for name, stamp in before.items())


def test_telephones_films_are_turned_upright(film, tmp_path):
    """The header says: turn by a quarter clockwise to show."""
    content = bytearray(film.read_bytes())
    matrix = content.index(b"tkhd") + 44  # version 0: nine numbers of 32 bits, here (x, y) -> (-y, x)
    assert content[matrix : matrix + 4] == struct.pack(">i", 1 << 16)
    content[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -(1 << 16), 0)
    film.write_bytes(content)
    frames = extract_frames(film, tmp_path / "out", 1)
    assert frames.full_size == (32, 96)
    for step, path in frames.images.items():
        upright = np.rot90(pictures()[step], -1)
        assert np.abs(np.asarray(Image.open(path), float) - upright).mean() < 8


def test_mistakes_are_explained(film, tmp_path):
    def said(kind: type[Exception], folder: Path = tmp_path / "out", video: Path = film, *args) -> str:
        with pytest.raises(kind) as raised:
            extract_frames(video, folder, *(args or (1,)))
        return str(raised.value)

    assert "no such video" in said(FileNotFoundError, video=tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a film")
    assert "text.mp4: cannot be decoded" in said(ValueError, video=tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "empty.mp4: cannot be decoded" in said(ValueError, video=tmp_path / "empty.mp4")
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    assert "truncated" in said(ValueError, video=tmp_path / "cut.mp4")
    (tmp_path / "file").write_text("")
    message = said(OSError, folder=tmp_path / "file" / "out")
    assert "cannot be written" in message
    assert "--frames-folder PATH" in message
    assert "it has 12 frames, so there is none from 20 on" in said(ValueError, tmp_path / "late", film, 1, 20)
    assert "expected 0 <= start < end" in said(ValueError, tmp_path / "late", film, 1, 5, 5)
    assert "downscale_factor is 0" in said(ValueError, tmp_path / "zero", film, 0)
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "mine" / "a.png")
    assert "it holds images but no frames.json" in said(ValueError, tmp_path / "mine")
    extract_frames(film, tmp_path / "out", 1, 0, 2)
    assert "at 1/1, expected Kamera é.mp4" in said(ValueError, tmp_path / "out", film, 2)
    os.utime(film)
    extract_frames(film, tmp_path / "out", 1, 0, 3)  # a copied film is the same film
    film.write_bytes(film.read_bytes() + b"\0")
    assert "the frames are of Kamera é.mp4" in said(ValueError)
    (tmp_path / "out" / "frames.json").write_text('{"format": "other"}')
    assert "not a record of extracted frames" in said(ValueError)


def test_a_film_that_was_cut_is_no_shorter_film(tmp_path):
    """The index is at the front: it still opens and gives some frames."""
    rng = np.random.default_rng(0)
    write_video(tmp_path / "a.mp4", [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(12)], front=True)
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ValueError, match="truncated") as raised:
        extract_frames(tmp_path / "b.mp4", tmp_path / "out", 1)
    assert "Download it again" in str(raised.value)
