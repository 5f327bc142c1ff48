"""`dyngs process` on a data set: priors for its training views in a folder of their own, and the data set as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dataparsers.with_priors import WithPriorsDataParserConfig
from dyngs_plugins.convert.source import opened
from dyngs_plugins.priors.command import run
from dyngs_plugins.priors.layout_source import films_of, is_data_set, process_data_set
from dyngs_plugins.priors.process import make_providers
from dyngs_plugins.priors.process_options import DEFAULTS, ProcessOptions
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.colmap import write_colmap_time
from dyngs_plugins.sample.writers.d2rf import write_d2rf
from dyngs_plugins.sample.writers.llff import write_llff
from dyngs_plugins.sample.writers.nvidia import write_dynamicnerf, write_nsff
from dyngs_plugins.sample.writers.som import write_som_clip
from dyngs_plugins.sample.writers.stereo_blur import write_stereo_blur

STEPS = 5


def plain(items, title="", total=None):
    return items


def content(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


def process(source: Path, out: Path, **options) -> list[str]:
    said: list[str] = []
    process_data_set(source, out, make_providers(DEFAULTS.providers, {}), plain, said.append, **options)
    return said


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """A D2RF clip that ships masks and flow, processed; what it held before; and what was said."""
    root = tmp_path_factory.mktemp("processed")
    truth = write_d2rf(root / "Camp", width=96, height=72, frames=STEPS)
    shutil.rmtree(root / "Camp" / "dpt")
    before = content(root / "Camp")
    said = process(root / "Camp", root / "priors", views="left")
    return root, truth, before, said


def test_only_what_is_lacking_is_made_and_the_data_set_is_left_as_it_was(processed):
    root, _, before, said = processed
    assert content(root / "Camp") == before
    assert any(line.startswith("Used as the data set ships them: flow, masks.") for line in said)
    record = json.loads((root / "priors" / "with_priors.json").read_text())
    assert record["dataset"] == "../Camp"
    assert (record["layout"], record["protocol"], record["kinds"]) == ("d2rf-data", "left-right", ["depth", "tracks"])
    assert [f["name"] for f in record["sequences"]["camera0"]] == [f"{i:06d}_left" for i in range(STEPS)]
    kinds = {path.parts[0] for path in (p.relative_to(root / "priors") for p in (root / "priors").rglob("*.np[yz]"))}
    assert kinds == {"aligned_depth_anything", "tracks"}
    assert sorted(p.name for p in root.iterdir()) == ["Camp", "priors"]  # links and copies are gone


def test_the_folder_trains_on_the_left_views_and_tests_on_the_right_ones(processed):
    root, truth, _, _ = processed
    parser = WithPriorsDataParserConfig(data=root / "priors", scene_normalisation=False).setup()
    train, test = (parser.get_dataparser_outputs(split) for split in ("train", "test"))
    assert {path.stem[-5:] for path in train.image_filenames} == {"_left"}
    assert {path.stem[-5:] for path in test.image_filenames} == {"right"}
    views = ClipViews.from_dataparser_outputs(train)
    assert views.tracks is not None
    ratios = []
    for i, path in enumerate(views.image_files):  # depth in the units of the cameras
        depth, shot = views.depth(i).numpy(), truth.shot(path)
        known = (depth > 0) & ~shot.mask[::2, ::2]
        ratios += (depth / shot.depth[::2, ::2])[known].tolist()
    assert len(ratios) > 1000
    assert abs(np.median(ratios) - 1.0) < 0.05


def test_a_second_run_keeps_what_is_there_and_redo_makes_shipped_kinds_too(processed, tmp_path):
    root = tmp_path / "again"
    shutil.copytree(processed[0], root)
    first = content(root / "priors")
    process(root / "Camp", root / "priors2", views="left", redo=["masks"])
    record = json.loads((root / "priors2" / "with_priors.json").read_text())
    assert record["kinds"] == ["masks", "depth", "tracks"]
    masks = WithPriorsDataParserConfig(data=root / "priors2").setup().get_dataparser_outputs("train")
    assert masks.metadata["priors"].mask_files[0].is_relative_to(root / "priors2")
    shutil.rmtree(root / "priors2")
    shutil.copytree(processed[0] / "priors", root / "priors3")
    mark = json.loads((root / "priors3" / "process.json").read_text())
    mark["input"]["source"] = str((root / "Camp").resolve())
    (root / "priors3" / "process.json").write_text(json.dumps(mark))
    (root / "priors3" / "aligned_depth_anything/camera0/000002_left.npy").unlink()
    process(root / "Camp", root / "priors3", views="left")
    again = content(root / "priors3")
    depth = {name for name in first if name.endswith("000002_left.npy")}
    assert {name for name in first if again[name] != first[name]} <= depth | {"process.json", "with_priors.json"}
    with pytest.raises(ValueError, match="was made with other settings .*or remove this one first"):
        process(root / "Camp", root / "priors3")


@pytest.mark.parametrize(
    ("write", "views", "films"),
    [
        (lambda r: write_d2rf(r, frames=3), "", [("camera0", ("000000_left", "000001_left", "000002_left"))]),
        (lambda r: write_stereo_blur(r, frames=3), "left", [("camera0", ("00000", "00001", "00002"))]),
        (lambda r: write_dynamicnerf(r), "", [("camera0", tuple(f"{i:03d}" for i in range(12)))]),
        (lambda r: write_nsff(r, frames=6), "", [("camera0", tuple(f"{i:05d}" for i in range(6)))]),
        (
            lambda r: write_colmap_time(r, frames=4, cameras=2),
            "",
            [("camera0", ("0001", "0003")), ("camera1", ("0001", "0003"))],
        ),
    ],
)
def test_films_of_layouts(tmp_path, write, views, films):
    """Cameras apart; NVIDIA's one image per time step, each from another camera, is one film."""
    write(tmp_path / "scene")
    with opened(tmp_path / "scene", tmp_path / "out") as data:
        found = [(film.name, film.names) for film in films_of(data, views)]
        assert [name for name, _ in found] == [name for name, _ in films]
        if films[0][1][0] != "0001":
            assert found == films
        for _, names in found:
            assert list(names) == sorted(set(names))


