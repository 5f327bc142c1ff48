"""``deblur-nerf-data``: blurred photographs with sharp test views, by COLMAP or by poses_bounds.npy, three kinds."""

from __future__ import annotations

import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from host_training import host_losses
from layout_checks import message, names, pairs, parse_all
from PIL import Image

from dataparsers.deblur_nerf import LAYOUT, PROTOCOLS, DeblurNerfDataParserConfig, deblur_nerf_data
from dyngs_plugins.priors.colmap_files import read_model, write_model
from dyngs_plugins.sample.writers.deblur_nerf import write_deblur_nerf

KINDS = ("deblur-nerf", "bad-nerf", "bad-gaussians")
BLURRED, SHARP = [1, 2, 3, 5, 6, 7], [0, 4]


def config(root: Path, **options) -> DeblurNerfDataParserConfig:
    return DeblurNerfDataParserConfig(data=root, **options)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    base = tmp_path_factory.mktemp("deblur")
    return {kind: (base / kind, write_deblur_nerf(base / kind, kind=kind)) for kind in KINDS}


@pytest.fixture
def scene(scenes, tmp_path):
    shutil.copytree(scenes["bad-gaussians"][0], tmp_path / "scene")
    return tmp_path / "scene"


@pytest.fixture
def llff_scene(scenes, tmp_path):
    shutil.copytree(scenes["deblur-nerf"][0], tmp_path / "llff")
    return tmp_path / "llff"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("deblur-nerf", {}),
        ("deblur-nerf", {"llff_frame": True}),
        ("bad-gaussians", {}),
        ("bad-gaussians", {"protocol": "novel-view"}),
        ("bad-gaussians", {"protocol": "novel-view", "scene_normalisation": False}),
        ("bad-nerf", {"hold": 4}),
        ("bad-nerf", {"hold": 4, "llff_frame": True}),
    ],
)
def test_cameras_and_splits(scenes, kind, options):
    root, truth = scenes[kind]
    splits = parse_all(config(root, **options))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    novel = kind == "deblur-nerf" or options.get("protocol") == "novel-view"
    assert names(splits["train"]) == [f"img_{i:03d}" for i in BLURRED]
    assert names(splits["test"]) == [f"img_{i:03d}" for i in (SHARP if novel else BLURRED)]
    assert {path.parent.name for path in splits["train"].image_filenames} == {
        "images_1" if kind == "bad-nerf" else "images"
    }
    if not novel:
        assert {path.parent.name for path in splits["test"].image_filenames} == {"images_test"}
        assert pairs(splits["test"]) == pairs(splits["train"])
        torch.testing.assert_close(splits["test"].cameras.camera_to_worlds, splits["train"].cameras.camera_to_worlds)
    said = splits["test"].metadata["protocol"]
    assert said.startswith("novel-view (" if novel else "deblurring (")
    assert ("every 4th from the first on, 2 of 8" if novel else "middle of the training images' exposures") in said


def test_training_images_are_blurred_and_test_images_sharp(scenes):
    root, truth = scenes["bad-gaussians"]
    splits = parse_all(config(root))
    for path in splits["train"].image_filenames:
        difference = np.abs(np.asarray(Image.open(path), float) - truth.shot(path).image)
        assert difference.mean() > 0.5
    for path in splits["test"].image_filenames:
        np.testing.assert_array_equal(np.asarray(Image.open(path)), truth.shot(path).image)


def test_all_images_train_where_nothing_is_held_out(scenes, scene):
    splits = parse_all(config(scenes["deblur-nerf"][0], protocol="all"))
    assert pairs(splits["train"]) == [(0, i) for i in range(8)]
    (scene / "hold=4").rename(scene / "hold=0")
    splits = parse_all(config(scene, protocol="novel-view"))
    assert len(splits["train"].image_filenames) == 8
    assert "the training images (nothing is held out)" in splits["train"].metadata["protocol"]
    assert "expected one of" in message(config(scene, protocol="sharp"))
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)


