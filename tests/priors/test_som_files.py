"""Every file kind: what is written comes back, and what is wrong is said."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from dyngs_plugins.priors import clip_files, files, som_files
from dyngs_plugins.priors.clip_files import EvalView, GroundTruthTracks

POSES = np.tile(np.eye(4), (3, 1, 1))


def write_object(path, content, protocol=2) -> None:
    """What np.save does with an object array, with any pickle protocol."""
    array = np.empty((), object)
    array[()] = content
    with open(path, "wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(array, file, protocol=protocol)


def camera_record(**changes) -> dict:
    record = {
        "tstamps": np.array([0, 2]),
        "traj_c2w": POSES,
        "map_c2w": POSES[:2],
        "images": np.zeros(0),
        "intrinsics": np.array([50.0, 60.0, 32.0, 24.0]),
        "img_shape": (48, 64),
    }
    return record | changes


# Cameras -------------------------------------------------------------------------------------------------------------


def test_cameras_come_back(tmp_path):
    som_files.write_cameras(tmp_path / "a" / "seq.npy", POSES, (50.0, 60.0, 32.0, 24.0), (48, 64), [0, 2])
    cameras = som_files.read_cameras(tmp_path / "a" / "seq.npy", 3)
    np.testing.assert_array_equal(cameras.world_T_camera, POSES)
    assert cameras.intrinsics == (50.0, 60.0, 32.0, 24.0)
    assert cameras.image_shape == (48, 64)
    assert cameras.keyframes == [0, 2]


def test_intrinsics_scale_with_the_image():
    cameras = som_files.SomCameras(POSES, (50.0, 60.0, 30.0, 24.0), (48, 64), [])
    np.testing.assert_allclose(cameras.K(128, 96), [[100, 0, 60], [0, 120, 48], [0, 0, 1]])
    np.testing.assert_allclose(cameras.K(64, 96), [[50, 0, 30], [0, 120, 48], [0, 0, 1]])  # each axis on its own


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cameras_of_any_pickle_protocol(tmp_path, protocol):
    record = camera_record(tstamps=[np.int64(0), 1], img_shape=(np.int32(48), 64))
    write_object(tmp_path / "seq.npy", record, protocol)
    assert som_files.read_cameras(tmp_path / "seq.npy", 3).keyframes == [0, 1]


def test_numpy_save_is_readable(tmp_path):
    np.save(tmp_path / "seq.npy", camera_record())  # as the reference's scripts do
    assert som_files.read_cameras(tmp_path / "seq.npy").image_shape == (48, 64)


class Payload:
    """Unpickling this runs a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["whole", "inside a value", "inside an object array"])
def test_a_payload_is_named_and_not_executed(tmp_path, place):
    marker, path = tmp_path / "executed", tmp_path / "seq.npy"
    payload = Payload(f"touch {marker}")
    hidden = np.array([payload], dtype=object)
    contents = {
        "whole": payload,
        "inside a value": camera_record(images=payload),
        "inside an object array": camera_record(points=hidden),
    }
    write_object(path, contents[place])
    with pytest.raises(ValueError, match="refused.*NOT executed.*Expected.*write_cameras") as error:
        som_files.read_cameras(path)
    assert str(path) in str(error.value)
    assert "system" in str(error.value)  # the global it asked for
    assert not marker.exists()
    with open(path, "rb") as file:  # the payload is real: an ordinary unpickler runs it
        np.load(file, allow_pickle=True)
    assert marker.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "numpy.load", "functools.partial"])
def test_globals_that_could_lead_to_code_are_refused(tmp_path, name):
    module, attribute = name.rsplit(".", 1)
    raw = f"c{module}\n{attribute}\n.".encode()
    with open(tmp_path / "seq.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(raw)
    with pytest.raises(ValueError, match=f"asks for `{name}`"):
        som_files.read_cameras(tmp_path / "seq.npy")


def scaled(poses):
    poses = poses.copy()
    poses[1, :3, :3] *= 2.0
    return poses


def with_nan(poses):
    poses = poses.copy()
    poses[2, 0, 3] = np.nan
    return poses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"traj_c2w": POSES[:2]}, "2 poses. Expected 3, one per image.*Remove the extra images"),
        ({"traj_c2w": POSES[:, :3]}, r"traj_c2w has shape \(3, 3, 4\). Expected \(T, 4, 4\)"),
        ({"traj_c2w": with_nan(POSES)}, "1 poses of traj_c2w are not finite; the first is pose 2"),
        ({"traj_c2w": scaled(POSES)}, "pose 1 of traj_c2w is not rigid.*1 of 3.*Is a scale"),
        ({"traj_c2w": POSES * np.diag([1.0, 1, -1, 1])}, "not rigid.*determinant -1"),
        ({"intrinsics": [50.0, 60.0]}, "intrinsics .fx, fy, cx, cy. must be 4 numbers, found 2"),
        ({"intrinsics": [0.0, 60.0, 1.0, 1.0]}, "Expected positive focal lengths"),
        ({"tstamps": [0, 7]}, r"key-frames \[7\] in tstamps lie outside 0..2"),
    ],
)
def test_wrong_cameras_are_explained(tmp_path, changes, message):
    path = tmp_path / "seq.npy"
    write_object(path, camera_record(**changes))
    with pytest.raises(ValueError, match=message) as error:
        som_files.read_cameras(path, 3)
    assert str(path) in str(error.value)


