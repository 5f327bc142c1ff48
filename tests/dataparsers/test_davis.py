"""``davis-data``: masks by palette index, three kinds of cameras, plain folders, and what can be wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_checks import (
    check_depth,
    check_disjoint,
    check_masks,
    check_reprojection,
    check_round_trip,
    check_times,
    check_yaml,
    message,
    pairs,
    parse_all,
)
from PIL import Image

from dataparsers.davis import LAYOUT, DavisDataParserConfig
from dyngs_plugins.priors.som_files import read_cameras, write_cameras
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.davis import write_davis
from dyngs_plugins.sample.writers.llff_rows import write_poses_bounds
from dyngs_plugins.sample.writers.truth import Truth

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CAMERAS = ("droid", "llff", "colmap")
FRAMES = 10
pytestmark = pytest.mark.filterwarnings("ignore:The scene is left in the frame", "ignore:The scene frame is taken from")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[tuple[str, bool], tuple[Path, Truth]]:
    """Every kind of cameras, in DAVIS's and in plain folders; do not write there."""
    result = {}
    for kind in CAMERAS:
        for plain in (False, True):
            root = tmp_path_factory.mktemp(f"{kind}{plain}") / "camel"
            result[kind, plain] = root, write_davis(root, frames=FRAMES, cameras=kind, plain=plain)
    return result


@pytest.fixture
def video(written, tmp_path):
    """Copies to spoil."""

    def copy(kind: str = "droid", plain: bool = False) -> tuple[Path, Truth]:
        source, truth = written[kind, plain]
        root = tmp_path / f"{kind}{plain}" / "camel"
        shutil.copytree(source, root)
        return root, Truth(truth.scene, {root / p.relative_to(source): shot for p, shot in truth.shots.items()})

    return copy


class Code:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def config(root: Path, **options) -> DavisDataParserConfig:
    return DavisDataParserConfig(data=root, **options)


def annotations(root: Path, plain: bool = False) -> Path:
    return root / "masks" if plain else root / "Annotations" / "480p" / "camel"


def pictures(root: Path, plain: bool = False) -> Path:
    return root / "images" if plain else root / "JPEGImages" / "480p" / "camel"


@pytest.mark.parametrize("kind", CAMERAS)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("factor", [None, 2])
def test_every_kind_of_cameras_opens(video, kind, plain, factor):
    root, truth = video(kind, plain)
    splits = parse_all(config(root, downscale_factor=factor))
    for outputs in splits.values():
        check_reprojection(outputs, truth)
        check_round_trip(outputs, truth)
        check_masks(outputs, truth, share=0.95)
        size = "32x24" if factor else "64x48"
        assert outputs.metadata["protocol"].startswith("held-out-frames (trains on all frames but the held-out ones;")
        assert f"(1 in 8 from frame 4 on, 1 of 10); {size};" in outputs.metadata["protocol"]
        assert outputs.metadata["fps"] == 24.0
    check_disjoint(splits)
    check_times(splits)
    assert pairs(splits["test"]) == [(0, 4)]
    assert pairs(splits["train"]) == [(0, t) for t in range(FRAMES) if t != 4]
    assert splits["train"].metadata["keyframes"] == ((0, 5 - 1) if kind == "droid" else None)
    assert ("points3D_xyz" in splits["train"].metadata) == (kind == "colmap")
    moved = splits["train"].dataparser_scale != 1.0
    assert moved == (kind != "droid")  # of DROID's cameras alone nothing says how large the scene is


def test_files_frame_and_intervals(video):
    root, truth = video("llff")
    outputs = parse_all(config(root, scene_normalisation=False, eval_interval=3, eval_offset=0, fps=None))
    assert pairs(outputs["test"]) == [(0, 0), (0, 3), (0, 6), (0, 9)]
    assert outputs["train"].dataparser_scale == 1.0
    assert outputs["train"].metadata["fps"] is None
    check_reprojection(outputs["train"], truth)
    everything = parse_all(config(root, eval_interval=0))
    assert pairs(everything["train"]) == pairs(everything["test"]) == [(0, t) for t in range(FRAMES)]
    assert (
        "(trains on all frames; tests on training views (nothing is held out)"
        in everything["test"].metadata["protocol"]
    )


def test_points_of_held_out_frames_alone_are_left_out(video):
    root, _ = video("colmap")
    few = parse_all(config(root, eval_interval=2, eval_offset=0))["train"].metadata["points3D_xyz"]
    every = parse_all(config(root, eval_interval=0))["train"].metadata["points3D_xyz"]
    assert 0 < len(few) <= len(every)


