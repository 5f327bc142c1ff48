"""Clips that several folders of tests read, and the way to the modules in `shared/`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dyngs_plugins.priors.som_files import read_cameras
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

sys.path.insert(0, str(Path(__file__).parent / "shared"))

FRAMES = 10


@pytest.fixture(scope="session")
def rig(tmp_path_factory) -> Path:
    """The clip as the project writes it; do not write there."""
    out = tmp_path_factory.mktemp("rig")
    write_som(build_clip(SampleSettings(frames=FRAMES, width=64, height=48, cameras=2, supersample=1)), out)
    return out


@pytest.fixture
def iphone_capture(rig, tmp_path) -> Path:
    """The sample clip as an iPhone capture: its first camera trains, its second validates at every other time."""
    root = tmp_path / "capture"
    made = root / "flow3d_preprocessed"
    for folder in ("rgb/1x", "camera", "splits", "depth/1x", "keypoint/2x/train"):
        (root / folder).mkdir(parents=True)
    for folder in (
        "track_anything/1x",
        "aligned_depth_anything_colmap/1x",
        "2d_tracks/1x",
        "covisible/1x/val",
        "colmap",
    ):
        (made / folder).mkdir(parents=True)
    for camera, steps in ((0, range(FRAMES)), (1, range(0, FRAMES, 2))):
        solved = read_cameras(rig / "droid_recon" / f"camera{camera}.npy")
        for step in steps:
            old, name = f"{step:05d}", f"{camera}_{step:05d}"
            write_rgba(rig / f"images/camera{camera}/{old}.png", root / f"rgb/1x/{name}.png")
            write_camera(root / f"camera/{name}.json", solved.world_T_camera[step], solved.intrinsics)
            if camera == 0:
                disparity = np.load(rig / f"aligned_depth_anything/camera0/{old}.npy")
                np.save(root / f"depth/1x/{name}.npy", (1 / disparity)[..., None])
                np.save(made / f"aligned_depth_anything_colmap/1x/{name}.npy", disparity)
                shutil.copy(rig / f"masks/camera0/{old}.png", made / f"track_anything/1x/{name}.png")
                for target in range(FRAMES):
                    pair = made / f"2d_tracks/1x/{name}_0_{target:05d}.npy"
                    shutil.copy(rig / f"bootstapir/camera0/{old}_{target:05d}.npy", pair)
            else:
                seen = np.zeros((48, 64), np.uint8)
                seen[:, :40] = 255
                Image.fromarray(seen).save(made / f"covisible/1x/val/{name}.png")
        names = [f"{camera}_{step:05d}" for step in steps]
        record = {"frame_names": names, "camera_ids": [camera] * len(names), "time_ids": list(steps)}
        (root / "splits" / ("val.json" if camera else "train.json")).write_text(json.dumps(record))
    for step in (0, 5):
        points = [[3.0, 4.0 + step, 1.0], [10.0, 11.0, 0.0]]
        (root / f"keypoint/2x/train/0_{step:05d}.json").write_text(json.dumps(points))
    (root / "extra.json").write_text(json.dumps({"fps": 30.0, "factor": 2}))
    np.save(made / "colmap" / "scale.npy", np.float64(2.5))
    return root


def write_rgba(source: Path, target: Path) -> None:
    """The image with its last four columns marked as not counting."""
    pixels = np.asarray(Image.open(source))
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    alpha[:, -4:] = 0
    Image.fromarray(np.concatenate([pixels, alpha], axis=-1)).save(target)


def write_camera(path: Path, world_T_camera: np.ndarray, intrinsics) -> None:
    fx, fy, cx, cy = intrinsics
    record = {
        "focal_length": fx,
        "image_size": [64, 48],
        "orientation": world_T_camera[:3, :3].T.tolist(),
        "pixel_aspect_ratio": fy / fx,
        "position": world_T_camera[:3, 3].tolist(),
        "principal_point": [cx, cy],
        "radial_distortion": [0.0, 0.0, 0.0],
        "skew": 0.0,
        "tangential_distortion": [0.0, 0.0],
    }
    path.write_text(json.dumps(record))
