"""``llff-data`` on a forward-facing scene and on one around an object: frames, seeds, splits, bounds, and the host."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from host_training import host_losses
from layout_checks import message, names, pairs, parse_all
from PIL import Image
from scipy.spatial.transform import Rotation

from dataparsers.llff import LAYOUT, PROTOCOLS, LlffDataParserConfig
from dataparsers.llff_frame import average_pose, llff_frame, object_frame
from dyngs_plugins.priors.colmap_files import read_model, write_model
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds
from dyngs_plugins.sample.cameras import OrbitPath
from dyngs_plugins.sample.writers.llff import write_llff

IMAGES = 9


def config(root: Path, **options) -> LlffDataParserConfig:
    return LlffDataParserConfig(data=root, **{"eval_interval": 4, **options})


@pytest.fixture(scope="module")
def fern(tmp_path_factory):
    root = tmp_path_factory.mktemp("llff") / "fern"
    return root, write_llff(root, frames=IMAGES)


@pytest.fixture(scope="module")
def car(tmp_path_factory):
    root = tmp_path_factory.mktemp("llff") / "car"
    return root, write_llff(root, frames=12, kind="inward")


@pytest.fixture
def scene(fern, tmp_path):
    shutil.copytree(fern[0], tmp_path / "scene")
    return tmp_path / "scene"


FRAMES = ({}, {"llff_frame": True}, {"llff_frame": True, "spherify": True}, {"scene_normalisation": False})


@pytest.mark.parametrize("options", FRAMES)
@pytest.mark.parametrize("kind", ["fern", "car"])
def test_true_points_reproject_in_every_frame(fern, car, kind, options):
    root, truth = fern if kind == "fern" else car
    splits = parse_all(config(root, protocol="llff", **options))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    assert (splits["test"].metadata["points3D_xyz"] == splits["train"].metadata["points3D_xyz"]).all()


@pytest.mark.parametrize(
    ("protocol", "test"),
    [("", [(0, 2), (0, 6)]), ("middle", [(0, 2), (0, 6)]), ("llff", [(0, 0), (0, 4), (0, 8)]), ("all", None)],
)
def test_splits(fern, protocol, test):
    splits = parse_all(config(fern[0], protocol=protocol))
    every = [(0, i) for i in range(IMAGES)]
    assert pairs(splits["test"]) == (test or every)
    assert pairs(splits["train"]) == [pair for pair in every if pair not in (test or [])]
    said = splits["test"].metadata["protocol"]
    assert said.startswith(f"{protocol or 'middle'} (")
    if not protocol:
        assert "held-out frames (1 in 4 from frame 2 on, 2 of 9)" in said
    assert splits["test"].metadata["lpips_net"] == ("vgg" if protocol == "llff" else "alex")


def test_every_eighth_of_twenty(tmp_path):
    write_llff(tmp_path, 16, 16, frames=20)
    splits = parse_all(LlffDataParserConfig(data=tmp_path, protocol="llff", load_points=False))
    assert pairs(splits["test"]) == [(0, 0), (0, 8), (0, 16)]
    assert "points3D_xyz" not in splits["train"].metadata


def test_stereo_pairs(fern, scene):
    assert "takes rows in pairs of left and right, but" in message(config(scene, protocol="stereo"))
    (scene / "images" / "IMG_4008.png").unlink()
    np.save(scene / "poses_bounds.npy", np.load(scene / "poses_bounds.npy")[:8])
    splits = parse_all(config(scene, protocol="stereo", llff_frame=True))
    assert pairs(splits["train"]) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert pairs(splits["test"]) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert names(splits["test"]) == ["IMG_4001", "IMG_4003", "IMG_4005", "IMG_4007"]
    checks.check_times(splits)
    checks.check_disjoint(splits)


def test_bounds_in_scene_units(fern):
    stored = read_poses_bounds(fern[0] / "poses_bounds.npy").bounds
    for options in FRAMES:
        outputs = parse_all(config(fern[0], protocol="all", **options))["train"]
        scaled = stored * outputs.dataparser_scale
        np.testing.assert_allclose(outputs.metadata["bounds"], scaled, rtol=1e-5)
        assert outputs.metadata["near"] == pytest.approx(0.9 * scaled.min(), rel=1e-5)
        assert outputs.metadata["far"] == pytest.approx(scaled.max(), rel=1e-5)
    outputs = parse_all(config(fern[0], llff_frame=True))["train"]
    assert outputs.metadata["near"] / 0.9 == pytest.approx(1.33333, abs=1e-4)  # nearest bound over bd_factor
    fx, width = float(outputs.cameras.fx[0]), 64
    assert outputs.metadata["ndc_scale"] == pytest.approx((2 * fx / width, 2 * fx / 48))
    for options in ({}, {"llff_frame": True, "spherify": True}, {"llff_frame": True, "bd_factor": None}):
        assert "ndc_scale" not in parse_all(config(fern[0], **options))["train"].metadata


def test_no_device_coordinates_around_an_object(car):
    """A mean pose exists, and all rays run down from it, but its near plane cuts the object."""
    outputs = parse_all(config(car[0], llff_frame=True))["train"]
    assert "ndc_scale" not in outputs.metadata
    assert "near" in outputs.metadata


def test_the_mean_pose_is_the_identity(fern):
    outputs = parse_all(config(fern[0], protocol="all", llff_frame=True))["train"]
    poses = outputs.cameras.camera_to_worlds
    np.testing.assert_allclose(poses[:, :, 3].mean(dim=0), 0, atol=1e-6)
    whole = np.tile(np.eye(4), (len(poses), 1, 1))
    whole[:, :3] = poses
    np.testing.assert_allclose(average_pose(whole), np.eye(4), atol=1e-6)


def test_the_frame_does_not_depend_on_the_world_of_the_files(fern):
    cameras = read_poses_bounds(fern[0] / "poses_bounds.npy")
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.random(random_state=3).as_matrix(), [4.0, -2, 9]
    elsewhere = LlffCameras((moved @ cameras.world_T_camera).astype(np.float32), cameras.hwf, cameras.bounds)
    for spherify in (False, True):
        first, second = (llff_frame(c, spherify=spherify) for c in (cameras, elsewhere))
        assert first.scale == pytest.approx(second.scale, rel=1e-5)
        poses = [f.normalised_T_world.numpy() @ c.world_T_camera for f, c in ((first, cameras), (second, elsewhere))]
        np.testing.assert_allclose(poses[0], poses[1], atol=1e-4)


def test_spherified_cameras_stand_at_distance_one(car):
    outputs = parse_all(config(car[0], protocol="all", llff_frame=True, spherify=True))["train"]
    centers = outputs.cameras.camera_to_worlds[:, :, 3]
    assert float(centers.square().sum(dim=1).mean().sqrt()) == pytest.approx(1.0, abs=1e-5)
    assert (centers[:, 2] > 0.3).all()  # the cameras are above what they look at, and up is +z
    axes = outputs.cameras.camera_to_worlds[:, :, 2]
    distance = torch.linalg.cross(centers, axes).norm(dim=1)  # of the optical axes from the origin
    assert distance.max() < 0.05
    assert outputs.dataparser_scale == pytest.approx(1 / 4.6, rel=0.1)


def test_object_frame_of_two_axes_that_cross():
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[0, :3, 2], poses[0, :3, 3] = [1, 0, 0], [5, 2, 3]  # backward axes towards (0, 2, 3)
    poses[1, :3, 2], poses[1, :3, 3] = [0, 0, 1], [0, 2, 9]
    frame = object_frame(poses)
    np.testing.assert_allclose(frame[:3, 3], [0, 2, 3], atol=1e-9)
    np.testing.assert_allclose(frame[:3, 2], np.array([5, 0, 6]) / np.hypot(5, 6), atol=1e-9)
    np.testing.assert_allclose(frame[:3, :3] @ frame[:3, :3].T, np.eye(3), atol=1e-9)


def test_a_full_circle_has_no_mean_pose_but_a_frame_of_its_object():
    """Its cameras' up and viewing directions add up to one axis."""
    poses = np.stack([OrbitPath(64, 48, azimuth=a, elevation=40.0, sweep=0.0).at(0.0).world_T_camera for a in range(0, 360, 45)])  # fmt: skip
    cameras = LlffCameras(poses.astype(np.float32), np.tile([48.0, 64, 60], (8, 1)), np.tile([2.0, 9], (8, 1)))
    with pytest.raises(ValueError, match="no average camera: .* turn recentring off and spherify on"):
        llff_frame(cameras, spherify=True)
    frame = llff_frame(cameras, spherify=True, recenter=False)
    centers = frame.points(torch.from_numpy(poses[:, :3, 3]).float())
    np.testing.assert_allclose(centers[:, 2], np.sin(np.deg2rad(40)), atol=1e-4)


