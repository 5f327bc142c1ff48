"""``dycheck-iphone-data``: LiDAR depth, co-visible masks, validation cameras, and what can be wrong."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from PIL import Image

from dataparsers.dycheck import LAYOUT, PROTOCOLS, DycheckDataParserConfig, read_splits
from dataparsers.nerfies_files import scene_json_frame
from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.dycheck import ALPHA_COLUMNS, SCALE, UNSEEN, write_dycheck

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "paper-windmill"
FRAMES = 10


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dycheck")
    return {
        "rig": (folder / "rig", write_dycheck(folder / "rig", frames=FRAMES)),
        "single": (folder / "single", write_dycheck(folder / "single", frames=FRAMES, validation=False)),
    }


@pytest.fixture
def capture(written, tmp_path) -> Path:
    """A copy to spoil, under a path that is not ASCII."""
    shutil.copytree(written["rig"][0], tmp_path / "Gerät ü 録画")
    return tmp_path / "Gerät ü 録画"


def config(root: Path, **options) -> DycheckDataParserConfig:
    return DycheckDataParserConfig(data=root, **options)


@pytest.mark.parametrize("kind", ["rig", "single"])
@pytest.mark.parametrize("protocol", ["dycheck", "held-out-frames"])
@pytest.mark.parametrize("own_frame", [False, True])
def test_every_protocol_holds(written, kind, protocol, own_frame):
    root, truth = written[kind]
    splits = checks.parse_all(config(root, protocol=protocol, scene_json_frame=own_frame))
    for split in ("train", "test"):
        checks.check_reprojection(splits[split], truth)
        checks.check_round_trip(splits[split], truth)
    checks.check_depth(splits["train"], truth)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    points = torch.from_numpy(np.load(root / "points.npy"))
    torch.testing.assert_close(checks.to_file(splits["train"], splits["train"].metadata["points3D_xyz"]), points)


def test_camera_0_trains_and_the_others_validate(written):
    splits = checks.parse_all(config(written["rig"][0]))
    assert checks.pairs(splits["train"]) == [(0, step) for step in range(FRAMES)]
    assert checks.pairs(splits["test"]) == [(camera, step) for step in range(0, FRAMES, 2) for camera in (1, 2)]
    said = splits["test"].metadata["protocol"]
    assert said.startswith("dycheck (trains on camera 0 (in the hand); tests on cameras 1 and 2 (still)")
    assert "2x (360x480); pixels: those that at least max(5, a tenth of) the training frames see" in said
    assert splits["test"].metadata["lpips_net"] == "alex"
    assert splits["train"].metadata["fps"] == 30.0


def test_a_single_camera_holds_out_frames(written):
    splits = checks.parse_all(config(written["single"][0]))
    assert checks.pairs(splits["test"]) == [(0, 4)]
    assert (0, 4) not in checks.pairs(splits["train"])
    assert "tests on held-out frames (1 in 8 from frame 4 on, 1 of 10)" in splits["test"].metadata["protocol"]
    assert "pixels: all" in splits["test"].metadata["protocol"]
    often = checks.parse_all(config(written["rig"][0], protocol="held-out-frames", eval_interval=3))
    assert checks.pairs(often["test"]) == [(0, 1), (0, 4), (0, 7)]


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS if p.name.startswith("hypernerf")])
def test_hypernerfs_captures_split_anew(written, tmp_path, protocol):
    """Names as HyperNeRF has them; both protocols test the same frames within their own masks."""
    root, truth = tmp_path / "vrig", written["rig"][1]
    shutil.copytree(written["rig"][0], root)
    moved = type(truth)(truth.scene, {root / path.relative_to(written["rig"][0]): s for path, s in truth.shots.items()})
    content = {name: json.loads((root / "splits" / f"{name}.json").read_text()) for name in ("train", "val")}
    for name, target in (("train", "train_mono"), ("train", "train_intl"), ("val", "val_common")):
        (root / "splits" / f"{target}.json").write_text(json.dumps(content[name]))
    assert LAYOUT.recognise(root) == "splits/train.json, camera/ and rgb/ without preprocessing"
    for name in ("train", "val"):
        (root / "splits" / f"{name}.json").unlink()
    (root / "covisible" / "2x" / "val").rename(root / "covisible" / "2x" / "val_common")
    splits = checks.parse_all(config(root, protocol=protocol))
    for split in ("train", "test"):
        checks.check_reprojection(splits[split], moved)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    assert splits["test"].metadata["priors"].load_covisible(0, (36, 48)).sum() == 36 * 24
    assert LAYOUT.recognise(root) == "splits/train_mono.json, camera/ and rgb/ without preprocessing"
    assert "train.json: no such split" in checks.message(config(root), FileNotFoundError)
    edit(root / "extra.json", factor=1)
    (root / "covisible" / "1x" / "val").rename(root / "covisible" / "1x" / "val_common")
    assert config(root, protocol=protocol).setup().get_dataparser_outputs("test").image_filenames[0].parts[-2] == "1x"


def test_intrinsics_at_2x_are_half(written):
    full, half = (
        config(written["rig"][0], downscale_factor=f).setup().get_dataparser_outputs("test").cameras for f in (1, 2)
    )
    for name in ("fx", "fy", "cx", "cy", "width", "height"):
        torch.testing.assert_close(getattr(full, name), 2 * getattr(half, name))


def test_lidar_is_z_depth_and_zero_is_unknown(written):
    """In scene units; nothing is divided by the ray's cosine, and what the LiDAR did not reach stays unknown."""
    root, truth = written["rig"]
    outputs = config(root, scene_json_frame=True).setup().get_dataparser_outputs("train")
    views = ClipViews.from_dataparser_outputs(outputs)
    shot = truth.shot(outputs.image_filenames[3])
    expected = np.where(shot.depth < UNSEEN, shot.depth, 0) * SCALE
    assert (expected == 0).any()
    np.testing.assert_allclose(views.depth(3).numpy(), expected, rtol=1e-5)
    assert outputs.dataparser_scale == pytest.approx(SCALE)


