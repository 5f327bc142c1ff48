"""`dyngs process` on the sample's bare frames: poses and every prior withheld, against the exact truth."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dyngs_plugins.priors.command import run
from dyngs_plugins.priors.prior_kinds import KINDS
from dyngs_plugins.priors.process_options import ProcessOptions
from dyngs_plugins.priors.sources import read_clip
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

pytestmark = pytest.mark.slow  # three minutes on two cores


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "bench_priors.py"
    spec = importlib.util.spec_from_file_location("bench_priors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("truth")
    write_som(build_clip(SampleSettings(width=320, height=240, supersample=2)), root)
    return root


@pytest.mark.parametrize("focal", ["known", "searched"])
def test_cameras_masks_depth_and_tracks_of_the_sample(bench, sample, focal, tmp_path):
    K = json.loads((sample / "ground_truth.json").read_text())["cameras"]["camera0"]["K"]
    run(
        sample / "images" / "camera0",
        tmp_path / "clip",
        ProcessOptions(holdout=0, focal=K[0][0] if focal == "known" else None),
    )
    truth, frames = bench.read_truth(sample), read_clip(tmp_path / "clip").sequences[0]
    kinds = {name: KINDS[name](tmp_path / "clip", "camera0", frames.stems, frames.size) for name in KINDS}
    poses, scale = bench.score_poses(truth, frames.stems, frames.world_T_camera)
    places = range(len(frames))
    masks = bench.score_masks(truth, {frames.stems[i]: kinds["masks"].read(i, i) for i in places})
    depth = bench.score_depth(truth, {frames.stems[i]: kinds["depth"].read(i, i) for i in places}, scale)
    tracks = bench.score_tracks(truth, frames.stems, kinds["tracks"].read)
    assert poses["ATE / path"] < 0.02
    assert masks["IoU"] > 0.70
    assert depth["AbsRel still"] < 0.10
    assert tracks["within 2 px"] > 0.75