def test_seed_points_of_the_model(fern, scene):
    outputs = parse_all(config(scene, protocol="llff"))["train"]
    model = read_model(scene / "sparse" / "0")
    assert model.points is not None
    train = {image.id for image in model.images.values() if image.name[:-4] in names(outputs)}
    kept = [len(train & set(track[:, 0].tolist())) >= 2 for track in model.points.tracks]
    expected = torch.from_numpy(model.points.xyz[kept]).float()
    torch.testing.assert_close(checks.to_file(outputs, outputs.metadata["points3D_xyz"]), expected, atol=1e-4, rtol=0)
    shifted = {
        i: type(m)(i, m.name, m.camera_id, m.camera_T_world @ np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3))
        for i, m in model.images.items()
    }
    write_model(scene / "sparse" / "0", type(model)(model.cameras, shifted, model.points))
    with pytest.warns(UserWarning, match="its points are left out, because its cameras stand elsewhere"):
        assert "points3D_xyz" not in parse_all(config(scene))["train"].metadata
    del shifted[1]
    write_model(scene / "sparse" / "0", type(model)(model.cameras, shifted, model.points))
    with pytest.warns(UserWarning, match="because 1 of 9 images are not in its model"):
        assert "points3D_xyz" not in parse_all(config(scene))["train"].metadata
    (scene / "sparse" / "0" / "points3D.bin").write_bytes(b"\7\0\0")
    assert "points3D.bin: it ends inside the number of points" in message(config(scene))