def test_masks_of_validation(written):
    test = config(written["rig"][0]).setup().get_dataparser_outputs("test")
    priors = test.metadata["priors"]
    assert priors.load_covisible(0, (36, 48)).sum() == 36 * 24
    assert priors.load_valid(0, (36, 48)).sum() == 36 * (48 - ALPHA_COLUMNS)
    assert priors.depth_files is None
    assert test.metadata["priors"].tracks is None


def test_keypoints_are_of_the_images_in_use(written):
    """The marked points are seed points of the first frame: they come back in pixels of 1x and of 2x."""
    root, truth = written["rig"]
    world = np.load(root / "points.npy")[:2]
    for factor in (1, 2):
        outputs = config(root, downscale_factor=factor).setup().get_dataparser_outputs("test")
        keypoints = outputs.metadata["keypoints"]
        expected, _ = truth.shots[root / "rgb" / "2x" / "0_00000.png"].camera.project(world)
        np.testing.assert_allclose(keypoints.xy[0].numpy(), expected * 2 / factor, atol=1e-3)
        assert keypoints.frame_index.tolist() == [0]
        train = config(root, downscale_factor=factor).setup().get_dataparser_outputs("train")
        views = ClipViews.from_dataparser_outputs(train)
        again, _ = project(checks.to_scene(train, torch.from_numpy(world)), views.camera_T_world[0], views.K[0])
        assert (again - keypoints.xy[0]).abs().max() < (0.6 if factor == 1 else 1e-2)  # half a pixel of 2x is one of 1x


