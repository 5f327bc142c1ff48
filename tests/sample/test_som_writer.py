"""The files, read back the way a loader would read them."""

import filecmp
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dyngs_plugins.sample.blur import Exposure
from dyngs_plugins.sample.clip import SampleSettings, build_clip, to_8bit
from dyngs_plugins.sample.raycast import render_linear
from dyngs_plugins.sample.som_writer import PROTOCOL, write_som


def picture(path):
    return np.asarray(Image.open(path))


def cameras(folder, sequence):
    return np.load(folder / "droid_recon" / f"{sequence}.npy", allow_pickle=True).item()


def intrinsics(record):
    fx, fy, cx, cy = record["intrinsics"]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def test_every_file_of_the_layout_is_there_and_no_other(written, clip):
    names = [f"{k:05d}" for k in range(clip.settings.frames)]
    expected = {"clip.json", "ground_truth.json", "eval/eval.json", "eval/tracks.npz"}
    for s in ("camera0", "camera1"):
        expected |= {f"images/{s}/{n}.png" for n in names} | {f"masks/{s}/{n}.png" for n in names}
        expected |= {f"aligned_depth_anything/{s}/{n}.npy" for n in names} | {f"droid_recon/{s}.npy"}
        expected |= {f"normals/{s}/{n}.npy" for n in names}
        expected |= {f"bootstapir/{s}/{q}_{t}.npy" for q in names for t in names}
        expected |= {f"flow/{s}/{n}_fwd{v}.npy" for n in names[:-1] for v in ("", "_visible")}
        expected |= {f"flow/{s}/{n}_bwd{v}.npy" for n in names[1:] for v in ("", "_visible")}
    expected |= {f"eval/images/{n}.png" for n in names} | {f"eval/masks/{n}.png" for n in names}
    expected |= {f"eval/depths/{n}.npy" for n in names}
    assert {str(p.relative_to(written)) for p in written.rglob("*") if p.is_file()} == expected


def test_clip_json(written):
    record = json.loads((written / "clip.json").read_text())
    assert record == {
        "format": "dyngs-clip",
        "version": 1,
        "sequences": ["camera0", "camera1"],
        "num_frames": 7,
        "fps": 12.0,
        "frame_index": {s: {f"{k:05d}": k for k in range(7)} for s in ("camera0", "camera1")},
        "protocol": PROTOCOL,
    }


def test_images_masks_and_disparities(written, clip):
    for s, view in clip.training.items():
        for k in range(7):
            image = picture(written / "images" / s / f"{k:05d}.png")
            assert image.dtype == np.uint8
            np.testing.assert_array_equal(image, view.images[k])
            mask = picture(written / "masks" / s / f"{k:05d}.png")
            assert set(np.unique(mask)) <= {0, 255}
            np.testing.assert_array_equal(mask > 0, view.masks[k])
            disparity = np.load(written / "aligned_depth_anything" / s / f"{k:05d}.npy")
            assert disparity.dtype == np.float32
            np.testing.assert_allclose(1 / disparity, view.depths[k], rtol=1e-6)


def test_camera_file(written, clip):
    record = cameras(written, "camera0")
    assert record["traj_c2w"].shape == record["map_c2w"].shape == (7, 4, 4)
    assert record["tstamps"].tolist() == list(range(7))
    assert tuple(record["img_shape"]) == (48, 64)
    assert record["intrinsics"][2:].tolist() == [32.0, 24.0]  # pixel centres at +0.5: cx is half the width
    np.testing.assert_array_equal(record["traj_c2w"][3], clip.training["camera0"].cameras[3].world_T_camera)


