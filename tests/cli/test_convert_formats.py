"""``dyngs convert``: what each target holds, what is refused, and that nothing is left behind."""

from __future__ import annotations

import errno
import json
import shutil

import numpy as np
import pytest
import torch
from convert_scenes import loader
from PIL import Image

import dyngs_plugins.cli as cli
from dyngs_plugins.convert.command import run
from dyngs_plugins.priors.colmap_files import find_model, read_model

# What may go wrong ---------------------------------------------------------------------------------------------------


def fails(*arguments, **options) -> str:
    with pytest.raises((ValueError, FileNotFoundError, FileExistsError)) as raised:
        run(*arguments, **options)
    return str(raised.value)


def test_a_folder_in_use_is_never_written_to(scene, tmp_path):
    root = scene("colmap").root
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "is not empty; expected an empty folder" in fails(root, "llff", out)
    assert "is a file; expected a folder" in fails(root, "llff", out / "mine.txt")
    assert "lie inside each other" in fails(root, "llff", root / "llff")
    assert "lie inside each other" in fails(root, "llff", root)
    assert "lie inside each other" in fails(root, "llff", root.parent)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    run(root, "llff", empty)
    assert (empty / "poses_bounds.npy").is_file()


def test_wrong_options_are_named(scene, tmp_path):
    root, out = scene("colmap").root, tmp_path / "out"
    assert "nowhere: no such folder" in fails(tmp_path / "nowhere", "llff", out)
    (tmp_path / "my film.mp4").write_bytes(b"anything")
    film = tmp_path / "my film.mp4"
    assert f"`dyngs process '{film}' --out CLIP` makes one; convert CLIP then." in fails(film, "llff", out)
    other = tmp_path / "transforms.json"
    other.write_text("{}")
    assert f"{other}: this is a file, expected a folder of images with cameras." in fails(other, "llff", out)
    assert "layout is 'lff'; expected one of" in fails(root, "llff", out, layout="lff")
    assert "protocol is 'best'; expected one of" in fails(root, "llff", out, protocol="best")
    assert "--text is given with --to llff; expected --to colmap" in fails(root, "llff", out, text=True)
    assert "poses_bounds.npy: no such" in fails(root, "dnerf", out, layout="llff")
    (tmp_path / "nothing").mkdir()
    assert "no known layout" in fails(tmp_path / "nothing", "llff", out)
    assert "no such option" in fails(scene("enerf").root, "colmap", out, downscale_factor=2)
    assert not out.exists()


def test_two_layouts_in_one_folder_want_a_choice(scene, tmp_path):
    root = tmp_path / "both"
    shutil.copytree(scene("dnerf").root, root)
    shutil.copytree(scene("llff").root, root, dirs_exist_ok=True)
    found = fails(root, "colmap", tmp_path / "out")
    assert "2 layouts claim this folder: dyn-dnerf-data (" in found
    assert "llff-data (" in found
    assert "Choose one with --layout" in found
    run(root, "colmap", tmp_path / "out", layout="llff")
    assert json.loads((tmp_path / "out" / "converted.json").read_text())["source"]["layout"] == "llff-data"


