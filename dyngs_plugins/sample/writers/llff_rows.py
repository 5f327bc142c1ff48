"""Rows of ``poses_bounds.npy`` for the sample scene's cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyngs_plugins.priors import llff_files

from ..cameras import Camera


def write_poses_bounds(path: Path, cameras: Sequence[Camera], near: float = 2.0, far: float = 9.0) -> None:
    """One row per camera, all with the same bounds."""
    hwf = np.array([[camera.height, camera.width, camera.K[0, 0]] for camera in cameras])
    poses = np.stack([camera.world_T_camera for camera in cameras])
    bounds = np.tile([near, far], (len(cameras), 1))
    llff_files.write_poses_bounds(path, llff_files.LlffCameras(poses, hwf, bounds))
