"""``transforms_*.json`` as D-NeRF's Blender exporter writes them.

Source: Pumarola et al., "D-NeRF: Neural Radiance Fields for Dynamic Scenes" (2021), the released scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.clip_files import write_json

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class DnerfFrame:
    """One image of a split."""

    name: str
    """Path from the scene's folder, without suffix, e.g. ``train/r_000``."""
    time: float
    """In [0, 1] over all splits."""
    world_T_camera: Float[np.ndarray, "4 4"]
    """OpenCV axes."""


def write_transforms(path: Path, focal: float, width: int, frames: Sequence[DnerfFrame]) -> None:
    """Write one split.

    Args:
        focal: of all its images, in pixels; the principal point is the centre.
        width: of all its images, in pixels.
    """
    listed = [
        {
            "file_path": f"./{frame.name}",
            "rotation": 0.0314,  # how far the exporter's camera turns between frames; every release has this number
            "time": frame.time,
            "transform_matrix": (np.asarray(frame.world_T_camera, np.float64) @ _OPENGL).tolist(),
        }
        for frame in frames
    ]
    write_json(path, {"camera_angle_x": 2.0 * math.atan(0.5 * width / focal), "frames": listed})
