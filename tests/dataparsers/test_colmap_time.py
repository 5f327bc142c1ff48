"""``colmap-time-data``: any COLMAP model with time from order, timestamps or names; lenses, several cameras, splits."""

from __future__ import annotations

import json
import shutil
import struct
import warnings
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from layout_checks import message, names, pairs, parse_all
from PIL import Image

from dataparsers.colmap_time import LAYOUT, PROTOCOLS, ColmapTimeDataParserConfig, colmap_time_data
from dyngs_plugins.priors.colmap_files import read_model, write_model
from dyngs_plugins.sample.writers.colmap import write_colmap_time

FRAMES = 6


def config(root: Path, **options) -> ColmapTimeDataParserConfig:
    return ColmapTimeDataParserConfig(data=root, **{"hold": 3, **options})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("colmap") / "scene"
    return root, write_colmap_time(root)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    root = tmp_path_factory.mktemp("rig") / "scene"
    return root, write_colmap_time(root, cameras=2, lens=True, binary=False, timestamps="csv")


@pytest.fixture
def scene(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "scene")
    return tmp_path / "scene"


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
def test_every_protocol_of_a_rig_with_lenses(rig, protocol):
    root, truth = rig
    splits = parse_all(config(root, protocol=protocol))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
        assert outputs.cameras.distortion_params is not None
    checks.check_times(splits)
    if protocol != "all":
        checks.check_disjoint(splits)
    held = {"middle": {1, 4}, "llff": {0, 3}, "first-camera": set(range(FRAMES)), "all": set(range(FRAMES))}[protocol]
    expected = [(camera, step) for camera in ((0,) if protocol == "first-camera" else (0, 1)) for step in sorted(held)]
    assert pairs(splits["test"]) == expected
    if protocol == "first-camera":
        assert pairs(splits["train"]) == [(1, step) for step in range(FRAMES)]
    seconds = np.linspace(0, 1, FRAMES) ** 1.5
    np.testing.assert_allclose(
        splits["train"].cameras.times.flatten(), [seconds[step] for _, step in pairs(splits["train"])], atol=1e-6
    )
    assert splits["train"].metadata["fps"] == pytest.approx((FRAMES - 1) / 3.0)


def test_one_camera_by_order(written):
    root, truth = written
    splits = parse_all(config(root))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    assert names(splits["test"]) == ["frame_0002", "frame_0005"]
    assert splits["train"].cameras.distortion_params is None
    assert splits["train"].cameras.times.flatten().tolist() == pytest.approx([0, 0.4, 0.6, 1])
    assert "middle (trains on all other time steps" in splits["train"].metadata["protocol"]
    assert "1 in 3 from frame 1 on, 2 of 6" in splits["train"].metadata["protocol"]


def test_seed_points_come_from_training_images(written):
    root, truth = written
    outputs = parse_all(config(root))["train"]
    model = read_model(root / "sparse" / "0")
    assert model.points is not None
    train = {image.id for image in model.images.values() if image.name[:-4] in names(outputs)}
    twice = [len(train & {int(i) for i in track[:, 0]}) >= 2 for track in model.points.tracks]
    assert 10 < sum(twice) < len(twice)
    expected = torch.from_numpy(model.points.xyz[twice]).float()
    torch.testing.assert_close(
        checks.to_file(outputs, outputs.metadata["points3D_xyz"]), expected, atol=1e-4, rtol=1e-4
    )
    assert len(outputs.metadata["points3D_rgb"]) == len(expected)
    assert outputs.metadata["points3D_source"] == f"COLMAP's points ({len(expected)} of {len(twice)})"
    spread = outputs.metadata["points3D_xyz"].abs().max(dim=0).values
    assert spread.max() < 5


def test_reduced_images_and_intrinsics(scene, written):
    truth = type(written[1])(
        written[1].scene,
        {scene / path.relative_to(written[0]): shot for path, shot in written[1].shots.items()},
    )
    full, half = (parse_all(config(scene, downscale_factor=f))["train"] for f in (None, 2))
    torch.testing.assert_close(half.cameras.fx * 2, full.cameras.fx)
    torch.testing.assert_close(half.cameras.cy * 2, full.cameras.cy)
    assert (int(half.cameras.width[0]), int(half.cameras.height[0])) == (32, 24)
    assert {path.parent for path in half.image_filenames} == {scene / "images_2"}
    checks.check_reprojection(half, truth)


@pytest.mark.parametrize("kind", ["json", "txt"])
def test_other_files_of_timestamps(tmp_path, kind):
    write_colmap_time(tmp_path, frames=4, timestamps=kind)
    outputs = parse_all(config(tmp_path, protocol="all"))["train"]
    np.testing.assert_allclose(outputs.cameras.times.flatten(), np.linspace(0, 1, 4) ** 1.5, atol=1e-6)


