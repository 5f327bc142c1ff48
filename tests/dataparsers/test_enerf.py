"""``enerf-outdoor-data``: OpenCV's YAML, lenses in nerfstudio's order, the published crop, and what can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from PIL import Image

from dataparsers.easyvolcap_files import read_easy_cameras
from dataparsers.enerf import HULL_POINTS, LAYOUT, PROTOCOLS, EnerfDataParserConfig, Reduction, crop_offset
from dyngs_plugins.priors.ply_files import read_ply
from dyngs_plugins.sample.writers.enerf import CROP, HULL, write_enerf, write_storage

FRAMES = (0, 1, 2, 400, 800)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("enerf") / "actor1"
    return root, write_enerf(root, frames=FRAMES)


@pytest.fixture
def sequence(written, tmp_path) -> Path:
    """A copy to spoil, under a path that is not ASCII."""
    shutil.copytree(written[0], tmp_path / "Straße 街", ignore=shutil.ignore_patterns("frames_*"))
    return tmp_path / "Straße 街"


def config(root: Path, **options) -> EnerfDataParserConfig:
    return EnerfDataParserConfig(data=root, crop_size=CROP, **options)


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_every_protocol_holds(written, protocol):
    root, truth = written
    splits = checks.parse_all(config(root, protocol=protocol))
    for split in ("train", "test"):
        checks.check_reprojection(splits[split], truth)
        checks.check_round_trip(splits[split], truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)


def test_the_published_cameras_and_frames(written):
    ours = checks.parse_all(config(written[0]))
    assert checks.pairs(ours["test"]) == [(8, 0), (8, 1), (8, 2)]
    assert len(ours["train"].image_filenames) == 9 * 3
    assert "tests on 08, 3 frames; 48x32" in ours["test"].metadata["protocol"]
    theirs = checks.parse_all(config(written[0], protocol="enerf"))
    assert checks.pairs(theirs["test"]) == [(0, 0), (0, 400), (0, 800)]
    assert theirs["test"].cameras.times.flatten().tolist() == [0.0, 0.5, 1.0]
    assert (int(theirs["test"].cameras.width[0]), int(theirs["test"].cameras.height[0])) == CROP


def test_the_published_crop():
    """1024x768 from 1440x810 starts at 208, 27 (sheet, fact 11)."""
    assert crop_offset((1440, 810), (1024, 768)) == (208, 27)
    frame = Reduction.of((1920, 1080), 0.75, (1024, 768))
    assert (frame.reduced, frame.folder) == ((1440, 810), "frames_1024x768_of_1440x810")
    K = frame.K(torch.tensor([[1000.0, 0, 960], [0, 1000, 540], [0, 0, 1]]))
    torch.testing.assert_close(K, torch.tensor([[750.0, 0, 720 - 208], [0, 750, 405 - 27], [0, 0, 1]]))


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_copies_show_what_their_cameras_see(written, protocol):
    root, truth = written
    outputs = config(root, protocol=protocol).setup().get_dataparser_outputs("test")
    for path in outputs.image_filenames:
        found, shot = np.asarray(Image.open(path), float), truth.shot(path)
        expected = shot.image.astype(float)
        if shot.image.shape[:2] != found.shape[:2]:
            expected = expected.reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
        miss = np.abs(found - expected).mean()
        assert miss < 9.0
        shifted = [np.abs(found - np.roll(expected, by, axis)).mean() for by in (-1, 1) for axis in (0, 1)]
        assert miss < 0.7 * min(shifted)


def test_lenses_are_in_nerfstudios_order(written):
    cameras = config(written[0]).setup().get_dataparser_outputs("train").cameras
    expected = torch.tensor([0.08, -0.03, 0.01, 0.0, 0.004, -0.006])
    torch.testing.assert_close(cameras.distortion_params, expected.expand(27, 6))


def test_rotation_vectors_are_read_too(written, tmp_path):
    write_enerf(tmp_path, cameras=2, frames=(0, 1), vectors=True)
    write_enerf(tmp_path / "b", cameras=2, frames=(0, 1))
    ours, theirs = read_easy_cameras(tmp_path), read_easy_cameras(tmp_path / "b")
    for name in ("00", "01"):
        torch.testing.assert_close(ours[name].world_T_camera, theirs[name].world_T_camera, atol=1e-6, rtol=0)


def test_background_and_hull_are_points_to_start_from(written):
    root = written[0]
    train = config(root).setup().get_dataparser_outputs("train")
    world = checks.to_file(train, train.metadata["points3D_xyz"]).numpy()
    cloud = read_ply(root / "background.ply")
    np.testing.assert_allclose(world[: len(cloud.xyz)], cloud.xyz, atol=1e-4)
    actors = world[len(cloud.xyz) :]
    assert len(actors) == HULL_POINTS
    np.testing.assert_allclose(actors.min(axis=0), HULL[0], atol=0.02)
    np.testing.assert_allclose(actors.max(axis=0), HULL[1], atol=0.02)
    assert train.metadata["points3D_source"] == (
        f"background.ply ({len(cloud.xyz)} points) and 10000 random points in the actors' box"
    )


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_clean_plates_of_training_cameras(written, protocol):
    test = config(written[0], protocol=protocol).setup().get_dataparser_outputs("test")
    plates = test.metadata["background_plates"]
    held = 8 if protocol == "st4dgs" else 0
    assert sorted(plates) == [i for i in range(10) if i != held]
    size = (int(test.cameras.width[0]), int(test.cameras.height[0]))
    assert all(Image.open(path).size == size for path in plates.values())


@pytest.mark.filterwarnings("ignore:.*left in the frame of its camera files")
def test_a_sequence_without_extras_opens(sequence):
    for name in ("bkgd", "vhull"):
        shutil.rmtree(sequence / name)
    (sequence / "background.ply").unlink()
    options = {"test_cameras": ("01",), "skip_cameras": tuple(f"{i:02d}" for i in range(4, 10)), "end": 2}
    splits = checks.parse_all(config(sequence, **options))
    assert checks.pairs(splits["train"]) == [(camera, step) for camera in (0, 2, 3) for step in range(2)]
    assert splits["test"].metadata["background_plates"] == {}
    assert "points3D_xyz" not in splits["train"].metadata


def test_copies_are_made_once_and_elsewhere_if_asked(sequence, tmp_path):
    options = {"frames_folder": tmp_path / "cache", "end": 2}
    first = config(sequence, **options).setup().get_dataparser_outputs("test").image_filenames
    assert first[0] == tmp_path / "cache" / "frames_48x32" / "08" / "000000.png"
    assert not list(sequence.glob("frames_*"))
    stamp = first[0].stat().st_mtime_ns
    config(sequence, **options).setup().get_dataparser_outputs("test")
    assert first[0].stat().st_mtime_ns == stamp
    Image.new("RGB", (3, 3)).save(first[0])
    assert "the reduced image is 3x3, expected 48x32" in checks.message(config(sequence, **options))


def test_the_config_survives_yaml_and_the_layout_is_recognised(written, tmp_path):
    checks.check_yaml(config(written[0], protocol="enerf", test_cameras=("03",), step=2))
    assert LAYOUT.recognise(written[0]) == "intri.yml, extri.yml and images/"
    assert LAYOUT.recognise(tmp_path) is None


def test_upper_case_suffixes_open(sequence):
    for path in list((sequence / "images" / "08").iterdir()):
        path.rename(path.with_suffix(".JPG"))
    (sequence / "bkgd" / "00.jpg").rename(sequence / "bkgd" / "00.JPG")
    assert len(config(sequence).setup().get_dataparser_outputs("test").image_filenames) == 3


def rewritten(name: str, **changes):
    """Writes a camera file again with other matrices; None leaves one out."""

    def spoil(root: Path) -> None:
        import cv2

        storage = cv2.FileStorage((root / name).read_text(), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        cameras = [f"{i:02d}" for i in range(10)]
        kinds = ("K", "dist") if name == "intri.yml" else ("R", "Rot", "T")
        keys = [f"{kind}_{camera}" for camera in cameras for kind in kinds]
        matrices = {key: storage.getNode(key).mat() for key in keys} | changes
        names = changes.pop("names", cameras)
        matrices.pop("names", None)
        write_storage(root / name, names, {key: m for key, m in matrices.items() if m is not None})

    return spoil


K = np.array([[90.0, 0, 48], [0, 90, 32], [0, 0, 1]])
LATE = "images/02/000001.jpg"

CORRUPTIONS = {
    "no folder": (lambda r: shutil.rmtree(r), FileNotFoundError, "no such folder. Expected a sequence"),
    "no intri": (lambda r: (r / "intri.yml").unlink(), FileNotFoundError, "intri.yml: no such camera file"),
    "no extri": (lambda r: (r / "extri.yml").unlink(), FileNotFoundError, "extri.yml: no such camera file"),
    "intri is cut": (
        lambda r: (r / "intri.yml").write_text((r / "intri.yml").read_text()[:300]), ValueError, "Is the file truncated?"),
    "a lens is missing": (rewritten("intri.yml", dist_09=None), ValueError, "1 of 10 cameras have no dist_"),
    "intri is empty": (lambda r: (r / "intri.yml").write_text(""), ValueError, "does not start with %YAML"),
    "intri is no text": (lambda r: (r / "intri.yml").write_bytes(b"\xff\xfe\x00"), ValueError, "as OpenCV's YAML"),
    "other names": (rewritten("extri.yml", names=["00", "99"]), ValueError, "those of intri.yml"),
    "names twice": (rewritten("intri.yml", names=["00", "00"]), ValueError, "expected a list of the cameras, each once"),
    "no K": (rewritten("intri.yml", K_03=None), ValueError, "K_03 is nothing; expected a matrix of 3x3"),
    "K 2x2": (rewritten("intri.yml", K_03=np.eye(2)), ValueError, "K_03 is a matrix of 2x2"),
    "K NaN": (rewritten("intri.yml", K_03=K * np.nan), ValueError, "K_03 is not finite"),
    "focal -1": (rewritten("intri.yml", K_03=K * [[-1, 1, 1]] * 1.0), ValueError, "expected positive focal lengths"),
    "skew": (rewritten("intri.yml", K_03=K + [[0, 9, 0], [0, 0, 0], [0, 0, 0]]), ValueError, "no skew"),
    "eight lens terms": (rewritten("intri.yml", dist_03=np.zeros((8, 1))), ValueError, "dist_03 is a matrix of 8x1"),
    "no rotation": (rewritten("extri.yml", R_03=None, Rot_03=None), ValueError, "Rot_03 is nothing"),
    "rotation scaled": (rewritten("extri.yml", R_03=None, Rot_03=np.eye(3) * 2), ValueError, "is not rigid"),
    "rotation mirrored": (
        rewritten("extri.yml", R_03=None, Rot_03=np.diag([1.0, 1, -1])), ValueError, "is not rigid"),
    "two rotations": (rewritten("extri.yml", R_03=np.ones((3, 1))), ValueError, "are different rotations"),
    "T NaN": (rewritten("extri.yml", T_03=np.full((3, 1), np.nan)), ValueError, "T_03 is not finite"),
    "no images": (lambda r: shutil.rmtree(r / "images"), FileNotFoundError, "images: no such folder"),
    "camera missing": (lambda r: shutil.rmtree(r / "images/03"), ValueError, "the first is '03', in intri.yml"),
    "camera unknown": (
        lambda r: shutil.copytree(r / "images/03", r / "images/10"), ValueError, "the first is '10', in images/"),
    "frame missing": (lambda r: (r / LATE).unlink(), ValueError, "2 frames, expected 3 like 00"),
    "frame size": (
        lambda r: Image.new("RGB", (9, 9)).save(r / LATE), ValueError, "the image is 9x9, expected 96x64"),
    "frame is cut": (
        lambda r: (r / LATE).write_bytes((r / LATE).read_bytes()[:700]), ValueError, "cannot be read as an image"),
    "plate missing": (lambda r: (r / "bkgd/02.jpg").unlink(), FileNotFoundError, "no such clean plate"),
    "plate size": (
        lambda r: Image.new("RGB", (9, 9)).save(r / "bkgd/02.jpg"), ValueError, "the clean plate is 9x9"),
    "hull missing": (lambda r: (r / "vhull/000000.npy").unlink(), FileNotFoundError, "no such visual hull"),
    "hull shape": (lambda r: np.save(r / "vhull/000000.npy", np.zeros((3, 2))), ValueError, "Expected 2x3 numbers"),
    "hull inside out": (
        lambda r: np.save(r / "vhull/000000.npy", np.array(HULL)[::-1]), ValueError, "Expected 2x3 numbers"),
    "hull of objects": (
        lambda r: np.save(r / "vhull/000000.npy", np.array([{}], object), allow_pickle=True),
        ValueError, "cannot be read as a visual hull"),
    "cloud is cut": (lambda r: (r / "background.ply").write_bytes(b"ply\n"), ValueError, "as a PLY file"),
    "copies cannot be written": (lambda r: (r / "frames_48x32").write_text(""), OSError, "frames-folder PATH"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "said"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_mistakes_are_explained(sequence, spoil, kind, said):
    spoil(sequence)
    message = checks.message(config(sequence), kind)
    assert said in message
    assert str(sequence) in message


def test_wrong_options_are_explained(written):
    root = written[0]
    assert "leave fewer than 2 frames" in checks.message(config(root, end=1))
    assert "leave fewer than 2 frames" in checks.message(config(root, step=0))
    assert "test_cameras names 77" in checks.message(config(root, test_cameras=("77",)))
    said = checks.message(EnerfDataParserConfig(data=root, protocol="enerf"))
    assert "crop_size is 1024x768, but images of 96x64 at 0.75 are 72x48" in said
    assert "08 is in test_cameras and in skip_cameras" in checks.message(config(root, skip_cameras=("08",)))
