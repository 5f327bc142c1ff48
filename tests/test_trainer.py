"""What our trainer tells before it trains."""

import copy
from pathlib import Path

import pytest
from nerfstudio.configs.method_configs import all_methods

from dyngs_plugins.trainer import size_advice


def test_full_size_without_a_gpu_points_to_the_small_one():
    assert "dyn-som-small takes minutes" in size_advice("dyn-som", "cpu")
    assert size_advice("dyn-som", "cuda") == ""
    assert size_advice("dyn-som-small", "cpu") == ""
    assert size_advice("a-method-of-one-size", "cpu") == ""


@pytest.mark.parametrize(
    ("data", "name"), [("film.mp4", "film"), ("clip", "clip"), (".", "here"), ("../here", "here"), (None, "unnamed")]
)
def test_a_run_is_named_by_what_it_trains_on(data, name, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (here / "film.mp4").write_bytes(b"anything")
    monkeypatch.chdir(here)
    config = copy.deepcopy(all_methods["dyn-som-small"])
    config.pipeline.datamanager.data = None if data is None else Path(data)
    config.timestamp = "run"
    assert config.get_base_dir() == Path("outputs") / name / "dyn-som-small" / "run"
