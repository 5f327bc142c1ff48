"""``multiview-video-data``: cameras by name from COLMAP, transforms.json or rows, and what can be wrong."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch

from dataparsers import neu3d
from dataparsers.multiview_video import LAYOUT, PROTOCOLS, MultiviewVideoDataParserConfig
from dataparsers.rig_cameras import camera_of, match_cameras
from dyngs_plugins.priors.colmap_files import ColmapModel, read_model, write_model
from dyngs_plugins.priors.ply_files import read_ply, write_ply
from dyngs_plugins.sample.writers.flow import write_arriving_flow
from dyngs_plugins.sample.writers.multiview_video import NAMES, write_multiview_video
from dyngs_plugins.sample.writers.truth import Truth

FRAMES = 4
KINDS = tuple(NAMES)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multiview")
    return {kind: (folder / kind, write_multiview_video(folder / kind, kind, frames=FRAMES)) for kind in KINDS}


@pytest.fixture
def spoiled(written, tmp_path):
    """Copies to spoil, under paths that are not ASCII."""

    def copy(kind: str) -> Path:
        root = tmp_path / f"Bühne 舞台 {kind}"
        shutil.copytree(written[kind][0], root, ignore=shutil.ignore_patterns("frames_*"))
        return root

    return copy


def config(root: Path, **options) -> MultiviewVideoDataParserConfig:
    return MultiviewVideoDataParserConfig(data=root, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.filterwarnings("ignore:.*left in the frame of its camera files")
def test_every_protocol_holds(written, kind, protocol, factor):
    root, truth = written[kind]
    splits = checks.parse_all(config(root, protocol=protocol, downscale_factor=factor))
    for split in ("train", "test"):
        checks.check_reprojection(splits[split], truth)
        checks.check_round_trip(splits[split], truth)
        assert int(splits[split].cameras.width[0]) == 64 // factor
    checks.check_times(splits)
    checks.check_disjoint(splits)
    held = 0 if protocol == "first-camera" else 3
    assert checks.pairs(splits["test"]) == [(held, step) for step in range(FRAMES)]
    assert checks.pairs(splits["train"]) == [(c, step) for c in range(4) if c != held for step in range(FRAMES)]
    assert f"tests on {NAMES[kind][held]}, 4 frames" in splits["test"].metadata["protocol"]


@pytest.mark.parametrize("factor", [1, 2])
def test_flow_arrives_from_the_frame_before(written, factor):
    """ST-4DGS's files, named by the frame they lead to; a hole in the footage has none across it."""
    root, truth = written["st4dgs"]
    splits = checks.parse_all(config(root, downscale_factor=factor))
    checks.check_flow(splits["train"], truth, share=0.97 if factor == 1 else 0.9)
    priors = splits["train"].metadata["priors"]
    assert [f and (f.path.stem, f.target) for f in priors.flow_forward[:4]] == [("9", 1), ("10", 2), ("11", 3), None]
    assert priors.flow_backward is None
    assert not splits["test"].metadata["priors"].has_flow
    late = config(root, start=2).setup().get_dataparser_outputs("train").metadata["priors"]
    assert [f and f.path.stem for f in late.flow_forward[:2]] == ["11", None]


def test_flow_between_images_of_lenses(spoiled, written):
    """Both ends of a vector are undistorted, each by its camera's lens."""
    root, truth = spoiled("hustvl"), written["hustvl"][1]
    for name in NAMES["hustvl"]:
        frames = [f"frame_{step:05d}" for step in range(1, FRAMES + 1)]
        shots = [truth.shots[written["hustvl"][0] / name / f"{frame}.jpg"] for frame in frames]
        write_arriving_flow(root / name / "flow", frames, truth.scene, shots)
    moved = {root / path.relative_to(written["hustvl"][0]): shot for path, shot in truth.shots.items()}
    outputs = checks.parse_all(config(root))["train"]
    assert outputs.cameras.distortion_params is not None
    checks.check_flow(outputs, Truth(truth.scene, moved), share=0.94)


def test_lenses_reach_the_cameras(written):
    for kind in ("hustvl", "transforms"):
        cameras = config(written[kind][0]).setup().get_dataparser_outputs("train").cameras
        expected = torch.tensor([0.08, -0.03, 0.01, 0.0, 0.004, -0.006])
        torch.testing.assert_close(cameras.distortion_params[0], expected)
    assert config(written["rows"][0]).setup().get_dataparser_outputs("train").cameras.distortion_params is None


def test_numbers_are_times_and_not_text(written):
    """ST-4DGS's frames 8, 9, 10, 11: sorted as text 10 would come first."""
    outputs = config(written["st4dgs"][0]).setup().get_dataparser_outputs("test")
    assert checks.names(outputs) == ["8", "9", "10", "11"]