def test_priors_of_shape_of_motion(tmp_path):
    """Disparities belong to the cameras that they were aligned to, tracks to the full size."""
    truth = write_davis(tmp_path, frames=6, priors=True)
    splits = parse_all(config(tmp_path))
    check_depth(splits["train"], truth, share=0.85)
    tracks = splits["train"].metadata["priors"].tracks
    assert tracks.targets(0).tolist() == list(range(5))
    assert splits["test"].metadata["priors"].depth_files is None
    small = parse_all(config(tmp_path, downscale_factor=2))["train"].metadata["priors"]
    assert (small.depth_files, small.tracks) == (None, None)
    poses = [truth.shots[path].camera for path in sorted(truth.shots)]
    write_poses_bounds(tmp_path / "cameras" / "camel" / "poses_bounds.npy", poses)
    other = parse_all(config(tmp_path, cameras="llff"))["train"].metadata["priors"]
    assert other.depth_files is None
    assert other.tracks is not None
    (tmp_path / "aligned_depth_anything" / "480p" / "camel" / "00001.npy").unlink()
    assert "00001.npy: no such disparity map; 1 of 5 are missing" in message(config(tmp_path), FileNotFoundError)
    (tmp_path / "bootstapir" / "480p" / "camel" / "00001_00002.npy").unlink()
    said = message(config(tmp_path, cameras="llff"), FileNotFoundError)
    assert "00001_00002.npy: no such track file; 1 of 25 are missing" in said


def test_masks_are_indices_not_colours(video):
    """Index 2 of a palette whose entry 2 is black still moves."""
    root, truth = video()
    for path in annotations(root).iterdir():
        image = Image.open(path)
        assert image.mode == "P"
        image.putpalette([255, 255, 255] + [0] * 765)  # background white, everything else black
        image.save(path)
    check_masks(parse_all(config(root))["train"], truth, share=0.999)


def test_some_masks_are_enough(video):
    root, truth = video()
    for step in (1, 4, 7):
        (annotations(root) / f"{step:05d}.png").unlink()
    with pytest.warns(UserWarning, match="7 of 10 images have a mask; what moves in the others is unknown"):
        splits = parse_all(config(root))
    views = ClipViews.from_dataparser_outputs(splits["train"])
    assert not views.dynamic(1).any()
    assert (views.dynamic(2) > 0).any()
    assert splits["test"].metadata["priors"].mask_files is None
    shutil.rmtree(annotations(root))
    assert parse_all(config(root))["train"].metadata["priors"].mask_files is None


def test_masks_of_a_pixel_less_are_stretched(video):
    root, _ = video()
    path = annotations(root) / "00003.png"
    Image.open(path).crop((0, 0, 63, 48)).save(path)
    with pytest.warns(UserWarning, match="1 masks are a pixel or two smaller or larger than their 64x48 images"):
        outputs = parse_all(config(root))["train"]
    views = ClipViews.from_dataparser_outputs(outputs)
    assert views.dynamic(3).shape == (48, 64)
    Image.open(path).crop((0, 0, 50, 48)).save(path)
    assert f"{path}: the mask is 50x48, expected 64x48 (width x height)" in message(config(root))


def test_config_and_recognition(written, tmp_path):
    check_yaml(config(tmp_path, sequence="camel", cameras="colmap"))
    root = written["droid", False][0]
    assert LAYOUT.recognise(root) == "JPEGImages/ and Annotations/ without Shape of Motion's tracks"
    assert LAYOUT.recognise(written["droid", True][0]) == "images/ and masks/ with files of one video"
    assert LAYOUT.recognise(written["llff", True][0]) is None
    assert LAYOUT.recognise(written["colmap", True][0]) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    write_davis(tmp_path / "som", width=16, height=16, frames=2, priors=True)
    assert LAYOUT.recognise(tmp_path / "som") is None


def test_upper_case_suffixes_and_unicode_paths(written, tmp_path):
    root = tmp_path / "Kamel 駱駝"
    shutil.copytree(written["llff", False][0], root)
    (pictures(root) / "00003.jpg").rename(pictures(root) / "00003.JPG")
    (pictures(root) / "00005.jpg").rename(pictures(root) / "00005.JPEG")
    (annotations(root) / "00003.png").rename(annotations(root) / "00003.PNG")
    outputs = parse_all(config(root))["train"]
    assert len(outputs.image_filenames) == FRAMES - 1
    assert all(outputs.metadata["priors"].mask_files)


