"""``with-priors-data``: a data set opened by its own loader, with priors from a folder beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch

from dataparsers.auto import AutoDataParserConfig
from dataparsers.d2rf import D2rfDataParserConfig
from dataparsers.view_subset import subset_views
from dataparsers.with_priors import LAYOUT, WithPriorsDataParserConfig
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.d2rf import write_d2rf
from dyngs_plugins.sample.writers.truth import Truth
from dyngs_plugins.sample.writers.with_priors import write_with_priors

STEPS = 5


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Truth]:
    root = tmp_path_factory.mktemp("with_priors") / "priors"
    return root, write_with_priors(root, frames=STEPS)


@pytest.fixture
def scene(written, tmp_path) -> Path:
    shutil.copytree(written[0], tmp_path / "priors")
    return tmp_path / "priors"


def config(root: Path, **options) -> WithPriorsDataParserConfig:
    return WithPriorsDataParserConfig(data=root, **options)


@pytest.mark.parametrize("normalise", [True, False])
def test_added_priors_are_right_in_every_frame(written, normalise):
    """Depth in the cameras' units before the loader's transform, flow, masks and tracks at the size that trains."""
    root, truth = written
    splits = checks.parse_all(config(root, scene_normalisation=normalise))
    for outputs in splits.values():
        checks.check_reprojection(outputs, truth)
        checks.check_round_trip(outputs, truth)
    checks.check_disjoint(splits)
    checks.check_times(splits)
    checks.check_depth(splits["train"], truth)
    checks.check_masks(splits["train"], truth)
    checks.check_flow(splits["train"], truth)
    assert checks.pairs(splits["train"]) == [(0, step) for step in range(STEPS)]
    assert checks.pairs(splits["test"]) == [(1, step) for step in range(STEPS)]
    assert "bounds" in splits["train"].metadata  # what the data set's loader says is said too
    views = ClipViews.from_dataparser_outputs(splits["train"])
    seen = views.tracks.observe(1, 3)
    assert seen.visible.sum() > 5
    own = D2rfDataParserConfig(data=root / "Camp", scene_normalisation=normalise).setup()
    plain = own.get_dataparser_outputs("test")
    assert plain.image_filenames == splits["test"].image_filenames
    if not normalise:
        torch.testing.assert_close(plain.cameras.camera_to_worlds, splits["test"].cameras.camera_to_worlds)


def test_the_data_set_ships_some_kinds_and_the_folder_has_the_others(written, scene):
    """D2RF's own depth is used where the folder has none, and the folder's where it has some."""
    write_d2rf(scene / "Full", frames=STEPS)
    record = json.loads((scene / "with_priors.json").read_text())
    (scene / "with_priors.json").write_text(json.dumps(record | {"dataset": "Full", "kinds": ["tracks"]}))
    priors = checks.parse_all(config(scene))["train"].metadata["priors"]
    assert "dpt_aligned" in str(priors.depth_files[0])
    assert priors.mask_files[0].is_relative_to(scene / "Full")
    assert priors.flow_forward[0].path.is_relative_to(scene / "Full")
    assert priors.tracks is not None
    (scene / "with_priors.json").write_text(json.dumps(record | {"dataset": "Full"}))
    priors = checks.parse_all(config(scene))["train"].metadata["priors"]
    assert priors.depth_files[0] == scene / "aligned_depth_anything/camera0/000000_left.npy"
    assert priors.flow_forward[0].path == scene / "flow/camera0/000000_left_fwd.npy"


def test_views_without_priors_do_not_train(scene):
    """Of both cameras only the left one has priors; flow keeps leading to the right places."""
    write_d2rf(scene / "Full", frames=STEPS)
    record = json.loads((scene / "with_priors.json").read_text())
    changed = {"dataset": "Full", "protocol": "both", "kinds": ["depth", "masks"]}
    (scene / "with_priors.json").write_text(json.dumps(record | changed))
    outputs = checks.parse_all(config(scene))["train"]
    assert checks.pairs(outputs) == [(0, step) for step in range(STEPS)]
    assert [f and f.target for f in outputs.metadata["priors"].flow_forward] == [1, 2, 3, 4, None]
    views = ClipViews.from_dataparser_outputs(outputs)
    some = subset_views(views, [0, 2, 3])
    assert [f and f.target for f in some.priors.flow_forward] == [None, 2, None]
    assert torch.equal(some.depth(1), views.depth(2))


def test_auto_data_opens_it_and_it_survives_yaml(written):
    assert LAYOUT.recognise(written[0]) == "with_priors.json: priors of a data set that lies elsewhere"
    parser = AutoDataParserConfig(data=written[0]).setup()
    assert len(parser.get_dataparser_outputs("train").image_filenames) == STEPS
    checks.check_yaml(config(written[0], mask_erosion=5))


def change(root: Path, **values) -> None:
    record = json.loads((root / "with_priors.json").read_text())
    (root / "with_priors.json").write_text(json.dumps(record | values))


CORRUPTIONS = {
    "no data set": (
        lambda r: (r / "Camp").rename(r / "Elsewhere"),
        "Camp is not there. Expected its folder; was it moved?",
    ),
    "another version": (lambda r: change(r, version=2), "Expected format 'dyngs-with-priors', version 1"),
    "no layout": (lambda r: change(r, layout=""), "expected text as dataset, layout and protocol"),
    "unknown layout": (lambda r: change(r, layout="d3rf-data"), "layout is 'd3rf-data'; expected one of"),
    "unknown protocol": (lambda r: change(r, protocol="middle"), "protocol is 'middle'; expected one of"),
    "no sequences": (lambda r: change(r, sequences={}), "and sequences; found"),
    "bad frame": (
        lambda r: change(r, sequences={"camera0": [{"name": "a"}]}),
        "expected entries of name, camera and step",
    ),
    "a frame outside": (
        lambda r: change(r, sequences={"camera0": [{"name": "../a", "camera": 0, "step": 0}]}),
        "which lies outside of",
    ),
    "a view that is gone": (
        lambda r: change(r, sequences={"camera0": [{"name": "a", "camera": 0, "step": 9}]}),
        "it lists camera 0 at time step 9, but",
    ),
    "unknown kind": (lambda r: change(r, kinds=["normals"]), "kinds names normals; expected some of flow, masks"),
    "depth missing": (
        lambda r: (r / "aligned_depth_anything/camera0/000002_left.npy").unlink(),
        "000002_left.npy: no such file; 1 of 5 depth files are missing",
    ),
    "depth of another size": (
        lambda r: np.save(r / "aligned_depth_anything/camera0/000002_left.npy", np.ones((48, 64), np.float32)),
        "the disparity map is 64x48, expected 32x24",
    ),
    "mask damaged": (lambda r: (r / "masks/camera0/000001_left.png").write_bytes(b"x"), "cannot be read as an image"),
    "track missing": (lambda r: (r / "tracks/camera0/000001_left.npz").unlink(), "000001_left.npz"),
    "no tracks": (
        lambda r: shutil.rmtree(r / "tracks/camera0"),
        "tracks/camera0: no such folder. Expected the tracks of 5",
    ),
    "not JSON": (lambda r: (r / "with_priors.json").write_text("{"), "with_priors.json"),
    "itself": (lambda r: change(r, layout="with-priors-data"), "is itself one with added priors"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_can_be_wrong(scene, name):
    spoil, said = CORRUPTIONS[name]
    spoil(scene)
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        config(scene).setup().get_dataparser_outputs("train")
    assert said in str(raised.value)
