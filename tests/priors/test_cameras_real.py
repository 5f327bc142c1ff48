"""The camera solver's bars on the sample scene and on real videos. Real data is not part of the project."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dyngs_plugins.priors.cameras.rotation import trajectory_error
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.providers.camera_base import SolvedCameras
from dyngs_plugins.priors.providers.cameras_tracks import TrackCameras
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.som_files import read_cameras
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

pytestmark = pytest.mark.slow
DATA = Path(__file__).parents[3] / "shared" / "data"


def solve(folder: Path, scratch: Path, width: int, focal: float | None = None) -> SolvedCameras:
    """The cameras of a folder of images, brought to a width."""
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there.")
    files = []
    for file in sorted(folder.iterdir()):
        image = cv2.imread(str(file))
        files.append(scratch / f"{file.stem}.png")
        height = round(image.shape[0] * width / image.shape[1])
        cv2.imwrite(str(files[-1]), cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    size = cv2.imread(str(files[0])).shape[:2]
    frames = FrameSequence.without_cameras("clip", tuple(files), tuple(range(len(files))), (size[0], size[1]))
    return TrackCameras().solve(PriorInputs(frames, DISFlow(), {}), focal)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "truth"
    write_som(build_clip(SampleSettings(width=320, height=240)), folder)
    return folder


@pytest.mark.parametrize("known", [True, False])
def test_sample_scene(sample, tmp_path, known):
    truth = read_cameras(sample / "droid_recon" / "camera0.npy")
    focal = float(truth.K(320, 240)[0, 0])
    solved = solve(sample / "images" / "camera0", tmp_path, 320, focal if known else None)
    error, length = trajectory_error(solved.world_T_camera, truth.world_T_camera.astype(np.float64))
    assert error < 0.02 * length
    assert solved.K[0, 0] == pytest.approx(focal, rel=0.05)


def test_books(tmp_path):
    solved = solve(DATA / "books" / "images", tmp_path, 384)
    truth = read_poses_bounds(DATA / "books" / "poses_bounds.npy").world_T_camera.astype(np.float64)
    error, length = trajectory_error(solved.world_T_camera, truth)
    assert error < 0.03 * length
    assert len(solved.interpolated) <= 0.1 * len(truth)


def test_camel(tmp_path):
    solved = solve(DATA / "camel" / "JPEGImages" / "480p" / "camel", tmp_path, 480)
    assert solved.report["reprojection_error_px"] < 1.5
    assert len(solved.interpolated) <= 9
