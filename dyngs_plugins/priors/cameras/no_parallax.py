"""Cameras that stand or only turn: found out, and solved for what can be known of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from dyngs_plugins.priors.cameras.bundle import Reconstruction
from dyngs_plugins.priors.cameras.focal import DEFAULT_FOV, FocalSearch, focal_of_fov
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.solution import Solution, SolverSettings, assumed_focal
from dyngs_plugins.priors.cameras.structure import agreeing_tracks, fill_between, spread_tracks, supported_frames
from dyngs_plugins.priors.cameras.turning import turning_camera


def turning_explanation(
    keys: Observations, search: FocalSearch, focal: float | None, size: tuple[int, int], settings: SolverSettings
) -> Reconstruction | None:
    """The camera that only turns, if it explains the key frames about as well as one that also moves."""
    center = np.array([size[1] / 2, size[0] / 2])
    starts = [focal] if focal is not None else [search.best.reconstruction.focal, focal_of_fov(DEFAULT_FOV, size)]
    tried = [turning_camera(keys, f, center, focal is None, scale=settings.noise, steps=40) for f in starts]
    turning = min(tried, key=lambda a: a.cost).reconstruction
    squares = [_typical_square(r, keys) for r in (turning, search.best.reconstruction)]
    return turning if squares[0] < 1.7 * squares[1] + 0.01 else None


def _typical_square(scene: Reconstruction, observations: Observations) -> float:
    """Mean of the smaller 70 % of the squared residuals: what moves does not count."""
    squares = np.sort((scene.residuals(observations) ** 2).sum(1))
    return float(squares[: max(int(0.7 * len(squares)), 1)].mean())


def turned(
    world: Observations, all_tracks: int, keys: Reconstruction, focal: float | None, settings: SolverSettings
) -> Solution:
    """The solution for a camera that only turns: rotations for all frames, one place."""
    angles = np.arccos(np.clip((np.einsum("ij,nij->n", keys.rotation[0], keys.rotation) - 1) / 2, -1, 1))
    source, start = "given", keys.focal
    notes = ["The camera only turns (or everything is far away): its path is a point, and no depth can be triangulated. "
             "Depth must come from a learned provider or from files."]  # fmt: skip
    if focal is None:
        source = "turning" if np.degrees(angles.max()) > 5.0 else "assumed"
        if source == "assumed":
            start = focal_of_fov(DEFAULT_FOV, (int(2 * keys.center[1]), int(2 * keys.center[0])))
            notes.append(assumed_focal(start))
    few, _ = world.keep_tracks(spread_tracks(world, settings.tracks))
    scene = turning_camera(few, start, keys.center, source == "turning", scale=settings.noise, steps=30).reconstruction
    errors = scene.errors(few)
    agree = agreeing_tracks(errors, few, 2 * settings.noise)
    observations, old = few.keep_tracks(agree)
    scene = dataclasses.replace(scene, points=scene.points[old])
    solved = supported_frames(scene.errors(observations), observations, 3 * settings.noise)
    solved[0] = True
    return Solution(fill_between(scene, solved), observations, solved, True, source,
                    float(agree.mean()) * world.num_tracks / all_tracks, tuple(notes))  # fmt: skip


def stands(tracks: Observations, settings: SolverSettings) -> bool:
    """Whether most tracks, weighted by how long they are seen, stay where they are."""
    x, y = tracks.xy.T
    widths = [tracks.per_track(v) - tracks.per_track(v, np.minimum) for v in (x, y)]
    return float(np.median(np.hypot(*widths)[tracks.track])) < 2 * settings.still_px


def standing(tracks: Observations, size: tuple[int, int], focal: float | None, settings: SolverSettings) -> Solution:
    """The solution for a camera on a tripod."""
    length = focal_of_fov(DEFAULT_FOV, size) if focal is None else focal
    notes = ["The camera stands still: its pose is the same in all frames, and no depth can be triangulated. Depth must "
             "come from a learned provider or from files."]  # fmt: skip
    if focal is None:
        notes.append(assumed_focal(length))
    n, center = tracks.num_frames, np.array([size[1] / 2, size[0] / 2])
    mean = np.add.reduceat(tracks.xy, tracks.starts[:-1]) / tracks.lengths[:, None]
    points = np.column_stack([(mean - center) / length, np.ones(len(mean)), np.zeros(len(mean))])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    scene = Reconstruction(np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3)), points, length, center)
    agree = tracks.per_track(scene.errors(tracks)) < 4 * settings.still_px
    observations, old = tracks.keep_tracks(agree)
    scene = dataclasses.replace(scene, points=points[old])
    source = "assumed" if focal is None else "given"
    return Solution(scene, observations, np.ones(n, bool), True, source, float(agree.mean()), tuple(notes))