def test_wrong_wishes(tmp_path):
    write_d2rf(tmp_path / "Camp", frames=3)
    write_colmap_time(tmp_path / "bent", frames=4, lens=True)
    with pytest.raises(ValueError, match=r"no training image has 'middle' in its name; there are images_"):
        process(tmp_path / "Camp", tmp_path / "out", views="middle")
    with pytest.raises(ValueError, match="protocol is 'x'; expected one of"):
        process(tmp_path / "Camp", tmp_path / "out", protocol="x")
    with pytest.raises(ValueError, match="those of a lens"):
        process(tmp_path / "bent", tmp_path / "out")
    with pytest.raises(ValueError, match="lie inside each other"):
        process(tmp_path / "Camp", tmp_path / "Camp" / "priors")
    with pytest.raises(ValueError, match="--out FOLDER is needed"):
        process_data_set(tmp_path / "Camp", None, make_providers(DEFAULTS.providers, {}), plain, print)


def test_which_folders_are_left_as_they_are(tmp_path):
    write_d2rf(tmp_path / "Camp", frames=2)
    write_som_clip(tmp_path / "clip", frames=3)
    write_llff(tmp_path / "fern", frames=4)
    found = {name: is_data_set(tmp_path / name) for name in ("Camp", "clip", "fern", "nowhere")}
    assert found == {"Camp": True, "clip": False, "fern": False, "nowhere": False}


def test_options_that_a_source_has_no_use_for_are_refused(tmp_path):
    write_d2rf(tmp_path / "Camp", width=32, height=24, frames=3)
    (tmp_path / "film.mp4").write_bytes(b"anything")
    for source, options, told in (
        (
            "Camp",
            ProcessOptions(views="left", max_frames=2, holdout=0),
            "--max-frames --holdout: .*taken as a data set",
        ),
        ("film.mp4", ProcessOptions(downscale_factor=2), "--downscale-factor: expected of a data set, .* is a file"),
    ):
        with pytest.raises(ValueError, match=told):
            run(tmp_path / source, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
