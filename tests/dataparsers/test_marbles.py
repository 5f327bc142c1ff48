"""``marbles-data``: the repack's splits, priors at half size, tracks in a window, and what can be wrong."""

from __future__ import annotations

import json
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
    to_scene,
)
from PIL import Image

from dataparsers.marbles import LAYOUT, PROTOCOLS, MarblesDataParserConfig
from dataparsers.nerfies import LAYOUT as NERFIES
from dataparsers.resized_maps import reduce_depth
from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample import ground_truth as gt
from dyngs_plugins.sample.writers.marbles import write_marbles
from dyngs_plugins.sample.writers.truth import Truth

FRAMES, WINDOW = 6, 3
NAME = "4_00002"
HALF = 0.01, 0.82
"""In 32x24 pixels one in seven lies on the edge of something, where a depth of the reduced map is that of either side."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Truth]:
    """The scene as it is written; do not write there."""
    root = tmp_path_factory.mktemp("marbles") / "Balloon1"
    return root, write_marbles(root, frames=FRAMES, window=WINDOW)


@pytest.fixture
def scene(written, tmp_path) -> tuple[Path, Truth]:
    """A copy to spoil."""
    root = tmp_path / "Balloon1"
    shutil.copytree(written[0], root)
    shots = {root / path.relative_to(written[0]): shot for path, shot in written[1].shots.items()}
    return root, Truth(written[1].scene, shots)


class Code:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def config(root: Path, **options) -> MarblesDataParserConfig:
    return MarblesDataParserConfig(data=root, **options)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize(
    "options", [{}, {"scene_normalisation": False}, {"scene_json_frame": True}, {"downscale_factor": 1}]
)
def test_every_protocol_opens(scene, protocol, options):
    root, truth = scene
    splits = parse_all(config(root, protocol=protocol, **options))
    for outputs in splits.values():
        check_reprojection(outputs, truth)
        check_round_trip(outputs, truth)
        assert outputs.metadata["protocol"].startswith(f"{protocol} (trains on")
    check_disjoint(splits)
    check_times(splits)
    half = int(splits["train"].cameras.width[0]) == 32
    check_depth(splits["train"], truth, *(HALF if half else (1e-3, 0.99)))
    check_masks(splits["train"], truth)
    assert pairs(splits["train"]) == [(4, t) for t in range(FRAMES)]
    assert pairs(splits["test"]) == [(c, t) for c in (3, 5, 6) for t in range(FRAMES)]
    assert int(splits["train"].cameras.width[0]) == (64 if "downscale_factor" in options else 32)
    test = splits["test"].metadata["priors"]
    assert (test.depth_files, test.mask_files, test.tracks) == (None, None, None)
    assert test.covisible_files is not None
    assert ("1/1, where the protocol says 1/2" in splits["test"].metadata["protocol"]) == (
        "downscale_factor" in options
    )


def test_the_frame_of_scene_json(scene):
    """p' = (p - center) * scale, for points and depths alike."""
    outputs = parse_all(config(scene[0], scene_json_frame=True))["train"]
    assert outputs.dataparser_scale == pytest.approx(0.9)
    found = to_scene(outputs, torch.tensor([[1.1, -0.4, 2.2]]))
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.0, 1.8]]))


@pytest.mark.parametrize("factor", [1, 2])
def test_tracks_follow_the_true_surface(scene, factor):
    """Tracked pixels are where the returned cameras project the true points, at the size in use."""
    root, truth = scene
    outputs = parse_all(config(root, downscale_factor=factor))["train"]
    views = ClipViews.from_dataparser_outputs(outputs)
    assert views.tracks is not None
    shots = [truth.shot(path) for path in views.image_files]
    for query in (0, 3):
        seen = gt.surfaces(truth.scene, shots[query].camera, shots[query].time)
        pixels = gt.query_pixels(np.ones((48, 64), bool), 4)
        true = gt.track(truth.scene, [s.camera for s in shots], [s.time for s in shots], seen, pixels)
        assert views.tracks.targets(query).tolist() == [t for t in range(FRAMES) if abs(t - query) <= WINDOW]
        for target in views.tracks.targets(query).tolist():
            observed = views.tracks.observe(query, target)
            points = to_scene(outputs, torch.from_numpy(true.points[target]).float())
            expected, _ = project(points, views.camera_T_world[target], views.K[target])
            visible = torch.from_numpy(true.visible[target])
            assert float((observed.xy - expected)[visible].abs().max()) < 0.1
            assert torch.equal(observed.visible, visible)
            assert torch.equal(observed.invisible, ~visible)
        rows = torch.tensor([5, 2])
        torch.testing.assert_close(views.tracks.observe(query, 1, rows).xy, views.tracks.observe(query, 1).xy[rows])
    outside = views.tracks.observe(0, FRAMES - 1)
    assert not (outside.visible | outside.invisible).any()
    assert not outside.confidence.any()


