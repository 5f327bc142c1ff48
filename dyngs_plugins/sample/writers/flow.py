"""Exact optical flow between neighbouring pictures of a film, in the forms that layouts have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyngs_plugins.priors.files import atomic_file

from .. import ground_truth as gt
from ..scene import Scene
from ..shots import Shot
from .lens import save_array


def true_flow(scene: Scene, shot: Shot, to: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Flow [h, w, 2] from one picture to another, and where it is visible there."""
    return gt.flow(scene, gt.surfaces(scene, shot.camera, shot.time), to.camera, to.time)


def write_flow_archives(folder: Path, names: Sequence[str], scene: Scene, shots: Sequence[Shot]) -> None:
    """NSFF's form, ``NAME_{fwd,bwd}.npz`` with flow and mask, of pictures in their order in time."""
    for i, name in enumerate(names):
        for step, suffix in ((1, "fwd"), (-1, "bwd")):
            if 0 <= i + step < len(names):
                flow, visible = true_flow(scene, shots[i], shots[i + step])
                with atomic_file(folder / f"{name}_{suffix}.npz") as file:
                    np.savez(file, flow=flow.astype(np.float32), mask=visible)


def write_arriving_flow(folder: Path, names: Sequence[str], scene: Scene, shots: Sequence[Shot]) -> None:
    """ST-4DGS's form, ``NAME.npy``: from the picture before to this one; the first leads to itself."""
    for i, name in enumerate(names):
        before = shots[max(i - 1, 0)]
        save_array(folder / f"{name}.npy", true_flow(scene, before, shots[i])[0].astype(np.float32))