def test_points_of_each_form(written):
    hustvl = config(written["hustvl"][0]).setup().get_dataparser_outputs("train")
    cloud = read_ply(written["hustvl"][0] / "points3D_multipleview.ply")
    again = checks.to_file(hustvl, hustvl.metadata["points3D_xyz"])
    np.testing.assert_allclose(again.numpy(), cloud.xyz, atol=1e-4)
    sparse = config(written["st4dgs"][0]).setup().get_dataparser_outputs("train")
    assert sparse.metadata["points3D_source"].startswith("COLMAP's points (")
    assert len(sparse.metadata["points3D_xyz"]) > 100
    rows = config(written["rows"][0]).setup().get_dataparser_outputs("train")
    assert "random points between near and far" in rows.metadata["points3D_source"]
    with pytest.warns(UserWarning, match="left in the frame of its camera files"):
        bare = config(written["transforms"][0]).setup().get_dataparser_outputs("train")
    assert "points3D_xyz" not in bare.metadata
    assert bare.metadata["fps"] == 25.0


def test_points_that_only_the_held_out_camera_sees_are_left_out(spoiled):
    root = spoiled("st4dgs")
    folder = root / "colmap" / "sparse" / "0"
    model = read_model(folder)
    assert model.points is not None
    tracks = list(model.points.tracks)
    tracks[0] = tracks[0][:1]  # the first camera's image alone
    points = type(model.points)(**{**vars(model.points), "tracks": tuple(tracks)})
    before = len(config(root).setup().get_dataparser_outputs("train").metadata["points3D_xyz"])
    write_model(folder, ColmapModel(model.cameras, model.images, points), binary=False)
    assert len(config(root).setup().get_dataparser_outputs("train").metadata["points3D_xyz"]) == before - 1


def test_the_source_of_cameras_can_be_chosen(written):
    root = written["hustvl"][0]
    colmap = config(root).setup().get_dataparser_outputs("test")
    assert "poses of COLMAP's model in sparse_" in colmap.metadata["protocol"]
    rows = config(root, cameras="poses_bounds").setup().get_dataparser_outputs("test")
    assert "poses of poses_bounds_multipleview.npy" in rows.metadata["protocol"]
    torch.testing.assert_close(rows.cameras.fx, colmap.cameras.fx)
    said = checks.message(config(root, cameras="transforms"), FileNotFoundError)
    assert "no cameras (transforms was asked for; found colmap, poses_bounds)" in said


def test_cameras_by_name():
    names = ("cam01", "cam02")
    assert camera_of("cam02/frame_00001.jpg", names) == "cam02"
    assert camera_of("images\\cam01.png", names) == "cam01"
    assert camera_of("cam03.png", names) is None
    assert match_cameras(Path("m"), names, ["image1.jpg", "image2.jpg"]) == {
        "cam01": "image1.jpg",
        "cam02": "image2.jpg",
    }
    with pytest.raises(ValueError, match="2 of 2 cameras are not in it; the first is cam01"):
        match_cameras(Path("m"), names, ["image1.jpg", "image3.jpg"])
    with pytest.raises(ValueError, match="are both of camera cam01"):
        match_cameras(Path("m"), names, ["cam01/1.png", "cam01/2.png"])


def test_frames_and_cameras_can_be_chosen(written, tmp_path):
    options = {
        "start": 1,
        "end": 3,
        "test_cameras": ("middle",),
        "skip_cameras": ("top",),
        "scene_normalisation": False,
    }
    splits = checks.parse_all(config(written["transforms"][0], frames_folder=tmp_path, **options))
    assert checks.pairs(splits["test"]) == [(1, 0), (1, 1)]
    assert checks.pairs(splits["train"]) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert splits["test"].image_filenames[0] == tmp_path / "frames_1" / "middle" / "00001.png"


def test_the_config_survives_yaml_and_layouts_are_told_apart(written, tmp_path):
    checks.check_yaml(config(written["rows"][0], cameras="poses_bounds", test_cameras=("gopro2",)))
    said = {kind: LAYOUT.recognise(written[kind][0]) for kind in KINDS}
    assert said["hustvl"] == "4 films or folders of frames (cam01 ...) and poses_bounds_multipleview.npy"
    assert said["transforms"] == "4 films or folders of frames (left ...) and transforms.json"
    assert all(said.values())
    assert all(neu3d.LAYOUT.recognise(written[kind][0]) is None for kind in KINDS)
    assert LAYOUT.recognise(tmp_path) is None
    (tmp_path / "images").mkdir()
    shutil.copy(written["hustvl"][0] / "cam01" / "frame_00001.jpg", tmp_path / "images" / "a1.jpg")
    shutil.copy(written["transforms"][0] / "transforms.json", tmp_path)
    assert LAYOUT.recognise(tmp_path) is None  # a static scene


def test_upper_case_suffixes_open(spoiled):
    root = spoiled("hustvl")
    for path in list(root.glob("cam01/*.jpg")):
        path.rename(path.with_suffix(".JPG"))
    assert len(config(root).setup().get_dataparser_outputs("test").image_filenames) == FRAMES


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def edit(root: Path, change) -> None:
    path = root / "transforms.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def first(**values):
    def spoil(root: Path) -> None:
        edit(root, lambda content: content["frames"][0].update(values))

    return spoil


def recoded(root: Path, label: str) -> None:
    model = read_model(root / "sparse_")
    images = {i: type(im)(**{**vars(im), "name": label if i == 2 else im.name}) for i, im in model.images.items()}
    write_model(root / "sparse_", ColmapModel(model.cameras, images, model.points))


