"""`dyngs process` killed (SIGKILL) at random moments and started again ends with the same files, to the byte."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import write_film
from own_process import started
from true_cameras import registered

from dyngs_plugins.priors.command import run
from dyngs_plugins.priors.process_options import ProcessOptions
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

FAST = ("masks.vote_frames=1", "masks.mask_vote_frames=1", "masks.colour_offsets=(1,)")
REWRITTEN = ("process.json", "eval/eval.json", "droid_recon/camera0.json", "summary/")
"""Records that are written again when a stage ends, or was not finished; everything else is written once."""


SIZES = {"true": {"frames": 12, "width": 80, "height": 60}, "tracks": {"frames": 24, "width": 160, "height": 120}}
"""Of the film, by the provider of its cameras: the true ones take no time, and solving them needs more to see."""


def make_film(root: Path, cameras: str) -> Path:
    write_som(build_clip(SampleSettings(supersample=1, **SIZES[cameras])), root)
    shots = [
        cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in sorted((root / "images/camera0").iterdir())
    ]
    write_film(root / "film.mp4", shots)
    return root


def _work(sample: Path, out: Path, cameras: str) -> None:
    """In a process of its own."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    settings = (*FAST, f"cameras.truth={str(sample)!r}") if cameras == "true" else FAST
    with registered():
        run(sample / "film.mp4", out, ProcessOptions(holdout=4, cameras=cameras, settings=settings))


def state(root: Path) -> dict[str, int]:
    """When each finished file was written last."""
    files = (p for p in root.rglob("*") if p.is_file() and not p.name.endswith(".tmp"))
    return {p.relative_to(root).as_posix(): p.stat().st_mtime_ns for p in files}


def contents(root: Path) -> dict[str, bytes]:
    files = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "summary/timings.js"}


@pytest.mark.parametrize(
    ("kills", "cameras", "wait"),
    [
        (3, "true", 0.03),
        pytest.param(10, "true", 0.03, marks=pytest.mark.slow),
        pytest.param(10, "tracks", 2.0, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_random_moments_ends_with_the_same_files(tmp_path, kills, cameras, wait):
    sample = make_film(tmp_path / "made", cameras)
    whole = tmp_path / "whole" / "clip"
    process = started(_work, sample, whole, cameras)
    process.join(300)
    assert process.exitcode == 0

    rng = np.random.default_rng(kills)
    killed = tmp_path / "killed" / "clip"
    # By progress, so that a busy machine does not matter, and a moment later, since some work writes no files.
    for count in sorted(rng.integers(1, len(state(whole)), kills)):
        process = started(_work, sample, killed, cameras)
        while process.is_alive() and len(state(killed)) < count:
            time.sleep(0.002)
        process.join(float(rng.uniform(0, wait)))
        before = state(killed)
        process.kill()
        process.join(60)
        after = state(killed)
        assert all(after[name] == stamp for name, stamp in before.items() if not name.startswith(REWRITTEN))
    (killed / "images" / "camera0" / ".00003.png.17.42.tmp").write_bytes(b"half a file")
    before = state(killed)
    process = started(_work, sample, killed, cameras)
    process.join(300)
    assert process.exitcode == 0
    after = state(killed)
    assert {name for name in before if after.get(name) != before[name] and not name.startswith(REWRITTEN)} == set()
    expected, found = contents(whole), contents(killed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
