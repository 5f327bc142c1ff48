"""The command: flags, refusals, and what is left behind when something fails."""

import json

import pytest
import tyro

from dyngs_plugins.cli.sample import sample

TINY = ["--frames", "2", "--width", "16", "--height", "16", "--supersample", "1"]


def run(*arguments):
    tyro.cli(sample, args=[str(a) for a in arguments])


def test_it_makes_a_clip_and_nothing_else(tmp_path):
    run(tmp_path / "new" / "clip", *TINY, "--cameras", "2", "--fps", "6")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["clip"]
    record = json.loads((tmp_path / "new/clip/clip.json").read_text())
    assert (record["num_frames"], record["fps"], record["sequences"]) == (2, 6.0, ["camera0", "camera1"])


def test_blur_flags_reach_the_clip(tmp_path):
    run(
        tmp_path / "clip", *TINY, "--blur", "--exposure", "0.25", "--subframes", "2", "--defocus", "--lens-samples", "3"
    )
    settings = json.loads((tmp_path / "clip/ground_truth.json").read_text())["settings"]
    lens = {"fraction": 0.25, "subframes": 2, "aperture": 0.2, "focus_distance": 4.6, "lens_samples": 3}
    assert settings["exposure"] == lens
    assert settings["shake"] == 2.0 * 16 / 160
    assert (tmp_path / "clip/sharp/camera0/00000.png").exists()


def test_an_empty_folder_is_fine_and_a_full_one_is_refused(tmp_path):
    out = tmp_path / "clip"
    out.mkdir()
    run(out, *TINY)
    before = (out / "ground_truth.json").read_bytes()
    with pytest.raises(FileExistsError, match="not empty.*--overwrite"):
        run(out, *TINY, "--seed", "1")
    assert (out / "ground_truth.json").read_bytes() == before
    run(out, *TINY, "--seed", "1", "--overwrite")
    assert (out / "ground_truth.json").read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


def test_overwrite_replaces_samples_only(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds no sample"):
        run(tmp_path, *TINY, "--overwrite")
    (tmp_path / "clip.json").write_text("not json")
    (tmp_path / "ground_truth.json").write_text("{}")
    with pytest.raises(FileExistsError, match="holds no sample"):
        run(tmp_path, *TINY, "--overwrite")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "clip").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        run(tmp_path / "clip", *TINY)


def test_a_failure_leaves_the_old_sample_and_no_rubble(tmp_path, monkeypatch):
    out = tmp_path / "clip"
    run(out, *TINY)
    before = (out / "clip.json").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("dyngs_plugins.sample.som_writer.write_som", fail)
    with pytest.raises(OSError, match="disk full"):
        run(out, *TINY, "--overwrite")
    assert (out / "clip.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frames", "1"], "frames is 1"),
        (["--blur", "--exposure", "0"], "--exposure is 0"),
        (["--defocus", "--aperture", "0"], "--aperture is 0"),
    ],
)
def test_bad_flags_make_no_folder(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "clip", *flags)
    assert list(tmp_path.iterdir()) == []