MIRROR = np.diag([1.0, 1.0, -1.0, 1.0]).tolist()
NAN = (np.eye(4) * np.nan).tolist()

CORRUPTIONS = {
    "no folder": ("rows", lambda r: shutil.rmtree(r), FileNotFoundError, "no such folder. Expected the films"),
    "no films": ("rows", lambda r: [p.unlink() for p in r.glob("*.mp4")], FileNotFoundError, "found 0 cameras"),
    "film is text": ("rows", lambda r: (r / "gopro2.mp4").write_text("x"), ValueError, "cannot be decoded"),
    "no cameras": ("rows", lambda r: (r / "poses_bounds.npy").unlink(), FileNotFoundError, "no cameras (auto was asked"),
    "a row less": (
        "rows", lambda r: np.save(r / "poses_bounds.npy", np.load(r / "poses_bounds.npy")[:3]),
        ValueError, "3 rows, expected 4, one per camera"),
    "rows of another shape": (
        "rows",
        lambda r: np.save(r / "poses_bounds.npy", np.load(r / "poses_bounds.npy") * np.where(np.arange(17) == 4, 2, 1)),
        ValueError, "of another shape"),
    "rows would run code": (
        "rows", lambda r: (r / "poses_bounds.npy").write_bytes(pickle.dumps(Bomb())), ValueError, "truncated or of"),
    "transforms are cut": (
        "transforms", lambda r: (r / "transforms.json").write_text('{"frames": ['), ValueError, "cannot be read as JSON"),
    "no frames": (
        "transforms", lambda r: edit(r, lambda c: c.pop("frames")), ValueError, "expected a list 'frames'"),
    "camera without entry": (
        "transforms", first(file_path="other.mp4"), ValueError, "no entry for 1 of 4 cameras; the first is left"),
    "matrix 2x2": ("transforms", first(transform_matrix=[[1, 0], [0, 1]]), ValueError, "entry 0 is incomplete"),
    "no focal": ("transforms", lambda r: edit(r, lambda c: c["frames"][0].pop("fl_x")), ValueError, "KeyError('fl_x')"),
    "focal 0": ("transforms", first(fl_x=0), ValueError, "Expected finite numbers, sizes and focal lengths above 0"),
    "NaN pose": ("transforms", first(transform_matrix=NAN), ValueError, "are not finite"),
    "mirrored": ("transforms", first(transform_matrix=MIRROR), ValueError, "is not rigid"),
    "another shape": ("transforms", first(w=48, h=64), ValueError, "entry 0 is for images of 48x64"),
    "fisheye": (
        "transforms", lambda r: edit(r, lambda c: c.update(camera_model="OPENCV_FISHEYE")), ValueError, "Undistort"),
    "camera moves": (
        "transforms",
        lambda r: edit(r, lambda c: c["frames"].append({**c["frames"][1], "file_path": "left/2.png"})),
        ValueError, "the entries of left have different poses"),
    "model is cut": (
        "hustvl", lambda r: (r / "sparse_/images.bin").write_bytes(b"\x01\0"), ValueError, "images.bin"),
    "model lacks a camera": (
        "hustvl", lambda r: recoded(r, "image7.jpg"), ValueError, "4 of 4 cameras are not in it; the first is cam01"),
    "cloud is cut": (
        "hustvl", lambda r: (r / "points3D_multipleview.ply").write_bytes(b"ply\n"), ValueError, "as a PLY file"),
    "cloud elsewhere": (
        "hustvl", lambda r: write_ply(r / "points3D_multipleview.ply", np.full((50, 3), -90.0)),
        ValueError, "0% of its points are in the sight of any camera"),
    "frame missing": (
        "hustvl", lambda r: (r / "cam02/frame_00002.jpg").unlink(), ValueError, "3 frames, expected 4 like cam01"),
    "number twice": (
        "hustvl", lambda r: shutil.copy(r / "cam02/frame_00002.jpg", r / "cam02/b_2.jpg"),
        ValueError, "has the number 2 too"),
    "frame is cut": (
        "hustvl", lambda r: (r / "cam02/frame_00002.jpg").write_bytes(b"\xff\xd8"), ValueError, "as an image"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "spoil", "kind", "said"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_mistakes_are_explained(spoiled, form, spoil, kind, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    root = spoiled(form)
    spoil(root)
    message = checks.message(config(root), kind)
    assert said in message
    assert str(root) in message
    assert not (tmp_path / "exploded").exists()


def test_wrong_options_are_explained(written):
    root = written["hustvl"][0]
    assert "test_cameras names cam09; there are cam01" in checks.message(config(root, test_cameras=("cam09",)))
    assert "leave fewer than 2 frames" in checks.message(config(root, end=1))
    assert "and none of them is left" in checks.message(config(root, start=9))
    assert "downscale_factor is -1" in checks.message(config(root, downscale_factor=-1))
    said = checks.message(config(root, protocol="fourth-camera", skip_cameras=("cam10",)))
    assert "cam10 is in test_cameras and in skip_cameras" in said
