"""``nerfies-data``: lenses, splits of HyperNeRF, the frame of scene.json, and what can be wrong."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from PIL import Image

from dataparsers.nerfies import (
    COLMAP,
    LAYOUT,
    PROTOCOLS,
    Capture,
    NerfiesDataParserConfig,
    read_capture,
    split_ids,
)
from dataparsers.nerfies_cameras import read_nerfies_camera
from dataparsers.nerfies_files import scene_json_frame
from dyngs_plugins.priors.colmap_files import write_model
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.multiview_video import colmap_model
from dyngs_plugins.sample.writers.nerfies import ASPECT, CENTER, SCALE, write_nerfies

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "capture1"
FRAMES = 10


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nerfies")
    return {kind: (folder / kind, write_nerfies(folder / kind, frames=FRAMES, kind=kind)) for kind in
            ("vrig", "interp", "nerf-ds")}  # fmt: skip


@pytest.fixture
def capture(written, tmp_path) -> Path:
    """A copy of the rig's capture to spoil, under a path that is not ASCII."""
    shutil.copytree(written["vrig"][0], tmp_path / "Aufnahme ä 映像")
    return tmp_path / "Aufnahme ä 映像"


def config(root: Path, **options) -> NerfiesDataParserConfig:
    return NerfiesDataParserConfig(data=root, **options)


