"""`dyngs process` with providers that need something: refused before anything is made, and their notes are said."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dyngs_plugins.priors.command import run
from dyngs_plugins.priors.process_options import ProcessOptions
from dyngs_plugins.priors.som_files import read_disparity


@pytest.fixture
def bare(rig, tmp_path):
    """The sample's images and cameras alone."""
    root = tmp_path / "clip"
    for name in ("images/camera0", "droid_recon"):
        shutil.copytree(rig / name, root / name)
    for file in (root / "droid_recon").iterdir():
        if file.stem != "camera0":
            file.unlink()
    return root


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("masks", "files", "--settings masks.folder=FOLDER"),
        ("flow", "files", "--settings flow.folder=FOLDER"),
        ("tracks", "tapir", "tapnet|bootstapir"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_made(bare, kind, name, message):
    with pytest.raises(FileNotFoundError, match=f"--{kind} {name}: .*{message}"):
        run(bare, None, ProcessOptions(**{kind: name}, holdout=0))
    assert not (bare / "flow").exists()


def test_given_files_and_what_is_said_about_them(bare, rig, tmp_path, capsys):
    given = tmp_path / "relative"
    given.mkdir()
    for k, file in enumerate(sorted((rig / "aligned_depth_anything" / "camera0").iterdir())):
        np.save(given / file.name, (20 + k) * np.load(file) - 2)
    settings = [f"masks.folder={rig / 'masks'}", f"depth.folder={given}", "depth.stores=disparity", "depth.align=affine",
                f"tracks.folder={rig / 'bootstapir'}"]  # fmt: skip
    reports = run(
        bare, None, ProcessOptions(masks="files", depth="files", tracks="files", settings=tuple(settings), holdout=0)
    )
    assert "Depth of the files in relative differs from triangulated depth by" in " ".join(
        capsys.readouterr().out.split()
    )
    names = sorted(file.stem for file in (rig / "aligned_depth_anything" / "camera0").iterdir())
    for name in names:
        found = read_disparity(bare / "aligned_depth_anything" / "camera0" / f"{name}.npy")
        true = read_disparity(rig / "aligned_depth_anything" / "camera0" / f"{name}.npy")
        assert np.median(np.abs(found / true - 1)) < 0.08
    (depth,) = [report for report in reports if report.kind == "depth"]
    assert depth.measures["unknown"] < 0.01