def test_camera_files_of_other_kinds_are_explained(tmp_path):
    path = tmp_path / "seq.npy"
    with pytest.raises(FileNotFoundError, match="no such camera file. The folder holds 0 entries.*dyngs process"):
        som_files.read_cameras(path)
    np.save(path, POSES)
    with pytest.raises(ValueError, match="not a camera file: it holds an array of float64.*Expected: a 0-d object"):
        som_files.read_cameras(path)
    write_object(path, {"poses": POSES})
    with pytest.raises(
        ValueError, match=r"keys \['traj_c2w', 'intrinsics', 'img_shape'\] are missing; found \['poses'\]"
    ):
        som_files.read_cameras(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="not a camera file: its pickle is damaged"):
        som_files.read_cameras(path)
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match="not a camera file"):
        som_files.read_cameras(path)


# Depth, masks, tracks ------------------------------------------------------------------------------------------------


def test_maps_come_back(tmp_path):
    values = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    som_files.write_disparity(tmp_path / "d.npy", values)
    np.testing.assert_array_equal(som_files.read_disparity(tmp_path / "d.npy", (5, 7)), values)
    np.save(tmp_path / "lidar.npy", values[..., None])  # LiDAR maps carry a trailing axis
    np.testing.assert_array_equal(som_files.read_depth(tmp_path / "lidar.npy", (5, 7)), values)


def test_few_negative_disparities_are_unknown_and_many_are_an_error(tmp_path):
    values = np.full((4, 4), 0.5, np.float32)
    values[0] = -0.1  # what an affine alignment does to the sky
    np.save(tmp_path / "d.npy", values)
    assert (som_files.read_disparity(tmp_path / "d.npy")[0] == 0).all()
    np.save(tmp_path / "d.npy", -values)
    with pytest.raises(ValueError, match="12 of 16 values are negative.*1/z with 0 for unknown"):
        som_files.read_disparity(tmp_path / "d.npy")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_disparities_that_are_not_finite_are_counted(tmp_path, bad):
    values = np.full((4, 4), 0.5, np.float32)
    values[1, :3] = bad
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(ValueError, match="3 of 16 values are NaN or infinite.*0 for unknown.*Set the bad values to 0"):
        som_files.read_disparity(tmp_path / "d.npy")
    with pytest.raises(ValueError, match="finite and not negative"):
        som_files.write_disparity(tmp_path / "e.npy", values)
    assert not (tmp_path / "e.npy").exists()


def test_maps_of_another_size_or_kind_are_explained(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((4, 6)))
    with pytest.raises(
        ValueError, match="d.npy: the disparity map is 6x4, expected 12x8 .width x height. like its image"
    ):
        som_files.read_disparity(tmp_path / "d.npy", (8, 12))
    np.save(tmp_path / "d.npy", np.array(["a"]))
    with pytest.raises(ValueError, match="Expected numbers"):
        som_files.read_disparity(tmp_path / "d.npy")
    np.save(tmp_path / "d.npy", np.ones((4, 6)))
    (tmp_path / "d.npy").write_bytes((tmp_path / "d.npy").read_bytes()[:-8])
    with pytest.raises(ValueError, match="cannot be read as a disparity map.*truncated"):
        som_files.read_disparity(tmp_path / "d.npy")
    with pytest.raises(FileNotFoundError, match="no such disparity map. The folder holds 1 entries .d.npy."):
        som_files.read_disparity(tmp_path / "e.npy")