def test_reduced_images_alone(fern, scene):
    parse_all(config(scene, downscale_factor=2))
    shutil.rmtree(scene / "images")
    outputs = parse_all(config(scene, downscale_factor=2))["train"]
    assert {path.parent.name for path in outputs.image_filenames} == {"images_2"}
    full = parse_all(config(fern[0]))["train"]
    torch.testing.assert_close(outputs.cameras.fx * 2, full.cameras.fx)
    torch.testing.assert_close(outputs.metadata["points3D_xyz"], full.metadata["points3D_xyz"])
    checks.check_reprojection(outputs, type(fern[1])(fern[1].scene, {scene / "images" / p.name: s for p, s in fern[1].shots.items()}))  # fmt: skip


def test_copies_of_another_rounding(scene):
    """ImageMagick and others may round 1/5 of 48 rows to 9; the focal length follows what is there."""
    for path in (scene / "images").iterdir():
        with Image.open(path) as image:
            (scene / "images_5").mkdir(exist_ok=True)
            image.resize((13, 9)).save(scene / "images_5" / path.name)
    outputs = parse_all(config(scene, downscale_factor=5))["train"]
    full = parse_all(config(scene))["train"]
    torch.testing.assert_close(outputs.cameras.fy, full.cameras.fy * 9 / 48)
    Image.new("RGB", (11, 9)).save(scene / "images_5" / "IMG_4003.png")
    assert "IMG_4003.png: the reduced image is 11x9, expected 13x9" in message(config(scene, downscale_factor=5))


