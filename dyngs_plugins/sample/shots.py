"""Single pictures of the sample scene from any camera at any time: what writers of other layouts start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from . import ground_truth as gt
from .cameras import Camera, OrbitPath
from .clip import to_8bit
from .raycast import render_linear
from .scene import Scene


@dataclass(frozen=True)
class Shot:
    """What one camera sees at one time: 8-bit display values, z-depth in scene units, moving pixels."""

    camera: Camera
    time: float
    image: UInt8[np.ndarray, "h w 3"]
    depth: Float[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]


def take_shot(scene: Scene, camera: Camera, time: float, supersample: int = 1) -> Shot:
    """Ray-cast one picture."""
    seen = gt.surfaces(scene, camera, time)
    image = to_8bit(render_linear(scene, camera, time, supersample))
    return Shot(camera, time, image, seen.depth, np.isin(seen.object_id, scene.moving_ids))


def still_rig(width: int, height: int, count: int, spread: float = 30.0) -> list[Camera]:
    """Cameras that stand still on an arc of ``spread`` degrees around the scene, from left to right."""
    azimuths = np.linspace(-spread / 2, spread / 2, count) if count > 1 else np.zeros(1)
    return [
        OrbitPath(width, height, azimuth=float(a), elevation=14.0 + 2.0 * (i % 3), sweep=0.0).at(0.0)
        for i, a in enumerate(azimuths)
    ]


def surface_points(
    scene: Scene, shots: Sequence[Shot], count: int, seed: int = 0
) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]:
    """Up to ``count`` points of the surfaces that the shots see, with their colours: a seed cloud without noise."""
    generator = np.random.default_rng(seed)
    points, colors = [], []
    for shot in shots:
        pixels = shot.camera.pixel_grid()
        world = shot.camera.world_T_camera[:3, 3] + shot.camera.directions(pixels) * shot.depth.reshape(-1, 1)
        chosen = generator.choice(len(pixels), min(len(pixels), -(-count // len(shots))), replace=False)
        points.append(world[chosen])
        colors.append(shot.image.reshape(-1, 3)[chosen])
    return np.concatenate(points)[:count], np.concatenate(colors)[:count]