def test_wrong_folders(video, tmp_path):
    root, _ = video()
    assert "nothing: no such folder. Expected JPEGImages/ or images/" in message(
        config(tmp_path / "nothing"), FileNotFoundError
    )
    assert f"One level too high? Pass --data {root}" in message(config(root.parent), FileNotFoundError)
    assert f"Too deep? Pass --data {root}" in message(config(pictures(root)), FileNotFoundError)
    said = message(config(root, res="1080p"), FileNotFoundError)
    assert "JPEGImages/1080p: no such folder; found 480p. Pick one with" in said
    said = message(config(root, sequence="cow"), FileNotFoundError)
    assert "480p/cow: no such sequence. Found camel" in said
    shutil.copytree(pictures(root), pictures(root).with_name("cow"))
    said = message(config(root))
    assert "found 2 sequences (camel, cow), expected one" in said
    assert parse_all(config(root, sequence="camel"))
    plain, _ = video("droid", True)
    assert "one video lies here, without sequences" in message(config(plain, sequence="cow"))
    for path in pictures(plain, True).iterdir():
        path.unlink()
    assert "no video. Expected JPEGImages/480p/SEQ/" in message(config(plain), FileNotFoundError)


@pytest.mark.parametrize("plain", [False, True])
def test_missing_cameras_say_what_to_do(tmp_path, plain):
    root = tmp_path / "camel"
    write_davis(root, width=16, height=16, frames=3, cameras="none", plain=plain)
    said = message(config(root), FileNotFoundError)
    assert f"{root / 'droid_recon' / 'camel.npy'}: no cameras for camel, nor in cameras/camel/poses_bounds.npy" in said
    assert "sparse/0" in said
    assert "DAVIS has none: solve them with COLMAP" in said
    assert "`dyngs process FOLDER --out CLIP`" in said
    said = message(config(root, cameras="colmap"), FileNotFoundError)
    assert f"{root / 'cameras' / 'camel' / 'sparse' / '0'}: no cameras for camel" in said
    assert "Other cameras may be there: davis-data --cameras auto" in said


def test_cameras_of_the_root_serve_one_sequence_only(video):
    root, _ = video("llff")
    (root / "cameras" / "camel" / "poses_bounds.npy").rename(root / "poses_bounds.npy")
    parse_all(config(root))
    shutil.copytree(pictures(root), pictures(root).with_name("cow"))
    assert "no cameras for cow" in message(config(root, sequence="cow"), FileNotFoundError)


def test_broken_droid_cameras(video):
    root, _ = video()
    path = root / "droid_recon" / "camel.npy"
    good = read_cameras(path)

    def save(poses, intrinsics=good.intrinsics, keyframes=(0,)):
        write_cameras(path, poses, intrinsics, good.image_shape, keyframes)

    save(good.world_T_camera[:-1])
    assert f"{path}: 9 poses. Expected 10, one per image" in message(config(root))
    bad = good.world_T_camera.copy()
    bad[3, 0, 0] = np.nan
    save(bad)
    assert "1 poses of traj_c2w are not finite; the first is pose 3" in message(config(root))
    bad = good.world_T_camera.copy()
    bad[2, :3, :3] *= 2.0
    save(bad)
    assert "pose 2 of traj_c2w is not rigid" in message(config(root))
    save(good.world_T_camera, intrinsics=(-1.0, 1.0, 1.0, 1.0))
    assert "Expected positive focal lengths" in message(config(root))
    np.save(path, np.array({"traj_c2w": Code(root / "ran")}, dtype=object), allow_pickle=True)
    assert f"{path}: refused. Its pickle asks for" in message(config(root))
    assert not (root / "ran").exists()
    np.save(path, np.zeros((4, 4)))
    assert "not a camera file: it holds an array of float64" in message(config(root))
    path.write_bytes(path.read_bytes()[:20])
    assert f"{path}: not a camera file" in message(config(root))


def test_broken_llff_and_colmap_cameras(video):
    root, _ = video("llff")
    path = root / "cameras" / "camel" / "poses_bounds.npy"
    table = np.load(path)
    np.save(path, table[:4])
    assert f"{path}: 4 rows. Expected 10" in message(config(root))
    np.save(path, table[:, 1:])
    assert f"{path}: shape (10, 16)" in message(config(root))
    root, _ = video("colmap")
    (pictures(root) / "00003.jpg").rename(pictures(root) / "99999.jpg")
    said = message(config(root, eval_interval=0))
    assert "the COLMAP model lacks 1 of 10 images; the first is 99999.jpg" in said
    model = root / "cameras" / "camel" / "sparse" / "0" / "images.bin"
    model.write_bytes(model.read_bytes()[:100])
    assert "images.bin" in message(config(root))