def test_files_alone_reproject_to_the_flow(written):
    """Disparity, cameras and object poses from the files give the flow file to a thousandth of a pixel."""
    record, truth = cameras(written, "camera0"), json.loads((written / "ground_truth.json").read_text())
    K, poses = intrinsics(record), record["traj_c2w"]
    y, x = np.mgrid[:48, :64]
    rays = np.stack([x + 0.5, y + 0.5, np.ones_like(x)], -1) @ np.linalg.inv(K).T
    moving = [np.array(o["world_T_object"]) for o in truth["objects"] if o["moving"]]
    for k in range(6):
        disparity = np.load(written / f"aligned_depth_anything/camera0/{k:05d}.npy").astype(np.float64)
        points = np.concatenate([rays / disparity[..., None], np.ones((48, 64, 1))], -1) @ poses[k].T
        candidates = [points] + [points @ (o[k + 1] @ np.linalg.inv(o[k])).T for o in moving]
        flow = np.load(written / f"flow/camera0/{k:05d}_fwd.npy")
        visible = np.load(written / f"flow/camera0/{k:05d}_fwd_visible.npy")
        mask = picture(written / f"masks/camera0/{k:05d}.png") > 0
        assert visible.dtype == bool
        errors = []
        for candidate in candidates:
            image = (candidate @ np.linalg.inv(poses[k + 1]).T)[..., :3] @ K.T
            errors.append(np.abs(image[..., :2] / image[..., 2:] - 0.5 - np.stack([x, y], -1) - flow).max(-1))
        assert errors[0][visible & ~mask].max() < 1e-3
        assert np.minimum(errors[1], errors[2])[visible & mask].max() < 1e-3


def test_track_files(written, clip):
    folder, view = written / "bootstapir/camera0", clip.training["camera0"]
    states = set()
    for q in range(7):
        own = np.load(folder / f"{q:05d}_{q:05d}.npy")
        np.testing.assert_array_equal(own[:, :2], view.query_pixels[q])
        assert (own[:, 2:] == -10).all()
        xy = own[:, :2].astype(int)
        assert (picture(written / f"masks/camera0/{q:05d}.png")[xy[:, 1], xy[:, 0]] == 255).all()
        assert (xy % clip.settings.track_step == 0).all()
        assert (np.diff(xy[:, 1] * 64 + xy[:, 0]) > 0).all()
        for t in range(7):
            rows = np.load(folder / f"{q:05d}_{t:05d}.npy")
            assert rows.dtype == np.float32
            assert rows.shape == (len(own), 4)
            states |= set(map(tuple, rows[:, 2:].astype(int).tolist()))
            outside = (rows[:, :2] < 0).any(1) | (rows[:, :2] > [63, 47]).any(1)
            np.testing.assert_array_equal(rows[:, 3] == 10, outside)
    assert states == {(-10, -10), (10, -10), (10, 10)}


def test_evaluation_views(written, clip):
    record = json.loads((written / "eval/eval.json").read_text())
    assert record["protocol"] == PROTOCOL
    assert len(record["views"]) == 7
    for k, view in enumerate(record["views"]):
        assert (view["frame"], view["camera"]) == (k, 2)  # training cameras are 0 and 1
        camera = clip.held_out.cameras[k]
        np.testing.assert_array_equal(view["K"], camera.K)
        np.testing.assert_array_equal(view["world_T_camera"], camera.world_T_camera)
        np.testing.assert_array_equal(picture(written / "eval" / view["image"]), clip.held_out.images[k])
        depth = np.load(written / "eval" / view["depth"])
        np.testing.assert_allclose(depth, clip.held_out.depths[k], rtol=1e-6)  # z-depth, not disparity
        assert (picture(written / "eval" / view["mask"]) == 255).mean() > 0.02


