"""One small clip for all tests of the sample scene: 7 frames of 64x48, two training cameras."""

import pytest

from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

SMALL = SampleSettings(frames=7, width=64, height=48, cameras=2, supersample=1)


@pytest.fixture(scope="session")
def clip():
    return build_clip(SMALL)


@pytest.fixture(scope="session")
def written(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    write_som(clip, out)
    return out
