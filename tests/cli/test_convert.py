"""``dyngs convert``: the sample scene in many layouts, to each target, reopened by the target's own loader."""

from __future__ import annotations

import errno
import functools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dyngs_plugins.cli as cli
from dataparsers.registry import named_layout
from dyngs_plugins.convert.command import TARGETS, run
from dyngs_plugins.convert.source import Picture, _plain, pictures
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.sample.cameras import Camera
from dyngs_plugins.sample.shots import take_shot
from dyngs_plugins.sample.writers.colmap import write_colmap_time
from dyngs_plugins.sample.writers.davis import write_davis
from dyngs_plugins.sample.writers.dnerf import write_dnerf
from dyngs_plugins.sample.writers.dycheck import write_dycheck
from dyngs_plugins.sample.writers.enerf import write_enerf
from dyngs_plugins.sample.writers.llff import write_llff
from dyngs_plugins.sample.writers.marbles import write_marbles
from dyngs_plugins.sample.writers.nerfies import write_nerfies
from dyngs_plugins.sample.writers.neu3d import write_neu3d
from dyngs_plugins.sample.writers.nvidia import write_dynamicnerf
from dyngs_plugins.sample.writers.som import write_som_clip
from dyngs_plugins.sample.writers.truth import Truth

sys.path.insert(0, str(Path(__file__).parents[1] / "dataparsers"))
from layout_checks import check_reprojection  # noqa: E402

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

SOURCES: dict[str, Callable[[Path], Truth]] = {
    "colmap": functools.partial(write_colmap_time, frames=5),
    "colmap-lens": functools.partial(write_colmap_time, frames=5, lens=True, timestamps="csv"),
    "colmap-rig": functools.partial(write_colmap_time, frames=4, cameras=2),
    "davis": functools.partial(write_davis, frames=5, priors=True),
    "dnerf": write_dnerf,
    "dycheck": functools.partial(write_dycheck, frames=4),
    "enerf": write_enerf,
    "llff": functools.partial(write_llff, frames=5),
    "marbles": write_marbles,
    "nerfies-vrig": functools.partial(write_nerfies, frames=4),
    "nerfies-interp": functools.partial(write_nerfies, frames=6, kind="interp"),
    "neu3d": functools.partial(write_neu3d, frames=3),
    "nvidia": functools.partial(write_dynamicnerf, frames=4),
    "som": functools.partial(write_som_clip, frames=4),
    "som-rig": functools.partial(write_som_clip, frames=3, cameras=2),
}
REFUSED: dict[tuple[str, str], str] = {
    ("dnerf", "llff"): "no near and far for poses_bounds.npy",
    **{
        (name, "llff"): "cameras ("
        for name in (
            "colmap-rig", "dycheck", "enerf", "marbles", "nerfies-vrig", "neu3d", "nvidia", "som", "som-rig",
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A scene on disk."""

    root: Path
    truth: Truth


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Callable[[str], Written]:
    @functools.cache
    def write(name: str) -> Written:
        root = tmp_path_factory.mktemp(name) / "scene"
        return Written(root, SOURCES[name](root))

    return write


@dataclass(frozen=True)
class Reopened:
    """A converted folder as its own loader sees it, and the source that it should be, picture by picture."""

    target: str
    record: dict
    outputs: dict
    pairs: list[tuple[Picture, Picture]]
    """Reopened and original."""
    truth: Truth
    """Of the reopened images, by ray-casting where these were resampled."""
    resampled: bool

    def says(self, text: str) -> bool:
        return any(text in sentence for sentence in (*self.record["changed"], *self.record["cannot_say"]))


def loader(command_name: str, root: Path):
    """A loader in the files' frame, with nothing held out on its own."""
    config = named_layout(command_name).config()
    given = {"data": root, "scene_normalisation": False, "required_priors": ()}
    known = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in given.items() if name in known}).setup()


def reopen(written: Written, target: str, out: Path, tmp_path: Path) -> Reopened:
    record = json.loads((out / "converted.json").read_text())
    parser = loader(TARGETS[target].loader, out)
    reopened = {p.file: p for p in pictures(_plain(parser.parsed()[0]))}
    copy = tmp_path / "copy" / written.root.name  # a loader may write beside its files
    shutil.copytree(written.root, copy)
    original_clip = _plain(loader(record["source"]["layout"], copy).parsed()[0])
    originals = {p.file: p for p in pictures(original_clip)}
    entries = record["images"]
    assert len({entry["source"] for entry in entries}) == len(entries)
    assert {out / entry["file"] for entry in entries} == set(reopened)
    pairs = [(reopened[out / entry["file"]], originals[copy / entry["source"]]) for entry in entries]
    resampled = any(word in change for change in record["changed"] for word in ("resampled", "undistorted"))
    shots = {}
    for (new, _), entry in zip(pairs, entries, strict=True):
        shot = written.truth.shot(written.root / entry["source"])
        if resampled:
            camera = Camera(new.views.width, new.views.height, new.K.numpy(), shot.camera.world_T_camera)
            shot = take_shot(written.truth.scene, camera, shot.time)
        shots[new.file] = shot
    outputs = {split: parser.get_dataparser_outputs(split) for split in ("train", "test", "val")}
    return Reopened(target, record, outputs, pairs, Truth(written.truth.scene, shots), resampled)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(root)): (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}