def test_masks_of_all_kinds(tmp_path):
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    som_files.write_mask(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(som_files.read_mask(tmp_path / "m.png", (5, 7)), mask)
    palette = Image.fromarray(mask.astype(np.uint8) * 3)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 756)  # DAVIS: labels 0, 1, 2, 3
    palette.save(tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    np.testing.assert_array_equal(som_files.read_mask(tmp_path / "p.png"), mask)
    color = np.zeros((5, 7, 4), np.uint8)
    color[..., 1], color[..., 3] = mask * 9, 255  # one colour channel, opaque everywhere
    Image.fromarray(color).save(tmp_path / "c.png")
    np.testing.assert_array_equal(som_files.read_mask(tmp_path / "c.png"), mask)


def test_wrong_masks_are_explained(tmp_path):
    som_files.write_mask(tmp_path / "m.png", np.ones((5, 7), bool))
    with pytest.raises(ValueError, match="m.png: the mask is 7x5, expected 14x10 .width x height.*Resize it"):
        som_files.read_mask(tmp_path / "m.png", (10, 14))
    (tmp_path / "m.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        som_files.read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("count", [0, 5])
def test_track_pairs_come_back(tmp_path, count):
    rows = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    som_files.write_track_pair(tmp_path / "a_b.npy", rows)
    np.testing.assert_array_equal(som_files.read_track_pair(tmp_path / "a_b.npy", count), rows)


def test_wrong_track_pairs_are_explained(tmp_path):
    path = tmp_path / "a_b.npy"
    som_files.write_track_pair(path, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="a_b.npy: 5 rows. Expected 6, one per query pixel.*truncated"):
        som_files.read_track_pair(path, 6)
    np.save(path, np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"shape \(5, 3\). Expected \(P, 4\)"):
        som_files.read_track_pair(path)
    with pytest.raises(ValueError, match=r"must be \[p, 4\]"):
        som_files.write_track_pair(path, np.zeros((5, 3)))


def test_an_interrupted_writer_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def stopped_half_way():
        with files.atomic_file(path) as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


# Files of ours -------------------------------------------------------------------------------------------------------


def test_clip_json_comes_back(tmp_path):
    steps = {"left": {"00": 0, "02": 2}, "right": {"00": 0, "02": 2}}
    som_files.write_clip_json(tmp_path / "clip.json", ["left", "right"], 3, 12.0, steps, "a protocol")
    info = clip_files.read_clip_json(tmp_path / "clip.json")
    assert info == clip_files.ClipInfo(("left", "right"), 3, 12.0, steps, "a protocol")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format 'other', version 1. Expected 'dyngs-clip'"),
        ({"sequences": []}, "expected a list 'sequences'"),
        ({"frame_index": {"a": {"x": 5}}}, "time steps of a must differ and lie in 0..2"),
        ({"frame_index": {"a": {"x": 1, "y": 1}}}, "must differ"),
    ],
)
def test_wrong_clip_json_is_explained(tmp_path, changes, message):
    record = {"format": "dyngs-clip", "version": 1, "sequences": ["a"], "num_frames": 3} | changes
    clip_files.write_json(tmp_path / "clip.json", record)
    with pytest.raises(ValueError, match=message):
        clip_files.read_clip_json(tmp_path / "clip.json")


def test_eval_json_comes_back_and_names_missing_files(tmp_path):
    view = EvalView("images/0.png", 1, 0, np.eye(3).tolist(), np.eye(4).tolist(), depth="depths/0.npy")
    som_files.write_eval_json(tmp_path / "eval.json", "held-out camera", [view])
    with pytest.raises(FileNotFoundError, match="images/0.png: no such evaluation file.*named by view 0"):
        clip_files.read_eval_json(tmp_path / "eval.json")
    for name in ("images/0.png", "depths/0.npy"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert clip_files.read_eval_json(tmp_path / "eval.json") == ("held-out camera", [view])
    (tmp_path / "eval.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        clip_files.read_eval_json(tmp_path / "eval.json")


def test_ground_truth_tracks_come_back(tmp_path):
    tracks = GroundTruthTracks(
        points=torch.rand(4, 3, 3),
        xy=torch.rand(4, 3, 2),
        visible=torch.rand(4, 3) > 0.5,
        moving=torch.tensor([True, False, True, True]),
        query_frame=torch.tensor([0, 0, 2, 1]),
        camera="camera0",
    )
    clip_files.write_ground_truth_tracks(tmp_path / "tracks.npz", tracks)
    back = clip_files.read_ground_truth_tracks(tmp_path / "tracks.npz")
    torch.testing.assert_close(back.points, tracks.points)
    torch.testing.assert_close(back.query_frame, tracks.query_frame)
    assert torch.equal(back.visible, tracks.visible)
    assert back.camera == "camera0"
    assert back.object is None
    np.savez(tmp_path / "tracks.npz", points=np.zeros((4, 3, 3)))
    with pytest.raises(ValueError, match="cannot be read as ground-truth tracks"):
        clip_files.read_ground_truth_tracks(tmp_path / "tracks.npz")