def test_which_images_are_held_out(scenes, scene):
    root, _ = scenes["deblur-nerf"]
    assert names(parse_all(config(root, hold=3))["test"]) == ["img_000", "img_003", "img_006"]
    (scene / "hold=4").unlink()
    assert names(parse_all(config(scene, protocol="novel-view"))["test"]) == ["img_000"]
    (scene / "hold=x").touch()
    assert "found hold=x. Expected one file named like hold=8" in message(config(scene))
    (scene / "hold=4").touch()
    assert "found hold=4, hold=x. Expected one file" in message(config(scene))
    assert "hold is 1, so all 8 images are held out" in message(config(scene, hold=1))


def test_seed_points_are_seen_by_training_images(scenes):
    root, _ = scenes["bad-gaussians"]
    outputs = parse_all(config(root))["train"]
    model = read_model(root / "sparse" / "0")
    assert model.points is not None
    train = {image.id for image in model.images.values() if image.name[:-4] in names(outputs)}
    kept = [len(train & set(track[:, 0].tolist())) >= 2 for track in model.points.tracks]
    expected = torch.from_numpy(model.points.xyz[kept]).float()
    torch.testing.assert_close(checks.to_file(outputs, outputs.metadata["points3D_xyz"]), expected, atol=1e-4, rtol=0)


def test_bounds_of_sharp_pictures_are_those_of_their_blurred_ones(scenes):
    splits = parse_all(config(scenes["bad-nerf"][0], hold=4, llff_frame=True))
    torch.testing.assert_close(splits["test"].metadata["bounds"], splits["train"].metadata["bounds"])
    assert splits["train"].metadata["bounds"].min() == pytest.approx(4 / 3, rel=1e-5)


def test_reduced_images(scene, scenes):
    full, half = (parse_all(config(scene, downscale_factor=f)) for f in (None, 2))
    for split in ("train", "test"):
        torch.testing.assert_close(half[split].cameras.fx * 2, full[split].cameras.fx)
        torch.testing.assert_close(half[split].cameras.cx * 2, full[split].cameras.cx)
        for path in half[split].image_filenames:
            assert Image.open(path).size == (32, 24)
    assert {path.parent.name for path in half["test"].image_filenames} == {"images_test_2"}


def test_colmap_or_llff(scene, llff_scene):
    shutil.copytree(scene / "sparse", llff_scene / "sparse")
    colmap, llff = (parse_all(config(llff_scene, cameras=kind))["train"] for kind in ("colmap", "llff"))
    torch.testing.assert_close(
        checks.to_file(colmap, colmap.cameras.camera_to_worlds[..., 3]),
        checks.to_file(llff, llff.cameras.camera_to_worlds[..., 3]),
        atol=1e-4,
        rtol=0,
    )
    assert "near" in llff.metadata
    assert "near" not in colmap.metadata
    assert len(llff.metadata["points3D_xyz"]) == len(colmap.metadata["points3D_xyz"])
    assert "near" in parse_all(config(llff_scene, llff_frame=True))["train"].metadata
    said = message(config(llff_scene, cameras="colmap", llff_frame=True))
    assert "llff_frame is on, but the cameras are COLMAP's, without bounds" in said


def test_config_and_layout(scenes, tmp_path):
    checks.check_yaml(config(scenes["bad-nerf"][0], hold=4, cameras="llff"))
    assert deblur_nerf_data.description.startswith("Blurred photographs")
    assert LAYOUT.recognise(scenes["deblur-nerf"][0]) == "a file named hold=n beside images and cameras"
    assert LAYOUT.recognise(scenes["bad-gaussians"][0]) == "a file named hold=n beside images and cameras"
    assert LAYOUT.recognise(scenes["bad-nerf"][0]) == "images_test/ beside images and cameras"
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None