def test_time_in_names(scene):
    for i, name in enumerate(("t10_a", "t2_b", "t30_c")):
        rename(scene, f"frame_000{i + 1}.png", f"{name}.png")
    for i in (4, 5, 6):
        rename(scene, f"frame_000{i}.png", f"t{40 + i}_d{i}.png")
    outputs = parse_all(config(scene, protocol="all", time_pattern=r"t(\d+)_"))["train"]
    order = dict(zip(names(outputs), outputs.cameras.metadata["frame_index"].flatten().tolist(), strict=True))
    assert order == {"t2_b": 0, "t10_a": 1, "t30_c": 2, "t44_d4": 3, "t45_d5": 4, "t46_d6": 5}
    times = dict(zip(names(outputs), outputs.cameras.times.flatten().tolist(), strict=True))
    assert times["t10_a"] == pytest.approx(8 / 44)
    assert outputs.metadata["fps"] is None
    said = message(config(scene, time_pattern=r"x(\d+)"))
    assert "finds None in 't10_a.png'; expected a number" in said
    assert "no regular expression" in message(config(scene, time_pattern="("))
    assert "has 0 groups; expected one" in message(config(scene, time_pattern="t"))
    (scene / "timestamps.csv").write_text("a,1")
    said = message(config(scene, time_pattern=r"t(\d+)_", timestamps=Path("timestamps.csv")))
    assert "timestamps and time_pattern are both given" in said


def rename(scene: Path, old: str, new: str) -> None:
    (scene / "images" / old).rename(scene / "images" / new)
    model = read_model(scene / "sparse" / "0")
    images = {i: type(m)(i, new if m.name == old else m.name, m.camera_id, m.camera_T_world) for i, m in model.images.items()}  # fmt: skip
    write_model(scene / "sparse" / "0", type(model)(model.cameras, images, None))


def test_names_of_other_suffixes_upper_case_and_unicode(scene, tmp_path):
    moved = tmp_path / "Bälle 球"
    scene.rename(moved)
    for i in (1, 2):
        (moved / "images" / f"frame_000{i}.png").rename(moved / "images" / f"frame_000{i}.PNG")
    with Image.open(moved / "images" / "frame_0003.png") as image:
        image.save(moved / "images" / "frame_0003.jpg")
    (moved / "images" / "frame_0003.png").unlink()
    outputs = parse_all(config(moved, protocol="all"))["train"]
    assert [p.suffix for p in outputs.image_filenames] == [".PNG", ".PNG", ".jpg", ".png", ".png", ".png"]


def test_images_that_colmap_could_not_place_leave_a_gap(scene):
    model = read_model(scene / "sparse" / "0")
    images = {i: image for i, image in model.images.items() if image.name not in ("frame_0001.png", "frame_0004.png")}
    write_model(scene / "sparse" / "0", type(model)(model.cameras, images, model.points))
    with pytest.warns(UserWarning, match="2 of 6 images are not in the COLMAP model and are left out; the first is"):
        splits = parse_all(config(scene, protocol="all"))
    assert pairs(splits["train"]) == [(0, 0), (0, 1), (0, 3), (0, 4)]
    assert splits["train"].metadata["num_frames"] == 5
    checks.check_times({"train": splits["train"]})
    (scene / "images" / "frame_0006.png").unlink()
    with pytest.warns(UserWarning, match="1 of 4 images of the COLMAP model have no file"):
        parse_all(config(scene, protocol="all"))
    images = {i: image for i, image in images.items() if image.name == "frame_0002.png"}
    write_model(scene / "sparse" / "0", type(model)(model.cameras, images, model.points))
    assert "has 1 of 5 images; the first that it lacks is frame_0001.png" in message(config(scene))


def test_config_and_layout(written, rig, tmp_path):
    checks.check_yaml(config(written[0], timestamps=Path("a.csv"), sparse=Path("sparse/1")))
    assert colmap_time_data.config.hold == 8
    for root in (written[0], rig[0]):
        assert LAYOUT.recognise(root) == "images/ and a COLMAP model, without files of another layout"
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    shutil.copytree(written[0], tmp_path / "a")
    (tmp_path / "a" / "hold=7").touch()
    assert LAYOUT.recognise(tmp_path / "a") is None