@pytest.mark.filterwarnings("ignore:The scene frame is taken from")
def test_a_moving_camera(tmp_path):
    truth = write_marbles(tmp_path, frames=4, moving_camera=True)
    splits = parse_all(config(tmp_path, protocol="dycheck"))
    for outputs in splits.values():
        check_reprojection(outputs, truth)
    check_depth(splits["train"], truth, *HALF)
    said = message(config(tmp_path, protocol="nvidia-fixed"))
    assert "trains on one camera that stands still; found the cameras [4], of which 4_0000" in said


def test_reduced_depth_is_exact_on_planes_and_mixes_no_surfaces():
    y, x = np.mgrid[:4, :6].astype(np.float64)
    plane = 1.0 / (0.3 + 0.002 * x + 0.001 * y)
    centers = 1.0 / (0.3 + 0.002 * (x[::2, ::2] + 0.5) + 0.001 * (y[::2, ::2] + 0.5))
    np.testing.assert_allclose(reduce_depth(plane, (2, 3)), centers, rtol=1e-6)
    step = np.array([[1.0, 9.0], [1.0, 9.0]])
    assert reduce_depth(step, (1, 1)).tolist() == [[1.0]]
    assert reduce_depth(np.array([[0.0, 9.0], [0.0, 3.0]]), (1, 1)).tolist() == [[3.0]]
    assert reduce_depth(np.zeros((2, 2)), (1, 1)).tolist() == [[0.0]]
    assert reduce_depth(np.arange(15.0).reshape(3, 5), (1, 2)).shape == (1, 2)


def test_reduced_copies_are_used_where_they_are(scene):
    root, _ = scene
    first = parse_all(config(root))["train"]
    assert first.image_filenames[0] == root / "rgb" / "2x" / "4_00000.png"
    assert first.metadata["priors"].depth_files[0] == root / "depth" / "2x" / "4_00000.npy"
    mine = np.full((24, 32), 7.0, np.float32)
    np.save(root / "depth" / "2x" / "4_00000.npy", mine)
    views = ClipViews.from_dataparser_outputs(parse_all(config(root, scene_normalisation=False))["train"])
    assert float(views.depth(0).unique()) == 7.0
    np.save(root / "depth" / "2x" / "4_00000.npy", mine[1:])
    assert "2x/4_00000.npy: the depth map is 32x23, expected 32x24" in message(config(root))


def test_labels_keep_their_instances(scene):
    root, _ = scene
    files = parse_all(config(root))["train"].metadata["priors"].mask_files
    assert set(np.unique(np.asarray(Image.open(files[0])))) <= {0, 1, 2}
    assert len({int(v) for f in files for v in np.unique(np.asarray(Image.open(f)))}) == 3


def test_it_opens_without_priors(scene):
    root, truth = scene
    for kind in ("depth", "segmentation", "tracks", "covisible"):
        shutil.rmtree(root / kind)
    with pytest.warns(UserWarning, match="left in the frame of its camera files"):
        splits = parse_all(config(root))
    priors = splits["train"].metadata["priors"]
    assert (priors.depth_files, priors.mask_files, priors.tracks) == (None, None, None)
    assert splits["test"].metadata["priors"].covisible_files is None
    check_reprojection(splits["test"], truth)
    said = message(config(root, protocol="dycheck"), FileNotFoundError)
    assert "covisible/2x/val: no such folder. Expected the co-visibility masks of DyCheck" in said


def test_half_size_folders_alone(scene):
    root, truth = scene
    expected = parse_all(config(root))
    for kind in ("rgb", "depth"):
        shutil.rmtree(root / kind / "1x")
    found = parse_all(config(root))
    torch.testing.assert_close(found["train"].cameras.fx, expected["train"].cameras.fx)
    check_depth(found["train"], truth, *HALF)
    torch.testing.assert_close(
        found["train"].metadata["priors"].tracks.query_points(0),
        expected["train"].metadata["priors"].tracks.query_points(0),
    )


