"""Cameras of other systems: read as they were meant, matched by name or order, refused when they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dyngs_plugins.priors.cameras.pose_files import matrices_of_vectors, read_pose_file
from dyngs_plugins.priors.colmap_files import ColmapCamera, ColmapImage, ColmapModel, write_model
from dyngs_plugins.priors.llff_files import LlffCameras, write_poses_bounds
from dyngs_plugins.priors.providers.cameras_files import CameraFiles, poses_of
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.som_files import write_cameras

SIZE = (48, 64)
K = np.array([[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]])


def poses(count: int = 6) -> np.ndarray:
    result = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        c, s = np.cos(0.1 * i), np.sin(0.1 * i)
        result[i, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        result[i, :3, 3] = 0.2 * i, 0.1, -0.05 * i
    return result


def frames(count: int = 6, index: tuple[int, ...] | None = None, names: str = "{:05d}.png") -> FrameSequence:
    index = tuple(range(count)) if index is None else index
    files = tuple(Path(names.format(i)) for i in index)
    return FrameSequence.without_cameras("clip", files, index, SIZE)


def inputs(sequence: FrameSequence) -> PriorInputs:
    return PriorInputs(sequence, DISFlow(), {})


def colmap(folder: Path, names: list[str], params: tuple[float, ...] = (100.0, 64.0, 48.0, 0.0)) -> Path:
    """A model of images twice as large as SIZE."""
    camera = ColmapCamera(1, "SIMPLE_RADIAL", 128, 96, np.array(params))
    images = {i + 1: ColmapImage(i + 1, name, 1, np.linalg.inv(poses(len(names))[i])) for i, name in enumerate(names)}
    folder.mkdir(parents=True)
    write_model(folder, ColmapModel({1: camera}, images))
    return folder


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_megasam_files_give_poses_and_intrinsics_of_their_own_size(tmp_path):
    big = np.diag([2.0, 2.0, 1.0]) @ K
    images = np.zeros((6, 96, 128, 3), np.uint8)
    path = save(tmp_path / "scene.npz", cam_c2w=poses(), intrinsic=big, images=images)
    solved = CameraFiles(str(path)).solve(inputs(frames()), None)
    np.testing.assert_allclose(solved.world_T_camera, poses())
    np.testing.assert_allclose(solved.K, K)
    assert solved.interpolated == ()
    assert not solved.still


@pytest.mark.parametrize("intrinsics", [K, np.tile(K, (6, 1, 1)), np.array([50.0, 50, 32, 24])])
def test_intrinsics_of_an_npz_are_a_matrix_or_one_per_image_or_four_numbers(tmp_path, intrinsics):
    path = save(tmp_path / "droid.npz", traj_c2w=poses()[:, :3], intrinsics=intrinsics)
    file = read_pose_file(path, SIZE)
    np.testing.assert_allclose(file.K, K)
    np.testing.assert_allclose(file.world_T_camera, poses())


@pytest.mark.parametrize("key", ["traj_est", "traj"])
def test_droids_trajectory_is_read(tmp_path, key):
    half, zero = 0.05 * np.arange(6), np.zeros(6)  # the poses turn about y by 0.1 each
    quaternions = np.stack([zero, np.sin(half), zero, np.cos(half)], axis=1)
    vectors = np.concatenate([poses()[:, :3, 3], quaternions], axis=1)
    big = np.array([100.0, 100, 64, 48])
    path = save(tmp_path / "droid.npz", **{key: vectors}, intrinsics=big, img_shape=np.array([96, 128]))
    file = read_pose_file(path, SIZE)
    np.testing.assert_allclose(file.world_T_camera, poses(), atol=1e-12)
    np.testing.assert_allclose(file.K, K)


def test_any_quaternion_gives_its_rotation(tmp_path):
    s = np.sqrt(0.5)
    vectors = np.array([[1.0, 2, 3, 0, 0, s, s], [4, 5, 6, -s, 0, 0, -s], [7, 8, 9, 0.5, 0.5, 0.5, 0.5]])
    matrices = matrices_of_vectors(tmp_path, vectors)
    about_z, about_x = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    np.testing.assert_allclose(matrices[:, :3, :3], [about_z, about_x, [[0, 0, 1], [1, 0, 0], [0, 1, 0]]], atol=1e-12)
    np.testing.assert_array_equal(matrices[:, :3, 3], vectors[:, :3])


def test_poses_of_seven_numbers_that_could_mean_either_are_refused(tmp_path):
    vectors = np.tile([0.1, 0.2, 0.3, 0, 0, 0, 1.0], (6, 1))
    np.save(tmp_path / "poses.npy", vectors)
    with pytest.raises(ValueError, match="seven numbers .* no intrinsics. Expected an .npz with traj_est"):
        read_pose_file(tmp_path / "poses.npy", SIZE)
    with pytest.raises(ValueError, match="'poses' holds poses of seven numbers.*camera-to-world, one pose per image"):
        read_pose_file(save(tmp_path / "scene.npz", poses=vectors, intrinsics=K), SIZE)
    with pytest.raises(ValueError, match="quaternion of length 0.374, expected 1.*another order"):
        read_pose_file(save(tmp_path / "wrong.npz", traj=vectors[:, [3, 4, 6, 0, 1, 2, 5]], intrinsics=K), SIZE)


def test_colmap_models_are_matched_by_name_and_what_they_lack_is_interpolated(tmp_path):
    names = [f"{i:05d}.jpg" for i in range(6)]
    colmap(tmp_path / "sparse" / "0", [name for i, name in enumerate(names) if i != 3])
    solved = CameraFiles(str(tmp_path)).solve(inputs(frames()), None)
    assert solved.interpolated == (3,)
    assert "no pose for 1 of 6 images" in solved.notes[0]
    np.testing.assert_allclose(solved.K, K)
    np.testing.assert_allclose(solved.world_T_camera[:3], poses()[:3], atol=1e-12)
    np.testing.assert_allclose(solved.world_T_camera[4:], poses()[3:5], atol=1e-12)
    np.testing.assert_allclose(solved.world_T_camera[3, :3, 3], poses()[2:4, :3, 3].mean(0), atol=1e-12)


def test_colmap_models_with_other_names_are_matched_by_order(tmp_path):
    folder = colmap(tmp_path / "model", [f"frame_{i}.jpg" for i in range(6)])
    np.testing.assert_allclose(
        CameraFiles(str(folder)).solve(inputs(frames()), None).world_T_camera, poses(), atol=1e-12
    )


def test_lenses_that_are_no_pinholes_are_refused(tmp_path):
    folder = colmap(tmp_path / "model", [f"{i:05d}.jpg" for i in range(6)], (100.0, 64.0, 48.0, 0.2))
    with pytest.raises(ValueError, match="bends the image's corners by .* pixels.*image_undistorter"):
        read_pose_file(folder, SIZE)


def test_poses_bounds_are_read_from_the_file_or_its_folder(tmp_path):
    hwf, bounds = np.tile([96.0, 128.0, 100.0], (6, 1)), np.tile([0.5, 9.0], (6, 1))
    write_poses_bounds(tmp_path / "poses_bounds.npy", LlffCameras(poses().astype(np.float32), hwf, bounds))
    for path in (tmp_path, tmp_path / "poses_bounds.npy"):
        solved = CameraFiles(str(path)).solve(inputs(frames()), None)
        np.testing.assert_allclose(solved.world_T_camera, poses(), atol=1e-6)
        np.testing.assert_allclose(solved.K, K)


def test_shape_of_motion_files_and_our_own_are_read(tmp_path):
    write_cameras(tmp_path / "clip.npy", poses(), (100.0, 100.0, 64.0, 48.0), (96, 128), [0, 3])
    solved = CameraFiles(str(tmp_path / "clip.npy")).solve(inputs(frames()), 80.0)
    np.testing.assert_allclose(solved.world_T_camera, poses(), atol=1e-6)
    np.testing.assert_allclose(solved.K, K)
    assert "is used, not the one known" in solved.notes[0]


def test_a_file_of_the_whole_video_serves_training_frames_and_held_out_ones(tmp_path):
    path = save(tmp_path / "scene.npz", cam_c2w=poses(), intrinsic=K)
    training = (0, 1, 3, 4)
    provider = CameraFiles(str(path))
    solved = provider.solve(inputs(frames(index=training)), None)
    np.testing.assert_allclose(solved.world_T_camera, poses()[list(training)])
    np.testing.assert_allclose(provider.locate(inputs(frames()), solved, training), poses())


def test_wrong_counts_are_refused(tmp_path):
    path = save(tmp_path / "scene.npz", cam_c2w=poses(), intrinsic=K)
    with pytest.raises(ValueError, match="6 poses for 9 images .*one pose per image in the order"):
        CameraFiles(str(path)).solve(inputs(frames(9)), None)
    with pytest.raises(ValueError, match="6 poses for 4 images"):
        CameraFiles(str(path)).solve(inputs(frames(4)), None)
    found = poses_of(read_pose_file(path, SIZE), frames(9), partial=True)[1]
    assert not found.any()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"intrinsic": K}, "expected one of cam_c2w"),
        ({"cam_c2w": poses()}, "expected one of intrinsic"),
        ({"cam_c2w": poses()[:, 0], "intrinsic": K}, "have the shape"),
        ({"cam_c2w": 2 * poses(), "intrinsic": K}, "not rigid"),
        ({"cam_c2w": poses(), "intrinsic": K * np.linspace(1, 2, 6)[:, None, None]}, "focal lengths differ"),
        ({"cam_c2w": poses(), "intrinsic": -K}, "positive focal lengths"),
        ({"cam_c2w": poses(), "intrinsic": np.eye(2)}, "expected 3x3 matrices"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        read_pose_file(save(tmp_path / "scene.npz", **arrays), SIZE)


def test_what_is_no_camera_file_is_refused(tmp_path):
    (tmp_path / "scene.npz").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "list.txt").write_text("1 2 3")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("scene.npz", "cannot be read"),
        ("list.txt", "found '.txt'"),
        ("empty", "no COLMAP model and no poses_bounds"),
    ):
        with pytest.raises(ValueError, match=message):
            read_pose_file(tmp_path / name, SIZE)
    with pytest.raises(FileNotFoundError, match="no such camera file"):
        read_pose_file(tmp_path / "nothing.npz", SIZE)
    with pytest.raises(ValueError, match=r"--settings cameras\.path"):
        CameraFiles().solve(inputs(frames()), None)


def test_a_path_that_leads_nowhere_is_refused_first(tmp_path):
    assert "--settings cameras.path=FILE" in str(CameraFiles().unavailable())
    assert "nothing.npz: no such file" in str(CameraFiles(str(tmp_path / "nothing.npz")).unavailable())
    assert CameraFiles(str(tmp_path)).unavailable() is None


def test_the_record_names_the_file_and_not_where_it_lies():
    assert CameraFiles("/somewhere/else/scene.npz").settings == {"path": "scene.npz"}