def test_errors_name_the_source_and_leave_nothing(scene, tmp_path):
    root, out = tmp_path / "spoilt", tmp_path / "out"
    shutil.copytree(scene("colmap").root, root)
    image = sorted((root / "images").iterdir())[2]
    image.write_bytes(image.read_bytes()[:-200])
    found = fails(root, "dnerf", out)
    assert f"{image}: cannot be read as an image" in found
    (root / "sparse" / "0" / "images.bin").write_bytes(b"short")
    found = fails(root, "dnerf", out)
    assert str(root / "sparse" / "0" / "images.bin") in found
    assert ".source-" not in found
    assert [p.name for p in tmp_path.iterdir()] == ["spoilt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_ends_in_one_message(number, scene, tmp_path, monkeypatch, capsys):
    def full(path, *_):
        raise OSError(number, "it does not go", str(path))

    monkeypatch.setattr("dyngs_plugins.convert.llff.write_poses_bounds", full)
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", str(scene("colmap").root), "--to", "llff", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "not converted: it does not go" in said
    assert "Nothing of it is left behind" in said
    assert list(tmp_path.iterdir()) == []


def test_dnerf_wants_other_test_images(scene, tmp_path):
    found = fails(scene("llff").root, "dnerf", tmp_path / "out", protocol="all")
    assert "the protocol all tests on 5 of its 5 training images" in found
    assert "Choose another --protocol (middle, llff, stereo)" in found
    lines = run(scene("llff").root, "som", tmp_path / "out", protocol="all")
    assert any("the protocol tests on training images" in line for line in lines)
    assert not (tmp_path / "out" / "eval").exists()


def test_cameras_that_shape_of_motion_cannot_say(scene, tmp_path):
    root = tmp_path / "zoom"
    shutil.copytree(scene("llff").root, root)
    table = np.load(root / "poses_bounds.npy")
    table[2, 14] *= 1.3
    np.save(root / "poses_bounds.npy", table)
    assert "camera 0 has other intrinsics in images/" in fails(root, "som", tmp_path / "out", protocol="all")
    run(root, "llff", tmp_path / "out")
    hwf = np.load(tmp_path / "out" / "poses_bounds.npy")[:, :15].reshape(-1, 3, 5)[:, :, 4]
    assert np.ptp(hwf[:, 2]) == 0
    assert hwf[0, 2] == pytest.approx(table[2, 14])


def test_images_of_two_sizes(scene, tmp_path):
    root = tmp_path / "sizes"
    shutil.copytree(scene("som").root, root)
    record = json.loads((root / "eval" / "eval.json").read_text())
    for view in record["views"]:
        view |= {"camera": 0, "mask": None, "depth": None, "K": (np.diag([0.5, 0.5, 1.0]) @ view["K"]).tolist()}
        with Image.open(root / "eval" / view["image"]) as image:
            small = image.resize((32, 24))
        small.save(root / "eval" / view["image"])
    (root / "eval" / "eval.json").write_text(json.dumps(record))
    found = fails(root, "llff", tmp_path / "llff")
    assert "images of the sizes [(32, 24), (64, 48)] (width, height); expected one size" in found
    lines = run(root, "colmap", tmp_path / "colmap")
    assert any("colmap-time-data wants one size, but the images have [(32, 24), (64, 48)]" in line for line in lines)
    sizes = {(c.width, c.height) for c in read_model(tmp_path / "colmap" / "sparse" / "0").cameras.values()}
    assert sizes == {(32, 24), (64, 48)}
    run(root, "dnerf", tmp_path / "dnerf")
    assert loader("dyn-dnerf-data", tmp_path / "dnerf").parsed()[0].evaluation.width == 32


def test_a_picture_without_a_middle_is_refused(scene, tmp_path):
    root = tmp_path / "aside"
    shutil.copytree(scene("nerfies-interp").root, root)
    for path in (root / "camera").iterdir():
        camera = json.loads(path.read_text())
        camera["principal_point"][0] = 6.0
        path.write_text(json.dumps(camera))
    found = fails(root, "llff", tmp_path / "out")
    assert "would be left as a pinhole with its principal point at the centre" in found
    assert "Choose --to colmap" in found


def test_the_command_says_what_it_did(scene, tmp_path, capsys):
    cli.main(["convert", str(scene("davis").root), "--to", "colmap", "--out", str(tmp_path / "out"), "--text"])
    said = capsys.readouterr().out
    assert "Shape of Motion (som-data)" in said
    assert "5 images (" in said
    assert "the target cannot say: the source's depths, masks, tracks" in said
    assert "Its loader: colmap-time-data" in said
    assert (tmp_path / "out" / "sparse" / "0" / "images.txt").is_file()


# Formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
def test_colmap_keeps_lenses_and_points(text, scene, tmp_path):
    written, out = scene("nerfies-vrig"), tmp_path / "out"
    run(written.root, "colmap", out, text=text)
    assert find_model(out / "sparse" / "0") == (".txt" if text else ".bin")
    model = read_model(out / "sparse" / "0")
    assert {camera.model for camera in model.cameras.values()} == {"FULL_OPENCV"}
    assert len(model.cameras) == 2
    assert model.points is not None
    theirs = np.load(written.root / "points.npy")
    np.testing.assert_allclose(model.points.xyz, theirs, atol=1e-6)
    camera = next(iter(written.truth.shots.values())).camera
    assert sorted(p.name for p in (out / "images").iterdir()) == ["cam0", "cam1"]
    np.testing.assert_allclose(model.cameras[1].params[4:8], [camera.lens[i] for i in (0, 1, 2, 3)], rtol=1e-6)


def test_llff_takes_near_and_far_from_points_or_depth(scene, tmp_path):
    run(scene("colmap").root, "llff", tmp_path / "points")
    run(scene("davis").root, "llff", tmp_path / "depth")
    run(scene("llff").root, "llff", tmp_path / "stored")
    stored = np.load(scene("llff").root / "poses_bounds.npy")
    np.testing.assert_allclose(np.load(tmp_path / "stored" / "poses_bounds.npy"), stored, rtol=1e-6, atol=1e-6)
    for name, source in (("points", "colmap"), ("depth", "davis")):
        bounds = np.load(tmp_path / name / "poses_bounds.npy")[:, 15:]
        depths = [(shot.depth.min(), shot.depth.max()) for shot in scene(source).truth.shots.values()]
        nearest, farthest = np.array(depths).T
        assert (bounds[:, 0] >= 0.99 * nearest.min()).all()
        assert (bounds[:, 1] <= 1.01 * farthest.max()).all()
        assert (bounds[:, 1] > 1.2 * bounds[:, 0]).all()


def test_upper_case_suffixes_and_names_in_any_script(scene, tmp_path):
    root = tmp_path / "mémoire 夏"
    shutil.copytree(scene("llff").root, root)
    shutil.rmtree(root / "sparse")
    for path in (root / "images").iterdir():
        path.rename(path.with_suffix(".PNG"))
    run(root, "dnerf", tmp_path / "neuer Ordner ü")
    assert {p.suffix for p in (tmp_path / "neuer Ordner ü" / "train").iterdir()} == {".png"}
    assert len(loader("dyn-dnerf-data", tmp_path / "neuer Ordner ü").parsed()[0].train) == 4
    run(root, "colmap", tmp_path / "colmap")
    assert {p.suffix for p in (tmp_path / "colmap" / "images").iterdir()} == {".PNG"}
    assert len(loader("colmap-time-data", tmp_path / "colmap").parsed()[0].train) == 4


def test_llff_keeps_points_in_the_model_beside_it(scene, tmp_path):
    run(scene("nerfies-interp").root, "llff", tmp_path / "out")
    clip = loader("llff-data", tmp_path / "out").parsed()[0]
    theirs = np.load(scene("nerfies-interp").root / "points.npy")
    assert clip.points is not None
    np.testing.assert_allclose(clip.points.xyz.numpy(), theirs, atol=1e-6)
    (camera,) = read_model(tmp_path / "out" / "sparse" / "0").cameras.values()
    np.testing.assert_allclose(camera.K(), clip.train.K[0].numpy(), rtol=1e-6)


def test_alpha_is_composited_where_the_target_would_drop_it(scene, tmp_path):
    run(scene("dnerf").root, "colmap", tmp_path / "colmap")
    run(scene("dnerf").root, "dnerf", tmp_path / "dnerf")
    record = json.loads((tmp_path / "colmap" / "converted.json").read_text())
    entry = record["images"][0]
    theirs = np.asarray(Image.open(scene("dnerf").root / entry["source"]))
    ours = np.asarray(Image.open(tmp_path / "colmap" / entry["file"]))
    assert theirs.shape[2] == 4
    assert ours.shape[2] == 3
    hidden = theirs[..., 3] == 0
    assert hidden.any()
    assert set(np.unique(ours[hidden])) in ({0}, {255})
    np.testing.assert_array_equal(ours[~hidden], theirs[~hidden][:, :3])
    kept = json.loads((tmp_path / "dnerf" / "converted.json").read_text())["images"][0]
    assert (tmp_path / "dnerf" / kept["file"]).read_bytes() == (scene("dnerf").root / kept["source"]).read_bytes()


def test_the_record_says_the_split_and_what_is_lost(scene, tmp_path):
    run(scene("som-rig").root, "colmap", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "converted.json").read_text())
    assert record["source"]["layout"] == "som-data"
    assert record["splits"] == {"train": 6, "test": 3, "val": 0}
    assert {(i["camera"], i["splits"][0]) for i in record["images"]} == {(0, "train"), (1, "train"), (2, "test")}
    assert any("which images train and which test" in lost for lost in record["cannot_say"])
    assert any("depths, masks, tracks" in lost for lost in record["cannot_say"])


def test_true_tracks_and_held_out_ground_truth_survive(scene, tmp_path):
    run(scene("som-rig").root, "som", tmp_path / "out")
    theirs = loader("som-data", scene("som-rig").root).parsed()[0]
    ours = loader("som-data", tmp_path / "out").parsed()[0]
    assert theirs.ground_truth_tracks is not None
    assert ours.ground_truth_tracks is not None
    assert torch.equal(ours.ground_truth_tracks.points, theirs.ground_truth_tracks.points)
    assert torch.equal(ours.ground_truth_tracks.xy, theirs.ground_truth_tracks.xy)
    assert ours.ground_truth_tracks.camera == theirs.ground_truth_tracks.camera == 0
    for i in range(3):
        assert torch.equal(ours.evaluation.depth(i), theirs.evaluation.depth(i))
        assert torch.equal(ours.evaluation.dynamic(i), theirs.evaluation.dynamic(i))
