"""A stereo rig that moves through the sample scene, and what D2RF's and Stereo-Blur's writers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..blur import Exposure, expose
from ..cameras import OrbitPath
from ..clip import to_8bit
from ..scene import Scene, build_scene
from ..shots import Shot, take_shot
from .flow import write_flow_archives

NETWORK = (3.7, 11.0)
"""Scale and shift of what a network would call disparity."""


@dataclass(frozen=True)
class StereoClip:
    """Pictures of both cameras at every step."""

    scene: Scene
    paths: tuple[OrbitPath, OrbitPath]
    times: list[float]
    shots: list[tuple[Shot, Shot]]
    """Sharp: left, right."""

    def blurred(self, step: int, side: int, exposure: Exposure) -> np.ndarray:
        """The 8-bit picture that an exposure makes."""
        interval = 1.0 / (len(self.times) - 1)
        return to_8bit(expose(self.scene, self.paths[side], self.times[step], interval, exposure, supersample=1))

    def write_flow(self, folder: Path, names: list[str]) -> None:
        """Flow between neighbouring left pictures, ``.npz`` with flow and mask."""
        write_flow_archives(folder, names, self.scene, [left for left, _ in self.shots])


def take_stereo_clip(width: int, height: int, frames: int) -> StereoClip:
    """A rig of two cameras three degrees apart."""
    scene = build_scene()
    left, right = (OrbitPath(width, height, azimuth=a, sweep=8.0) for a in (-1.5, 1.5))
    times = np.linspace(0.0, 1.0, frames).tolist()
    shots = [(take_shot(scene, left.at(t), t), take_shot(scene, right.at(t), t)) for t in times]
    return StereoClip(scene, (left, right), times, shots)


def network_disparity(shot: Shot) -> np.ndarray:
    """Disparity in a network's own units: a shift and a scale away from the scene's."""
    return (NETWORK[0] / shot.depth + NETWORK[1]).astype(np.float32)
