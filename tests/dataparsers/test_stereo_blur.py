"""``stereo-blur-data``: blurred left images train, sharp right ones test; DyBluRF's, MoBGS' and Deblur4DGS's folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from layout_checks import message, pairs, parse_all
from PIL import Image

from dataparsers.registry import recognise
from dataparsers.stereo_blur import LAYOUT, PROTOCOLS, StereoBlurDataParserConfig, stereo_blur_data
from dyngs_plugins.priors.colmap_files import read_model, write_model
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.stereo_blur import write_stereo_blur

KINDS = ("dyblurf", "mobgs", "deblur4dgs")
STEPS = 5


def config(root: Path, **options) -> StereoBlurDataParserConfig:
    return StereoBlurDataParserConfig(data=root, **options)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    base = tmp_path_factory.mktemp("stereo")
    return {kind: (base / kind, write_stereo_blur(base / kind, kind=kind)) for kind in KINDS}


@pytest.fixture
def copy(clips, tmp_path):
    def made(kind: str) -> Path:
        shutil.copytree(clips[kind][0], tmp_path / kind, ignore=shutil.ignore_patterns("inference_images_*"))
        return tmp_path / kind

    return made


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize("kind", KINDS)
def test_cameras_priors_and_splits(clips, kind, protocol):
    root, truth = clips[kind]
    splits = parse_all(config(root, protocol=protocol))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    side = 0 if protocol == "deblurring" else 1
    assert pairs(splits["train"]) == [(0, step) for step in range(STEPS)]
    assert pairs(splits["test"]) == [(side, step) for step in range(STEPS)]
    assert splits["test"].metadata["protocol"].startswith(f"{protocol} (")
    assert splits["test"].metadata["priors"].mask_files is None
    for path in splits["test"].image_filenames:
        with Image.open(path) as image:
            sharp = Image.fromarray(truth.shot(path).image).resize(image.size, Image.Resampling.BOX)
            assert np.abs(np.asarray(image, float) - np.asarray(sharp, float)).max() <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_priors_of_the_left_images(clips, kind):
    root, truth = clips[kind]
    outputs = parse_all(config(root))["train"]
    # MiDaS' disparities are brought to scale by bounds alone, which say little here.
    if kind != "dyblurf":
        checks.check_depth(outputs, truth, relative=0.05)
    views = ClipViews.from_dataparser_outputs(outputs)
    for i, path in enumerate(views.image_files):
        dynamic = views.dynamic(i).numpy()
        shot = truth.shot(path)
        assert ((dynamic > 0) == shot.mask)[dynamic != 0].mean() > 0.97
    assert views.priors.has_flow == (kind == "dyblurf")
    if kind == "dyblurf":
        checks.check_flow(outputs, truth)
    assert (views.priors.normal_files is not None) == (kind == "mobgs")
    if kind == "mobgs":
        checks.check_normals(outputs, truth)
    assert (views.tracks is not None) == (kind == "deblur4dgs")


def test_disparity_between_the_bounds(clips):
    root, truth = clips["dyblurf"]
    views = ClipViews.from_dataparser_outputs(parse_all(config(root, scene_normalisation=False))["train"])
    for i, path in enumerate(views.image_files):
        depth, true = views.depth(i).numpy(), truth.shot(path).depth
        assert np.corrcoef(1 / depth.ravel(), 1 / true.ravel())[0, 1] > 0.98
        assert 1.8 < depth.min() < depth.max() < 10.5  # the bounds of the file are 2 and 9


def test_tracks_lie_on_the_moving_things(clips):
    root, truth = clips["deblur4dgs"]
    views = ClipViews.from_dataparser_outputs(parse_all(config(root))["train"])
    assert views.tracks is not None
    observed = views.tracks.observe(1, 3)
    seen = observed.xy[observed.visible].round().long()
    mask = torch.from_numpy(truth.shot(views.image_files[3]).mask)
    assert len(seen) > 5
    assert mask[seen[:, 1], seen[:, 0]].float().mean() > 0.8


def test_seed_points_of_deblur4dgs(clips):
    root, _ = clips["deblur4dgs"]
    outputs = parse_all(config(root))["train"]
    model = read_model(root / "x1/flow3d_preprocessed/colmap/sparse")
    assert model.points is not None
    left = {image.id for image in model.images.values() if int(image.name[:-4]) % 2 == 0}
    kept = sum(len(left & set(track[:, 0].tolist())) >= 2 for track in model.points.tracks)
    assert len(outputs.metadata["points3D_xyz"]) == kept > 20


def test_the_frame_of_a_published_run(clips):
    root, _ = clips["dyblurf"]
    splits = parse_all(config(root, llff_frame=True))
    near = np.load(root / "dense/poses_bounds.npy")[:, 15]
    assert splits["train"].dataparser_scale == pytest.approx(1 / (0.9 * np.percentile(near, 5)), rel=1e-5)
    both = torch.cat([splits[s].cameras.camera_to_worlds[:, :, 3] for s in ("train", "test")])
    np.testing.assert_allclose(both.mean(dim=0), 0, atol=1e-5)  # recentred over left and right
    said = message(config(clips["deblur4dgs"][0], llff_frame=True))
    assert "llff_frame is on, but Deblur4DGS's cameras are COLMAP's" in said
    assert "downscale_factor is 2, but its depths and tracks" in message(
        config(clips["deblur4dgs"][0], downscale_factor=2)
    )


def test_images_at_full_size_and_reduced(copy):
    root = copy("mobgs")
    small = parse_all(config(root))["train"]
    assert {path.parent.name for path in small.image_filenames} == {"images_64x48"}
    shutil.rmtree(root / "dense/align_uni_depth_noclip")
    half = parse_all(config(root, downscale_factor=2))
    torch.testing.assert_close(half["train"].cameras.fx * 2, small.cameras.fx)
    for split in ("train", "test"):
        with Image.open(half[split].image_filenames[0]) as image:
            assert image.size == (32, 24)
    shutil.rmtree(root / "dense/images_64x48")
    full = parse_all(config(root))["train"]
    torch.testing.assert_close(full.cameras.fx, small.cameras.fx * 2)
    assert int(full.cameras.width[0]) == 128


def test_config_layout_and_folders(clips, tmp_path):
    for kind, said in zip(KINDS, ("DyBluRF, MoBGS", "DyBluRF, MoBGS", "Deblur4DGS"), strict=True):
        root = clips[kind][0]
        for folder in (root, root / ("x1" if kind == "deblur4dgs" else "dense")):
            assert said in str(LAYOUT.recognise(folder))
            assert recognise(folder).layout.command == "stereo-blur-data"  # and no other layout claims it
            assert len(parse_all(config(folder))["train"].image_filenames) == STEPS
        checks.check_yaml(config(root, protocol="mobgs"))
    assert stereo_blur_data.config.bd_factor == 0.9
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)


def test_upper_case_suffixes_and_unicode_paths(copy, tmp_path):
    moved = copy("deblur4dgs").rename(tmp_path / "Bälle 球")
    for folder in ("images", "images_test", "flow3d_preprocessed/masks"):
        (moved / "x1" / folder / "00002.png").rename(moved / "x1" / folder / "00002.PNG")
    outputs = parse_all(config(moved))["train"]
    assert [path.name for path in outputs.image_filenames[:3]] == ["00000.png", "00002.PNG", "00004.png"]


def unplaced(root: Path) -> None:
    folder = root / "flow3d_preprocessed/colmap/sparse"
    model = read_model(folder)
    images = {i: image for i, image in model.images.items() if image.name != "00003.png"}
    write_model(folder, type(model)(model.cameras, images, model.points))


DENSE = {
    "no images": (lambda r: [shutil.rmtree(r / f) for f in ("images", "images_64x48")], "images: no such folder"),
    "no test": (lambda r: shutil.rmtree(r / "inference_images"), "inference_images: no such folder"),
    "test count": (lambda r: (r / "inference_images/00001.png").unlink(), "found 4 sharp images. Expected 5"),
    "rows": (
        lambda r: np.save(r / "poses_bounds.npy", np.load(r / "poses_bounds.npy")[:9]),
        "9 rows. Expected 10, one per image",
    ),
    "no poses": (lambda r: (r / "poses_bounds.npy").unlink(), "poses_bounds.npy: no such LLFF camera file"),
    "not rigid": (
        lambda r: np.save(r / "poses_bounds.npy", np.load(r / "poses_bounds.npy") * 2),
        "pose 0 of poses_bounds is not rigid",
    ),
    "objects": (
        lambda r: np.save(r / "poses_bounds.npy", np.array([print], object), allow_pickle=True),
        "cannot be read as a LLFF camera file",
    ),
    "size": (
        lambda r: Image.new("RGB", (9, 9)).save(r / "images_64x48/00002.png"),
        "00002.png: the image is 9x9, expected 64x48",
    ),
    "mask": (lambda r: (r / "motion_masks/00004.png").unlink(), "00004.png: no such mask; 1 of 5 are missing"),
    "disparity": (lambda r: (r / "disp/00004.npy").unlink(), "00004.npy: no such disparity map; 1 of 5"),
    "disparity nan": (lambda r: np.save(r / "disp/00004.npy", np.full((48, 64), np.inf)), "or not finite"),
    "flow": (lambda r: (r / "flow_i1/00000_fwd.npz").unlink(), "00000_fwd.npz: no such flow file"),
    "twice": (
        lambda r: Image.new("RGB", (64, 48)).save(r / "images_64x48/00002.jpg"),
        "used by more than one image; the first is '00002'",
    ),
    "test damaged": (lambda r: (r / "inference_images/00002.png").write_bytes(b"x"), "cannot be read as an image"),
}
DEBLUR4DGS = {
    "names": (lambda r: (r / "images_test/00009.png").unlink(), "found 10 images and 9 sharp ones in images_test/"),
    "odd": (
        lambda r: [(r / f / "00009.png").unlink() for f in ("images", "images_test")],
        "found 9 images and 9 sharp ones",
    ),
    "no model": (lambda r: shutil.rmtree(r / "flow3d_preprocessed/colmap"), "colmap/sparse: no COLMAP model"),
    "unplaced": (unplaced, "the COLMAP model lacks 1 of 10 images; the first is 00003.png"),
    "truncated": (
        lambda r: (r / "flow3d_preprocessed/colmap/sparse/images.bin").write_bytes(b"123"),
        "images.bin: it ends inside the number of images",
    ),
    "depth size": (
        lambda r: np.save(r / "flow3d_preprocessed/aligned_depth_anything_colmap/00002.npy", np.ones((4, 4))),
        "00002.npy: the disparity map is 4x4, expected 64x48",
    ),
    "track": (lambda r: (r / "flow3d_preprocessed/2d_tracks/00002_00004.npy").unlink(), "no such track file; 1 of 25"),
    "mask": (
        lambda r: (r / "flow3d_preprocessed/masks/00002.png").unlink(),
        "00002.png: no such mask; 1 of 5 are missing",
    ),
}


@pytest.mark.parametrize(("kind", "name"), [("dyblurf", n) for n in DENSE] + [("deblur4dgs", n) for n in DEBLUR4DGS])
def test_broken_files(copy, kind, name):
    spoil, said = (DENSE if kind == "dyblurf" else DEBLUR4DGS)[name]
    root = copy(kind)
    spoil(root / ("dense" if kind == "dyblurf" else "x1"))
    parser = config(root).setup()
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        parser.get_dataparser_outputs("train")
    assert said in str(raised.value)
    assert str(root) in str(raised.value)


def test_other_mistakes(copy, tmp_path):
    assert "protocol is 'left'; expected one of" in message(config(tmp_path, protocol="left"))
    root = copy("mobgs")
    np.save(root / "dense/align_uni_depth_noclip/00001.npy", np.ones((4, 4)))
    assert "00001.npy: the depth map is 4x4, expected 64x48" in message(config(root))
    assert "downscale_factor is -1" in message(config(root, downscale_factor=-1))