def test_times_that_do_not_start_at_zero(scene):
    """Tracks then have one row per training frame in order."""
    root, _ = scene
    for split in ("train", "val"):
        edit(
            root / "splits" / f"{split}.json",
            lambda c: c.update(time_ids=[30 + int(n.split("_")[1]) for n in c["ids"]]),
        )
    splits = parse_all(config(root))
    check_times(splits)
    assert pairs(splits["train"]) == [(4, t) for t in range(FRAMES)]
    assert splits["train"].metadata["priors"].tracks.targets(0).tolist() == [0, 1, 2, 3]


def test_config_and_recognition(written, tmp_path):
    root, _ = written
    check_yaml(config(root, protocol="dycheck", scene_json_frame=True))
    assert (
        LAYOUT.recognise(root)
        == "splits/train.json, camera/, rgb/ and segmentation/, tracks/: Gaussian Marbles' repack"
    )
    assert NERFIES.recognise(root) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    copy = tmp_path / "dycheck"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("segmentation", "tracks"))
    assert LAYOUT.recognise(copy) is None


def test_upper_case_suffixes_and_unicode_paths(written, tmp_path):
    root = tmp_path / "Bälle 球"
    shutil.copytree(written[0], root)
    (root / "rgb" / "1x" / "4_00003.png").rename(root / "rgb" / "1x" / "4_00003.PNG")
    assert len(parse_all(config(root))["train"].image_filenames) == FRAMES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("ids"), "found no frames; expected a list ids (or frame_names)"),
        (lambda c: c.update(ids=[]), "found no frames; expected a list ids"),
        (lambda c: c.update(ids="4_00000"), "found no frames; expected a list ids"),
        (lambda c: c["ids"].append("left_3"), "'left_3' is not CAMERA_TIME. Expected names like 4_00012"),
        (lambda c: c["ids"].append(7), "7 is not CAMERA_TIME"),
        (lambda c: c["ids"].append("4_00000"), "'4_00000' is listed more than once"),
        (lambda c: c["ids"].append("3_00000"), "1 frames are in train.json too; the first is '3_00000'"),
        (lambda c: c.update(time_ids=[0, 1]), "time_ids is not a list of 6 whole numbers"),
        (lambda c: c.update(time_ids=3), "time_ids is not a list of 6 whole numbers"),
        (lambda c: c.update(camera_ids=[0.5] * 6), "camera_ids is not a list of 6 whole numbers"),
        (lambda c: c.update(time_ids=[1] * 6), "two frames are the same camera at the same time"),
    ],
)
def test_broken_splits(scene, change, said):
    root, _ = scene
    edit(root / "splits" / "train.json", change)
    found = message(config(root))
    assert said in found
    assert str(root / "splits") in found


def test_missing_and_damaged_records(scene, tmp_path):
    root, _ = scene
    said = message(config(tmp_path / "nothing"), FileNotFoundError)
    assert "nothing: no such folder. Expected a scene in Marbles' layout" in said
    (root / "camera" / f"{NAME}.json").write_text("{")
    assert f"{NAME}.json: cannot be read as JSON" in message(config(root))
    (root / "camera" / f"{NAME}.json").unlink()
    assert f"{NAME}.json: no such camera file" in message(config(root), FileNotFoundError)
    (root / "splits" / "val.json").write_text("[]")
    assert "val.json: expected a JSON object as split, found a list" in message(config(root))
    (root / "splits" / "val.json").unlink()
    assert "val.json: no such split" in message(config(root), FileNotFoundError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["position"].__setitem__(0, float("nan")), "1 poses of orientation and position are not finite"),
        (lambda c: c["orientation"][0].__setitem__(0, 3.0), "is not rigid"),
        (lambda c: c.update(focal_length=-1.0), "focal_length -1.0"),
        (lambda c: c.pop("principal_point"), "not a Nerfies camera (KeyError('principal_point'))"),
        (lambda c: c.update(image_size=[640, 480]), "expected about 320x240"),
    ],
)
def test_broken_cameras(scene, change, said):
    root, _ = scene
    edit(root / "camera" / f"{NAME}.json", change)
    assert said in message(config(root))


