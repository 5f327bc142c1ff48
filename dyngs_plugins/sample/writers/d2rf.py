"""Writes a stereo clip in shallow focus as D2RF lays it out: see :mod:`dataparsers.d2rf` for the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyngs_plugins.priors.colmap_files import write_model

from ..blur import Exposure
from .colmap import colmap_model
from .lens import save_array, save_image
from .llff_rows import write_poses_bounds
from .stereo import StereoClip, network_disparity, take_stereo_clip
from .truth import Truth

SHALLOW = Exposure(aperture=0.12, focus_distance=4.5, lens_samples=5)


def write_d2rf(out: Path, width: int = 64, height: int = 48, frames: int = 5) -> Truth:
    """``frames`` stereo pairs of ``width`` x ``height``; dpt and flow have half of it, as what trains."""
    clip, named, shots = take_stereo_clip(width, height, frames), {}, {}
    for step, pair in enumerate(clip.shots):
        for side, shot in zip(("left", "right"), pair, strict=True):
            name = f"{step:06d}_{side}"
            save_image(out / "images_bokeh" / f"{name}.jpg", clip.blurred(step, int(side == "right"), SHALLOW))
            save_image(out / "images" / f"{name}.jpg", shot.image)
            save_image(out / "motion_masks" / f"{name}.png", shot.mask.astype(np.uint8) * 255)
            save_image(out / "background_mask" / f"{name}.jpg", (~shot.mask).astype(np.uint8) * 255)
            for folder in ("images_bokeh", "images"):
                shots[out / folder / f"{name}.jpg"] = shot
            named[f"{name}.jpg"] = shot
    half = take_stereo_clip(width // 2, height // 2, frames)
    _write_half_size(out, half)
    write_poses_bounds(out / "poses_bounds.npy", [shot.camera for shot in named.values()])
    write_model(out / "sparse" / "0", colmap_model(named, count=400))
    return Truth(clip.scene, shots)


def _write_half_size(out: Path, half: StereoClip) -> None:
    names = [f"{step:06d}_left" for step in range(len(half.times))]
    half.write_flow(out / "flow_i1", names)
    for step, pair in enumerate(half.shots):
        for side, shot in zip(("left", "right"), pair, strict=True):
            save_array(out / "dpt" / f"{step:06d}_{side}.npy", network_disparity(shot))
