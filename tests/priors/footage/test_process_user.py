"""What `dyngs process` tells a user and keeps of a user's: the focal length's source, phases, files before --redo."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from footage_clips import HEIGHT, TRAINING, WIDTH, contents, process, refused
from true_cameras import TrueCameras

from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.som_files import read_disparity, write_disparity, write_mask


@pytest.mark.parametrize("focal_from", ["assumed", "turning", "searched", "given"])
def test_the_source_of_the_focal_length_is_what_the_provider_says(
    film, sample, tmp_path, monkeypatch, capsys, focal_from
):
    real = TrueCameras.solve
    report = {"focal_from": focal_from, "focal_uncertainty_percent": 7.0}
    monkeypatch.setattr(
        TrueCameras, "solve", lambda *args: dataclasses.replace(real(*args), report=report)
    )  # fmt: skip
    process(film, tmp_path / "clip", sample, focal=77.0 if focal_from == "given" else None, eval_masks=False)
    said = capsys.readouterr().out
    record = read_json(tmp_path / "clip/droid_recon/camera0.json", "record")
    expected = "--focal" if focal_from == "given" else focal_from
    assert record["focal"]["source"] == expected
    assert f" pixels ({expected})" in said
    page = (tmp_path / "clip" / "summary" / "index.html").read_text()
    assert f" pixels ({expected})" in page
    warned = {"assumed": "length is assumed", "turning": "weakly determined", "searched": "deviation 7.0 %"}
    assert len(record["notes"]) == (focal_from != "given")
    for where in (said, page):
        assert warned.get(focal_from, "pixels (") in where
        assert ("Give it with --focal" in where) == (focal_from != "given")


def test_phases_of_the_cameras_are_shown(film, sample, tmp_path, monkeypatch, capsys):
    real = TrueCameras.solve

    def solve(self, *args):
        assert list(self.track(range(3), "bundle adjustment")) == [0, 1, 2]
        return real(self, *args)

    monkeypatch.setattr(TrueCameras, "solve", solve)
    process(film, tmp_path / "clip", sample, eval_masks=False)
    assert "camera0: cameras: bundle adjustment" in capsys.readouterr().out


def test_redo_puts_files_aside_and_deletes_none(film, finished, sample, tmp_path, capsys):
    clip = Path(shutil.copytree(finished, tmp_path / "clip"))
    size = (HEIGHT, WIDTH)
    mine = np.full(size, 0.25, np.float32)
    write_disparity(clip / "aligned_depth_anything" / "camera0" / "00003.npy", mine)  # beside a record of ours
    before = contents(clip)
    for times in ("camera0", "camera0-2"):
        process(film, clip, sample, redo=("depth",))
        assert f"before_redo/depth/{times}" in capsys.readouterr().out.replace("\n", "")
    kept = {p.name: p.read_bytes() for p in (clip / "before_redo" / "depth" / "camera0").iterdir()}
    folder = "aligned_depth_anything/camera0/"
    assert kept == {name.removeprefix(folder): data for name, data in before.items() if name.startswith(folder)}
    assert not np.allclose(read_disparity(clip / folder / "00003.npy", size), 0.25)


def test_a_camera_provider_that_cannot_run_is_refused_before_anything(film, finished, sample, tmp_path, monkeypatch):
    monkeypatch.setattr(TrueCameras, "unavailable", lambda self: "The package true is missing: pip install true")
    refused(FileNotFoundError, "--cameras true: The package true is missing", film, tmp_path / "clip", sample)
    assert not (tmp_path / "clip" / "flow").exists()
    clip = Path(shutil.copytree(finished, tmp_path / "whole"))
    before = contents(clip)
    refused(FileNotFoundError, "--cameras true", film, clip, sample, redo=("cameras",))
    refused(FileNotFoundError, "--cameras true", film, clip, sample, redo=("cameras",))
    assert contents(clip) == before
    process(film, clip, sample)  # with cameras there is nothing for it to do


def test_a_frame_that_is_masked_everywhere(film, sample, finished, tmp_path):
    """Nothing tells its depth: it is named, and so is what to do; either way out is enough."""
    clip = Path(shutil.copytree(finished, tmp_path / "clip"))
    shutil.rmtree(clip / "aligned_depth_anything")
    write_mask(clip / "masks" / "camera0" / "00003.png", np.ones((HEIGHT, WIDTH), bool))
    said = refused(ValueError, "Frame 00003: the whole image is masked as moving", film, clip, sample)
    assert "put a file of yours at aligned_depth_anything/camera0/00003.npy" in said
    given = Path(shutil.copytree(clip, tmp_path / "given"))
    size = (HEIGHT, WIDTH)
    mine = np.full(size, 0.25, np.float32)
    write_disparity(given / "aligned_depth_anything" / "camera0" / "00003.npy", mine)
    process(film, given, sample)
    np.testing.assert_array_equal(
        read_disparity(given / "aligned_depth_anything" / "camera0" / "00003.npy", size), mine
    )
    assert len(list((given / "aligned_depth_anything" / "camera0").glob("*.npy"))) == len(TRAINING)
    shutil.copy(finished / "masks" / "camera0" / "00003.png", clip / "masks" / "camera0")
    process(film, clip, sample)
    for name, data in contents(finished).items():
        if name.startswith("aligned_depth_anything") and name.endswith("3.npy"):
            assert contents(clip)[name] == data
