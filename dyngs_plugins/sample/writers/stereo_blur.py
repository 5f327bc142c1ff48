"""Writes a blurred stereo clip as DyBluRF, MoBGS and Deblur4DGS lay it out: see :mod:`dataparsers.stereo_blur`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from dyngs_plugins.priors.colmap_files import write_model

from .. import ground_truth as gt
from ..blur import Exposure
from ..som_writer import track_rows
from .colmap import colmap_model
from .lens import save_array, save_image
from .llff_rows import write_poses_bounds
from .stereo import StereoClip, network_disparity, take_stereo_clip
from .truth import Truth

OPEN = Exposure(fraction=0.6, subframes=4)


def write_stereo_blur(
    out: Path,
    width: int = 64,
    height: int = 48,
    frames: int = 5,
    kind: Literal["dyblurf", "mobgs", "deblur4dgs"] = "dyblurf",
) -> Truth:
    """``frames`` steps of a stereo rig. DyBluRF's and MoBGS' test images are twice as large as what trains."""
    clip = take_stereo_clip(width, height, frames)
    if kind == "deblur4dgs":
        return _write_deblur4dgs(out / "x1", clip)
    root, small, shots = out / "dense", f"images_{width}x{height}", {}
    full = take_stereo_clip(2 * width, 2 * height, frames)
    names = [f"{step:05d}" for step in range(frames)]
    for step, (name, (left, right)) in enumerate(zip(names, full.shots, strict=True)):
        save_image(root / small / f"{name}.png", clip.blurred(step, 0, OPEN))
        save_image(root / "images" / f"{name}.png", full.blurred(step, 0, OPEN))
        for folder, shot in (("inference_images", right), ("sharp_images", left)):
            save_image(root / folder / f"{name}.png", shot.image)
            shots[root / folder / f"{name}.png"] = shot
        left = clip.shots[step][0]
        shots[root / small / f"{name}.png"] = left
        masks = "motion_masks" if kind == "dyblurf" else "motion_masks_manual"
        save_image(root / masks / f"{name}.png", left.mask.astype(np.uint8) * 255)
        if kind == "dyblurf":
            save_array(root / "disp" / f"{name}.npy", network_disparity(left))
        else:
            save_array(root / "align_uni_depth_noclip" / f"{name}.npy", left.depth.astype(np.float32))
            seen = gt.surfaces(clip.scene, left.camera, left.time)
            normals = gt.normals(clip.scene, seen, left.camera).astype(np.float32)
            save_array(root / "uni_normal" / f"{name}.npy", np.moveaxis(normals, -1, 0)[None])
    if kind == "dyblurf":
        clip.write_flow(root / "flow_i1", names)
    write_poses_bounds(root / "poses_bounds.npy", [shot.camera for pair in full.shots for shot in pair])
    return Truth(clip.scene, shots)


def _write_deblur4dgs(root: Path, clip: StereoClip) -> Truth:
    shots, named, made = {}, {}, root / "flow3d_preprocessed"
    for step, pair in enumerate(clip.shots):
        for side, shot in enumerate(pair):
            name = f"{2 * step + side:05d}"
            save_image(root / "images" / f"{name}.png", clip.blurred(step, side, OPEN))
            save_image(root / "images_test" / f"{name}.png", shot.image)
            save_image(root / "masks" / f"{name}.png", shot.mask.astype(np.uint8) * 255)
            save_image(made / "masks" / f"{name}.png", shot.mask.astype(np.uint8) * 255)
            save_array(made / "aligned_depth_anything_colmap" / f"{name}.npy", (1.0 / shot.depth).astype(np.float32))
            named[f"{name}.png"] = shot
            shots[root / "images" / f"{name}.png"] = shots[root / "images_test" / f"{name}.png"] = shot
    cameras = [left.camera for left, _ in clip.shots]
    for q, (left, _) in enumerate(clip.shots):
        seen = gt.surfaces(clip.scene, left.camera, clip.times[q])
        tracks = gt.track(clip.scene, cameras, clip.times, seen, gt.query_pixels(left.mask, 2))
        for t in range(len(cameras)):
            rows = track_rows(tracks, t).astype(np.float32)
            save_array(made / "2d_tracks" / f"{2 * q:05d}_{2 * t:05d}.npy", rows)
    write_model(made / "colmap" / "sparse", colmap_model(named))
    return Truth(clip.scene, shots)
