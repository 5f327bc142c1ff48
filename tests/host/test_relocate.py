"""A run is moved with its clip, as when it is copied from a cluster to a laptop, and the host's commands open it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from dyngs_plugins.relocation import relocate


@pytest.fixture
def moved(trained_checkpoint, tmp_path) -> tuple[Path, Path]:
    """The run and its clip in other places, with a config.yml that knows nothing of it."""
    run = tmp_path / "Läufe von früher" / "tiny" / trained_checkpoint.method / "first"
    clip = tmp_path / "my clip"
    shutil.copytree(trained_checkpoint.folder, run)
    shutil.copytree(trained_checkpoint.clip, clip)
    file = run / "config.yml"
    config = yaml.load(file.read_text(), Loader=yaml.Loader)
    config.output_dir = Path("/cluster/outputs")
    config.data = config.pipeline.datamanager.data = Path("/cluster/clip")
    file.write_text(yaml.dump(config))
    return run, clip


def test_a_moved_run_says_what_to_do_and_opens_after_it(moved, host, tmp_path, monkeypatch):
    run, clip = moved
    out = tmp_path / "scores.json"
    command = ("ns-eval", "--load-config", run / "config.yml", "--output-path", out)
    with pytest.raises(FileNotFoundError, match=r"^/cluster/clip: .* dyngs relocate RUN --data DATA"):
        host(*command)
    monkeypatch.chdir(tmp_path)
    host("dyngs", "relocate", run.relative_to(tmp_path), "--data", clip.relative_to(tmp_path))
    monkeypatch.chdir("/")
    host(*command)
    scores = json.loads(out.read_text())
    assert Path(scores["checkpoint"]).parent == run / "nerfstudio_models"
    assert scores["results"]["psnr"] > 5
    assert not list(run.glob(".*"))


def test_only_what_is_there_is_written(moved):
    run, clip = moved
    file = run / "config.yml"
    before = file.read_text()
    with pytest.raises(FileNotFoundError, match="/cluster/clip: the data that this run was trained on is not there"):
        relocate(run)
    with pytest.raises(FileNotFoundError, match="--data nowhere: there is nothing"):
        relocate(run, Path("nowhere"))
    with pytest.raises(FileNotFoundError, match=r"no such file. Expected the folder of a run"):
        relocate(run.parent, clip)
    assert file.read_text() == before
    place = relocate(file, clip)
    assert (place.run, place.data) == (run, clip)
    assert relocate(run) == place  # its data is known now
    (checkpoint,) = (run / "nerfstudio_models").iterdir()
    checkpoint.unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint there"):
        relocate(run)


def test_a_run_out_of_its_methods_folder_says_where_to_put_it(moved, trained_checkpoint):
    run, clip = moved
    alone = run.parents[2] / "alone"
    run.rename(alone)
    with pytest.raises(ValueError, match=f"mkdir '.*/{trained_checkpoint.method}'; mv '.*/alone'"):
        relocate(alone, clip)


def test_a_file_that_is_no_config(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("a: [1")
    with pytest.raises(ValueError, match="cannot be read"):
        relocate(tmp_path)
    file.write_text("a: 1")
    with pytest.raises(ValueError, match="holds a dict. Expected the config.yml that ns-train wrote"):
        relocate(file)
