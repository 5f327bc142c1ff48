"""A film of the sample scene, and what `dyngs process` makes of it with cameras that are known to be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from footage_clips import process, write_sample, write_sample_film
from true_cameras import registered


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with registered():
        yield


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def film(sample: Path, tmp_path_factory) -> Path:
    return write_sample_film(tmp_path_factory.mktemp("films"), sample)


@pytest.fixture(scope="module")
def finished(film: Path, sample: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "clip"
    process(film, out, sample)
    return out