def test_broken_images(scene):
    root, _ = scene
    assert "downscale_factor is 0; expected a whole number of at least 1" in message(config(root, downscale_factor=0))
    path = root / "rgb" / "1x" / f"{NAME}.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    assert f"{path}: cannot be read as an image" in message(config(root))
    Image.new("RGB", (20, 20)).save(path)
    assert f"{path}: the image is 20x20, expected 64x48" in message(config(root))
    path.unlink()
    said = message(config(root), FileNotFoundError)
    assert f"{path}: no such image; 1 of 24 are missing" in said
    shutil.rmtree(root / "rgb")
    assert "rgb/1x: no such folder. Expected the images C_XXXXX.png" in message(config(root), FileNotFoundError)


def test_broken_depth(scene):
    root, _ = scene
    path = root / "depth" / "1x" / f"{NAME}.npy"
    good = np.load(path)
    for values, said in (
        (good[:-3], "the depth map is 64x45, expected 64x48"),
        (good[..., None].repeat(3, -1), "the depth map is an array of shape (48, 64, 3), expected 64x48"),
        (np.where(good > 5, np.nan, good), "values are NaN or infinite"),
    ):
        np.save(path, values)
        assert f"{path}: " in message(config(root))
        assert said in message(config(root))
    np.save(path, np.array([Code(root / "ran")], dtype=object), allow_pickle=True)
    assert f"{path}: cannot be read as a depth map" in message(config(root))
    assert not (root / "ran").exists()
    path.unlink()
    assert f"{path}: no such depth map; 1 of 6 are missing" in message(config(root), FileNotFoundError)


def test_broken_labels(scene):
    root, _ = scene
    path = root / "segmentation" / "1x" / f"{NAME}.npy"
    good = np.load(path)
    for values, said in (
        (good[:-4], "the label map is 64x44, expected 64x48"),
        (good * 0.5, "values from 0.0 to 1.0. Expected whole numbers from 0 (background) to 255"),
        (good - 1, "values from -1 to"),
        (good * 500, "Expected whole numbers from 0 (background) to 255"),
        (good.astype(np.float32) + np.nan, "values from nan to nan"),
        (np.zeros(7), "an array of shape (7,). Expected labels of shape (height, width)"),
    ):
        np.save(path, values)
        assert said in message(config(root))
    path.write_bytes(path.read_bytes()[:90])
    assert f"{path}: cannot be read as a label map" in message(config(root))
    path.unlink()
    assert f"{path}: no such label map; 1 of 6 are missing" in message(config(root), FileNotFoundError)


def test_broken_tracks(scene):
    root, _ = scene
    path = root / "tracks" / "1x" / "track_00002.npy"
    good = np.load(path)
    for values, said in (
        (good[..., :2], "Expected (frames, points, 3): x, y, visibility"),
        (good[:-1], "track_00002.npy: 5 frames, but track_00000.npy has 6"),
        (good * (np.arange(6) != 2)[:, None, None], "row 2, its own frame, is empty"),
    ):
        np.save(path, values)
        assert said in message(config(root))
    bad = good.copy()
    bad[1, 3] = np.nan
    np.save(path, bad)
    tracks = parse_all(config(root, scene_normalisation=False))["train"].metadata["priors"].tracks
    with pytest.raises(ValueError, match=r"track_00002.npy: 3 values are not finite. Expected pixels"):
        tracks.observe(2, 1)
    for other in (root / "tracks" / "1x").iterdir():
        np.save(other, good[:4])
    assert "4 frames. Expected one per time id (at least 6) or one per training frame (6)" in message(config(root))
    path.unlink()
    said = message(config(root), FileNotFoundError)
    assert f"{path}: no such track file" in said
    assert "Expected one per training frame" in said


def test_broken_covisible_masks(scene):
    root, _ = scene
    path = root / "covisible" / "2x" / "val" / "5_00001.png"
    Image.new("L", (10, 10)).save(path)
    assert f"{path}: the image is 10x10, expected 32x24" in message(config(root))
    path.unlink()
    assert f"{path}: no such co-visibility mask; 1 of 18 are missing" in message(config(root), FileNotFoundError)


def test_a_damaged_scene_record(scene):
    root, _ = scene
    edit(root / "scene.json", lambda c: c.update(scale=-1))
    parse_all(config(root))  # nothing of it is used
    assert "scale -1.0 and center" in message(config(root, scene_json_frame=True))
