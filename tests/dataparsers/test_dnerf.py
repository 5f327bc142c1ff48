"""``dyn-dnerf-data``: D-NeRF's facts, every protocol, and what can be wrong with its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_checks import (
    check_disjoint,
    check_reprojection,
    check_round_trip,
    check_times,
    check_yaml,
    message,
    names,
    parse_all,
)
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from dataparsers.dnerf import LAYOUT, PROTOCOLS, DynDNerfDataParserConfig, dyn_dnerf_data
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.dnerf import write_dnerf
from dyngs_plugins.sample.writers.truth import Truth


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Truth]:
    """The scene as it is written; do not write there."""
    root = tmp_path_factory.mktemp("dnerf") / "balls"
    return root, write_dnerf(root)


@pytest.fixture
def scene(written, tmp_path) -> tuple[Path, Truth]:
    """A copy to spoil."""
    root = tmp_path / "balls"
    shutil.copytree(written[0], root)
    shots = {root / path.relative_to(written[0]): shot for path, shot in written[1].shots.items()}
    return root, Truth(written[1].scene, shots)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def config(root: Path, **options) -> DynDNerfDataParserConfig:
    return DynDNerfDataParserConfig(data=root, **options)


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.filterwarnings("ignore:The scene is left in the frame")
def test_every_protocol_opens(scene, protocol, normalise):
    root, truth = scene
    splits = parse_all(config(root, protocol=protocol, scene_normalisation=normalise))
    for outputs in splits.values():
        check_reprojection(outputs, truth)
        check_round_trip(outputs, truth)
        assert protocol in outputs.metadata["protocol"]
    check_times(splits)
    check_disjoint(splits)
    half = protocol.startswith("half")
    assert int(splits["train"].cameras.width[0]) == (32 if half else 64)
    tested = {path.parent.name for path in splits["test"].image_filenames}
    assert tested == {("val" if protocol.endswith("-val") else "test") + ("_2" if half else "")}
    color = splits["train"].alpha_color.tolist()
    assert color == ([0.0] * 3 if "black" in protocol else [1.0] * 3)
    assert splits["train"].metadata["background"] == ("black" if "black" in protocol else "white")
    assert "points3D_xyz" not in splits["train"].metadata


def test_the_default_is_4dgs_and_changes_no_frame(written):
    root, truth = written
    splits = parse_all(config(root))
    assert splits["test"].metadata["protocol"].startswith("4dgs (trains on transforms_train.json")
    assert splits["train"].dataparser_scale == 1.0
    torch.testing.assert_close(splits["train"].dataparser_transform, torch.eye(4)[:3])
    assert names(splits["train"]) == [f"r_{i:03d}" for i in range(6)]
    assert {path.parent.name for path in splits["val"].image_filenames} == {"val"}
    stored = json.loads((root / "transforms_train.json").read_text())["frames"][2]["transform_matrix"]
    np.testing.assert_allclose(splits["train"].cameras.camera_to_worlds[2], np.array(stored)[:3], atol=1e-6)


def test_focal_lengths_of_the_sheet(scene):
    root, _ = scene
    for split in ("train", "val", "test"):
        edit(root / f"transforms_{split}.json", lambda c: c.update(camera_angle_x=0.6911112))
        for path in (root / split).iterdir():
            Image.new("RGBA", (800, 800)).save(path)
    full, half = parse_all(config(root)), parse_all(config(root, protocol="half-black"))
    assert float(full["train"].cameras.fx[0]) == pytest.approx(1111.11, abs=0.01)
    assert float(full["train"].cameras.fy[0]) == pytest.approx(1111.11, abs=0.01)
    assert float(half["test"].cameras.fx[0]) == pytest.approx(555.56, abs=0.01)
    assert float(half["test"].cameras.cx[0]) == 200


def test_one_map_of_time_for_all_splits(scene):
    root, _ = scene
    for split, factor in (("train", 0.5), ("val", 1.0), ("test", 2.0)):
        edit(root / f"transforms_{split}.json", lambda c, f=factor: [x.update(time=x["time"] * f) for x in c["frames"]])
    splits = parse_all(config(root))
    torch.testing.assert_close(splits["train"].cameras.times.flatten(), torch.linspace(0, 0.25, 6))
    torch.testing.assert_close(splits["test"].cameras.times.flatten(), torch.tensor([0.0, 0.5, 1.0]))
    check_times(splits)


def test_a_reduced_image_composites_like_the_average_of_the_full_one(scene):
    """Red at half alpha beside transparent green: the hidden green must not bleed into the copy."""
    root, _ = scene
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (255, 0, 0, 128), (0, 255, 0, 0)
    Image.fromarray(pixels).save(root / "train" / "r_000.png")
    outputs = parse_all(config(root, protocol="half-white"))["train"]
    copy = np.asarray(Image.open(outputs.image_filenames[0])).astype(float)
    assert copy.shape == (24, 32, 4)
    np.testing.assert_array_equal(copy[..., :3], np.broadcast_to([255.0, 0, 0], (24, 32, 3)))
    np.testing.assert_array_equal(copy[..., 3], 64)


@pytest.mark.parametrize(("protocol", "color"), [("4dgs", (1.0, 0.5, 0.5)), ("black-800", (0.5, 0.0, 0.0))])
def test_alpha_is_composited_over_the_protocols_background(scene, protocol, color):
    """Red at half alpha is (1, .5, .5) on white and (.5, 0, 0) on black, for our methods and for the host's."""
    root, _ = scene
    Image.new("RGBA", (64, 48), (255, 0, 0, 128)).save(root / "train" / "r_000.png")
    outputs = parse_all(config(root, protocol=protocol))["train"]
    expected = torch.tensor(color).expand(48, 64, 3)
    torch.testing.assert_close(ClipViews.from_dataparser_outputs(outputs).image(0), expected, atol=0.003, rtol=0)
    torch.testing.assert_close(InputDataset(outputs).get_image_float32(0), expected, atol=0.003, rtol=0)