def check_same(seen: Reopened) -> None:
    """Poses, times, intrinsics and pixels of every image."""
    for new, old in seen.pairs:
        np.testing.assert_allclose(new.world_T_camera, old.world_T_camera, atol=1e-5)
        if not seen.says("times that are not evenly spaced"):
            assert new.time == pytest.approx(old.time, abs=1e-6)
        if seen.resampled and seen.target in ("llff", "dnerf"):
            height, width = new.size
            assert (float(new.K[0, 2]), float(new.K[1, 2])) == (width / 2, height / 2)
            assert float(new.K[0, 0]) == float(new.K[1, 1])
            assert min(new.size) > 0.5 * min(old.size)
            continue
        assert new.size == old.size
        # An angle of view is not a focal length: dividing by its tangent leaves the last digits of a float.
        torch.testing.assert_close(new.K, old.K, rtol=1e-6 if seen.target == "dnerf" else 0, atol=0)
        assert torch.equal(new.lens, old.lens if seen.target == "colmap" else torch.zeros(6).double())
        difference = (new.views.image(new.index) - old.views.image(old.index)).abs().max()
        assert float(difference) <= 0.51 / 255  # a composited colour is rounded to 8 bits
        alpha = old.views.pixels(old.index).shape[-1] == 4
        recoloured = alpha and (old.views.background is None) == (seen.target == "dnerf")
        if new.file.suffix == old.file.suffix and not seen.resampled and not recoloured:
            assert new.file.read_bytes() == old.file.read_bytes()


def check_pictures(seen: Reopened) -> None:
    """Where images were resampled, they are what a ray-cast by the new camera sees, and nothing of a pixel beside."""
    for new, _ in seen.pairs:
        image = new.views.image(new.index).numpy()
        true = seen.truth.shots[new.file].image / 255.0
        drawn = image.max(axis=-1) > 0
        assert drawn.mean() > 0.7
        error = np.abs(image - true)[drawn].mean()
        shifted = [
            np.abs(np.roll(image, shift, axis=axis) - true)[drawn].mean() for shift in (1, -1) for axis in (0, 1)
        ]
        assert error < 0.75 * min(shifted), f"{new.file}: {error} at its place, {shifted} a pixel beside"


