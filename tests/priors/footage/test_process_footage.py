"""`dyngs process` on films and bare images: cameras as a kind, true times, resuming, and what goes wrong on the way."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import write_film
from footage_clips import (
    FRAMES,
    HEIGHT,
    HELD,
    TIMES,
    TRAINING,
    WIDTH,
    contents,
    pictures,
    process,
    refused,
)
from PIL import Image
from true_cameras import TrueCameras

from dyngs_plugins.priors import files as files_module
from dyngs_plugins.priors.clip_files import read_clip_json, read_eval_json, read_json
from dyngs_plugins.priors.frame_report import read_frame_report
from dyngs_plugins.priors.providers.depth_multiview import MultiViewDepth
from dyngs_plugins.priors.som_files import read_cameras, read_disparity, write_disparity

# What is made ---------------------------------------------------------------------------------------------------------


def test_cameras_are_solved_from_training_frames_and_the_others_located(finished, sample):
    truth = read_cameras(sample / "droid_recon" / "camera0.npy")
    cameras = read_cameras(finished / "droid_recon" / "camera0.npy", len(TRAINING))
    np.testing.assert_allclose(cameras.world_T_camera, truth.world_T_camera[TRAINING], atol=1e-6)
    np.testing.assert_allclose(cameras.K(WIDTH, HEIGHT), truth.K(WIDTH, HEIGHT), rtol=1e-6)
    protocol, views = read_eval_json(finished / "eval" / "eval.json")
    assert protocol == (
        "held-out frames (every 4th from frame 2 on); poses of held-out frames located against the training frames' "
        "structure"
    )
    assert [view.frame for view in views] == HELD
    np.testing.assert_allclose([v.world_T_camera for v in views], truth.world_T_camera[HELD], atol=1e-6)
    record = read_json(finished / "droid_recon" / "camera0.json", "record")
    assert record["provider"] == "true"
    assert record["interpolated"] == ["00001"]
    assert record["focal"]["source"] == "solved"
    assert record["report"]["reprojection px"] == 0.25
    assert {p.stem for p in (finished / "images" / "camera0").iterdir()} == {f"{i:05d}" for i in TRAINING}


def test_time_is_the_films_own(finished):
    info = read_clip_json(finished / "clip.json")
    np.testing.assert_allclose(info.seconds, TIMES, atol=1e-4)
    assert info.fps == pytest.approx(8.0)
    from dataparsers.layouts import CUSTOM
    from dataparsers.som_casual import CasualOptions, load_casual

    clip = load_casual(finished, CUSTOM, CasualOptions())
    np.testing.assert_allclose(clip.train.times, np.array(TIMES)[TRAINING], atol=1e-4)
    np.testing.assert_allclose(clip.evaluation.times, np.array(TIMES)[HELD], atol=1e-4)
    part = load_casual(finished, CUSTOM, CasualOptions(start=1, end=6))
    expected = (np.array(TIMES)[[1, 3, 4, 5]] - TIMES[1]) / (TIMES[5] - TIMES[1])
    np.testing.assert_allclose(part.train.times, expected, atol=1e-4)


def test_the_page_and_the_report(finished):
    page = (finished / "summary" / "index.html").read_text()
    for word in (
        "flow",
        "cameras",
        "masks",
        "depth",
        "tracks",
        "1 of 7 poses interpolated",
        "timings.js",
        "frames.jpg",
    ):
        assert word in page
    assert "camera0/depth" in (finished / "summary" / "timings.js").read_text()
    for kind in ("frames", "flow", "masks", "depth", "tracks"):
        assert cv2.imread(str(finished / "summary" / f"{kind}.jpg")) is not None
    report = read_frame_report(finished)
    frames = report.sequences["camera0"]
    assert [f.held_out for f in frames] == [i in HELD for i in range(FRAMES)]
    assert all(0.2 < f.luminance < 0.8 and f.sharpness > 0 for f in frames)
    record = read_json(finished / "process.json", "record")
    assert record["status"] == "complete"
    assert "seconds" not in json.dumps(record["kinds"]), "what differs between equal runs is in timings.js"


def test_running_it_again_makes_nothing(film, finished, sample, tmp_path, capsys):
    clip = Path(shutil.copytree(finished, tmp_path / "clip"))
    before = contents(clip)
    reports = process(film, clip, sample)
    assert {r.kind: r.made for r in reports} == dict.fromkeys(("flow", "cameras", "masks", "depth", "tracks"), 0)
    assert contents(clip) == before
    reports = process(clip, None, sample)  # by its own folder, without the film
    assert sum(r.made for r in reports) == 0
    assert contents(clip) == before
    process(film, clip, sample, focal=99.0)
    assert "cameras solved by 'true'" in capsys.readouterr().out
    assert contents(clip)["droid_recon/camera0.npy"] == before["droid_recon/camera0.npy"]


def test_a_known_focal_length_is_scaled_to_the_images(film, sample, tmp_path, monkeypatch):
    seen = []
    real = TrueCameras.solve
    monkeypatch.setattr(
        TrueCameras, "solve", lambda self, inputs, focal: seen.append(focal) or real(self, inputs, focal)
    )
    process(film, tmp_path / "clip", sample, focal=100.0, height=48, eval_masks=False)
    assert seen == [pytest.approx(80.0)]
    assert read_json(tmp_path / "clip/droid_recon/camera0.json", "record")["focal"]["source"] == "--focal"
    seen.clear()
    process(film, tmp_path / "clip", sample, focal=120.0, redo=("cameras",), height=48)
    assert seen == [pytest.approx(96.0)]


def test_images_with_exif_in_natural_order(sample, tmp_path, monkeypatch):
    folder = tmp_path / "walk"
    folder.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 30
    for i, picture in enumerate(pictures(sample)):
        Image.fromarray(picture).save(folder / f"shot {i + 2}.jpg", exif=exif, quality=98)
    process(folder, tmp_path / "clip", sample, eval_masks=False)
    info = read_clip_json(tmp_path / "clip" / "clip.json")
    assert (info.fps, info.seconds, info.num_frames) == (None, None, FRAMES)
    frames = read_frame_report(tmp_path / "clip").sequences["camera0"]
    assert [f.origin for f in frames] == [f"shot {i + 2}.jpg" for i in range(FRAMES)]
    record = read_json(tmp_path / "clip/droid_recon/camera0.json", "record")
    assert record["focal"]["source"] == "EXIF (35 mm equivalent)"
    assert record["focal"]["given"] == pytest.approx(30 * np.hypot(WIDTH, HEIGHT) / np.hypot(36, 24))


def test_a_stereo_pair_shares_one_world(film, sample, tmp_path):
    right = Path(shutil.copy(film, tmp_path / "right.mp4"))
    reports = process(film, tmp_path / "clip", sample, right=right, eval_masks=False)
    assert {r.sequence for r in reports} == {"camera0", "camera1"}
    truth = read_cameras(sample / "droid_recon" / "camera0.npy").world_T_camera
    for name in ("camera0", "camera1"):
        cameras = read_cameras(tmp_path / "clip" / "droid_recon" / f"{name}.npy", len(TRAINING))
        np.testing.assert_allclose(cameras.world_T_camera, truth[TRAINING], atol=1e-6)
    _, views = read_eval_json(tmp_path / "clip" / "eval" / "eval.json")
    assert [(v.camera, v.frame) for v in views] == [(0, 2), (0, 6), (1, 2), (1, 6)]
    from dataparsers.layouts import CUSTOM
    from dataparsers.som_casual import CasualOptions, load_casual

    assert len(load_casual(tmp_path / "clip", CUSTOM, CasualOptions()).train) == 2 * len(TRAINING)


def test_a_clip_folder_without_cameras_is_filled_in_place(finished, sample, tmp_path):
    (tmp_path / "clip").mkdir()
    shutil.copytree(sample / "images", tmp_path / "clip" / "images")
    process(tmp_path / "clip", None, sample, eval_masks=False)
    truth = read_cameras(sample / "droid_recon" / "camera0.npy").world_T_camera
    cameras = read_cameras(tmp_path / "clip" / "droid_recon" / "camera0.npy", FRAMES)
    np.testing.assert_allclose(cameras.world_T_camera, truth, atol=1e-6)
    cameras_before = (tmp_path / "clip" / "droid_recon" / "camera0.npy").read_bytes()
    process(tmp_path / "clip", None, sample, eval_masks=False, redo=("cameras",))
    assert (tmp_path / "clip" / "before_redo" / "cameras" / "camera0" / "camera0.npy").read_bytes() == cameras_before
    refused(ValueError, "--redo cameras: .* was not solved by", sample, tmp_path / "copy", sample, redo=("cameras",))


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_camera_that_stands_still_has_no_depth(film, sample, tmp_path):
    said = refused(ValueError, "the camera stands still", film, tmp_path / "clip", sample, "cameras.still=True")
    assert "no parallax. Flow, cameras, masks and tracks are made" in said
    assert said.endswith(f"--data {tmp_path / 'clip'} som-data --required-priors masks tracks")
    assert "--depth" in said
    clip = tmp_path / "clip"
    assert not (clip / "aligned_depth_anything").exists()
    assert len(list((clip / "masks" / "camera0").glob("*.png"))) == len(TRAINING)
    for i in TRAINING:  # depth from elsewhere makes it whole
        write_disparity(clip / "aligned_depth_anything" / "camera0" / f"{i:05d}.npy", np.full((HEIGHT, WIDTH), 0.5))
    process(film, clip, sample, "cameras.still=True")
    assert read_json(clip / "process.json", "record")["status"] == "complete"


def test_too_few_frames(sample, film, tmp_path):
    one = write_film(tmp_path / "one.mp4", pictures(sample)[:1])
    refused(
        ValueError,
        "one.mp4: found 1 training frame; expected at least 3.*Use a longer film",
        one,
        tmp_path / "a",
        sample,
    )
    refused(ValueError, "with --fps 1; expected at least 3.*relax these", film, tmp_path / "b", sample, fps=1.0)
    refused(ValueError, "not one frame|found 0 training frames", film, tmp_path / "c", sample, start=50.0)


def test_a_foreign_file_and_wrong_options(sample, film, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    refused(ValueError, "notes.txt: cannot be opened as a film", tmp_path / "notes.txt", tmp_path / "a", sample)
    refused(ValueError, "--out FOLDER is needed, for example --out .*my film_clip", film, None, sample)
    refused(ValueError, "--fps, --max-frames, .* are for films", sample, tmp_path / "b", sample, fps=2.0)
    refused(ValueError, "--focal is -1", film, tmp_path / "c", sample, focal=-1.0)
    refused(ValueError, "no cameras provider named 'tru'. Did you mean 'true'", film, tmp_path / "d", sample,
            cameras="tru")  # fmt: skip
    process(film, tmp_path / "e", sample, max_frames=5, eval_masks=False)
    refused(ValueError, "made with other settings .frames: ", film, tmp_path / "e", sample, max_frames=4)


def test_a_frame_without_features(film, sample, tmp_path):
    """A black frame in the middle: it is flagged, and the others stay sound."""
    shots = pictures(sample)
    shots[4] = np.zeros_like(shots[4])
    process(write_film(tmp_path / "black.mp4", shots), tmp_path / "a", sample)
    assert [f.time_step for f in read_frame_report(tmp_path / "a").sequences["camera0"] if f.blurred] == [4]
    for i in (1, 7):
        true = read_disparity(sample / "aligned_depth_anything" / "camera0" / f"{i:05d}.npy")
        found = read_disparity(tmp_path / "a" / "aligned_depth_anything" / "camera0" / f"{i:05d}.npy")
        still = cv2.imread(str(sample / "masks/camera0" / f"{i:05d}.png"), 0) == 0
        assert np.median(np.abs(found / true - 1)[still]) < 0.1


def test_out_of_memory_says_what_to_lower(film, sample, tmp_path, monkeypatch):
    def compute(self, inputs, indices):
        raise MemoryError("Unable to allocate 9 GiB")
        yield

    monkeypatch.setattr(MultiViewDepth, "compute", compute)
    said = refused(
        MemoryError, "depth provider 'multiview' ran out of memory .Unable to allocate", film, tmp_path / "a", sample
    )
    assert "Lower --memory-gb (now 2)" in said
    assert "now 80x60" in said

    class OutOfMemoryError(RuntimeError):
        """As torch.cuda's."""

    def cuda(self, inputs, indices):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate")
        yield

    monkeypatch.setattr(MultiViewDepth, "compute", cuda)
    said = refused(MemoryError, "CUDA out of memory", film, tmp_path / "a", sample)
    assert "Lower --settings depth.working_side=... (now 512). Lower --memory-gb (now 2)" in said


@pytest.mark.parametrize("after", [3, 12, 40])
def test_a_full_disk_leaves_nothing_half_written(film, sample, finished, tmp_path, monkeypatch, after):
    """The disk fills up in the frames, in the flow or later; with space again the run ends with the same files."""
    real, left = files_module.os.replace, [after]

    def replace(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(files_module.os, "replace", replace)
    said = refused(OSError, "the disk is full .* more are needed", film, tmp_path / "clip", sample)
    assert str(tmp_path / "clip") in said
    assert "continues where it stopped" in said
    monkeypatch.setattr(files_module.os, "replace", real)
    assert not list((tmp_path / "clip").rglob("*.tmp"))
    process(film, tmp_path / "clip", sample)
    found, expected = contents(tmp_path / "clip"), contents(finished)
    assert found.keys() == expected.keys()
    different = {name for name in found if found[name] != expected[name]}
    assert different <= {"summary/index.html"}  # its title is the folder's name