def test_reduced_copies_are_kept(scene):
    root, _ = scene
    parse_all(config(root, downscale_factor=2))
    mine = root / "train_2" / "r_001.png"
    Image.new("RGBA", (32, 24), (1, 2, 3, 255)).save(mine)
    parse_all(config(root, downscale_factor=2))
    assert Image.open(mine).getpixel((0, 0)) == (1, 2, 3, 255)
    Image.new("RGBA", (31, 24)).save(mine)
    assert f"{mine}: the reduced image is 31x24, expected 32x24" in message(config(root, downscale_factor=2))


def test_config_and_layout(written, tmp_path):
    root, _ = written
    check_yaml(config(root, protocol="half-black", background="white"))
    assert dyn_dnerf_data.config.scene_normalisation is False
    assert LAYOUT.recognise(root) == "transforms_train.json whose frames have a time"
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    (tmp_path / "transforms_test.json").touch()
    (tmp_path / "transforms_train.json").write_bytes(b"\xff\xfe")
    assert LAYOUT.recognise(tmp_path) is None
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)
    asked = parse_all(config(root, background="black"))["train"]
    assert asked.alpha_color.tolist() == [0.0] * 3


def test_upper_case_suffixes_named_suffixes_and_unicode_paths(written, tmp_path):
    root = tmp_path / "Bälle 球"
    shutil.copytree(written[0], root)
    (root / "train" / "r_001.png").rename(root / "train" / "r_001.PNG")
    edit(root / "transforms_train.json", lambda c: c["frames"][2].update(file_path="train/r_002.png"))
    outputs = parse_all(config(root))["train"]
    assert [p.name for p in outputs.image_filenames[:3]] == ["r_000.png", "r_001.PNG", "r_002.png"]


