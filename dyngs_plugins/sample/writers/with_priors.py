"""Writes a data set with added priors: D2RF's stereo clip without any, and what is true of its left views beside it.

See :mod:`dataparsers.with_priors` for the files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from dyngs_plugins.priors.added_priors import AddedFrame, AddedPriors
from dyngs_plugins.priors.som_files import write_disparity, write_mask
from dyngs_plugins.priors.track_windows import TrackWindow, write_track_window

from .. import ground_truth as gt
from ..som_writer import track_rows
from .d2rf import write_d2rf
from .lens import save_array
from .stereo import take_stereo_clip
from .truth import Truth


def write_with_priors(out: Path, width: int = 64, height: int = 48, frames: int = 5) -> Truth:
    """Depth, masks, flow and tracks of the left views at half size, as D2RF trains; the data set lies in ``Camp/``."""
    truth = write_d2rf(out / "Camp", width, height, frames)
    for shipped in ("dpt", "motion_masks", "background_mask", "flow_i1", "sparse"):
        shutil.rmtree(out / "Camp" / shipped)
    clip = take_stereo_clip(width // 2, height // 2, frames)
    names = [f"{step:06d}_left" for step in range(frames)]
    left = [pair[0] for pair in clip.shots]
    cameras = [shot.camera for shot in left]
    for i, (name, shot) in enumerate(zip(names, left, strict=True)):
        write_mask(out / "masks" / "camera0" / f"{name}.png", shot.mask)
        write_disparity(out / "aligned_depth_anything" / "camera0" / f"{name}.npy", 1.0 / shot.depth)
        seen = gt.surfaces(clip.scene, shot.camera, shot.time)
        for j, way in ((i + 1, "fwd"), (i - 1, "bwd")):
            if 0 <= j < frames:
                flow, visible = gt.flow(clip.scene, seen, cameras[j], clip.times[j])
                save_array(out / "flow" / "camera0" / f"{name}_{way}.npy", flow.astype(np.float32))
                save_array(out / "flow" / "camera0" / f"{name}_{way}_visible.npy", visible)
        tracks = gt.track(clip.scene, cameras, clip.times, seen, gt.query_pixels(shot.mask, 2))
        rows = np.stack([track_rows(tracks, t) for t in range(frames)])
        window = TrackWindow(tuple(range(frames)), rows, query=i)
        write_track_window(out / "tracks" / "camera0" / f"{name}.npz", window, names)
    listed = {"camera0": tuple(AddedFrame(name, 0, step) for step, name in enumerate(names))}
    kinds = ("flow", "masks", "depth", "tracks")
    AddedPriors(out / "Camp", "d2rf-data", "left-right", None, listed, kinds).write(out)
    return truth
