"""A film as --data: a clip beside it, made once, used next time, and never confused with another one's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataparsers import own_footage
from dataparsers.auto import AutoDataParserConfig
from dataparsers.own_footage import MAX_FRAMES, duration_of, is_own_footage, prepared_clip
from dyngs_plugins.priors.process_options import ProcessOptions
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som
from dyngs_plugins.sample.writers.llff import write_llff
from dyngs_plugins.sample.writers.video import write_video

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def film(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    write_video(tmp_path / "my film.mp4", [rng.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(5)])
    return tmp_path / "my film.mp4"


@pytest.fixture
def runs(monkeypatch) -> list[tuple[Path, Path, ProcessOptions]]:
    """`dyngs process` is tested elsewhere: here it writes a sample in its place."""
    seen = []

    def run(source: Path, out: Path, options: ProcessOptions) -> None:
        seen.append((source, out, options))
        write_som(build_clip(SampleSettings(frames=4, width=64, height=48, supersample=1)), out)
        request = {
            "source": str(source.resolve()),
            "footage": [{"bytes": source.stat().st_size if source.is_file() else None}],
        }
        (out / "process.json").write_text(json.dumps({"input": request, "status": "complete"}))

    monkeypatch.setattr("dyngs_plugins.priors.command.run", run)
    return seen


def test_a_film_is_made_into_a_clip_once(film, runs, capsys):
    clip = film.with_name("my film_clip")
    parser = AutoDataParserConfig(data=film).setup()
    outputs = parser.get_dataparser_outputs("train")
    assert outputs.image_filenames[0].is_relative_to(clip)
    parser.get_dataparser_outputs("test")
    assert runs == [(film, clip, ProcessOptions(max_frames=MAX_FRAMES))]
    said = " ".join(capsys.readouterr().out.split())
    assert f"makes a clip of it in {clip}: about 5 frames" in said
    assert "takes a minute or less" in said
    assert f"dyngs process '{film}' --out CLIP, then" in said  # its name has a space
    assert "Shape of Motion (som-data)" in said
    AutoDataParserConfig(data=film).setup().get_dataparser_outputs("train")
    assert len(runs) == 1
    assert f"uses {clip}, which was made from it" in " ".join(capsys.readouterr().out.split())


def test_one_that_was_stopped_is_continued(film, runs, capsys):
    clip = film.with_name("my film_clip")
    clip.mkdir()
    request = {"source": str(film.resolve()), "footage": [{"bytes": film.stat().st_size}]}
    (clip / "process.json").write_text(json.dumps({"input": request, "status": "unfinished"}))
    own_footage._make(film, clip)
    assert "goes on making a clip" in " ".join(capsys.readouterr().out.split())
    assert len(runs) == 1


def test_another_films_clip_is_not_taken(film, runs):
    clip = prepared_clip(film)
    content = json.loads((clip / "process.json").read_text())
    film.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="as it was before it changed. Move this folder away"):
        prepared_clip(film)
    content["input"]["source"] = "/elsewhere.mp4"
    (clip / "process.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="made from /elsewhere.mp4, not from"):
        prepared_clip(film)


def test_a_film_and_its_clip_may_be_moved_together(film, runs, tmp_path):
    clip = prepared_clip(film)
    away = tmp_path / "away"
    away.mkdir()
    moved, its_clip = film.rename(away / film.name), clip.rename(away / clip.name)
    assert prepared_clip(moved) == its_clip
    assert len(runs) == 1
    record = its_clip / "process.json"
    record.write_text(record.read_text().replace('"complete"', '"unfinished"'))
    with pytest.raises(ValueError, match="not from"):
        prepared_clip(moved)


def test_bare_images_are_footage_and_scenes_are_not(tmp_path, runs):
    from PIL import Image

    (tmp_path / "walk").mkdir()
    for i in range(4):
        Image.new("RGB", (48, 32)).save(tmp_path / "walk" / f"{i}.png")
    assert is_own_footage(tmp_path / "walk")
    assert prepared_clip(tmp_path / "walk") == tmp_path / "walk_clip"
    write_llff(tmp_path / "fern")
    assert not is_own_footage(tmp_path / "fern")
    assert not is_own_footage(tmp_path / "fern" / "images"), "one folder too deep"
    assert not is_own_footage(tmp_path / "nowhere")
    assert not is_own_footage(tmp_path / "walk_clip")


def test_the_time_it_will_take_is_near_what_was_measured():
    """482 s and 47 s on two idle cores (docs/benchmarks.md)."""
    assert duration_of(90, 853 * 480) == "about 8 minutes"
    assert duration_of(24, 320 * 240) == "a minute or less"


def test_ctrl_c_while_the_clip_is_made_says_that_it_goes_on(film, monkeypatch, capsys):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dyngs_plugins.priors.command.run", stopped)
    with pytest.raises(SystemExit) as stop:
        prepared_clip(film)
    assert stop.value.code == 130
    assert "is kept: the same command goes on from there." in " ".join(capsys.readouterr().out.split())
