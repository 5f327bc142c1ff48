"""The mask page's logic, without a browser: regions, brush, flow, undo, saving with a copy of what was there."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dyngs_plugins.mask_edits import BACKUP, MaskEditor, region_by_colour, region_by_sam, sequences
from dyngs_plugins.mask_page import MODES, MaskPage, pixel_of_ray
from dyngs_plugins.priors.som_files import read_mask, write_mask

SIZE, COUNT, SQUARE, SPEED = (48, 64), 5, 14, 4
RNG = np.random.default_rng(0)
WALL = (90 + RNG.normal(0, 3, (*SIZE, 3))).clip(0, 255).astype(np.uint8)


def square(i: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[16 : 16 + SQUARE, 10 + SPEED * i : 10 + SPEED * i + SQUARE] = True
    return mask


@pytest.fixture
def clip(tmp_path):
    """A red square goes right before a grey wall; its flow is in files, masks of two frames are there."""
    for i in range(COUNT):
        image = WALL.copy()
        image[square(i)] = (200, 40, 30)
        folder = tmp_path / "images" / "camera0"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:05d}.png")
        flow = np.zeros((*SIZE, 2), np.float32)
        flow[square(i), 0] = SPEED
        (tmp_path / "flow" / "camera0").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"flow/camera0/{i:05d}_fwd.npy", flow)
        np.save(tmp_path / f"flow/camera0/{i:05d}_bwd.npy", -flow)
    for i in (0, 1):
        write_mask(tmp_path / "masks" / "camera0" / f"{i:05d}.png", square(i))
    return tmp_path


@pytest.fixture
def editor(clip) -> MaskEditor:
    return MaskEditor(clip, "camera0")


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_masks_are_read_and_missing_ones_are_empty(editor):
    np.testing.assert_array_equal(editor.mask(0), square(0))
    assert not editor.mask(3).any()
    assert editor.changed == ()


def test_a_click_adds_the_object_under_it(editor):
    editor.add_region(3, (10 + 3 * SPEED + 6, 22))
    assert iou(editor.mask(3), square(3)) > 0.95
    assert editor.changed == (3,)


def test_a_click_on_the_wall_does_not_add_the_object():
    image = WALL.copy()
    image[square(0)] = (200, 40, 30)
    assert not (region_by_colour(image, (55, 5)) & square(0)).any()


def test_brush_and_eraser(editor):
    editor.paint(3, (30, 20), 4)
    assert editor.mask(3).sum() == pytest.approx(np.pi * 16, rel=0.25)
    editor.paint(3, (30, 20), 2, value=False)
    assert not editor.mask(3)[20, 30]
    assert editor.mask(3)[20, 34]
    editor.paint(3, (0, 0), 3)
    assert editor.mask(3)[0, 0], "at the border too"


def test_an_object_is_erased_and_the_other_stays(editor):
    editor.paint(0, (55, 5), 3)
    editor.erase_region(0, (12, 18))
    assert not (editor.mask(0) & square(0)).any()
    assert editor.mask(0)[5, 55]
    before = editor.mask(0)
    editor.erase_region(0, (30, 40))  # nothing there: the background is no object
    assert editor.mask(0)[5, 55] == before[5, 55]


@pytest.mark.parametrize("forward", [True, False])
def test_a_mask_is_carried_along_flow(editor, forward):
    start = 1 if forward else 4
    if not forward:
        editor.add_region(4, (10 + 4 * SPEED + 6, 22))
    last = editor.propagate(start, 10, forward)
    assert last == (COUNT - 1 if forward else 0)
    for i in range(start, last, 1 if forward else -1):
        assert iou(editor.mask(i), square(i)) > 0.9


def test_flow_is_estimated_where_there_is_no_file(clip):
    pattern = cv2.GaussianBlur(RNG.uniform(0, 255, (*SIZE, 3)).astype(np.float32), (0, 0), 1.5)
    texture = cv2.normalize(pattern, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for i in range(COUNT):
        image = np.roll(texture, 9, axis=0) // 2
        image[square(i)] = texture[:SQUARE, :SQUARE].reshape(-1, 3)
        Image.fromarray(image).save(clip / f"images/camera0/{i:05d}.png")
        for way in ("fwd", "bwd"):
            (clip / f"flow/camera0/{i:05d}_{way}.npy").unlink()
    editor = MaskEditor(clip, "camera0")
    editor.propagate(1, 1)
    assert iou(editor.mask(2), square(2)) > 0.75


def test_undo_takes_back_one_action_at_a_time(editor):
    first = editor.mask(2)
    editor.paint(2, (30, 20), 4)
    painted = editor.mask(2)
    editor.propagate(1, 3)
    assert editor.undo() == (2, 3, 4)
    np.testing.assert_array_equal(editor.mask(2), painted)
    editor.undo()
    np.testing.assert_array_equal(editor.mask(2), first)
    assert editor.undo() == ()


def test_saving_keeps_the_first_originals(editor, clip):
    editor.clear(0)
    editor.paint(3, (30, 20), 4)
    painted = editor.mask(3)
    written = editor.save()
    assert [path.name for path in written] == ["00000.png", "00003.png"]
    np.testing.assert_array_equal(read_mask(clip / "masks/camera0/00003.png"), painted)
    np.testing.assert_array_equal(read_mask(clip / BACKUP / "camera0/00000.png"), square(0))
    assert not (clip / BACKUP / "camera0/00003.png").exists(), "there was nothing"
    assert editor.changed == ()
    editor.paint(0, (30, 20), 4)
    editor.save()
    np.testing.assert_array_equal(read_mask(clip / BACKUP / "camera0/00000.png"), square(0))
    assert editor.save() == []
    assert not list(clip.rglob("*.tmp"))
    np.testing.assert_array_equal(MaskEditor(clip, "camera0").mask(0), editor.mask(0))


def test_undo_after_saving_counts_as_a_change(editor):
    editor.clear(0)
    editor.save()
    editor.undo()
    assert editor.changed == (0,)
    np.testing.assert_array_equal(editor.mask(0), square(0))


def test_the_overlay_marks_the_mask(editor):
    plain, marked = editor.image(0).astype(int), editor.overlay(0).astype(int)
    assert (np.abs(plain - marked).sum(-1) > 0)[square(0)].mean() > 0.9
    np.testing.assert_array_equal(plain[~square(0)], marked[~square(0)])


def test_pixels_that_do_not_exist_and_folders_that_are_no_clip(editor, tmp_path):
    with pytest.raises(ValueError, match="does not exist; expected images 0 to 4 of 64x48"):
        editor.paint(0, (64, 2), 3)
    with pytest.raises(FileNotFoundError, match="Expected a clip folder"):
        sequences(tmp_path / "nothing")
    (tmp_path / "images" / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images"):
        MaskEditor(tmp_path, "empty")


def test_sam_is_used_where_its_weights_are(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'dyngs-plugins[learned]'")
    assert region_by_sam([("model", str(tmp_path / "nowhere"))]) is None
    sys.path.insert(0, str(Path(__file__).parent / "priors"))
    import tiny_networks

    segment = region_by_sam([("model", str(tiny_networks.sam2(tmp_path / "sam"))), ("device", "cpu")])
    assert segment is not None
    mask = segment(WALL, (20, 10))
    assert mask.shape == SIZE
    assert mask.dtype == bool


# The page, without its server


@pytest.mark.parametrize(
    ("origin", "direction", "pixel"),
    [
        ((0, 0, -2), (0, 0, 1), (32, 24)),
        ((0, 0, -2), (-0.5, -0.25, 1), (8, 12)),
        ((1.3, 0.98, -5), (0, 0, 1), (63, 47)),
        ((1.4, 0, -5), (0, 0, 1), None),
        ((0, 0, -2), (0, 0, -1), None),
        ((0, 0, -2), (1, 0, 0), None),
    ],
)
def test_rays_and_pixels(origin, direction, pixel):
    assert pixel_of_ray(origin, direction, SIZE) == pixel


def test_clicks_do_what_the_mode_says(clip):
    page = MaskPage(clip)
    page.frame = 3
    for mode in MODES:
        page.mode = mode
        page.click((28, 22))
        assert mode in page.message
    assert not page.editor.mask(3)[22, 28], "erased at last"
    page.click(None)
    page.click((640, 2))
    assert "does not exist" in page.message


def test_the_pages_buttons(clip):
    page = MaskPage(clip)
    page.propagate(3, True)
    assert page.frame == 3
    assert "3 masks not saved yet" in page.status()
    page.undo()
    assert "undone in 3 images" in page.status()
    assert "all masks are saved" in page.status()
    page.frame = 0
    page.clear()
    (clip / "tracks" / "camera0").mkdir(parents=True)
    page.save()
    assert "1 masks saved" in page.message
    assert "--redo tracks" in page.message
    page.save()
    assert page.message == "nothing to save"
    assert page.picture().shape == (*SIZE, 3)


def test_an_unknown_sequence(clip):
    with pytest.raises(ValueError, match="no sequence 'left'. There are: camera0"):
        MaskPage(clip, "left")
