"""Rows of ``poses_bounds.npy`` for the sample scene's cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyngs_plugins.priors.files import atomic_file

from ..cameras import Camera


def write_poses_bounds(path: Path, cameras: Sequence[Camera], near: float = 2.0, far: float = 9.0) -> None:
    """One row per camera: the 3x5 matrix [down, right, back, position, hwf] row by row, then near and far."""
    rows = []
    for camera in cameras:
        right, down, forward, position = camera.world_T_camera[:3].T
        hwf = np.array([camera.height, camera.width, camera.K[0, 0]])
        rows.append([*np.stack([down, right, -forward, position, hwf], axis=1).ravel(), near, far])
    with atomic_file(path) as file:
        np.save(file, np.array(rows), allow_pickle=False)
