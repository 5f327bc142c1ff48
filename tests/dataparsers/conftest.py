"""A tiny sample clip (two cameras, ten frames of 64x48), and copies of it to spoil."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for layout_checks, which the tests of all layouts share


@pytest.fixture
def clip(rig, tmp_path) -> Path:
    """A copy with its first camera alone and its evaluation views: a clip of one sequence."""
    root = tmp_path / "clip"
    shutil.copytree(rig, root, ignore=shutil.ignore_patterns("camera1*", "flow"))
    record = json.loads((root / "clip.json").read_text())
    (root / "clip.json").write_text(json.dumps(record | {"sequences": ["camera0"]}))
    return root


@pytest.fixture
def video(clip) -> Path:
    """A plain custom video: Shape of Motion's files and nothing of ours."""
    shutil.rmtree(clip / "eval")
    (clip / "clip.json").unlink()
    return clip