def test_a_capture_without_extras_opens(capture):
    for name in ("depth", "covisible", "keypoint"):
        shutil.rmtree(capture / name)
    for name in ("extra.json", "points.npy"):
        (capture / name).unlink()
    with (
        pytest.warns(UserWarning, match="Validation counts all pixels"),
        pytest.warns(UserWarning, match="left in the frame of its camera files"),
    ):
        test = config(capture).setup().get_dataparser_outputs("test")
    assert "pixels: all" in test.metadata["protocol"]
    assert test.metadata["keypoints"] is None
    assert test.metadata["fps"] is None


def test_the_config_survives_yaml_and_the_layout_is_recognised(written, capture):
    checks.check_yaml(config(written["rig"][0], protocol="held-out-frames", downscale_factor=1))
    assert LAYOUT.recognise(capture) == "splits/train.json, camera/ and rgb/ without preprocessing"
    assert LAYOUT.recognise(capture / "rgb") is None
    for name in ("flow3d_preprocessed", "segmentation"):
        (capture / name).mkdir()
        assert LAYOUT.recognise(capture) is None
        (capture / name).rmdir()


def test_upper_case_suffixes_open(capture):
    (capture / "rgb/2x/0_00003.png").rename(capture / "rgb/2x/0_00003.PNG")
    outputs = config(capture).setup().get_dataparser_outputs("train")
    assert outputs.image_filenames[3].name == "0_00003.PNG"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


TRAIN, DEPTH, VAL = "splits/train.json", "depth/2x/0_00002.npy", "covisible/2x/val/1_00002.png"