def test_config_and_layout(fern, tmp_path):
    checks.check_yaml(config(fern[0], llff_frame=True, spherify=True, bd_factor=None))
    assert LAYOUT.recognise(fern[0]) == "poses_bounds.npy beside images/"
    assert LAYOUT.recognise(tmp_path) is None
    shutil.copytree(fern[0], tmp_path / "a")
    (tmp_path / "a" / "images_bokeh").mkdir()
    assert LAYOUT.recognise(tmp_path / "a") is None
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)


def test_upper_case_suffixes_and_unicode_paths(scene, tmp_path):
    moved = scene.rename(tmp_path / "Farn 蕨")
    (moved / "images" / "IMG_4001.png").rename(moved / "images" / "IMG_4001.PNG")
    with Image.open(moved / "images" / "IMG_4002.png") as image:
        image.save(moved / "images" / "IMG_4002.JPG")
    (moved / "images" / "IMG_4002.png").unlink()
    outputs = parse_all(config(moved, protocol="all"))["train"]
    assert [p.name for p in outputs.image_filenames[:3]] == ["IMG_4000.png", "IMG_4001.PNG", "IMG_4002.JPG"]


def edit(scene: Path, change) -> None:
    table = np.load(scene / "poses_bounds.npy")
    np.save(scene / "poses_bounds.npy", change(table))


def filled(table: np.ndarray, rows, columns, value) -> np.ndarray:
    table[rows, columns] = value
    return table


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda t: t[:8], {}, "8 rows. Expected 9, one per image"),
        (lambda t: t[:, :16], {}, "shape (9, 16). Expected (number of images, 17)"),
        (lambda t: t.ravel(), {}, "shape (153,). Expected (number of images, 17)"),
        (lambda t: t.astype(complex), {}, "Expected numbers, found complex128"),
        (lambda t: filled(t, 3, 3, np.inf), {}, "the first is pose 3"),
        (lambda t: filled(t, 2, slice(0, 3), 0), {}, "pose 2 of poses_bounds is not rigid"),
        (lambda t: filled(t, slice(None), [0, 5, 10], -1), {}, "is not rigid"),
        (lambda t: filled(t, 0, [4, 9], [64.0, 48.0]), {}, "row 0 of poses_bounds.npy is of an image of 48x64, but"),
        (lambda t: filled(t, 4, 14, 0), {}, "heights, widths or focal lengths are not positive"),
        (
            lambda t: filled(t, slice(None), 15, 0),
            {"llff_frame": True},
            "has the nearest bound 0 and bd_factor is 0.75",
        ),
        (lambda t: filled(t, 1, 16, np.nan), {"llff_frame": True}, "expected positive numbers. Write the bounds again"),
        (lambda t: t, {"spherify": True}, "spherify is on, but llff_frame is off"),
        (lambda t: t, {"llff_frame": True, "scene_normalisation": False}, "llff_frame is on, but scene_normalisation"),
        (lambda t: t, {"protocol": "best"}, "protocol is 'best'; expected one of"),
        (lambda t: np.tile(t[:1], (9, 1)), {"llff_frame": True, "spherify": True}, "all look the same way"),
    ],
)
def test_broken_cameras(scene, change, options, said):
    edit(scene, change)
    assert said in message(config(scene, **{"load_points": False, **options}))


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_an_object_array_runs_no_code(scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(scene / "poses_bounds.npy", np.array([Bomb()], object), allow_pickle=True)
    assert "poses_bounds.npy: cannot be read as a LLFF camera file" in message(config(scene))
    assert not Path("exploded").exists()
    assert pickle.dumps(Bomb())


@pytest.mark.parametrize("kind", ["fern", "car"])
def test_the_hosts_nerfacto_trains(fern, car, kind):
    losses = host_losses("nerfacto", LlffDataParserConfig(data=(fern if kind == "fern" else car)[0]), steps=24)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-6:]) < np.mean(losses[:3])
