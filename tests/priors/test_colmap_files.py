"""COLMAP models round-trip in both encodings, agree with the host's own reader, and damaged ones say what is wrong."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dyngs_plugins.priors.colmap_files import (
    ColmapCamera,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
    find_model,
    read_model,
    read_points,
    write_model,
)

CAPTURE = Path(__file__).resolve().parents[3] / "shared" / "data" / "capture1" / "colmap" / "sparse" / "0"


def some_model() -> ColmapModel:
    """Three images by two cameras, one name with a space, one image without keypoints."""
    generator = np.random.default_rng(1)
    cameras = {
        1: ColmapCamera(1, "PINHOLE", 64, 48, np.array([50.0, 51, 32, 24])),
        7: ColmapCamera(7, "OPENCV", 80, 60, np.array([70.0, 71, 40, 30, 0.1, -0.02, 0.003, -0.004])),
    }
    images = {}
    for id, (name, camera) in {3: ("a/left 1.png", 1), 4: ("b.JPG", 7), 9: ("ü.png", 7)}.items():
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(random_state=id).as_matrix()
        pose[:3, 3] = generator.normal(size=3)
        count = 0 if id == 9 else 4
        observed = np.array([0, 5, -1, 1])[:count]
        images[id] = ColmapImage(id, name, camera, pose, generator.uniform(0, 60, (count, 2)), observed)
    points = ColmapPoints(
        np.array([0, 5, 1]),
        generator.normal(size=(3, 3)),
        np.array([[0, 127, 255], [1, 2, 3], [9, 8, 7]], np.uint8),
        np.array([0.5, 1.25, 0.0]),
        (np.array([[3, 0], [4, 0]]), np.array([[3, 1]]), np.zeros((0, 2), int)),
    )
    return ColmapModel(cameras, images, points)


def assert_same(found: ColmapModel, expected: ColmapModel) -> None:
    assert found.cameras.keys() == expected.cameras.keys()
    for id, camera in expected.cameras.items():
        assert (found.cameras[id].model, found.cameras[id].width, found.cameras[id].height) == (
            camera.model,
            camera.width,
            camera.height,
        )
        np.testing.assert_array_equal(found.cameras[id].params, camera.params)
    assert found.images.keys() == expected.images.keys()
    for id, image in expected.images.items():
        other = found.images[id]
        assert (other.name, other.camera_id) == (image.name, image.camera_id)
        np.testing.assert_allclose(other.camera_T_world, image.camera_T_world, atol=1e-12)
        np.testing.assert_array_equal(other.xys, image.xys)
        np.testing.assert_array_equal(other.point_ids, image.point_ids)
    assert found.points is not None
    assert expected.points is not None
    for name in ("ids", "xyz", "rgb", "error"):
        np.testing.assert_array_equal(getattr(found.points, name), getattr(expected.points, name))
    for a, b in zip(found.points.tracks, expected.points.tracks, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("binary", [True, False])
def test_round_trip(tmp_path, binary):
    write_model(tmp_path / "spärse", some_model(), binary)
    assert find_model(tmp_path / "spärse") == (".bin" if binary else ".txt")
    assert_same(read_model(tmp_path / "spärse"), some_model())
    assert read_model(tmp_path / "spärse", points=False).points is None
    assert len(read_points(tmp_path / "spärse")) == 3
    assert list(some_model().by_name()) == ["a/left 1.png", "b.JPG", "ü.png"]


@pytest.mark.parametrize("binary", [True, False])
def test_the_host_reads_what_is_written(tmp_path, binary):
    from nerfstudio.data.utils import colmap_parsing_utils as host

    model = some_model()
    model = replace(model, images={3: replace(model.images[3], name="left1.png"), 4: model.images[4]})
    write_model(tmp_path, model, binary)
    cameras, images, points = host.read_model(str(tmp_path), ".bin" if binary else ".txt")
    np.testing.assert_allclose(cameras[7].params, model.cameras[7].params)
    assert cameras[7].model == "OPENCV"
    np.testing.assert_allclose(images[3].qvec2rotmat(), model.images[3].camera_T_world[:3, :3], atol=1e-12)
    np.testing.assert_allclose(images[3].tvec, model.images[3].camera_T_world[:3, 3])
    assert images[4].name == "b.JPG"
    assert model.points is not None
    np.testing.assert_allclose(points[5].xyz, model.points.xyz[1])
    np.testing.assert_array_equal(points[0].image_ids, [3, 4])


def test_intrinsics_and_lenses():
    camera = some_model().cameras[7]
    np.testing.assert_allclose(camera.K(), [[70, 0, 40], [0, 71, 30], [0, 0, 1]])
    np.testing.assert_allclose(camera.K(40, 30), [[35, 0, 20], [0, 35.5, 15], [0, 0, 1]])
    np.testing.assert_allclose(camera.distortion(), [0.1, -0.02, 0, 0, 0.003, -0.004])
    expected = {
        "SIMPLE_PINHOLE": ([9, 4, 3], (9, 9, 4, 3), [0, 0, 0, 0, 0, 0]),
        "PINHOLE": ([9, 8, 4, 3], (9, 8, 4, 3), [0, 0, 0, 0, 0, 0]),
        "SIMPLE_RADIAL": ([9, 4, 3, 0.1], (9, 9, 4, 3), [0.1, 0, 0, 0, 0, 0]),
        "RADIAL": ([9, 4, 3, 0.1, 0.2], (9, 9, 4, 3), [0.1, 0.2, 0, 0, 0, 0]),
        "FULL_OPENCV": ([9, 8, 4, 3, 0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0], (9, 8, 4, 3), [0.1, 0.2, 0.5, 0, 0.3, 0.4]),
    }
    for name, (params, (fx, fy, cx, cy), lens) in expected.items():
        camera = ColmapCamera(1, name, 8, 6, np.array(params, float))
        np.testing.assert_allclose(camera.K(), [[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        np.testing.assert_allclose(camera.distortion(), lens)


def test_lenses_that_no_pinhole_can_stand_for_are_refused():
    fisheye = ColmapCamera(2, "OPENCV_FISHEYE", 8, 6, np.arange(1.0, 9))
    with pytest.raises(ValueError, match="camera 2 has the model OPENCV_FISHEYE; expected one of .* bend too far"):
        fisheye.K()
    with pytest.raises(ValueError, match="model FOV; .* because its distortion is no polynomial. Undistort"):
        ColmapCamera(2, "FOV", 8, 6, np.arange(1.0, 6)).distortion()
    with pytest.raises(ValueError, match="FULL_OPENCV with k4 to k6 .*; expected zeros"):
        ColmapCamera(2, "FULL_OPENCV", 8, 6, np.ones(12)).distortion()


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_no_truncation_goes_unnoticed(tmp_path, name):
    """Every shorter binary file is refused, wherever it was cut, and so is a longer one."""
    write_model(tmp_path, some_model())
    path = tmp_path / f"{name}.bin"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated or of another kind. Copy it again"):
            read_model(tmp_path)
    path.write_bytes(whole + b"\0\0")
    with pytest.raises(ValueError, match="2 bytes are left over"):
        read_model(tmp_path)
    path.write_bytes(struct.pack("<Q", 2**62) + whole[8:])
    with pytest.raises(ValueError, match=rf"{name}.bin: it ends inside {2**62} "):
        read_model(tmp_path)


CAMERA = "1 PINHOLE 64 48 50 50 32 24"
IMAGE = "1 1 0 0 0 0 0 0 1 a.png\n"


@pytest.mark.parametrize(
    ("cameras", "images", "points", "said"),
    [
        ("1 PINHOLE 64 48 50 50 32", IMAGE, "", "line 1 is .* Expected 4 parameters of a PINHOLE camera, not 3"),
        ("1 BOX 64 48 50 50 32 24", IMAGE, "", "Expected id, one of SIMPLE_PINHOLE"),
        ("1 PINHOLE 64 x 50 50 32 24", IMAGE, "", "Expected numbers .invalid literal"),
        ("1 PINHOLE 64 48 nan 50 32 24", IMAGE, "", "camera 1 is 64x48 with .nan, .* positive focal lengths"),
        ("1 PINHOLE 64 48 -50 50 32 24", IMAGE, "", "positive focal lengths"),
        ("1 PINHOLE 0 48 50 50 32 24", IMAGE, "", "camera 1 is 0x48"),
        (f"{CAMERA}\n{CAMERA}", IMAGE, "", "the camera id 1 is used twice"),
        ("# nothing", IMAGE, "", "found 0 cameras; expected at least one"),
        (CAMERA, "", "", "found 0 images; expected at least one"),
        (CAMERA, "1 1 0 0 0 0 0 0 2 a.png\n", "", "image 'a.png' has the camera 2, but the model's cameras are .1."),
        (CAMERA, "1 2 0 0 0 0 0 0 1 a.png\n", "", "quaternion of length 2, .* a unit quaternion"),
        (CAMERA, "1 1 0 0 0 nan 0 0 1 a.png\n", "", "the pose of image 'a.png' is .*nan"),
        (CAMERA, "1 1 0 0 0 0 0 1 a.png\n", "", "line 1 is .* Expected id, quaternion"),
        (CAMERA, f"{IMAGE}1 2\n", "", "line 2 is '1 2'. Expected x, y and point id of each keypoint of 'a.png'"),
        (CAMERA, f"{IMAGE}\n2 1 0 0 0 0 0 0 1 a.png\n", "", "images 1 and 2 are both named 'a.png'"),
        (CAMERA, IMAGE, "1 0 0 0 9 9 9", "Expected id, x, y, z, r, g, b, error and pairs"),
        (CAMERA, IMAGE, "1 0 0 0 9 9 999 0", "Expected colours between 0 and 255"),
        (CAMERA, IMAGE, "5 0 inf 0 9 9 9 0", "1 of 1 points are not finite; the first has the id 5"),
    ],
)
def test_damaged_text(tmp_path, cameras, images, points, said):
    for name, content in (("cameras", cameras), ("images", images), ("points3D", points)):
        (tmp_path / f"{name}.txt").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_model(tmp_path)


def test_other_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="no COLMAP model. Expected cameras.bin .* there is no such folder"):
        read_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no points3D.bin and no points3D.txt"):
        read_points(tmp_path)
    write_model(tmp_path, some_model())
    (tmp_path / "points3D.bin").unlink()
    assert read_model(tmp_path).points is None
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 99, 64, 48, *[1.0] * 4))
    with pytest.raises(ValueError, match="camera 1 has the model number 99; expected 0 to 10"):
        read_model(tmp_path)
    (tmp_path / "images.bin").unlink()
    (tmp_path / "images.txt").write_text(IMAGE)
    (tmp_path / "cameras.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cameras.txt: cannot be read as text"):
        read_model(tmp_path)


@pytest.mark.skipif(not CAPTURE.is_dir(), reason="the capture1 data is not here")
def test_points_of_a_real_model_project_onto_their_keypoints():
    model = read_model(CAPTURE)
    assert model.points is not None
    errors = []
    for point, track in zip(model.points.xyz, model.points.tracks, strict=True):
        for image_id, place in track:
            image = model.images[int(image_id)]
            camera = model.cameras[image.camera_id]
            x, y, z = image.camera_T_world[:3, :3] @ point + image.camera_T_world[:3, 3]
            k1, k2, _, _, p1, p2 = camera.distortion()
            u, v = x / z, y / z
            r = u * u + v * v
            radial = 1 + k1 * r + k2 * r * r
            bent = [u * radial + 2 * p1 * u * v + p2 * (r + 2 * u * u), v * radial + 2 * p2 * u * v + p1 * (r + 2 * v * v), 1]  # fmt: skip
            errors.append(np.linalg.norm((camera.K() @ bent)[:2] - image.xys[place]))
    assert len(errors) > 1000
    assert np.median(errors) < 1.0
