"""``llff-data``: LLFF's axes, the actual focal length, time from the order of the names, and what can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dataparsers.llff import LlffDataParserConfig, llff_data
from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.som_files import read_cameras
from dyngs_plugins.priors.views import ClipViews

BOOKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "books"
FRAMES = 10


def parse(root: Path, split: str = "train", **options):
    return LlffDataParserConfig(data=root, **options).setup().get_dataparser_outputs(split)


def rows(world_T_camera: np.ndarray, hwf: tuple[float, float, float], near=2.0, far=9.0) -> np.ndarray:
    """poses_bounds rows of OpenCV poses: columns down, right, back, position, hwf."""
    right, down, forward, position = np.moveaxis(world_T_camera[:, :3], 2, 0)
    stacked = np.stack([down, right, -forward, position, np.tile(hwf, (len(position), 1))], axis=2)
    return np.concatenate([stacked.reshape(-1, 15), np.tile([near, far], (len(position), 1))], axis=1)


@pytest.fixture
def video(rig, tmp_path) -> Path:
    """The sample's first camera as LLFF would have it, with bounds and with intrinsics of the full-size images."""
    (tmp_path / "images").mkdir()
    for path in (rig / "images" / "camera0").iterdir():
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    cameras = read_cameras(rig / "droid_recon" / "camera0.npy")
    np.save(tmp_path / "poses_bounds.npy", rows(cameras.world_T_camera, (480, 640, cameras.intrinsics[0] * 10)))
    return tmp_path


def test_axes_of_the_sheet():
    """Down (1,0,0), right (0,1,0), back (0,0,1) are OpenGL's columns (0,1,0), (-1,0,0), (0,0,1)."""
    pose = np.eye(4)[None]
    pose[0, :3, :3] = np.stack([[0, 1, 0], [1, 0, 0], [0, 0, -1]], axis=1)  # OpenCV: right, down, forward
    table = rows(pose, (10, 20, 30))
    np.testing.assert_array_equal(table[0, :15].reshape(3, 5)[:, :3], np.eye(3))


def test_poses_come_back_from_rows(video, rig):
    expected = read_cameras(rig / "droid_recon" / "camera0.npy").world_T_camera
    np.testing.assert_allclose(
        read_poses_bounds(video / "poses_bounds.npy", FRAMES).world_T_camera, expected, atol=1e-6
    )
    outputs = parse(video, scene_normalisation=False, eval_interval=0)
    opengl = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(outputs.cameras.camera_to_worlds[:, :, :3], expected[:, :3, :3] @ opengl, atol=1e-6)
    np.testing.assert_allclose(outputs.cameras.camera_to_worlds[:, :, 3], expected[:, :3, 3], atol=1e-6)


@pytest.mark.parametrize("split", ["train", "val"])
def test_true_points_reproject(video, rig, split):
    solved = read_cameras(rig / "droid_recon" / "camera0.npy")
    outputs = parse(video, split)
    views = ClipViews.from_dataparser_outputs(outputs)
    points = torch.rand(50, 3) * 3 + torch.tensor([-1.5, -1.5, 4.0])
    transform = outputs.dataparser_transform
    scene = (points @ transform[:, :3].T + transform[:, 3]) * outputs.dataparser_scale
    for i, step in enumerate(views.frame_index.tolist()):
        camera_T_world = torch.from_numpy(np.linalg.inv(solved.world_T_camera[step]))
        expected, _ = project(points, camera_T_world, torch.from_numpy(solved.K(64, 48)))
        pixels, _ = project(scene, views.camera_T_world[i], views.K[i])
        torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=1e-5)


def test_focal_length_follows_the_actual_size(tmp_path):
    """1/8 of 3024 rows is 378; a folder of 379 rows has a slightly longer focal length."""
    np.save(tmp_path / "poses_bounds.npy", rows(np.eye(4)[None], (3024, 4032, 3260.0)))
    cameras = read_poses_bounds(tmp_path / "poses_bounds.npy")
    np.testing.assert_allclose(cameras.K(504, 378)[0], [[407.5, 0, 252], [0, 407.5, 189], [0, 0, 1]])
    np.testing.assert_allclose(cameras.K(504, 379)[0, 1, 1], 3260 * 379 / 3024, rtol=1e-6)