CORRUPTIONS = {
    "no folder": (lambda r: shutil.rmtree(r), FileNotFoundError, "Expected a DyCheck capture"),
    "no split": (lambda r: (r / TRAIN).unlink(), FileNotFoundError, "train.json: no such split"),
    "split is cut": (lambda r: (r / TRAIN).write_text('{"frame_na'), ValueError, "cannot be read as JSON"),
    "lists differ": (lambda r: edit(r / TRAIN, time_ids=[1]), ValueError, "'frame_names' and 'time_ids' of one length"),
    "cameras differ": (lambda r: edit(r / TRAIN, camera_ids=[0]), ValueError, "10 frame_names and 1 camera_ids"),
    "times are floats": (lambda r: edit(r / TRAIN, time_ids=[0.5] * 10), ValueError, "more than whole numbers"),
    "names without camera": (
        lambda r: edit(r / TRAIN, frame_names=[f"left{i}" for i in range(10)], camera_ids=None),
        ValueError, 'not all like "0_00012"'),
    "names are numbers": (lambda r: edit(r / TRAIN, frame_names=[7] * 10), ValueError, 'not all like "0_00012"'),
    "names twice": (lambda r: edit(r / TRAIN, frame_names=["0_00000"] * 10), ValueError, "listed more than once"),
    "no frames": (
        lambda r: edit(r / TRAIN, frame_names=[], time_ids=[], camera_ids=[]), ValueError, "found 0 frames"),
    "train validates": (
        lambda r: edit(r / "splits/val.json", frame_names=["0_00000"], time_ids=[0], camera_ids=[0]),
        ValueError, "1 frames are in train.json too"),
    "image missing": (
        lambda r: (r / "rgb/2x/1_00004.png").unlink(), FileNotFoundError, "no such image; 1 of 20 are missing"),
    "image size": (
        lambda r: Image.new("RGB", (40, 36)).save(r / "rgb/2x/1_00004.png"), ValueError, "the image is 40x36"),
    "camera missing": (lambda r: (r / "camera/1_00004.json").unlink(), FileNotFoundError, "no such camera file"),
    "pose NaN": (
        lambda r: edit(r / "camera/1_00004.json", position=[float("nan")] * 3), ValueError, "are not finite"),
    "mirrored": (
        lambda r: edit(r / "camera/1_00004.json", orientation=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]),
        ValueError, "is not rigid"),
    "depth missing": (lambda r: (r / DEPTH).unlink(), FileNotFoundError, "no such LiDAR depth map; 1 of 10"),
    "depth size": (lambda r: np.save(r / DEPTH, np.ones((9, 9))), ValueError, "the depth map is 9x9, expected 48x36"),
    "depth NaN": (lambda r: np.save(r / DEPTH, np.full((36, 48), np.nan)), ValueError, "0_00002.npy"),
    "depth of text": (lambda r: np.save(r / DEPTH, np.full((36, 48), "a")), ValueError, "Expected numbers, found <U1"),
    "depth is cut": (
        lambda r: (r / DEPTH).write_bytes((r / DEPTH).read_bytes()[:300]), ValueError, "truncated or of another kind"),
    "depth would run code": (
        lambda r: (r / DEPTH).write_bytes(pickle.dumps(Bomb())), ValueError, "truncated or of another kind"),
    "covisible missing": (lambda r: (r / VAL).unlink(), FileNotFoundError, "no such co-visibility mask; 1 of 10"),
    "covisible size": (lambda r: Image.new("L", (4, 4)).save(r / VAL), ValueError, "the mask is 4x4, expected 48x36"),
    "fps": (lambda r: edit(r / "extra.json", fps="30"), ValueError, "fps is '30'; expected a positive number"),
    "factor": (lambda r: edit(r / "extra.json", factor=0), ValueError, "factor is 0; expected a positive whole number"),
    "keypoints": (
        lambda r: (r / "keypoint/2x/train/0_00000.json").write_text("[[1, 2]]"), ValueError, "as key-points"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "said"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_mistakes_are_explained(capture, spoil, kind, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spoil(capture)
    message = checks.message(config(capture), kind)
    assert said in message
    assert str(capture) in message
    assert not (tmp_path / "exploded").exists()


def test_too_few_frames_to_hold_any_out(tmp_path):
    write_dycheck(tmp_path, frames=2, validation=False)
    assert "none of 2 training frames can be held out" in checks.message(config(tmp_path))


@pytest.mark.skipif(not REAL.is_dir(), reason="the metadata of DyCheck's paper-windmill is not here")
def test_a_real_capture(tmp_path):
    """The release holds no images here: blank ones of the right size stand in, and everything else is real."""
    train, val = read_splits(REAL)
    assert (len(train.names), len(val.names)) == (277, 419)
    for name in ("camera", "splits", "scene.json", "extra.json"):
        (tmp_path / name).symlink_to(REAL / name)
    (tmp_path / "rgb" / "2x").mkdir(parents=True)
    Image.new("RGB", (360, 480)).save(tmp_path / "blank.png")
    for name in train.names + val.names:
        (tmp_path / "rgb" / "2x" / f"{name}.png").symlink_to(tmp_path / "blank.png")
    with pytest.warns(UserWarning, match="Validation counts all pixels"):
        splits = checks.parse_all(config(tmp_path, scene_json_frame=True))
    assert [len(splits[s].image_filenames) for s in ("train", "test")] == [277, 419]
    checks.check_times(splits)
    cameras = splits["test"].cameras.metadata["camera_index"].flatten()
    assert cameras.unique().tolist() == [1, 2]
    assert splits["train"].metadata["num_frames"] == 277
    assert splits["train"].metadata["fps"] == 30.0
    assert splits["train"].dataparser_scale == pytest.approx(0.2715916376300303)
    frame = scene_json_frame(REAL, required=True)
    assert frame is not None
    torch.testing.assert_close(splits["train"].cameras.cx[0], torch.tensor([358.8895263671875 / 2]))
    camera = json.loads((REAL / "camera" / "1_00265.json").read_text())
    place = val.names.index("1_00265")
    expected = (np.array(camera["position"]) - json.loads((REAL / "scene.json").read_text())["center"]) * 0.27159163763
    np.testing.assert_allclose(splits["test"].cameras.camera_to_worlds[place, :, 3].numpy(), expected, atol=1e-6)
