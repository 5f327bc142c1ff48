"""Scenes of many layouts, each written once."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# For what several tests share: the scenes to convert here, the checks of all layouts there.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "dataparsers")]

from convert_scenes import SOURCES, Written  # noqa: E402


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> Callable[[str], Written]:
    @functools.cache
    def write(name: str) -> Written:
        root = tmp_path_factory.mktemp(name) / "scene"
        return Written(root, SOURCES[name](root))

    return write