def test_splits_and_times(video):
    train, val = parse(video), parse(video, "val")
    assert val.cameras.metadata["frame_index"].flatten().tolist() == [4]
    assert train.cameras.metadata["frame_index"].flatten().tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not set(train.image_filenames) & set(val.image_filenames)
    torch.testing.assert_close(train.cameras.times.flatten()[4], torch.tensor(5 / 9))
    assert train.metadata["priors"].depth_files is None
    assert train.metadata["priors"].tracks is None
    assert val.metadata["protocol"].startswith(
        "middle (trains on all other images; tests on held-out frames (1 in 8 from frame 4 on, 1 of 10);"
    )
    rule = parse(video, "val", eval_interval=4, eval_offset=0)
    assert rule.cameras.metadata["frame_index"].flatten().tolist() == [0, 4, 8]
    assert LlffDataParserConfig(data=video).setup().includes_time


def test_the_scene_is_about_one_unit(video):
    outputs = parse(video)
    views = ClipViews.from_dataparser_outputs(outputs)
    up = -views.camera_T_world[:, 1, :3].mean(dim=0)
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0, 1]), atol=1e-4, rtol=0)
    distance = views.world_T_camera[:, :3, 3].norm(dim=-1)
    assert (distance < 10).all()
    assert (distance > 0.1).all()


def test_bounds_that_say_nothing_leave_the_frame(video):
    table = np.load(video / "poses_bounds.npy")
    table[:, 15:] = 0
    np.save(video / "poses_bounds.npy", table)
    with pytest.warns(UserWarning, match="left in the frame of poses_bounds.npy"):
        assert parse(video).dataparser_scale == 1.0


def test_reduced_images_are_made_once_and_never_overwritten(video):
    outputs = parse(video, downscale_factor=2)
    assert {path.parent.name for path in outputs.image_filenames} == {"images_2"}
    assert int(outputs.cameras.width[0]) == 32
    full = parse(video)
    torch.testing.assert_close(outputs.cameras.fx * 2, full.cameras.fx)
    torch.testing.assert_close(outputs.cameras.cx * 2, full.cameras.cx)
    pixels = np.asarray(Image.open(video / "images" / "00000.png"), float)
    mean = pixels.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(np.asarray(Image.open(video / "images_2" / "00000.png")), mean, atol=1)
    mine = Image.new("RGB", (32, 24), (1, 2, 3))
    mine.save(video / "images_2" / "00003.png")
    (video / "images_2" / "00005.png").unlink()
    parse(video, downscale_factor=2)
    assert Image.open(video / "images_2" / "00003.png").getpixel((0, 0)) == (1, 2, 3)
    assert (video / "images_2" / "00005.png").is_file()


def test_the_registered_config_round_trips_through_yaml(video):
    config = LlffDataParserConfig(data=video, downscale_factor=2)
    assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config
    assert hasattr(llff_data.config, "downscale_factor")


def error(root: Path, kind: type[Exception] = ValueError, **options) -> str:
    with pytest.raises(kind) as raised:
        parse(root, **options)
    return str(raised.value)


def test_mistakes_are_explained(video, tmp_path):
    path = video / "poses_bounds.npy"
    table = np.load(path)
    assert "downscale_factor is -2" in error(video, downscale_factor=-2)
    Image.new("RGB", (32, 24)).save(video / "images" / "00000b.png")
    assert f"{path}: 10 rows. Expected 11, one per image" in error(video)
    Image.new("RGB", (32, 24)).save(video / "images" / "00001.png")
    (video / "images" / "00000b.png").unlink()
    assert "00001.png: the image is 32x24, expected 64x48" in error(video)
    np.save(path, table[:, :15])
    assert "shape (10, 15). Expected (number of images, 17)" in error(video)
    table[3, :3] = np.nan
    np.save(path, table)
    assert "1 poses of poses_bounds are not finite; the first is pose 3" in error(video)
    path.unlink()
    assert "poses_bounds.npy: no such LLFF camera file" in error(video, FileNotFoundError)
    said = error(tmp_path / "nothing", FileNotFoundError)
    assert "nothing/images: no such folder. Expected the clip's images. llff-data reads images/" in said


def test_a_reduced_folder_of_other_images(video):
    (video / "images_2").mkdir()
    Image.new("RGB", (32, 24)).save(video / "images_2" / "stranger.png")
    assert "1 images have no counterpart in images/; the first is 'stranger'" in error(video, downscale_factor=2)


@pytest.mark.skipif(not BOOKS.is_dir(), reason="the books video is not here")
def test_a_real_video():
    train, val = parse(BOOKS), parse(BOOKS, "val")
    assert (len(train.image_filenames), len(val.image_filenames)) == (75, 11)
    assert train.cameras.fx[0].item() == pytest.approx(256.6095, abs=1e-3)
    views = ClipViews.from_dataparser_outputs(train)
    assert (views.width, views.height) == (512, 384)
    assert 0.2 < views.world_T_camera[:, :3, 3].norm(dim=-1).median() < 5
