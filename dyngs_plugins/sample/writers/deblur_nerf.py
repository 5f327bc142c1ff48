"""Writes a still scene photographed with a moving camera, as Deblur-NeRF, BAD-NeRF and BAD-Gaussians lay it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.colmap_files import write_model

from ..blur import Exposure, expose
from ..cameras import Camera, OrbitPath
from ..clip import to_8bit
from ..scene import Scene, build_scene
from ..shots import take_shot
from .colmap import colmap_model
from .lens import save_image
from .llff_rows import write_poses_bounds
from .truth import Truth

OPEN = Exposure(fraction=0.5, subframes=4)


@dataclass(frozen=True)
class JumpingPath:
    """Cameras that stand anywhere at each integer step, and move a little around it."""

    width: int
    height: int
    count: int

    def at(self, t: float) -> Camera:
        """The camera at time t: its step is the nearest of ``count`` in [0, 1]."""
        step = round(t * (self.count - 1))
        offset = t * (self.count - 1) - step
        azimuth = 12.0 * float(np.sin(2.4 * step)) + 5.0 * offset
        return OrbitPath(self.width, self.height, azimuth=azimuth, elevation=14.0 + 3.0 * (step % 3), sweep=0.0).at(0.0)


def write_deblur_nerf(
    out: Path,
    width: int = 64,
    height: int = 48,
    frames: int = 8,
    kind: Literal["deblur-nerf", "bad-nerf", "bad-gaussians"] = "bad-gaussians",
    hold: int = 4,
) -> Truth:
    """Photographs of which every ``hold``-th is sharp.

    Args:
        kind: deblur-nerf: cameras of all images in poses_bounds.npy, and a marker hold=n. bad-nerf: images/ are the
            blurred ones alone and have cameras in poses_bounds.npy, images_1/ has the sharp ones among them, images_test/
            the truth of the blurred ones. bad-gaussians: images_test/, the marker, and a COLMAP model of all images.
    """
    whole = build_scene()
    scene = Scene(tuple(thing for thing in whole.objects if not thing.moving))
    path, shots, named = JumpingPath(width, height, frames), {}, {}
    for step in range(frames):
        time = step / (frames - 1)
        shot = take_shot(scene, path.at(time), time)
        sharp, name = step % hold == 0, f"img_{step:03d}.png"
        named[name] = shot
        picture = shot.image if sharp else _blurred(scene, path, time, frames)
        folders = ["images_1" if kind == "bad-nerf" else "images"]
        folders += ["images"] if kind == "bad-nerf" and not sharp else []
        for folder in folders:
            save_image(out / folder / name, picture)
            shots[out / folder / name] = shot
        if kind != "deblur-nerf" and not sharp:
            save_image(out / "images_test" / name, shot.image)
            shots[out / "images_test" / name] = shot
    if kind == "bad-gaussians":
        write_model(out / "sparse" / "0", colmap_model(named))
    else:
        cameras = [s.camera for i, s in enumerate(named.values()) if kind == "deblur-nerf" or i % hold]
        write_poses_bounds(out / "poses_bounds.npy", cameras)
    if kind != "bad-nerf":
        (out / f"hold={hold}").touch()
    return Truth(scene, shots)


def _blurred(scene: Scene, path: JumpingPath, time: float, frames: int) -> Float[np.ndarray, "h w 3"]:
    return to_8bit(expose(scene, path, time, 1.0 / (frames - 1), OPEN, supersample=1))