def test_upper_case_suffixes_unicode_paths_and_names_of_the_sharp_ones(scene, tmp_path):
    moved = scene.rename(tmp_path / "Bälle 球")
    (moved / "images" / "img_001.png").rename(moved / "images" / "img_001.PNG")
    with Image.open(moved / "images" / "img_002.png") as image:
        image.save(moved / "images" / "img_002.JPG")
    (moved / "images" / "img_002.png").unlink()
    for i, path in enumerate(sorted((moved / "images_test").iterdir())):
        path.rename(path.with_name(f"{i:03d}.png"))  # as the synthetic scenes have them: in order
    splits = parse_all(config(moved))
    assert [p.name for p in splits["train"].image_filenames[:3]] == ["img_001.PNG", "img_002.JPG", "img_003.png"]
    assert names(splits["test"]) == [f"{i:03d}" for i in range(6)]


def test_missing_and_damaged_images(scene, tmp_path):
    assert "nothing/images: no such folder" in message(config(tmp_path / "nothing"), FileNotFoundError)
    (scene / "images_test" / "img_003.png").unlink()
    said = message(config(scene))
    assert "found 5 sharp pictures. Expected 6, one per blurred training image from img_001.png to img_007.png" in said
    Image.new("RGB", (32, 24)).save(scene / "images_test" / "img_003.png")
    assert "img_003.png: the test picture is 32x24, expected 64x48" in message(config(scene))
    (scene / "images_test" / "img_003.png").write_bytes(b"no image")
    assert "img_003.png: cannot be read as an image" in message(config(scene))
    for path in (scene / "images_test").iterdir():
        path.unlink()
    assert "images_test: found 0 images" in message(config(scene))
    shutil.rmtree(scene / "images_test")
    assert "no such folder" in message(config(scene, protocol="deblurring"), FileNotFoundError)
    Image.new("RGB", (32, 24)).save(scene / "images" / "img_003.png")
    assert "img_003.png: the image is 32x24, expected 64x48" in message(config(scene))
    Image.new("RGB", (64, 48)).save(scene / "images" / "img_003.jpg")
    assert "the first is 'img_003'" in message(config(scene))
    for path in (scene / "images").iterdir():
        path.unlink()
    assert "images: found 0 images" in message(config(scene))


def test_missing_and_damaged_cameras(scene, llff_scene, scenes):
    folder = scene / "sparse" / "0"
    model = read_model(folder)
    for lacking, protocol, said in (
        (3, "novel-view", "the COLMAP model lacks 1 of 8 images; the first is img_002.png"),
        (1, "novel-view", "protocol novel-view tests img_000.png, but 1 of 2 held-out images have no camera"),
    ):
        images = {i: image for i, image in model.images.items() if i != lacking}
        write_model(folder, type(model)(model.cameras, images, model.points))
        assert said in message(config(scene, protocol=protocol))
    assert len(parse_all(config(scene))["test"].image_filenames) == 6  # deblurring needs no camera of img_000
    (folder / "images.bin").write_bytes((folder / "images.bin").read_bytes()[:200])
    assert "images.bin: it ends inside" in message(config(scene))
    shutil.rmtree(scene / "sparse")
    assert "sparse/0: no COLMAP model" in message(config(scene), FileNotFoundError)
    assert "poses_bounds.npy: no such LLFF camera file" in message(config(scene, cameras="llff"), FileNotFoundError)
    table = np.load(llff_scene / "poses_bounds.npy")
    np.save(llff_scene / "poses_bounds.npy", table[:7])
    assert "7 rows. Expected 8, one per image" in message(config(llff_scene))
    table[2, 0] = np.nan
    np.save(llff_scene / "poses_bounds.npy", table)
    assert "1 poses of poses_bounds are not finite; the first is pose 2" in message(config(llff_scene))
    table[2, 0] = 5
    np.save(llff_scene / "poses_bounds.npy", table)
    assert "pose 2 of poses_bounds is not rigid" in message(config(llff_scene))
    np.save(llff_scene / "poses_bounds.npy", np.array([print], object), allow_pickle=True)
    assert "cannot be read as a LLFF camera file" in message(config(llff_scene))
    said = message(config(scenes["bad-nerf"][0], hold=4, protocol="novel-view"))
    assert "poses_bounds.npy is of the blurred images alone" in said


def test_the_hosts_nerfacto_trains(scenes):
    losses = host_losses("nerfacto", config(scenes["bad-gaussians"][0]), steps=5)
    assert np.isfinite(losses).all()
