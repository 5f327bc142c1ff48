"""Bare images as frames: natural order, upright, transparency over white, deep and grey pictures, EXIF's focal length."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dyngs_plugins.priors.footage import Choice, Stills, bare_images, find_footage
from dyngs_plugins.priors.stills import exif_focal, read_still, still_files, still_size


def image(height=20, width=30, value=100):
    return Image.fromarray(np.full((height, width, 3), value, np.uint8))


def test_natural_order(tmp_path):
    for name in ("shot10.png", "shot9.png", "Shot1.png", "shot2.PNG", "shot02b.png"):
        image().save(tmp_path / name)
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    assert [f.name for f in still_files(tmp_path)] == [
        "Shot1.png",
        "shot2.PNG",
        "shot02b.png",
        "shot9.png",
        "shot10.png",
    ]


def test_mixed_sizes_are_refused(tmp_path):
    image().save(tmp_path / "a.png")
    image(height=21).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="b.png: 30x21 pixels, but a.png has 30x20.*two cameras"):
        Stills(tmp_path)


def told(path: Path, size: tuple[int, int]) -> tuple[float, str]:
    found = exif_focal(path, size)
    assert found is not None
    return found


def test_exif_turns_and_tells_the_focal_length(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    exif.get_ifd(0x8769)[0xA405] = 26
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert still_size([tmp_path / "a.jpg"]) == (30, 20)
    turned, _ = read_still(tmp_path / "a.jpg", (30, 20))
    assert turned[:8].mean() > 240
    assert turned[12:].mean() < 15
    focal, source = told(tmp_path / "a.jpg", (300, 200))
    assert focal == pytest.approx(26 * math.hypot(300, 200) / math.hypot(36, 24))
    assert source == "EXIF (35 mm equivalent)"
    assert Stills(tmp_path).focal((30, 20)) == told(tmp_path / "a.jpg", (30, 20))
    image().save(tmp_path / "b.png")
    assert exif_focal(tmp_path / "b.png", (20, 30)) is None


@pytest.mark.parametrize(
    ("unit", "resolution", "turned"),
    [(2, 120 * 25.4, False), (None, 120 * 25.4, False), (3, 1200.0, False), (4, 120.0, False), (4, 120.0, True)],
)
def test_the_focal_plane_tells_the_focal_length(tmp_path, unit, resolution, turned):
    """50 mm before a sensor of 30 mm, which has 3600 pixels (120 per mm); the file holds a copy of 30x20 pixels."""
    exif = Image.Exif()
    tags = exif.get_ifd(0x8769)
    tags[0x920A], tags[0xA20E], tags[0xA002] = 50.0, resolution, 3600
    if unit is not None:
        tags[0xA210] = unit
    if turned:
        exif[0x0112] = 6
    image().save(tmp_path / "a.jpg", exif=exif)
    size = (300, 200) if turned else (200, 300)
    focal, source = told(tmp_path / "a.jpg", size)
    assert focal == pytest.approx(50 / 30 * 300, rel=1e-4)
    assert source == "EXIF (resolution of the focal plane)"
    tags[0xA405] = 75
    image().save(tmp_path / "b.jpg", exif=exif)
    assert told(tmp_path / "b.jpg", size)[1] == "EXIF (35 mm equivalent)"


@pytest.mark.parametrize(("focal", "resolution"), [(50.0, 1.0), (50.0, 0.0), (0.0, 120.0), (50.0, 1e6)])
def test_a_focal_plane_that_cannot_be_is_not_believed(tmp_path, focal, resolution):
    exif = Image.Exif()
    tags = exif.get_ifd(0x8769)
    tags[0x920A], tags[0xA20E], tags[0xA210], tags[0xA002] = focal, resolution, 4, 3600
    image().save(tmp_path / "a.jpg", exif=exif)
    assert exif_focal(tmp_path / "a.jpg", (20, 30)) is None


def test_transparency_is_put_over_white(tmp_path):
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[..., 0], pixels[:, :15, 3], pixels[:, 15:, 3] = 200, 255, 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    stills = Stills(tmp_path)
    (taken,) = stills.frames(Choice())
    out = taken.pixels((20, 30))
    np.testing.assert_array_equal(out[0, 0], [200, 0, 0])
    np.testing.assert_allclose(out[0, -1], [0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255], atol=1)
    assert stills.notes == ["1 images have transparent pixels; they are put over white."]


@pytest.mark.parametrize("mode", ["L", "P", "LA", "I;16", "CMYK"])
def test_all_kinds_of_pictures(tmp_path, mode):
    if mode == "I;16":
        picture, suffix = Image.fromarray(np.full((20, 30), 100 * 257, np.uint16)), "png"
    else:
        converted = image().quantize() if mode == "P" else image().convert(mode)
        picture, suffix = converted, "tif" if mode == "CMYK" else "png"
    picture.save(tmp_path / f"a.{suffix}")
    pixels, _ = read_still(tmp_path / f"a.{suffix}", (20, 30))
    assert pixels.shape == (20, 30, 3)
    assert np.abs(pixels.astype(int) - 100).max() <= 1
    assert read_still(tmp_path / f"a.{suffix}", (10, 15))[0].shape == (10, 15, 3)


def test_unreadable_pictures(tmp_path):
    image().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="b.png: cannot be decoded as an image .*60 bytes"):
        read_still(tmp_path / "b.png", (20, 30))


def test_times_come_from_the_rate(tmp_path):
    for i in range(6):
        image(value=i).save(tmp_path / f"{i}.png")
    stills = Stills(tmp_path)
    assert [t.seconds for t in stills.frames(Choice())] == [None] * 6
    taken = list(stills.frames(Choice(fps=2.0, start=0.5, end=2.5)))
    assert [(t.seconds, t.origin) for t in taken] == [(0.5, "1.png"), (1.0, "2.png"), (1.5, "3.png"), (2.0, "4.png")]
    assert [t.origin for t in stills.frames(Choice(max_frames=3))] == ["0.png", "2.png", "4.png"]
    with pytest.raises(ValueError, match="--start and --end need --fps"):
        list(stills.frames(Choice(start=1.0)))


def test_simultaneous_cameras_are_found(tmp_path):
    for side in ("left", "right"):
        (tmp_path / "pair" / side).mkdir(parents=True)
        image().save(tmp_path / "pair" / side / "0.png")
    assert bare_images(tmp_path / "pair")
    assert [(name, f.path.name) for name, f in find_footage(tmp_path / "pair")] == [
        ("camera0", "left"),
        ("camera1", "right"),
    ]
    image(height=22).save(tmp_path / "pair" / "right" / "0.png")
    with pytest.raises(ValueError, match="different sizes .left 30x20, right 30x22"):
        find_footage(tmp_path / "pair")
    (tmp_path / "empty").mkdir()
    assert not bare_images(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no images. Expected a film, or a folder"):
        find_footage(tmp_path / "empty")