@pytest.mark.parametrize("kind", ["vrig", "interp", "nerf-ds"])
@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize("own_frame", [False, True])
@pytest.mark.filterwarnings("ignore:.*there is no 4x")
def test_every_protocol_holds(written, kind, protocol, own_frame):
    root, truth = written[kind]
    splits = checks.parse_all(config(root, protocol=protocol, scene_json_frame=own_frame))
    for split in ("train", "test"):
        checks.check_reprojection(splits[split], truth)
        checks.check_round_trip(splits[split], truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    points = torch.from_numpy(np.load(root / "points.npy"))
    torch.testing.assert_close(checks.to_file(splits["train"], splits["train"].metadata["points3D_xyz"]), points)


def test_the_rig_alternates(written):
    splits = checks.parse_all(config(written["vrig"][0], downscale_factor=1))
    train, test = splits["train"], splits["test"]
    assert checks.pairs(train) == [(step % 2, step) for step in range(FRAMES)]
    assert checks.pairs(test) == [(1 - step % 2, step) for step in range(FRAMES)]
    assert checks.names(train)[:2] == ["000000_left", "000001_right"]
    assert (
        "4dgs (trains on train_ids of dataset.json; tests on val_ids of dataset.json; 1x" in test.metadata["protocol"]
    )


def test_interpolation_splits_of_both_codes():
    """20 ids: 4DGS tests 2, 6, 10, 14 and Deformable 18 as well; of 21 ids both test the same."""
    for count, ours in ((20, [2, 6, 10, 14]), (21, [2, 6, 10, 14, 18])):
        ids = tuple(f"{i:06d}" for i in range(count))
        capture = Capture(Path("dataset.json"), ids, (), ())
        train, test, _ = split_ids(capture, PROTOCOLS[0])
        assert [int(i) for i in train] == list(range(0, count, 4))
        assert [int(i) for i in test] == ours
        assert [int(i) for i in split_ids(capture, PROTOCOLS[1])[1]] == [2, 6, 10, 14, 18]


def test_images_of_each_protocol(written):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vrig = config(written["vrig"][0]).setup().get_dataparser_outputs("train")
        interp = config(written["interp"][0], protocol="deformable").setup().get_dataparser_outputs("train")
        ds = config(written["nerf-ds"][0], protocol="deformable").setup().get_dataparser_outputs("train")
    assert [o.image_filenames[0].parent.name for o in (vrig, interp, ds)] == ["2x", "2x", "1x"]
    with pytest.warns(UserWarning, match="there is no 4x, which the protocol asks for; 2x is read"):
        outputs = config(written["vrig"][0], protocol="deformable").setup().get_dataparser_outputs("test")
    assert "2x, where the protocol says 4x" in outputs.metadata["protocol"]


def test_intrinsics_at_2x_are_half(written):
    root = written["vrig"][0]
    full, half = (config(root, downscale_factor=f).setup().get_dataparser_outputs("train").cameras for f in (1, 2))
    for name in ("fx", "fy", "cx", "cy"):
        torch.testing.assert_close(getattr(full, name), 2 * getattr(half, name))
    torch.testing.assert_close(full.fy, ASPECT * full.fx)
    torch.testing.assert_close(full.distortion_params, half.distortion_params)
    torch.testing.assert_close(full.distortion_params[0], torch.tensor([0.08, -0.03, 0.01, 0.0, 0.004, -0.006]))


def test_the_frame_of_scene_json(written):
    """Orientation I at p: OpenGL camera-to-world is diag(1, -1, -1) at (p - center) * scale (the sheet, fact 5)."""
    root = written["vrig"][0]
    train = config(root, scene_json_frame=True).setup().get_dataparser_outputs("train")
    known = read_nerfies_camera(root / "camera" / "000000_left.json").world_T_camera
    torch.testing.assert_close(train.cameras.camera_to_worlds[0, :, 3], (known[:3, 3] - torch.tensor(CENTER)) * SCALE)
    torch.testing.assert_close(
        train.cameras.camera_to_worlds[0, :, :3], known[:3, :3] @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    )
    assert train.metadata["scene_scale"] == pytest.approx(1 / SCALE)
    raw = config(root, scene_normalisation=False).setup().get_dataparser_outputs("train")
    assert raw.dataparser_scale == 1.0
    torch.testing.assert_close(raw.cameras.camera_to_worlds[0, :, 3], known[:3, 3])


def test_cameras_of_the_colmap_model(written, tmp_path):
    """The same cameras as in the JSON files give the same views; in another world they are refused."""
    root, truth = tmp_path / "interp", written["interp"][1]
    shutil.copytree(written["interp"][0], root)
    (root / "points.npy").unlink()
    shots = {p.name: s for p, s in truth.shots.items() if p.parent.name == "1x"}
    points = np.load(written["interp"][0] / "points.npy").astype(np.float64)
    model = colmap_model([s.camera for s in shots.values()], list(shots), points, np.zeros((len(points), 3), np.uint8))
    write_model(root / COLMAP, model)
    moved = type(truth)(truth.scene, {root / p.relative_to(written["interp"][0]): s for p, s in truth.shots.items()})
    ours = checks.parse_all(config(root, colmap_cameras=True))
    for split in ("train", "test"):
        checks.check_reprojection(ours[split], moved)
        checks.check_round_trip(ours[split], moved)
    assert ours["train"].metadata["points3D_source"].startswith("COLMAP's points (")
    edit(root / "camera" / "000004.json", position=[0, 0, 9])
    assert "the pose of 000004.png is another one than in camera/000004.json" in checks.message(
        config(root, colmap_cameras=True)
    )
    shutil.rmtree(root / "colmap")
    assert "no COLMAP model" in checks.message(config(root, colmap_cameras=True), FileNotFoundError)


def test_masks_of_nerf_ds(written):
    root, truth = written["nerf-ds"]
    splits = checks.parse_all(config(root, protocol="deformable"))
    for split in ("train", "test"):
        checks.check_masks(splits[split], truth)
    half = config(root, downscale_factor=2).setup().get_dataparser_outputs("train")
    assert half.metadata["priors"].mask_files[0] == root / "mask" / "2x" / "000000_left.png.png"


def test_a_capture_without_points_takes_the_frame_of_scene_json(capture):
    (capture / "points.npy").unlink()
    outputs = config(capture).setup().get_dataparser_outputs("train")
    assert outputs.dataparser_scale == pytest.approx(SCALE)
    assert "points3D_xyz" not in outputs.metadata


def test_time_id_goes_first_for_deformable(capture):
    records = json.loads((capture / "metadata.json").read_text())
    for record in records.values():
        record["time_id"] = FRAMES - 1 - record["warp_id"]
    (capture / "metadata.json").write_text(json.dumps(records))
    ours = config(capture).setup().get_dataparser_outputs("train").cameras.times
    theirs = config(capture, protocol="deformable", downscale_factor=2).setup().get_dataparser_outputs("train")
    torch.testing.assert_close(theirs.cameras.times, 1 - ours)


def test_the_config_survives_yaml_and_the_layout_is_recognised(written, tmp_path):
    checks.check_yaml(config(written["vrig"][0], protocol="deformable", downscale_factor=2, scene_json_frame=True))
    assert LAYOUT.recognise(written["vrig"][0]) == "dataset.json, camera/ and rgb/ without splits/"
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    shutil.copytree(written["interp"][0], tmp_path / "c")
    (tmp_path / "c" / "splits").mkdir()
    (tmp_path / "c" / "splits" / "train.json").write_text("{}")
    assert LAYOUT.recognise(tmp_path / "c") is None  # DyCheck's


def test_upper_case_suffixes_and_jpegs_open(capture):
    folder = capture / "rgb" / "2x"
    (folder / "000000_left.png").rename(folder / "000000_left.PNG")
    Image.open(folder / "000001_right.png").save(folder / "000001_right.jpg")
    (folder / "000001_right.png").unlink()
    names = [p.name for p in config(capture).setup().get_dataparser_outputs("train").image_filenames]
    assert names[:3] == ["000000_left.PNG", "000001_right.jpg", "000002_left.png"]


def edit(path: Path, **changes) -> None:
    """Change fields of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def tilt(path: Path) -> None:
    orientation = np.array(json.loads(path.read_text())["orientation"])
    edit(path, orientation=(orientation * 1.1).tolist())


CAMERA, RECORD = "camera/000000_left.json", "dataset.json"


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def pickled(path: Path) -> None:
    with open(path, "wb") as file:
        pickle.dump(Bomb(), file)


CORRUPTIONS = {
    "no folder": (lambda r: shutil.rmtree(r), FileNotFoundError, "no such folder. Expected a Nerfies capture"),
    "no dataset.json": (lambda r: (r / RECORD).unlink(), FileNotFoundError, "dataset.json: no such dataset record"),
    "dataset.json is cut": (lambda r: (r / RECORD).write_text('{"ids": ["0'), ValueError, "cannot be read as JSON"),
    "dataset.json is a list": (lambda r: (r / RECORD).write_text("[]"), ValueError, "expected a JSON object"),
    "ids are numbers": (lambda r: edit(r / RECORD, train_ids=[1, 2]), ValueError, "train_ids is not a list of names"),
    "ids twice": (lambda r: edit(r / RECORD, train_ids=["a", "a"]), ValueError, "train_ids names 'a' more than once"),
    "training ids validate": (
        lambda r: edit(r / RECORD, val_ids=["000000_left"]), ValueError, "1 ids are in train_ids and in val_ids"),
    "no ids": (lambda r: edit(r / RECORD, ids=[], train_ids=[], val_ids=[]), ValueError, "found no ids"),
    "val without train": (lambda r: edit(r / RECORD, train_ids=[]), ValueError, "val_ids has 10 names but train_ids none"),
    "too few ids": (
        lambda r: edit(r / RECORD, ids=["000000_left"], train_ids=[], val_ids=[]), ValueError, "leave no test view"),
    "metadata lacks an id": (
        lambda r: edit(r / "metadata.json", **{"000000_left": None}), ValueError, "1 of 20 ids are missing"),
    "no times": (
        lambda r: edit(r / "metadata.json", **{"000000_left": {"camera_id": 0}}), ValueError, "no field says every"),
    "time stands still": (
        lambda r: (r / "metadata.json").write_text(
            json.dumps({p.stem: {"warp_id": 3} for p in (r / "camera").iterdir()})),
        ValueError, "warp_id is 3 for all 20 images"),
    "camera missing": (lambda r: (r / CAMERA).unlink(), FileNotFoundError, "000000_left.json: no such camera file"),
    "camera incomplete": (lambda r: edit(r / CAMERA, position=None), ValueError, "not a Nerfies camera (KeyError"),
    "orientation 3x2": (lambda r: edit(r / CAMERA, orientation=[[1, 0]] * 3), ValueError, "not a Nerfies camera"),
    "pose is NaN": (lambda r: edit(r / CAMERA, position=[0, float("nan"), 0]), ValueError, "are not finite"),
    "rotation is scaled": (lambda r: tilt(r / CAMERA), ValueError, "is not rigid"),
    "focal length 0": (lambda r: edit(r / CAMERA, focal_length=0), ValueError, "a positive focal length"),
    "NaN lens": (
        lambda r: edit(r / CAMERA, radial_distortion=[float("nan"), 0, 0]), ValueError, "Expected finite numbers"),
    "six radial terms": (
        lambda r: edit(r / CAMERA, radial_distortion=[0, 0, 0, 1, 1, 1]), ValueError, "expected at most 3"),
    "skew": (lambda r: edit(r / CAMERA, skew=5.0), ValueError, "skew is 5.0; expected 0"),
    "another full size": (
        lambda r: edit(r / CAMERA, image_size=[640, 480]), ValueError, "the image is 32x24, expected about 320x240"),
    "image missing": (
        lambda r: (r / "rgb/2x/000003_right.png").unlink(), FileNotFoundError, "no such image; 1 of 20 are missing"),
    "image twice": (
        lambda r: shutil.copy(r / "rgb/2x/000003_right.png", r / "rgb/2x/000003_right.jpg"),
        ValueError, "1 names are used by more than one image"),
    "image of another size": (
        lambda r: Image.new("RGB", (30, 24)).save(r / "rgb/2x/000003_right.png"), ValueError, "the image is 30x24"),
    "image is cut": (
        lambda r: (r / "rgb/2x/000003_right.png").write_bytes(b"\x89PNG"), ValueError, "cannot be read as an image"),
    "no images": (lambda r: shutil.rmtree(r / "rgb"), FileNotFoundError, "Expected the images at 1/2; found none"),
    "points of two axes": (lambda r: np.save(r / "points.npy", np.zeros((9, 2))), ValueError, "shape (9, 2)"),
    "points NaN": (
        lambda r: np.save(r / "points.npy", np.full((9, 3), np.nan)), ValueError, "9 of 9 points are not finite"),
    "no point": (lambda r: np.save(r / "points.npy", np.zeros((0, 3))), ValueError, "found 0 points"),
    "points would run code": (lambda r: pickled(r / "points.npy"), ValueError, "cannot be read as a point cloud"),
    "points are cut": (
        lambda r: (r / "points.npy").write_bytes((r / "points.npy").read_bytes()[:200]), ValueError, "truncated"),
    "scene.json without scale": (lambda r: edit(r / "scene.json", scale=None), ValueError, "expected a number scale"),
    "scale 0": (lambda r: edit(r / "scene.json", scale=0), ValueError, "are not a positive number and a point"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "said"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_mistakes_are_explained(capture, spoil, kind, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spoil(capture)
    message = checks.message(config(capture), kind)
    assert said in message
    assert str(capture) in message
    assert not (tmp_path / "exploded").exists()


def test_masks_must_fit(written, tmp_path):
    root = tmp_path / "ds"
    shutil.copytree(written["nerf-ds"][0], root)
    Image.new("L", (9, 9)).save(root / "mask/1x/000000_left.png.png")
    options = {"downscale_factor": 1}
    assert "the mask is 9x9, expected 64x48" in checks.message(config(root, **options))
    (root / "mask/1x/000000_left.png.png").unlink()
    assert "no such mask; 1 of 10 are missing" in checks.message(config(root, **options), FileNotFoundError)
    shutil.rmtree(root / "mask" / "1x")
    assert "no masks of the size in use" in checks.message(config(root, **options), FileNotFoundError)


def test_wrong_options_are_explained(capture):
    said = checks.message(config(capture, protocol="mine"))
    assert "protocol is 'mine'; expected one of" in said
    assert "deformable" in said
    said = checks.message(config(capture, downscale_factor=16), FileNotFoundError)
    assert (
        "rgb/16x: no such folder. Expected the images at 1/16; found 1x, 2x. Pick one with --downscale-factor" in said
    )
    (capture / "scene.json").unlink()
    assert "scene.json: no such scene record" in checks.message(
        config(capture, scene_json_frame=True), FileNotFoundError
    )


def reprojection_error(outputs, images, points) -> float:
    """Median distance in pixels between where COLMAP saw its points and where the dataparser's cameras see them."""
    views, errors = ClipViews.from_dataparser_outputs(outputs), []
    assert views.distortion is not None
    for i, path in enumerate(outputs.image_filenames):
        image = images[path.name]
        seen = [(points[p].xyz, xy) for p, xy in zip(image.point3D_ids, image.xys, strict=True) if p in points]
        world, xy = (torch.from_numpy(np.array(column)).float() for column in zip(*seen, strict=True))
        pixels, _ = checks.project(checks.to_scene(outputs, world), views.camera_T_world[i], views.K[i])
        errors.append((checks.bent(pixels, views.K[i], views.distortion[i]) + 0.5 - xy).norm(dim=-1))
    return float(torch.cat(errors).median())


@pytest.mark.skipif(not REAL.is_dir(), reason="the Nerfies capture is not here")
def test_a_real_capture():
    """82 training views and 5 others; the points that COLMAP saw in each image fall where it saw them."""
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    with pytest.warns(UserWarning, match="there is no 2x"):
        splits = checks.parse_all(config(REAL))
    train, test = splits["train"], splits["test"]
    assert (len(train.image_filenames), len(test.image_filenames)) == (82, 5)
    assert (int(train.cameras.width[0]), int(train.cameras.height[0])) == (120, 214)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    assert len(read_capture(REAL).ids) == 87
    images = {i.name: i for i in colmap.read_images_binary(str(REAL / "colmap/sparse/0/images.bin")).values()}
    points = colmap.read_points3D_binary(str(REAL / "colmap/sparse/0/points3D.bin"))
    assert len(points) == 1305
    assert 1200 < len(train.metadata["points3D_xyz"]) < 1305  # the others come from images that do not train
    better = checks.parse_all(config(REAL, colmap_cameras=True, downscale_factor=4))
    for split in ("train", "test"):
        assert reprojection_error(splits[split], images, points) < 2.0
        # This capture's camera files say that pixels are square; COLMAP's own cameras, that fy is 3 % longer.
        assert reprojection_error(better[split], images, points) < 0.6
    frame = scene_json_frame(REAL, required=True)
    assert frame is not None
    assert frame.scale == pytest.approx(1 / 0.04480595070642609)
