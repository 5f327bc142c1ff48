"""What can be wrong with a clip: one clear error each, before training, with file, expected, found and what to try."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataparsers.som import SomDataParserConfig
from dyngs_plugins.priors.som_files import read_cameras, write_cameras, write_mask

DEPTHS, MASKS, TRACKS = "aligned_depth_anything/camera0", "masks/camera0", "bootstapir/camera0"


def message(root: Path, kind: type[Exception] = ValueError, **options) -> str:
    """The error that parsing raises, of exactly that kind."""
    with pytest.raises(kind) as error:
        SomDataParserConfig(data=root, **options).setup().get_dataparser_outputs("train")
    return str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    said = message(tmp_path / "nothing", FileNotFoundError)
    assert said == f"{tmp_path / 'nothing'}: no such folder. Expected a clip; pass its folder with --data."


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "thing.txt").touch()
    said = message(tmp_path, FileNotFoundError)
    assert "no known layout. Expected images/SEQ/ (custom)" in said
    assert "found 1 entries (thing.txt)" in said
    assert "dyngs process" in said


@pytest.mark.parametrize("inside", ["images", "images/camera0", "masks/camera0"])
def test_a_folder_too_deep(video, inside):
    said = message(video / inside, FileNotFoundError)
    assert f"Too deep? Pass --data {video}" in said
    assert ("--sequence camera0" in said) == ("/" in inside)


def test_a_folder_too_high(video):
    assert f"One level too high? Pass --data {video}" in message(video.parent, FileNotFoundError)


def test_zero_frames(video):
    for path in (video / "images" / "camera0").iterdir():
        path.unlink()
    said = message(video, FileNotFoundError)
    assert said == (
        f"{video / 'images'}: found 0 sequences with images in them. Expected images/SEQ/ with images, but "
        f"{video / 'images' / 'camera0'} holds none. Put the images there."
    )


def test_images_without_a_sequence_folder(video):
    for path in (video / "images" / "camera0").iterdir():
        shutil.move(path, video / "images")
    assert "10 images lie in" in message(video, FileNotFoundError)
    assert "move them one folder down" in message(video, FileNotFoundError)
    np.save(video / "poses_bounds.npy", np.zeros((10, 17)))
    assert "that is the LLFF layout. Put `llff-data`" in message(video, FileNotFoundError)


def test_several_sequences(video):
    shutil.copytree(video / "images" / "camera0", video / "images" / "another")
    said = message(video)
    assert "found 2 sequences (another, camera0), expected one" in said
    assert "--sequence another" in said
    said = message(video, FileNotFoundError, sequence="third")
    assert "images/third: no such sequence. Found another, camera0" in said


def test_a_clip_that_names_an_absent_sequence(clip):
    record = json.loads((clip / "clip.json").read_text())
    (clip / "clip.json").write_text(json.dumps(record | {"sequences": ["camera0", "camera7"]}))
    assert "it names the sequences ['camera7'], but" in message(clip, FileNotFoundError)


def test_an_image_without_a_time_step(clip):
    record = json.loads((clip / "clip.json").read_text())
    del record["frame_index"]["camera0"]["00003"]
    (clip / "clip.json").write_text(json.dumps(record))
    assert "frame_index of camera0 lacks 1 of 10 images; the first is '00003'" in message(clip)


def test_two_images_of_one_name(video):
    shutil.copy(video / "images/camera0/00003.png", video / "images/camera0/00003.jpg")
    assert "1 names are used by more than one image; the first is '00003'" in message(video)


def test_images_of_two_sizes(video):
    Image.new("RGB", (32, 24)).save(video / "images/camera0/00003.png")
    said = message(video)
    assert "00003.png: the image is 32x24, expected 64x48 (width x height) like 00000.png. Resize" in said


def test_an_image_that_is_none(video):
    (video / "images/camera0/00003.png").write_bytes(b"not an image")
    assert "00003.png: cannot be read as an image" in message(video)


@pytest.mark.parametrize(
    ("folder", "what", "name"), [(DEPTHS, "disparity map", "00003.npy"), (MASKS, "mask", "00003.png")]
)
def test_one_missing_file(video, folder, what, name):
    (video / folder / name).unlink()
    said = message(video, FileNotFoundError)
    assert f"{video / folder / name}: no such {what}; 1 of 9 are missing." in said
    assert f"Expected one for every image in {video / 'images/camera0'}, found 8 in {video / folder}" in said
    assert "dyngs process" in said


@pytest.mark.parametrize(
    ("folder", "kind", "first"),
    [(DEPTHS, "depth", DEPTHS), (MASKS, "mask", MASKS), (TRACKS, "track", "tracks/camera0")],
)
def test_a_missing_folder(video, folder, kind, first):
    shutil.rmtree(video / folder)
    said = message(video, FileNotFoundError)
    assert f"{video / first}: no such folder" in said
    assert "dyngs process" in said
    assert f"som-data --{kind}-type" in said
    kept = [name for name in ("depth", "masks", "tracks") if not name.startswith(kind)]
    assert said.endswith(f"train a method without: som-data --required-priors {' '.join(kept)}")


def test_a_kind_that_nobody_needs_may_be_missing(video):
    shutil.rmtree(video / "bootstapir")
    config = SomDataParserConfig(data=video, required_priors=("depth", "masks"))
    priors = config.setup().get_dataparser_outputs("train").metadata["priors"]
    assert priors.tracks is None
    assert priors.depth_files is not None


def test_a_mask_of_another_size(video):
    write_mask(video / MASKS / "00003.png", np.zeros((24, 32), bool))
    said = message(video)
    assert f"{video / MASKS / '00003.png'}: the mask is 32x24, expected 64x48 (width x height) like its image" in said
    assert "Resize it" in said


def test_a_depth_of_another_size(video):
    np.save(video / DEPTHS / "00003.npy", np.ones((24, 32), np.float32))
    assert "00003.npy: the disparity map is 32x24, expected 64x48 (width x height) like its image" in message(video)


@pytest.mark.parametrize("count", [5, 64 * 48])
def test_nan_depth(video, count):
    path = video / DEPTHS / "00003.npy"
    values = np.load(path)
    values.flat[:count] = np.nan
    np.save(path, values)
    said = message(video)
    assert f"{path}: {count} of 3072 values are NaN or infinite. Expected a finite disparity map" in said
    assert "Set the bad values to 0, or compute" in said


def test_a_damaged_depth(video):
    path = video / DEPTHS / "00003.npy"
    path.write_bytes(path.read_bytes()[:500])
    assert f"{path}: cannot be read as a disparity map" in message(video)
    assert "truncated" in message(video)


def test_missing_track_pairs(video):
    for name in ("00003_00007.npy", "00005_00000.npy"):
        (video / TRACKS / name).unlink()
    said = message(video, FileNotFoundError)
    assert f"{video / TRACKS / '00003_00007.npy'}: no such track file; 2 of 81 are missing" in said
    assert "one per ordered pair of the 9 training images" in said


def test_a_track_file_with_too_few_rows(video):
    path = video / TRACKS / "00003_00007.npy"
    rows = np.load(path)
    np.save(path, rows[:-2])
    said = message(video)
    assert f"{path}: {len(rows) - 2} rows. Expected {len(rows)}, one per query pixel" in said
    assert "track it again" in said


def test_a_track_file_that_was_cut_off(video):
    path = video / TRACKS / "00003_00007.npy"
    path.write_bytes(path.read_bytes()[:-7])
    assert f"{path}: cannot be read as a track file" in message(video)
    assert "truncated" in message(video)


def test_track_files_of_another_number_type_are_fine(video):
    path = video / TRACKS / "00003_00007.npy"
    np.save(path, np.load(path).astype(np.float64))
    SomDataParserConfig(data=video).setup().get_dataparser_outputs("train")


def test_no_camera_file(video):
    (video / "droid_recon" / "camera0.npy").unlink()
    assert "camera0.npy: no such camera file" in message(video, FileNotFoundError)


def test_a_camera_file_with_too_few_poses(video):
    path = video / "droid_recon" / "camera0.npy"
    cameras = read_cameras(path)
    write_cameras(path, cameras.world_T_camera[:7], cameras.intrinsics, cameras.image_shape, [0])
    said = message(video)
    assert f"{path}: 7 poses. Expected 10, one per image of the sequence" in said
    assert "solve the cameras again" in said


def test_cameras_that_are_not_rigid(video):
    path = video / "droid_recon" / "camera0.npy"
    cameras = read_cameras(path)
    poses = cameras.world_T_camera.copy()
    poses[4, :3, :3] *= 1.5
    write_cameras(path, poses, cameras.intrinsics, cameras.image_shape, [0])
    assert f"{path}: pose 4 of traj_c2w is not rigid" in message(video)
    poses[4] = np.nan
    write_cameras(path, poses, cameras.intrinsics, cameras.image_shape, [0])
    assert "1 poses of traj_c2w are not finite; the first is pose 4" in message(video)


class Payload:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_camera_file_that_would_run_code(video, tmp_path):
    marker, path = tmp_path / "executed", video / "droid_recon" / "camera0.npy"
    content = np.array({"traj_c2w": Payload(marker)}, dtype=object)
    np.save(path, content, allow_pickle=True)
    said = message(video)
    assert f"{path}: refused. Its pickle asks for `posix.mkdir`" in said
    assert "NOT executed" in said
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()  # the payload is real


def test_an_evaluation_view_that_is_a_training_image(clip):
    path = clip / "eval" / "eval.json"
    record = json.loads(path.read_text())
    record["views"][0]["image"] = "../images/camera0/00002.png"
    path.write_text(json.dumps(record))
    said = message(clip)
    assert "1 evaluation images are training images" in said
    assert "00002.png" in said


def test_evaluation_files_are_checked_before_training(clip):
    np.save(clip / "eval" / "depths" / "00001.npy", np.full((48, 64), np.nan))
    assert "eval/depths/00001.npy: 3072 of 3072 values are NaN" in message(clip)
    (clip / "eval" / "depths" / "00001.npy").unlink()
    assert "depths/00001.npy: no such evaluation file" in message(clip, FileNotFoundError)


def test_evaluation_frames_outside_the_clip(clip):
    path = clip / "eval" / "eval.json"
    record = json.loads(path.read_text())
    record["views"][3]["frame"] = 99
    path.write_text(json.dumps(record))
    assert "frames [99] lie outside the clip's 0..9" in message(clip)


def test_casual_clips_have_one_size(video):
    assert "downscale_factor is 2, but a custom clip has one size" in message(video, downscale_factor=2)
