"""``d2rf-data``: stereo clips in shallow focus; disparities brought to scale, flow within one camera, both splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from layout_checks import message, names, pairs, parse_all
from PIL import Image

from dataparsers.d2rf import LAYOUT, PROTOCOLS, D2rfDataParserConfig, d2rf_data
from dyngs_plugins.priors.colmap_files import read_model, write_model
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.d2rf import write_d2rf

STEPS = 5


def config(root: Path, **options) -> D2rfDataParserConfig:
    return D2rfDataParserConfig(data=root, **options)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("d2rf") / "scene"
    return root, write_d2rf(root, frames=STEPS)


@pytest.fixture
def scene(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "scene")
    return tmp_path / "scene"


@pytest.mark.parametrize(
    "options", [{}, {"protocol": "both"}, {"llff_frame": True}, {"scene_normalisation": False, "downscale_factor": 1}]
)
def test_cameras_priors_and_splits(scene, written, options):
    truth = moved_truth(written, scene)
    splits = parse_all(config(scene, **options))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
    for split in ("train",) if options.get("protocol") == "both" else ("train", "test"):
        checks.check_masks(splits[split], truth)
    checks.check_depth(splits["train"], truth, relative=0.05)
    checks.check_times(splits)
    checks.check_disjoint(splits)
    both = options.get("protocol") == "both"
    sides = (0, 1) if both else (0,)
    assert pairs(splits["train"]) == [(side, step) for step in range(STEPS) for side in sides]
    assert pairs(splits["test"]) == [(1, step) for step in range(STEPS)]
    assert all(name.endswith("_right") for name in names(splits["test"]))
    assert splits["test"].metadata["protocol"].startswith("both (" if both else "left-right (")
    width = 64 if options.get("downscale_factor") == 1 else 32
    assert int(splits["train"].cameras.width[0]) == int(splits["test"].cameras.width[0]) == width


def test_test_images_are_in_focus_and_training_images_are_not(scene, written):
    splits = parse_all(config(scene, downscale_factor=2))
    for split, same in (("train", False), ("test", True)):
        for path in splits[split].image_filenames:
            sharp = Image.open(scene / "images" / f"{path.stem}.jpg").resize((32, 24), Image.Resampling.BOX)
            difference = np.abs(np.asarray(Image.open(path), float) - np.asarray(sharp, float)).mean()
            assert (difference < 1.0) == same


def test_frames_of_a_published_run(scene):
    outputs = parse_all(config(scene, llff_frame=True))["train"]
    near = np.load(scene / "poses_bounds.npy")[:, 15]
    assert outputs.dataparser_scale == pytest.approx(1 / (0.9 * np.percentile(near, 5)), rel=1e-5)
    both = parse_all(config(scene, llff_frame=True, protocol="both"))["train"]
    np.testing.assert_allclose(both.cameras.camera_to_worlds[:, :, 3].mean(dim=0), 0, atol=1e-5)


def test_disparity_without_points_goes_by_the_bounds(scene):
    shutil.rmtree(scene / "sparse")
    views = ClipViews.from_dataparser_outputs(parse_all(config(scene, scene_normalisation=False))["train"])
    near, far = np.load(scene / "poses_bounds.npy")[0, 15:]
    for i in range(STEPS):
        depth = views.depth(i)
        assert depth.min() > 0.9 * near
        assert np.percentile(depth, 99) < 1.3 * far


def test_aligned_maps_are_made_anew_when_their_sources_change(scene):
    views = ClipViews.from_dataparser_outputs(parse_all(config(scene, scene_normalisation=False))["train"])
    before = views.depth(0).clone()
    path = scene / "dpt" / "000000_left.npy"
    np.save(path, 5.0 * np.load(path) - 2.0)  # another scale and shift of the same thing
    views = ClipViews.from_dataparser_outputs(parse_all(config(scene, scene_normalisation=False))["train"])
    torch.testing.assert_close(views.depth(0), before, rtol=1e-3, atol=1e-3)
    np.save(path, np.load(path).T.copy().reshape(24, 32))
    views = ClipViews.from_dataparser_outputs(parse_all(config(scene, scene_normalisation=False))["train"])
    assert (views.depth(0) - before).abs().mean() > 0.1


@pytest.mark.parametrize("protocol", ["left-right", "both"])
def test_flow_leads_to_the_next_image_of_the_same_camera(scene, written, protocol):
    truth = moved_truth(written, scene)
    outputs = parse_all(config(scene, protocol=protocol))["train"]
    checks.check_flow(outputs, truth)
    views = ClipViews.from_dataparser_outputs(outputs)
    left = [i for i in range(len(views)) if views.camera_index[i] == 0]
    forward, backward = views.priors.flow_forward, views.priors.flow_backward
    assert [forward[i] and forward[i].target for i in left] == [*left[1:], None]
    assert [backward[i] and backward[i].target for i in left] == [None, *left[:-1]]
    assert all(forward[i] is None and backward[i] is None for i in range(len(views)) if i not in left)
    assert parse_all(config(scene, protocol=protocol))["test"].metadata["priors"].flow_forward is None


def test_flow_is_scaled_to_the_images_in_use(scene, written):
    """Stored at half size; used at full size, and at a third."""
    truth = moved_truth(written, scene)
    for factor in (1, 3):
        shutil.rmtree(scene / "dpt", ignore_errors=True)
        outputs = parse_all(config(scene, downscale_factor=factor))["train"]
        assert int(outputs.cameras.width[0]) == round(64 / factor)
        checks.check_flow(outputs, truth, pixels=0.1 * 2 / factor, share=0.9)


def moved_truth(written, scene: Path):
    root, truth = written
    return type(truth)(truth.scene, {scene / path.relative_to(root): shot for path, shot in truth.shots.items()})


def test_seed_points_and_background_masks(scene):
    outputs = parse_all(config(scene))["train"]
    model = read_model(scene / "sparse" / "0")
    assert model.points is not None
    train = {image.id for image in model.images.values() if "_left" in image.name}
    kept = sum(len(train & set(track[:, 0].tolist())) >= 2 for track in model.points.tracks)
    assert len(outputs.metadata["points3D_xyz"]) == kept > 20
    assert len(outputs.metadata["background_mask_files"]) == STEPS
    with Image.open(outputs.metadata["background_mask_files"][0]) as mask:
        assert mask.size == (32, 24)


def test_config_and_layout(written, tmp_path):
    checks.check_yaml(config(written[0], llff_frame=True))
    assert d2rf_data.config.downscale_factor == 2
    assert LAYOUT.recognise(written[0]) == "images_bokeh/ beside poses_bounds.npy"
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)


def test_clips_without_priors_upper_case_and_unicode(scene, tmp_path):
    moved = scene.rename(tmp_path / "Bälle 球")
    for folder in ("dpt", "motion_masks", "background_mask", "flow_i1", "sparse"):
        shutil.rmtree(moved / folder)
    (moved / "images_bokeh" / "000001_left.jpg").rename(moved / "images_bokeh" / "000001_left.JPG")
    outputs = parse_all(config(moved))["train"]
    assert outputs.metadata["priors"].depth_files is None
    assert outputs.metadata["priors"].mask_files is None
    assert not outputs.metadata["priors"].has_flow
    assert len(outputs.image_filenames) == STEPS


def rewrite(path: Path, **arrays) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)


CORRUPTIONS = {
    "no bokeh": (lambda r: shutil.rmtree(r / "images_bokeh"), "images_bokeh: no such folder"),
    "odd": (lambda r: (r / "images_bokeh/000004_right.jpg").unlink(), "000004_left.jpg: it has no right image"),
    "gap": (
        lambda r: (r / "images_bokeh/000002_left.jpg").unlink(),
        "000002_right.jpg: found this as image 5 of 9. Expected pairs",
    ),
    "no sharp": (
        lambda r: (r / "images/000003_right.jpg").unlink(),
        "000003_right.jpg: no such all-in-focus image; 1 of 5",
    ),
    "rows": (
        lambda r: np.save(r / "poses_bounds.npy", np.load(r / "poses_bounds.npy")[::2]),
        "5 rows. Expected 10, one per image",
    ),
    "size": (
        lambda r: Image.new("RGB", (32, 24)).save(r / "images_bokeh/000002_left.jpg"),
        "000002_left.jpg: the image is 32x24, expected 64x48",
    ),
    "mask missing": (
        lambda r: (r / "motion_masks/000001_left.png").unlink(),
        "000001_left.png: no such mask; 1 of 5 are missing",
    ),
    "mask size": (
        lambda r: Image.new("L", (7, 5)).save(r / "motion_masks/000001_left.png"),
        "000001_left.png: the mask is 7x5, expected 64x48",
    ),
    "mask damaged": (lambda r: (r / "motion_masks/000001_left.png").write_bytes(b"x"), "cannot be read as an image"),
    "dpt missing": (lambda r: (r / "dpt/000001_left.npy").unlink(), "000001_left.npy: no such disparity map"),
    "dpt damaged": (
        lambda r: (r / "dpt/000001_left.npy").write_bytes(b"\x93NUMPY"),
        "000001_left.npy: cannot be read as a disparity map",
    ),
    "dpt nan": (lambda r: np.save(r / "dpt/000001_left.npy", np.full((24, 32), np.nan)), "or not finite"),
    "dpt shape": (lambda r: np.save(r / "dpt/000001_left.npy", np.zeros(9)), "an array of shape (9,)"),
    "dpt objects": (
        lambda r: np.save(r / "dpt/000001_left.npy", np.array([print], object), allow_pickle=True),
        "000001_left.npy: cannot be read as a disparity map",
    ),
    "flow missing": (lambda r: (r / "flow_i1/000001_left_bwd.npz").unlink(), "000001_left_bwd.npz: no such flow file"),
    "flow damaged": (lambda r: (r / "flow_i1/000001_left_bwd.npz").write_bytes(b"PK"), "cannot be read as flow"),
    "flow key": (
        lambda r: rewrite(r / "flow_i1/000001_left_bwd.npz", flow=np.zeros((24, 32, 2))),
        "cannot be read as flow (it lacks mask)",
    ),
    "flow size": (
        lambda r: rewrite(r / "flow_i1/000001_left_bwd.npz", flow=np.zeros((48, 48, 2)), mask=np.ones((48, 48))),
        "the flow is 48x48, but its image is 32x24",
    ),
    "flow's mask": (
        lambda r: rewrite(r / "flow_i1/000001_left_bwd.npz", flow=np.zeros((24, 32, 2)), mask=np.ones((24, 31))),
        "the flow's mask is 31x24, expected 32x24",
    ),
    "flow shape": (
        lambda r: rewrite(r / "flow_i1/000001_left_bwd.npz", flow=np.zeros((2, 24, 32)), mask=np.ones((24, 32))),
        "an array of shape (2, 24, 32). Expected flow [h, w, 2]",
    ),
    "flow objects": (
        lambda r: rewrite(r / "flow_i1/000001_left_bwd.npz", flow=np.array([print], object), mask=np.ones(1)),
        "cannot be read as flow (ValueError",
    ),
    "points": (lambda r: (r / "sparse/0/points3D.bin").write_bytes(b"1"), "points3D.bin: it ends inside"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_broken_files(scene, name):
    spoil, said = CORRUPTIONS[name]
    spoil(scene)
    parser = config(scene).setup()
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        parser.get_dataparser_outputs("train")
    assert said in str(raised.value)
    assert str(scene) in str(raised.value)


def test_other_mistakes(scene):
    assert "protocol is 'left'; expected one of" in message(config(scene, protocol="left"))
    assert "downscale_factor is -1" in message(config(scene, downscale_factor=-1))
    shutil.rmtree(scene / "sparse")
    np.save(scene / "dpt" / "000002_left.npy", np.ones((24, 32)))
    said = message(config(scene))
    assert "disparities from 1 to 1 cannot be brought to scale by the bounds 2 to 9" in said


def test_points_of_too_few_tracks_fall_back(scene):
    model = read_model(scene / "sparse" / "0")
    images = {i: type(m)(i, m.name, m.camera_id, m.camera_T_world) for i, m in model.images.items()}
    write_model(scene / "sparse" / "0", type(model)(model.cameras, images, model.points))
    views = ClipViews.from_dataparser_outputs(parse_all(config(scene, scene_normalisation=False))["train"])
    assert 1.5 < float(views.depth(0).median()) < 9.5


def test_wrong_points_do_not_spoil_the_scale(scene, written):
    """One point in eight is twice as far away as it should be."""
    model = read_model(scene / "sparse" / "0")
    points = model.points
    assert points is not None
    centre = written[1].shots[written[0] / "images" / "000000_left.jpg"].camera.world_T_camera[:3, 3]
    xyz = points.xyz.copy()
    xyz[::8] = centre + 2.0 * (xyz[::8] - centre)
    spoilt = type(points)(points.ids, xyz, points.rgb, points.error, points.tracks)
    write_model(scene / "sparse" / "0", type(model)(model.cameras, model.images, spoilt))
    views = ClipViews.from_dataparser_outputs(parse_all(config(scene, scene_normalisation=False))["train"])
    for i, path in enumerate(views.image_files):
        true = written[1].shots[written[0] / "images" / f"{path.stem}.jpg"].depth
        true = true.reshape(24, 2, 32, 2).mean(axis=(1, 3))
        ratio = views.depth(i).numpy() / true
        assert abs(np.median(ratio) - 1.0) < 0.02