def test_broken_images_and_masks(video):
    root, _ = video("llff")
    mask, image = annotations(root) / "00003.png", pictures(root) / "00003.jpg"
    mask.write_bytes(b"nothing")
    assert f"{mask}: cannot be read as an image" in message(config(root))
    for path in annotations(root).iterdir():
        path.rename(path.with_name(f"mask_{path.name}"))
    said = message(config(root))
    assert "found 10 masks, none named like an image; the first image is 00000.jpg" in said
    Image.new("RGB", (20, 20)).save(image)
    assert f"{image}: the image is 20x20, expected 64x48" in message(config(root))
    image.write_bytes(b"nothing")
    assert f"{image}: cannot be read as an image" in message(config(root))
    Image.new("RGB", (64, 48)).save(image.with_suffix(".png"))
    assert "1 names are used by more than one image; the first is '00003'" in message(config(root))
    assert "downscale_factor is 0; expected a whole number" in message(config(video("droid")[0], downscale_factor=0))
    assert "protocol is 'x'; expected one of\n  held-out-frames (" in message(config(root, protocol="x"))


# Real data ------------------------------------------------------------------------------------------------------------


def _linked(source: Path, target: Path, *names: str) -> Path:
    """A folder of links, so that nothing is written beside the data."""
    target.mkdir()
    for name in names:
        (target / name).symlink_to(source / name)
    return target


def _synthetic_rows(path: Path, size: tuple[int, int], count: int) -> None:
    """A camera that moves to the right."""
    rows = []
    for i in range(count):
        matrix = np.array([[0.0, 1, 0, 0.01 * i, size[1]], [1, 0, 0, 0, size[0]], [0, 0, -1, 0, 700.0]])
        rows.append([*matrix.ravel(), 1.0, 10.0])
    np.save(path, np.array(rows))


@pytest.mark.skipif(not (DATA / "camel").is_dir(), reason="DAVIS's camel is not here")
def test_camel(tmp_path):
    assert "no cameras for camel" in message(config(DATA / "camel"), FileNotFoundError)
    assert LAYOUT.recognise(DATA / "camel")
    root = _linked(DATA / "camel", tmp_path / "camel", "JPEGImages", "Annotations")
    _synthetic_rows(root / "poses_bounds.npy", (854, 480), 90)
    splits = parse_all(config(root))
    assert (len(pairs(splits["train"])), len(pairs(splits["test"]))) == (79, 11)
    check_disjoint(splits)
    check_times(splits)
    views = ClipViews.from_dataparser_outputs(splits["train"])
    assert (views.width, views.height) == (854, 480)
    expected = np.asarray(Image.open(views.priors.mask_files[0])) > 0
    found = views.dynamic(0)
    assert float((found > 0).float().mean()) == pytest.approx(expected.mean(), rel=0.05)
    torch.testing.assert_close(views.times[-1], torch.tensor(1.0))


@pytest.mark.skipif(not (DATA / "judo").is_dir(), reason="the judo video is not here")
def test_judo(tmp_path):
    """Four label masks for 16 images, one of them a pixel narrower than its image."""
    root = _linked(DATA / "judo", tmp_path / "judo", "images", "masks")
    with pytest.warns(UserWarning, match="4 of 16 images have a mask"):
        said = message(config(root), FileNotFoundError)
    assert "no cameras for judo" in said
    assert LAYOUT.recognise(DATA / "judo") == "images/ and masks/ with files of one video"
    _synthetic_rows(root / "poses_bounds.npy", (854, 480), 16)
    with pytest.warns(UserWarning, match="1 masks are a pixel or two smaller or larger than their 854x480 images"):
        splits = parse_all(config(root))
    views = ClipViews.from_dataparser_outputs(splits["train"])
    assert len(views) == 14
    assert (views.dynamic(0) > 0).any()
    assert not views.dynamic(1).any()


@pytest.mark.parametrize(("name", "train", "test", "masks"), [("camel", 79, 11, 90), ("judo", 14, 2, 4)])
def test_real_videos_open_for_a_camera_that_stood_still(name, train, test, masks, tmp_path):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not here")
    root = _linked(DATA / name, tmp_path / name, *(path.name for path in (DATA / name).iterdir()))
    with pytest.warns(UserWarning, match=f"the camera of {name} is taken to stand still, with a guessed focal length"):
        splits = parse_all(config(root, cameras="still"))
    assert (len(splits["train"].image_filenames), len(splits["test"].image_filenames)) == (train, test)
    cameras = splits["train"].cameras
    assert cameras.camera_to_worlds.unique(dim=0).shape[0] == 1
    if name == "camel":
        assert float(cameras.fx[0]) == pytest.approx(739.59, abs=0.01)
    assert "poses none: a camera that stands still" in splits["test"].metadata["protocol"]
    files = [f for split in ("train", "test") for f in splits[split].metadata["priors"].mask_files or ()]
    assert len([f for f in files if f]) == masks
    views = ClipViews.from_dataparser_outputs(splits["train"])
    shown = next(i for i, f in enumerate(splits["train"].metadata["priors"].mask_files) if f)
    assert views.image(shown).shape[:2] == views.dynamic(shown).shape
    assert (views.dynamic(shown) > 0).any()
