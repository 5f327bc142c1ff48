"""From tracks to cameras: still points, focal length, key frames, all frames; and what cannot be recovered.

1. Tracks that contradict a still world are left out (`moving.py`).
2. Key frames are solved for every candidate of the focal length (`focal.py`); the best one stays.
3. A camera that turns in one place explains the tracks as well? Then no depth can be had, and this is said.
4. All frames are placed against the key frames' points and adjusted together (`bundle.py`), while tracks are judged
   anew by their reprojection: what moves along its epipolar line shows only here. Frames that too few points agree
   with are put between their neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from dyngs_plugins.priors.cameras.bundle import Freedom, Reconstruction, adjust
from dyngs_plugins.priors.cameras.focal import given_focal, search_focal
from dyngs_plugins.priors.cameras.moving import MIN_SHARED, still_tracks
from dyngs_plugins.priors.cameras.no_parallax import standing, stands, turned, turning_explanation
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.solution import Solution, SolverSettings, assumed_focal
from dyngs_plugins.priors.cameras.structure import (
    agreeing_tracks,
    fill_between,
    key_frames,
    not_beyond_infinity,
    resect,
    spread_tracks,
    supported_frames,
    triangulate,
)
from dyngs_plugins.priors.cameras.turning import all_but_first
from dyngs_plugins.priors.progress import Track, silent

FindMore = Callable[[Reconstruction, Observations], Observations]
"""Observations of the tracks in more frames, given cameras and points."""


class PartedTracks(ValueError):
    """Almost no point can be followed from a frame to the next."""

    def __init__(self, frame: int) -> None:
        super().__init__(f"Almost no point can be followed from frame {frame} to frame {frame + 1}.")
        self.frame = frame


def solve_tracks(
    tracks: Observations, size: tuple[int, int], focal: float | None, settings: SolverSettings,
    find_more: FindMore | None = None, track: Track = silent,
) -> Solution:  # fmt: skip
    """The cameras of all frames.

    Args:
        size: height and width of the images.
        focal: focal length in pixels, None to search for it.
        find_more: looks for the tracks in frames where they were lost.
        track: shows how far each phase is.

    Raises:
        ValueError: too few tracks to know anything.
        PartedTracks: the frames before one and after it have nothing to do with each other.
    """
    _check(tracks)
    if stands(tracks, settings):
        return standing(tracks, size, focal, settings)
    still, all_tracks = still_tracks(tracks)[0], tracks.num_tracks
    if still.mean() < 0.2 or still.sum() < 4 * MIN_SHARED:
        still = np.ones(tracks.num_tracks, bool)  # no still world was found: the robust adjustment decides alone
    world, _ = tracks.keep_tracks(still)
    _check_one_piece(world)
    frames = key_frames(world, settings.key_frame_distance * size[1])
    keys, _ = world.of_frames(frames)
    keys, _ = keys.keep_tracks(spread_tracks(keys, settings.key_tracks))
    if focal is None:
        search = search_focal(keys, size, scale=settings.noise, track=track)
    else:
        search = given_focal(keys, focal, size, scale=settings.noise)
    turning = turning_explanation(keys, search, focal, size, settings)
    if turning is not None:
        return turned(world, all_tracks, turning, focal, settings)
    source = "given" if focal is not None else "searched" if search.observable else "assumed"
    scene, found = _all_frames(world, frames, search.best.reconstruction, settings)
    free_focal = source == "searched"
    scene = _adjusted(scene, tracks, free_focal, settings, track)
    if find_more is not None:
        tracks = _trimmed(find_more(*_judged(scene, tracks, settings)), scene, free_focal, settings)
        scene = _adjusted(scene, tracks, free_focal, settings, track)
    solution = _finished(scene, tracks, found, source, settings)
    share = solution.observations.num_tracks / all_tracks
    return dataclasses.replace(solution, focal_uncertainty=search.uncertainty, still_share=share)


def _adjusted(
    scene: Reconstruction, tracks: Observations, free_focal: bool, settings: SolverSettings, track: Track
) -> Reconstruction:
    """Tracks judged and cameras adjusted to the still ones, in turn."""
    for _ in track(range(settings.rounds), "bundle adjustment"):
        judged, observations = _judged(scene, tracks, settings)
        scene = _adjust_few(judged, observations, free_focal, settings)[0]
    return scene


def _adjust_few(
    scene: Reconstruction, observations: Observations, free_focal: bool, settings: SolverSettings
) -> tuple[Reconstruction, Observations]:
    """All cameras adjusted to a limited number of tracks, which come with the result."""
    few, old = observations.keep_tracks(spread_tracks(observations, settings.tracks))
    free = all_but_first(few.num_frames) & (np.bincount(few.frame, minlength=few.num_frames) > 0)
    start = dataclasses.replace(scene, points=scene.points[old])
    return adjust(start, few, Freedom(free, free, free_focal), scale=settings.noise, steps=25).reconstruction, few


def _trimmed(tracks: Observations, scene: Reconstruction, free_focal: bool, settings: SolverSettings) -> Observations:
    """Without the observations that do not fit once the cameras were adjusted to them; the tracks stay."""
    scene = _adjust_few(triangulate(scene, tracks, settings.noise), tracks, free_focal, settings)[0]
    errors = triangulate(scene, tracks, settings.noise).errors(tracks)
    return tracks.keep(errors < 2.5 * settings.noise)[0].keep_long(min(3, tracks.num_frames))


def _finished(
    scene: Reconstruction, tracks: Observations, found: Bool[np.ndarray, "n"], source: str, settings: SolverSettings
) -> Solution:
    """Gaps filled, unit of length settled, everything counted."""
    scene, observations = _judged(scene, tracks, settings)
    solved = supported_frames(scene.errors(observations), observations, 3 * settings.noise)
    scene = fill_between(scene, solved)
    use = solved[observations.frame]
    observations, old = observations.keep(use)
    scene = dataclasses.replace(scene, points=scene.points[old])
    depth = scene.camera_points(observations)[:, 2] / np.maximum(scene.points[observations.track, 3], 1e-6)
    scene = scene.rescaled(1.0 / float(np.median(depth)))
    notes = []
    if source == "assumed":
        notes.append(assumed_focal(scene.focal))
    if not found.all() and (~found & solved).sum():
        notes.append(f"{int((~found & solved).sum())} frames were placed only after all others.")
    return Solution(scene, observations, solved, False, source, len(old) / tracks.num_tracks, tuple(notes))


def _judged(
    scene: Reconstruction, tracks: Observations, settings: SolverSettings
) -> tuple[Reconstruction, Observations]:
    """All tracks triangulated with the present cameras; only those that agree with a still world stay."""
    scene = not_beyond_infinity(triangulate(scene, tracks, settings.noise))
    errors = scene.errors(tracks)
    bound = float(np.clip(4.0 * np.median(errors), 0.6 * settings.noise, 2.5 * settings.noise))
    agree = agreeing_tracks(errors, tracks, bound)
    if agree.sum() < MIN_SHARED:
        raise ValueError(
            f"Only {int(agree.sum())} of {tracks.num_tracks} tracks agree with a still world, expected at least "
            f"{MIN_SHARED}: most of the picture moves, or the cameras could not be solved. Give cameras "
            "(--cameras files), mask what moves, or use larger images."
        )
    observations, old = tracks.keep_tracks(agree)
    return dataclasses.replace(scene, points=scene.points[old]), observations


def _all_frames(
    world: Observations, frames: np.ndarray, keys: Reconstruction, settings: SolverSettings
) -> tuple[Reconstruction, Bool[np.ndarray, "n"]]:
    """All frames placed against the key frames' points, and which of them found their place."""
    known = np.zeros(world.num_frames, bool)
    known[frames] = True
    rotation = np.tile(np.eye(3), (world.num_frames, 1, 1))
    translation = np.zeros((world.num_frames, 3))
    rotation[frames], translation[frames] = keys.rotation, keys.translation
    scene = fill_between(Reconstruction(rotation, translation, np.zeros((0, 4)), keys.focal, keys.center), known)
    count = np.bincount(world.track[known[world.frame]], minlength=world.num_tracks)
    seen, _ = world.keep_tracks(count >= 2)
    of_keys, _ = seen.keep(known[seen.frame])
    scene = triangulate(scene, of_keys, settings.noise)
    scene = resect(scene, seen, ~known, 2.0 * settings.noise)
    found = supported_frames(scene.errors(seen), seen, 3 * settings.noise)
    return fill_between(scene, found), found


def _check(tracks: Observations) -> None:
    if tracks.num_frames < 2:
        raise ValueError(f"Found {tracks.num_frames} frame; cameras need at least 2. Use a longer part of the video.")
    if tracks.num_tracks < MIN_SHARED:
        raise ValueError(
            f"Found {tracks.num_tracks} point tracks over {tracks.num_frames} frames, expected at least {MIN_SHARED}. "
            "The images have too little texture, or too much blur: use larger images, or give cameras "
            "(--cameras files)."
        )


def _check_one_piece(world: Observations) -> None:
    """Raise when the still tracks before some frame and after it have nothing to do with each other."""
    first, last = world.frame[world.starts[:-1]], world.frame[world.starts[1:] - 1]
    change = np.zeros(world.num_frames + 1)
    np.add.at(change, first, 1)
    np.add.at(change, last, -1)
    crossing = np.cumsum(change)[: int(last.max())]  # tracks seen in frame t or before and after it
    seen = np.arange(len(crossing)) >= first.min()
    if not seen.any() or crossing[seen].min() < 8:
        t = int(np.argmin(np.where(seen, crossing, np.inf)))
        raise PartedTracks(t)