def test_evaluation_tracks(written):
    tracks = np.load(written / "eval/tracks.npz")  # loads without pickle
    count = len(tracks["moving"])
    assert tracks["points"].shape == (count, 7, 3)
    assert tracks["xy"].shape == (count, 7, 2)
    assert tracks["visible"].shape == (count, 7)
    assert tracks["object"].shape == tracks["query_frame"].shape == (count,)
    assert str(tracks["camera"]) == "camera0"
    record = cameras(written, "camera0")
    world = np.concatenate([tracks["points"], np.ones((count, 7, 1))], -1)
    local = np.einsum("tij,ptj->pti", np.linalg.inv(record["traj_c2w"]), world)[..., :3] @ intrinsics(record).T
    np.testing.assert_allclose(local[..., :2] / local[..., 2:] - 0.5, tracks["xy"], atol=1e-3)


def test_ground_truth_record(written, clip):
    record = json.loads((written / "ground_truth.json").read_text())
    assert record["settings"]["seed"] == 0
    assert set(record["cameras"]) == {"camera0", "camera1", "held_out"}
    assert np.array(record["cameras"]["held_out"]["world_T_camera"]).shape == (7, 4, 4)
    moving = [o for o in record["objects"] if o["moving"]]
    assert [o["name"] for o in moving] == ["crate", "egg"]
    for o in moving:
        assert np.array(o["world_T_object"]).shape == (7, 4, 4)
        assert o["rotation"] > 30
        assert o["image_motion"] > 15 * 64 / 160
    assert "exposure" not in record


TINY = SampleSettings(frames=3, width=24, height=18, supersample=1)


def test_two_runs_are_equal_to_the_byte(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_som(build_clip(TINY), tmp_path / name)
    files = sorted(str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 30
    same, different, missing = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)
    assert (different, missing) == ([], [])
    assert len(same) == len(files)


@pytest.mark.parametrize(
    "exposure",
    [
        Exposure(fraction=0.8, subframes=3),
        Exposure(aperture=0.3, focus_distance=4.5, lens_samples=3),
        Exposure(fraction=0.8, subframes=3, aperture=0.3, focus_distance=4.5, lens_samples=4),
    ],
    ids=["motion", "defocus", "both"],
)
def test_blurred_images_come_with_sharp_ones_and_the_exposure(tmp_path, exposure):
    settings = replace(TINY, exposure=exposure)
    clip = build_clip(settings)
    write_som(clip, tmp_path)
    path = clip.training_paths["camera0"]
    record = json.loads((tmp_path / "ground_truth.json").read_text())["exposure"]
    assert record["samples"] == [{"offset": s.offset, "lens": list(s.lens)} for s in exposure.samples()]
    poses = np.array(record["cameras"]["camera0"])
    assert poses.shape == (3, len(record["samples"]), 4, 4)
    assert np.array(record["objects"]["egg"]).shape == poses.shape
    moment = 0.5 + record["samples"][0]["offset"] * settings.frame_interval
    np.testing.assert_array_equal(poses[1, 0], path.at(moment).world_T_camera)
    for k, t in enumerate(settings.times):
        sharp = picture(tmp_path / f"sharp/camera0/{k:05d}.png")
        np.testing.assert_array_equal(sharp, to_8bit(render_linear(clip.scene, path.at(t), t, 1)))
        assert np.abs(sharp.astype(int) - picture(tmp_path / f"images/camera0/{k:05d}.png")).max() > 5
    np.testing.assert_array_equal(clip.held_out.images, build_clip(TINY).held_out.images)  # evaluation stays sharp


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 1}, "frames is 1; expected between 2"),
        ({"width": 4}, "width is 4"),
        ({"cameras": 0}, "cameras is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"exposure": Exposure(fraction=1.5, subframes=4)}, "exposure is 1.5"),
        ({"exposure": Exposure(fraction=0.5, subframes=1)}, "subframes is 1; expected between 2"),
        ({"exposure": Exposure(aperture=0.1, focus_distance=0.0, lens_samples=4)}, "focus_distance is 0"),
        ({"exposure": Exposure(aperture=0.1, focus_distance=4.0)}, "lens_samples is 1"),
        ({"shake": float("nan")}, "shake is nan"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SampleSettings(**change)
