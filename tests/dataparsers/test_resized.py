"""Reduced copies of images, masks, depths and labels: what they average, and that they are made once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataparsers.resized import reduced_size, resized, sister
from dataparsers.resized_maps import label_images, reduced_depths


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, **options).save(path)
    return path


def test_images_are_averaged_over_areas(tmp_path):
    """Not over two pixels of four, as bilinear sampling would."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    [copy] = resized([save(tmp_path / "images" / "a.png", pixels)], tmp_path / "images_4", (4, 3))
    expected = pixels.reshape(3, 4, 4, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(np.asarray(Image.open(copy)), expected, atol=0.51)


def test_grey_and_palette_images_become_colours(tmp_path):
    files = [save(tmp_path / "in" / "grey.png", np.full((4, 4), 77, np.uint8))]
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30] + [0] * 762)
    image.save(tmp_path / "in" / "palette.png")
    copies = resized([*files, tmp_path / "in" / "palette.png"], tmp_path / "out", (2, 2))
    assert [Image.open(copy).getpixel((0, 0)) for copy in copies] == [(77, 77, 77), (10, 20, 30)]


def test_masks_take_the_nearest_pixel_by_index_or_any_channel(tmp_path):
    """A palette whose every colour is black still says what moves; alpha does not."""
    labels = np.zeros((6, 6), np.uint8)
    labels[:3, 3:] = 2
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0] * 768)
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "index.png")
    colors = np.zeros((6, 6, 4), np.uint8)
    colors[:3, 3:, 2], colors[..., 3] = 9, 255
    files = [tmp_path / "in" / "index.png", save(tmp_path / "in" / "rgba.png", colors)]
    for copy in resized(files, tmp_path / "out", (2, 2), "mask"):
        np.testing.assert_array_equal(np.asarray(Image.open(copy)), [[0, 255], [0, 0]])


def test_images_of_the_size_in_use_are_left_alone(tmp_path):
    path = save(tmp_path / "in" / "a.png", np.zeros((4, 6, 3), np.uint8))
    assert resized([path], tmp_path / "out", (6, 4)) == (path,)
    assert not (tmp_path / "out").exists()


def test_copies_with_other_suffixes_are_found(tmp_path):
    path = save(tmp_path / "in" / "a.png", np.zeros((4, 6, 3), np.uint8))
    mine = save(tmp_path / "out" / "a.JPG", np.full((2, 3, 3), 200, np.uint8))
    assert resized([path], tmp_path / "out", (3, 2)) == (mine,)


def test_names_of_folders_and_sizes():
    assert sister(Path("a/masks"), (32, 24)) == Path("a/masks_32x24")
    assert sister(Path("a/480p/camel"), (32, 24), level=1) == Path("a/480p_32x24/camel")
    assert reduced_size((65, 49), 2) == (32, 24)
    assert reduced_size((4032, 3024), 8) == (504, 378)
    for factor in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"downscale_factor is {factor}; expected a whole number of at least 1"):
            reduced_size((64, 48), factor)  # type: ignore


def test_a_folder_that_cannot_be_written(tmp_path):
    path = save(tmp_path / "in" / "a.png", np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(OSError, match="out: cannot be written .* copy the scene to a folder of your own"):
        resized([path], tmp_path / "out", (3, 2))
    np.save(tmp_path / "in" / "a.npy", np.ones((4, 6), np.float32))
    with pytest.raises(OSError, match="out: cannot be written .* copy the scene to a folder of your own"):
        reduced_depths([tmp_path / "in" / "a.npy"], tmp_path / "out", (3, 2), (6, 4))
    with pytest.raises(OSError, match="out: cannot be written .* copy the scene to a folder of your own"):
        label_images([tmp_path / "in" / "a.npy"], tmp_path / "out", (3, 2), (6, 4))


def test_labels_keep_their_numbers(tmp_path):
    labels = np.arange(16).reshape(4, 4)
    np.save(tmp_path / "a.npy", labels)
    [copy] = label_images([tmp_path / "a.npy"], tmp_path / "out", (2, 2), (4, 4))
    np.testing.assert_array_equal(np.asarray(Image.open(copy)), [[5, 7], [13, 15]])
    np.save(tmp_path / "a.npy", labels + 1)
    [copy] = label_images([tmp_path / "a.npy"], tmp_path / "out", (2, 2), (4, 4))  # made once
    np.testing.assert_array_equal(np.asarray(Image.open(copy)), [[5, 7], [13, 15]])


@pytest.fixture
def read_only(tmp_path, monkeypatch) -> Path:
    """A scene on a disk that others share; copies go to a cache."""
    scene = tmp_path / "shared" / "scene"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: scene.parent not in Path(path).parents and real(path, mode))
    monkeypatch.setenv("DYNGS_CACHE", str(tmp_path / "cache"))
    return scene


def test_read_only_data_gets_its_copies_in_the_cache(read_only, tmp_path):
    path = save(read_only / "images" / "a.png", np.full((4, 6, 3), 90, np.uint8))
    np.save(read_only / "a.npy", np.ones((4, 6), np.float32))
    first = resized([path], read_only / "images_3x2", (3, 2))
    depths = reduced_depths([read_only / "a.npy"], read_only / "depth_3x2", (3, 2), (6, 4))
    labels = label_images([read_only / "a.npy"], read_only / "labels_3x2", (3, 2), (6, 4))
    for copy in (*first, *depths, *labels):
        assert tmp_path / "cache" / "copies" in copy.parents
    assert first[0].parent.name == "images_3x2"
    before = first[0].stat().st_mtime_ns
    assert resized([path], read_only / "images_3x2", (3, 2)) == first
    assert first[0].stat().st_mtime_ns == before
    assert sorted(p.name for p in read_only.iterdir()) == ["a.npy", "images"]
    other = save(read_only.with_name("other") / "images" / "a.png", np.zeros((4, 6, 3), np.uint8))
    assert resized([other], other.parent.with_name("images_3x2"), (3, 2)) != first


def test_copies_that_came_with_read_only_data_are_used(read_only):
    path = save(read_only / "images" / "a.png", np.full((4, 6, 3), 90, np.uint8))
    shipped = save(read_only / "images_3x2" / "a.png", np.full((2, 3, 3), 7, np.uint8))
    assert resized([path], read_only / "images_3x2", (3, 2)) == (shipped,)