def test_missing_files(scene, tmp_path):
    said = message(config(tmp_path / "nothing"), FileNotFoundError)
    assert "nothing/images: no such folder. Expected the images of the COLMAP model" in said
    (scene / "sparse" / "0").rename(scene / "sparse" / "1")
    said = message(config(scene), FileNotFoundError)
    assert "sparse/0: no COLMAP model" in said
    assert "There is one in sparse/1: give it by `sparse`" in said
    assert len(parse_all(config(scene, sparse=Path("sparse/1")))["train"].image_filenames) == 4
    assert "no COLMAP model" in message(config(scene, sparse=Path("sparse/7")), FileNotFoundError)
    said = message(config(scene, sparse=Path("sparse/1"), timestamps=Path("t.csv")), FileNotFoundError)
    assert "t.csv: no such file of timestamps" in said
    (scene / "sparse" / "1" / "points3D.bin").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is nothing to normalise the scene by
        assert "points3D_xyz" not in parse_all(config(scene, sparse=Path("sparse/1")))["train"].metadata
    for path in (scene / "images").iterdir():
        path.unlink()
    assert "images: found 0 images. Expected some of .png" in message(config(scene))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("csv", "name,seconds\nframe_0001.png,0\n", "5 of 6 images have no time; the first is frame_0002.png"),
        ("csv", "frame_0001.png,x\n", "line 1 is 'frame_0001.png,x'. Expected name,seconds"),
        ("csv", "name,seconds\nframe_0001.png,1,2\n", "line 2 is 'frame_0001.png,1,2'"),
        ("csv", "frame_0001,nan\n", "the time of 'frame_0001' is nan; expected seconds"),
        ("csv", "frame_0001,1\nframe_0001,2\n", "'frame_0001' has two times, 1.0 and 2.0"),
        ("txt", "frame_0001\n", "line 1 is 'frame_0001'. Expected name,seconds"),
        ("json", "{", "cannot be read as JSON"),
        ("json", "[1, 2]", "found None with the time None. Expected an object of names"),
        ("json", '{"frame_0001": "soon"}', "found 'frame_0001' with the time 'soon'"),
        ("json", '[{"name": "frame_0001", "time": true}]', "found 'frame_0001' with the time True"),
        ("json", json.dumps({f"frame_000{i}": 7 for i in range(1, 7)}), "all 6 images have the time 7"),
        ("csv", b"\xff\xfe\x00\x01", "cannot be read as text"),
    ],
)
def test_broken_timestamps(scene, name, content, said):
    path = scene / f"timestamps.{name}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = message(config(scene))
    assert said in found
    assert str(path) in found


def edit_camera(scene: Path, model: int, params: list[float], size=(64, 48)) -> None:
    content = struct.pack(f"<QiiQQ{len(params)}d", 1, 1, model, *size, *params)
    (scene / "sparse" / "0" / "cameras.bin").write_bytes(content)


def test_broken_models_and_images(scene):
    folder = scene / "sparse" / "0"
    whole = (folder / "cameras.bin").read_bytes()
    edit_camera(scene, 5, [60.0, 60, 32, 24, 0, 0, 0, 0])
    assert "frame_0001.png: COLMAP camera 1 has the model OPENCV_FISHEYE" in message(config(scene))
    edit_camera(scene, 1, [60.0, 60, 24, 32], (48, 64))
    said = message(config(scene))
    assert "camera 1 of frame_0001.png is 48x64, but the image is 64x48, of another shape" in said
    (folder / "cameras.bin").write_bytes(whole[:-3])
    assert "cameras.bin: it ends inside the parameters of camera 1" in message(config(scene))
    (folder / "cameras.bin").write_bytes(whole)
    model = read_model(folder)
    first = model.images[1]
    twin = type(first)(99, f"other/{first.name}", 1, first.camera_T_world)
    gone = {i: m for i, m in model.images.items() if i != 1}
    moved = type(first)(98, f"more/{first.name}", 1, first.camera_T_world)
    write_model(folder, type(model)(model.cameras, {**gone, 98: moved, 99: twin}, None))
    assert "frame_0001.png is not one image of the COLMAP model alone (more/" in message(config(scene))
    write_model(folder, model)
    assert "downscale_factor is -1" in message(config(scene, downscale_factor=-1))
    assert "protocol first-camera tests the first camera, but there is one" in message(
        config(scene, protocol="first-camera")
    )
    assert "protocol is 'best'; expected one of" in message(config(scene, protocol="best"))
    Image.new("RGB", (32, 24)).save(scene / "images" / "frame_0002.png")
    assert "frame_0002.png: the image is 32x24, expected 64x48" in message(config(scene))
    (scene / "images" / "frame_0002.png").write_bytes(b"no image")
    assert "frame_0002.png: cannot be read as an image" in message(config(scene))
    Image.new("RGB", (64, 48)).save(scene / "images" / "frame_0002.jpg")
    assert "1 names are used by more than one image; the first is 'frame_0002'" in message(config(scene))
    (scene / "images" / "frame_0002.jpg").unlink()
    (scene / "images" / "cam0").mkdir()
    Image.new("RGB", (64, 48)).save(scene / "images" / "cam0" / "a.png")
    assert "found 6 images beside 1 folders of images (cam0, ...)" in message(config(scene))


def test_cameras_of_other_names_and_counts(rig, tmp_path):
    shutil.copytree(rig[0], tmp_path / "rig")
    root = tmp_path / "rig"
    (root / "timestamps.csv").unlink()
    (root / "images" / "cam1" / "frame_0003.png").unlink()
    with pytest.warns(UserWarning, match="have no file"):
        outputs = parse_all(config(root, protocol="all"))["train"]
    assert pairs(outputs)[6:] == [(1, step) for step in (0, 1, 3, 4, 5)]  # the gap stays where it is
    for path in (root / "images" / "cam1").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.warns(UserWarning, match="are not in the COLMAP model"):
        said = message(config(root))
    assert "the cameras have [6, 5] images, whose names differ: which were taken at one time?" in said
