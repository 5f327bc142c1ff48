"""Writes the sample clip in Shape of Motion's layout for own videos: see :mod:`dyngs_plugins.sample.som_writer`."""

from __future__ import annotations

from pathlib import Path

from ..clip import SampleSettings, View, build_clip
from ..shots import Shot
from ..som_writer import frame_names, write_som
from .truth import Truth


def write_som_clip(out: Path, width: int = 64, height: int = 48, frames: int = 6, cameras: int = 1) -> Truth:
    """All priors, the held-out camera at every time, and its tracks.

    Args:
        cameras: how many film at the same time and train.
    """
    settings = SampleSettings(frames=frames, width=width, height=height, cameras=cameras, supersample=1)
    clip, times = build_clip(settings), settings.times.tolist()
    out.mkdir(parents=True, exist_ok=True)
    write_som(clip, out)
    views: dict[Path, View] = {out / "images" / name: view for name, view in clip.training.items()}
    views[out / "eval" / "images"] = clip.held_out
    shots = {
        folder / f"{name}.png": Shot(view.cameras[k], times[k], view.images[k], view.depths[k], view.masks[k])
        for folder, view in views.items()
        for k, name in enumerate(frame_names(clip))
    }
    return Truth(clip.scene, shots)
