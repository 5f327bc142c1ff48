"""``som-data`` on DyCheck's iPhone layout with Shape of Motion's preprocessing, in the files' exact format."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dataparsers.nerfies_cameras import read_original_camera
from dataparsers.som import SomDataParserConfig
from dataparsers.som_iphone import read_split
from dyngs_plugins.priors.clip_files import read_ground_truth_tracks
from dyngs_plugins.priors.lifting import background_points, lift_tracks, project
from dyngs_plugins.priors.som_files import read_cameras
from dyngs_plugins.priors.views import ClipViews

FRAMES = 10
REAL_CAPTURE = Path(__file__).resolve().parents[3] / "shared" / "data" / "paper-windmill"


def parse(root: Path, split: str = "train", **options):
    return SomDataParserConfig(data=root, **options).setup().get_dataparser_outputs(split)


@pytest.fixture
def capture(iphone_capture) -> Path:
    return iphone_capture


def write_colmap(root: Path, binary: bool) -> None:
    """A COLMAP model of all cameras, twice as large as the images, in a world of other units than the captured one."""
    folder = root / "flow3d_preprocessed" / "colmap" / "sparse"
    folder.mkdir(parents=True)
    names = sorted(path.stem for path in (root / "camera").iterdir())
    poses, K = [], None
    for name in names:
        pose, K = read_original_camera(root / "camera" / f"{name}.json")
        camera_T_world = np.linalg.inv(pose.double().numpy())
        camera_T_world[:3, 3] *= 3.0
        x, y, z, w = Rotation.from_matrix(camera_T_world[:3, :3]).as_quat()
        poses.append(((w, x, y, z), camera_T_world[:3, 3]))
    params = [2 * float(value) for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])]
    if binary:
        (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, 128, 96, *params))  # 1 is PINHOLE
        content = struct.pack("<Q", len(names))
        for i, (name, (q, t)) in enumerate(zip(names, poses, strict=True)):
            content += struct.pack("<i7di", i + 1, *q, *t, 1) + f"{name}.png".encode() + b"\0" + struct.pack("<Q", 0)
        (folder / "images.bin").write_bytes(content)
        return
    (folder / "cameras.txt").write_text(f"# cameras\n1 PINHOLE 128 96 {' '.join(map(str, params))}\n")
    lines = [
        f"{i + 1} {' '.join(str(v) for v in (*q, *t))} 1 {name}.png\n\n"
        for i, (name, (q, t)) in enumerate(zip(names, poses, strict=True))
    ]
    (folder / "images.txt").write_text("# images\n" + "".join(lines))


def test_captured_cameras_reproject_the_true_points(rig, capture):
    train, val = parse(capture, camera_type="original"), parse(capture, "val", camera_type="original")
    truth = read_ground_truth_tracks(rig / "eval" / "tracks.npz")
    for outputs, camera in ((train, 0), (val, 1)):
        views = ClipViews.from_dataparser_outputs(outputs)
        solved = read_cameras(rig / "droid_recon" / f"camera{camera}.npy")
        K = torch.from_numpy(solved.K(64, 48))
        transform, scale = outputs.dataparser_transform, outputs.dataparser_scale
        for i, step in enumerate(views.frame_index.tolist()):
            world = truth.points[:, step]
            scene = (world @ transform[:, :3].T + transform[:, 3]) * scale
            camera_T_world = torch.from_numpy(np.linalg.inv(solved.world_T_camera[step]))
            expected, z = project(world, camera_T_world, K)
            pixels, z_scene = project(scene, views.camera_T_world[i], views.K[i])
            front = z > 0.5
            torch.testing.assert_close(pixels[front], expected[front], atol=1e-3, rtol=1e-5)
            torch.testing.assert_close(z_scene / scale, z, atol=1e-4, rtol=1e-4)


def test_splits_times_and_records(capture):
    train, val = parse(capture, camera_type="original"), parse(capture, "val", camera_type="original")
    assert train.cameras.metadata["frame_index"].flatten().tolist() == list(range(FRAMES))
    assert val.cameras.metadata["frame_index"].flatten().tolist() == [0, 2, 4, 6, 8]
    assert val.cameras.metadata["camera_index"].unique().tolist() == [1]
    torch.testing.assert_close(val.cameras.times.flatten(), torch.tensor([0, 2, 4, 6, 8]) / 9)
    assert not set(train.image_filenames) & set(val.image_filenames)
    assert val.metadata["protocol"] == "validation cameras of DyCheck (5 views at 1x, original cameras)"
    assert train.metadata["fps"] == 30.0
    assert val.metadata["metric_scale"] == 2.5
    assert torch.equal(train.dataparser_transform, val.dataparser_transform)


def test_priors_of_both_splits(capture):
    train = parse(capture, camera_type="original").metadata["priors"]
    val = parse(capture, "val", camera_type="original").metadata["priors"]
    assert train.mask_erosion == train.depth_median == 1
    assert train.disparity_floor == 1e-3
    assert (train.load_dynamic(0, (48, 64))[:, -4:] == 0).all()  # what alpha excludes is unknown
    assert (train.load_dynamic(0, (48, 64))[:, :-4] != 0).all()
    assert train.load_valid(0, (48, 64)).sum() == 48 * 60
    assert val.load_covisible(0, (48, 64)).sum() == 48 * 40
    assert val.load_valid(0, (48, 64)).sum() == 48 * 60
    assert val.tracks is None
    assert val.depth_files is None


def test_images_with_alpha_reach_the_model_as_rgb(capture):
    from nerfstudio.data.datasets.base_dataset import InputDataset

    image = InputDataset(parse(capture, camera_type="original")).get_image_float32(0)
    assert image.shape == (48, 64, 3)
    assert (image[:, -4:] == 1).all()


def test_lifting_and_background_of_a_capture(capture):
    views = ClipViews.from_dataparser_outputs(parse(capture, camera_type="original"))
    assert views.keyframes is None  # an equal share from every frame
    tracks = lift_tracks(views, 300, torch.Generator().manual_seed(0))
    assert len(tracks) > 100
    points, _, _ = background_points(views, 1000, torch.Generator().manual_seed(0))
    assert len(points) == 1000


def test_far_depths_are_cut(capture):
    path = capture / "flow3d_preprocessed/aligned_depth_anything_colmap/1x/0_00003.npy"
    disparity = np.load(path)
    deepest = [1 / np.load(p).min() for p in sorted(path.parent.iterdir())]
    disparity[0, :5], disparity[0, 5:9] = 1e-6, 0.0
    np.save(path, disparity)
    deepest[3] = 1000.0  # the floor on disparity
    priors = parse(capture, camera_type="original", scene_normalisation=False).metadata["priors"]
    assert priors.depth_max == pytest.approx(2.5 * np.median(deepest))
    depth = priors.load_depth(3, (48, 64))
    torch.testing.assert_close(depth[0, :5], torch.full((5,), priors.depth_max))
    assert (depth[0, 5:9] == 0).all()  # zero is unknown, not far


def test_lidar_depth(capture):
    learned = parse(capture, camera_type="original").metadata["priors"]
    lidar = parse(capture, camera_type="original", depth_type="lidar").metadata["priors"]
    assert lidar.depth_kind == "depth"
    assert lidar.depth_files[0].parts[-3:] == ("depth", "1x", "0_00000.npy")
    a, b = learned.load_depth(0, (48, 64)), lidar.load_depth(0, (48, 64))
    torch.testing.assert_close(a / learned.depth_scale, b / lidar.depth_scale, atol=1e-3, rtol=1e-4)


def test_key_points_are_of_the_images_in_use(capture):
    keypoints = parse(capture, "val", camera_type="original").metadata["keypoints"]
    assert keypoints.frame_index.tolist() == [0, 5]
    assert keypoints.xy.tolist() == [[[6, 8], [20, 22]], [[6, 18], [20, 22]]]
    assert keypoints.visible.tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("binary", [False, True])
def test_refined_cameras_come_from_the_colmap_model(capture, binary):
    write_colmap(capture, binary)
    for split in ("train", "val"):
        original = parse(capture, split, camera_type="original", scene_normalisation=False)
        refined = parse(capture, split, scene_normalisation=False)
        a, b = original.cameras, refined.cameras
        torch.testing.assert_close(a.camera_to_worlds[..., :3], b.camera_to_worlds[..., :3], atol=1e-5, rtol=0)
        torch.testing.assert_close(3 * a.camera_to_worlds[..., 3], b.camera_to_worlds[..., 3], atol=1e-5, rtol=0)
        for name in ("fx", "fy", "cx", "cy"):  # the model's images are twice as large
            torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-4, rtol=0)
    assert "refined cameras" in refined.metadata["protocol"]


def test_a_capture_without_validation_cameras_holds_out_frames(capture):
    (capture / "splits" / "val.json").unlink()
    train, val = parse(capture, camera_type="original"), parse(capture, "val", camera_type="original")
    assert val.cameras.metadata["frame_index"].flatten().tolist() == [4]
    assert 4 not in train.cameras.metadata["frame_index"]
    assert "held-out frames" in val.metadata["protocol"]


def error(root: Path, kind: type[Exception], **options) -> str:
    with pytest.raises(kind) as raised:
        parse(root, **options)
    return str(raised.value)


def test_mistakes_are_explained(capture):
    said = error(capture, FileNotFoundError)
    assert "colmap/sparse: no such folder. Expected the refined cameras" in said
    assert "som-data --camera-type original" in said
    said = error(capture, FileNotFoundError, camera_type="original", downscale_factor=2)
    assert "rgb/2x/0_00000.png: no such image" in said
    shutil.rmtree(capture / "flow3d_preprocessed" / "2d_tracks")
    said = error(capture, FileNotFoundError, camera_type="original")
    assert "2d_tracks/1x: no such folder. Expected the capture's tracks" in said
    (capture / "camera" / "0_00003.json").write_text("{}")
    assert "0_00003.json: not a Nerfies camera" in error(capture, ValueError, camera_type="original")
    (capture / "splits" / "train.json").write_text('{"frame_names": ["0_00000"], "time_ids": []}')
    assert "train.json: expected lists 'frame_names' and 'time_ids' of one length" in error(capture, ValueError)


def test_a_colmap_model_without_some_images(capture):
    write_colmap(capture, binary=False)
    path = capture / "flow3d_preprocessed/colmap/sparse/images.txt"
    path.write_text(path.read_text().replace("0_00003.png", "other.png"))
    assert "the COLMAP model lacks 1 of 10 images; the first is 0_00003.png" in error(capture, ValueError)
    path.unlink()
    assert "no COLMAP model. Expected cameras.bin and images.bin" in error(capture, FileNotFoundError)


@pytest.mark.skipif(not REAL_CAPTURE.is_dir(), reason="the metadata of DyCheck's paper-windmill is not here")
def test_a_real_capture():
    train, val = read_split(REAL_CAPTURE, "train"), read_split(REAL_CAPTURE, "val")
    assert (len(train.names), len(val.names)) == (277, 419)
    assert set(train.camera_ids) == {0}
    assert set(val.camera_ids) == {1, 2}
    positions = []
    for name in train.names + val.names:
        pose, K = read_original_camera(REAL_CAPTURE / "camera" / f"{name}.json", factor=2)
        positions.append(pose[:3, 3])
        assert 100 < K[0, 0] < 1000
        assert K[2].tolist() == [0, 0, 1]
    static = torch.stack(positions[277:])[[i for i, camera in enumerate(val.camera_ids) if camera == 1]]
    assert static.std(dim=0).max() < 0.05  # validation cameras stand still, the training one moves
    assert torch.stack(positions[:277]).std(dim=0).max() > 0.05
    first, K = read_original_camera(REAL_CAPTURE / "camera" / "0_00000.json")
    assert K[0, 2] == pytest.approx(358.8895263671875)
    torch.testing.assert_close(first[:3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])))