def check_priors(seen: Reopened) -> None:
    """Depth, masks and tracks of the training views are those of the source."""
    trains = [(new, old) for new, old in seen.pairs if "train" in old.splits]
    place = {old.index: new.index for new, old in trains}
    views, theirs = trains[0][0].views, trains[0][1].views
    assert (views.priors.depth_files is None) == (theirs.priors.depth_files is None)
    assert (views.priors.mask_files is None) == (theirs.priors.mask_files is None)
    assert (views.tracks is None) == (theirs.tracks is None)
    for old, new in place.items():
        if theirs.priors.depth_files is not None:
            torch.testing.assert_close(views.depth(new), theirs.depth(old), rtol=1e-6, atol=0)
        if theirs.priors.mask_files is not None:
            assert torch.equal(views.dynamic(new) > 0, theirs.dynamic(old) > 0)
        if theirs.tracks is None or views.tracks is None:
            continue
        torch.testing.assert_close(views.tracks.query_points(new), theirs.tracks.query_points(old), rtol=0, atol=1e-5)
        reached = theirs.tracks.targets(old).tolist()
        for target, moved in place.items():
            if theirs.camera_index[target] != theirs.camera_index[old]:
                continue
            found = views.tracks.observe(new, moved)
            if target not in reached:
                assert not (found.visible | found.invisible).any()
                continue
            expected = theirs.tracks.observe(old, target)
            torch.testing.assert_close(found.xy, expected.xy, rtol=0, atol=1e-4)
            assert torch.equal(found.visible, expected.visible)
            assert torch.equal(found.invisible, expected.invisible)
            torch.testing.assert_close(found.confidence, expected.confidence, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_round_trip(source, target, scene, tmp_path):
    written, out = scene(source), tmp_path / "out"
    before = listing(written.root)
    if (source, target) in REFUSED:
        with pytest.raises(ValueError, match="Choose --to") as refused:
            run(written.root, target, out)
        assert REFUSED[source, target] in str(refused.value)
        assert str(written.root) in str(refused.value)
        assert list(tmp_path.iterdir()) == []
    else:
        lines = run(written.root, target, out)
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
        seen = reopen(written, target, out, tmp_path)
        assert all(
            any(text in line for line in lines) for text in (*seen.record["changed"], *seen.record["cannot_say"])
        )
        check_same(seen)
        for outputs in seen.outputs.values():
            check_reprojection(outputs, seen.truth)
        if seen.resampled:
            check_pictures(seen)
        if target == "som":
            check_priors(seen)
    assert listing(written.root) == before


@pytest.mark.parametrize("target", ["llff", "dnerf", "som"])
def test_resampled_pixels_come_from_where_the_lens_drew_them(target, tmp_path):
    """The images are ramps whose colours say where a pixel was, so that each pixel of the result can be asked."""
    root, out = tmp_path / "scene", tmp_path / "out"
    truth = write_nerfies(root, frames=6, kind="interp", width=96, height=72)
    for path in truth.shots:
        width, height = Image.open(path).size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        ramps = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x], axis=-1)
        Image.fromarray(ramps.round().astype(np.uint8)).save(path)
    run(root, target, out)
    seen = reopen(Written(root, truth), target, out, tmp_path)
    for (new, old), entry in zip(seen.pairs, seen.record["images"], strict=True):
        lens = truth.shot(root / entry["source"]).camera
        straight = Camera(new.views.width, new.views.height, new.K.numpy(), new.world_T_camera)
        points = new.world_T_camera[:3, 3] + straight.directions(straight.pixel_grid())
        expected, _ = lens.project(points)
        height, width = old.size
        scale = np.array([width / lens.width, height / lens.height])
        expected = (expected + 0.5) * scale - 0.5
        image = new.views.image(new.index).numpy().reshape(-1, 3)[:, :2]
        inside = ((expected > 1) & (expected < [width - 2, height - 2])).all(axis=1)
        assert inside.mean() > 0.7
        error = (image * [width - 1, height - 1] - expected)[inside]
        levels = max(width, height) / 255  # pixels per grey level; two roundings of half a level each
        assert np.abs(error).max() < levels + 0.05
        assert np.abs(error.mean(axis=0)).max() < 0.05


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


# Real data -----------------------------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA.name} of real pieces beside the project")


@needs_data
@pytest.mark.parametrize("target", ["colmap", "dnerf"])
def test_books(target, tmp_path):
    run(DATA / "books", target, tmp_path / "out")
    old = {p.file.stem: p for p in pictures(loader("llff-data", DATA / "books").parsed()[0])}
    entries = json.loads((tmp_path / "out" / "converted.json").read_text())["images"]
    new = {p.file: p for p in pictures(loader(TARGETS[target].loader, tmp_path / "out").parsed()[0])}
    assert len(new) == len(old) == 86
    for entry in entries:
        mine, theirs = new[tmp_path / "out" / entry["file"]], old[Path(entry["source"]).stem]
        np.testing.assert_allclose(mine.world_T_camera, theirs.world_T_camera, atol=1e-5)
        torch.testing.assert_close(mine.K, theirs.K, rtol=1e-6, atol=0)
        assert mine.time == pytest.approx(theirs.time, abs=1e-6)


@needs_data
def test_capture1(tmp_path):
    for target in ("som", "llff"):
        run(DATA / "capture1", target, tmp_path / target)
    som = loader("som-data", tmp_path / "som").parsed()[0]
    assert (len(som.train), len(som.evaluation)) == (82, 5)
    llff = loader("llff-data", tmp_path / "llff").parsed()[0]
    assert len(llff.train) + len(llff.evaluation) == 87
    table = np.load(tmp_path / "llff" / "poses_bounds.npy")
    assert (table[:, 15] > 0).all()
    assert (table[:, 16] > table[:, 15]).all()
