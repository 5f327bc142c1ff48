"""The report on frames: sharpness, brightness and repeats, judged by the neighbours."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from dyngs_plugins.priors.extract import image_name, is_held_out, with_last
from dyngs_plugins.priors.frame_report import (
    FrameFigures,
    FrameReport,
    change,
    frame_notes,
    judged,
    luminance,
    read_frame_report,
    relative_to_neighbours,
    sharpness,
    write_frame_report,
)


def frame(step=0, sharp=100.0, bright=0.5, moved: float | None = 5.0) -> FrameFigures:
    return FrameFigures(f"images/camera0/{step:05d}.png", step, step / 10, False, sharp, bright, "", moved)


def test_sharpness_is_the_variance_of_the_laplacian():
    step = np.zeros((9, 9, 3), np.uint8)
    step[:, 4:] = 100  # the Laplacian is +100 left of the edge and -100 right of it
    assert sharpness(step) == pytest.approx(2 * 100**2 / 9, rel=1e-6)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert sharpness(cv2.GaussianBlur(noise, (0, 0), 2)) < 0.05 * sharpness(noise)
    assert luminance(np.full((4, 4, 3), 51, np.uint8)) == pytest.approx(0.2)
    assert change(np.full((4, 4, 3), 51, np.uint8), np.full((4, 4, 3), 48, np.uint8)) == 3.0


def test_neighbours_judge():
    values = np.array([10.0, 10, 10, 4, 10, 10, 10])
    relative = relative_to_neighbours(values)
    np.testing.assert_allclose(relative, values / 10)
    assert relative_to_neighbours(np.array([7.0])).tolist() == [1.0]
    frames = judged([frame(i, sharp) for i, sharp in enumerate(values)])
    assert [f.blurred for f in frames] == [False] * 3 + [True] + [False] * 3
    slowly = judged([frame(i, 100.0 * 0.8**i) for i in range(20)])
    assert not any(f.blurred for f in slowly), "a scene that changes slowly is not blurred"


def test_notes():
    frames = judged(
        [frame(i, 10.0 if i == 3 else 100.0, 0.7 if i == 5 else 0.5, 0.0 if i == 6 else 4.0) for i in range(9)]
    )
    notes = frame_notes("camera0", frames)
    assert notes[0] == "camera0: 1 of 9 frames are much less sharp than their neighbours: 3."
    assert "1 of 9 frames show the same as the one before: 6." in notes[1]
    assert "brightness of 1 frames differs" in notes[2]
    assert notes[2].endswith(": 5.")
    assert frame_notes("camera0", judged([frame(i) for i in range(9)])) == []


def test_a_film_of_one_picture_and_one_of_the_night():
    stills = [frame(0, moved=None), *(frame(i, moved=0.0) for i in range(1, 10))]
    (note,) = frame_notes("camera0", judged(stills))
    assert note.startswith("camera0: 9 of 10 frames show the same as the one before. Is this a film of one picture?")
    (note,) = frame_notes("camera0", judged([frame(i, bright=0.002) for i in range(9)]))
    assert note.startswith("camera0: the frames are nearly black (half of them are at most 0.2% as bright as white)")
    notes = frame_notes("camera0", judged([frame(i, sharp=0.0, bright=0.0) for i in range(9)]))
    assert len(notes) == 1, "frames of nothing are neither less sharp than their neighbours nor darker"


def test_the_file_is_read_as_it_was_written(tmp_path):
    report = FrameReport({"camera0": judged([frame(i) for i in range(4)])}, {"camera0": {"film": "a.mp4"}}, ("a note",))
    assert read_frame_report(tmp_path) is None
    write_frame_report(tmp_path, report)
    assert dataclasses.asdict(read_frame_report(tmp_path)) == dataclasses.asdict(report)  # type: ignore[arg-type]
    (tmp_path / "frames.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="frames.json: not a frame report .*Remove it"):
        read_frame_report(tmp_path)


def test_held_out_frames_are_never_the_ends():
    assert [i for i, (_, last) in enumerate(with_last(range(25))) if is_held_out(i, 8, last)] == [4, 12, 20]
    assert [i for i, (_, last) in enumerate(with_last(range(13))) if is_held_out(i, 8, last)] == [4]
    assert not any(is_held_out(i, 0, False) for i in range(9))
    assert list(with_last([])) == []
    assert image_name("left", "00004", True, True) == "eval/images/left_00004.png"
    assert image_name("left", "00004", False, True) == "images/left/00004.png"