def test_missing_files(scene, tmp_path):
    root, _ = scene
    assert "nothing: no such folder. Expected a D-NeRF scene" in message(
        config(tmp_path / "nothing"), FileNotFoundError
    )
    said = message(config(root.parent), FileNotFoundError)
    assert "transforms_train.json: no such file. Expected transforms_train.json" in said
    assert f"One level too high? Pass --data {root}" in said
    (root / "transforms_val.json").unlink()
    assert "no such file, but there is a folder val/ of its images" in message(config(root), FileNotFoundError)
    shutil.rmtree(root / "val")
    assert len(parse_all(config(root))["val"].image_filenames) == 3  # falls back to the test views
    said = message(config(root, protocol="4dgs-val"), FileNotFoundError)
    assert "transforms_val.json: no such Blender transforms file" in said
    (root / "test" / "r_001.png").unlink()
    said = message(config(root), FileNotFoundError)
    assert "r_001.png: no such image, but frame 1 of transforms_test.json names it" in said
    assert "holds 2 files. Download the scene again" in said
    shutil.rmtree(root / "test")
    assert f"there is no folder {root / 'test'}" in message(config(root), FileNotFoundError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("camera_angle_x"), "camera_angle_x is None; expected the horizontal field of view"),
        (lambda c: c.update(camera_angle_x=40.0), "camera_angle_x is 40.0; expected the horizontal field of view"),
        (lambda c: c.update(camera_angle_x=float("nan")), "camera_angle_x is nan"),
        (lambda c: c.pop("frames"), "found no frames; expected a list 'frames'"),
        (lambda c: c.update(frames=[]), "found no frames; expected a list 'frames'"),
        (lambda c: c.update(frames={"a": 1}), "found no frames; expected a list 'frames'"),
        (lambda c: c["frames"].insert(1, "r_001"), "frame 1 is 'r_001'; expected an object"),
        (lambda c: c["frames"][3].pop("time"), "the time of frame 3 is None; expected a finite number. A static"),
        (lambda c: c["frames"][3].update(time=float("nan")), "the time of frame 3 is nan"),
        (lambda c: c["frames"][3].update(time="0.5"), "the time of frame 3 is '0.5'"),
        (lambda c: c["frames"][3].pop("file_path"), "file_path of frame 3 is None; expected a name like"),
        (lambda c: c["frames"][3].pop("transform_matrix"), "transform_matrix of frame 3 has shape ()"),
        (lambda c: c["frames"][3]["transform_matrix"].pop(), "transform_matrix of frame 3 has shape (3, 4)"),
        (lambda c: c["frames"][3]["transform_matrix"][0].pop(), "transform_matrix of frame 3 has shape (0,)"),
        (
            lambda c: c["frames"][3]["transform_matrix"][0].__setitem__(0, "x"),
            "transform_matrix of frame 3 has shape (0,)",
        ),
        (
            lambda c: c["frames"][3]["transform_matrix"][0].__setitem__(3, float("inf")),
            "1 poses of frames are not finite",
        ),
        (
            lambda c: c["frames"][3].update(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()),
            "pose 3 of frames is not rigid (deviation from orthonormal 3",
        ),
        (
            lambda c: c["frames"][3].update(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()),
            "determinant -1",
        ),
        (
            lambda c: c["frames"][3].update(file_path="./train/r_002"),
            "1 images are listed more than once; the first is",
        ),
        (
            lambda c: c["frames"][3].update(file_path="./test/r_002"),
            "1 of its images are training images; the first is",
        ),
    ],
)
def test_broken_transforms(scene, change, said):
    root, _ = scene
    edit(root / "transforms_train.json", change)
    found = message(config(root))
    assert said in found
    assert str(root) in found


def test_other_mistakes(scene):
    root, _ = scene
    path = root / "transforms_test.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    assert f"{path}: cannot be read as JSON" in message(config(root))
    path.write_text("[1, 2]")
    assert f"{path}: expected a JSON object as Blender transforms file, found a list" in message(config(root))
    path.write_text(whole)
    assert "downscale_factor is -2; expected a whole number" in message(config(root, downscale_factor=-2))
    assert "downscale_factor is 64, but the images are 64x48" in message(config(root, downscale_factor=64))
    said = message(config(root, protocol="sharp"))
    assert "protocol is 'sharp'; expected one of" in said
    assert all(f"  {p.name} (" in said for p in PROTOCOLS)
    Image.new("RGBA", (32, 24)).save(root / "train" / "r_004.png")
    assert "r_004.png: the image is 32x24, expected 64x48" in message(config(root))
    (root / "train" / "r_004.png").write_bytes(b"not an image")
    assert "r_004.png: cannot be read as an image" in message(config(root))
    Image.new("RGB", (64, 48)).save(root / "train" / "r_003.jpg")
    assert "frame 3 names './train/r_003', which is 2 files (r_003.png, r_003.jpg)" in message(config(root))


def test_a_truncated_image_is_found_when_it_is_reduced(scene):
    root, _ = scene
    path = root / "train" / "r_004.png"
    path.write_bytes(path.read_bytes()[:300])
    assert "r_004.png: cannot be read as an image" in message(config(root, downscale_factor=2))


def test_equal_times_are_refused(scene):
    root, _ = scene
    for split in ("train", "val", "test"):
        edit(root / f"transforms_{split}.json", lambda c: [x.update(time=0.25) for x in c["frames"]])
    assert "All 12 images of transforms_*.json have the time 0.25" in message(config(root))
