"""Sparse point tracks over the whole image: corners followed by pyramidal KLT, checked for round trips and drift.

A point is followed from frame to frame, starting from the dense flow. It must come back to where it was, and the patch
around it must still be found from its anchor, an earlier view of it: this takes out the drift of the chain, and ends
tracks that slid onto something else. Where corners are missing new ones start, so every frame stays covered.
Sources: Lucas and Kanade 1981; Shi and Tomasi 1994; Bouguet's pyramids as in OpenCV.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.progress import Track, silent
from dyngs_plugins.priors.providers.flow_math import inside, sample
from dyngs_plugins.priors.providers.inputs import PriorInputs


@dataclasses.dataclass(frozen=True)
class TrackingSettings:
    """How points are found and followed; lengths in pixels."""

    points: int = 1500
    """About how many points each frame has."""
    window: int = 15
    """Side of the patch that is compared."""
    round_trip: float = 0.7
    drift: float = 1.0
    """How far the chain and the search from the anchor may differ."""
    anchor_frames: int = 8
    """After so many frames a track takes its present view as its anchor: patches change with the viewpoint."""
    quality: float = 0.003
    """Corners weaker than this share of the image's strongest one are not tracked."""
    border: int = 4
    blind_share: float = 0.1
    """A frame that keeps a smaller share of the points sees nothing, ..."""
    blind_frames: int = 5
    """... unless this many frames before it saw nothing either: then the scene has changed."""
    leap_likeness: float = 0.7
    """Normalised correlation that a patch must have with itself after blind frames."""


@dataclasses.dataclass
class _Alive:
    """The tracks that reach the present frame."""

    ids: Int[np.ndarray, "k"]
    xy: Float[np.ndarray, "k 2"]
    anchor_frame: Int[np.ndarray, "k"]
    anchor_xy: Float[np.ndarray, "k 2"]

    def keep(self, mask: Bool[np.ndarray, "k"]) -> _Alive:
        return _Alive(self.ids[mask], self.xy[mask], self.anchor_frame[mask], self.anchor_xy[mask])

    def join(self, other: _Alive) -> _Alive:
        both = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return _Alive(*(np.concatenate(pair) for pair in both))


def track_points(inputs: PriorInputs, settings: TrackingSettings, track: Track = silent) -> Observations:
    """Follow points through all frames, in time order.

    A frame in which almost all points are lost at once (black, blurred, covered) is left out: they are looked for again
    in the next ones.
    """
    grey = GreyImages(inputs)
    alive, rows, count, before = _nothing(), [], 0, -1
    for t in track(range(len(inputs.frames)), "following points"):
        if before >= 0:
            found = _advance(inputs, grey, alive, before, t, settings)
            if len(found.ids) < settings.blind_share * len(alive.ids) and t - before <= settings.blind_frames:
                continue
            alive = found
        fresh = _new_corners(grey(t), alive.xy, settings)
        ids = np.arange(count, count + len(fresh))
        count += len(fresh)
        alive = alive.join(_Alive(ids, fresh, np.full(len(fresh), t), fresh))
        rows.append((alive.ids, np.full(len(alive.ids), t), alive.xy))
        before = t
    ids, frame, xy = (np.concatenate(column) for column in zip(*rows, strict=True))
    long = np.bincount(ids, minlength=count)[ids] >= min(3, len(inputs.frames))
    return Observations.of(ids[long], frame[long], xy[long] + 0.5, len(inputs.frames))


class GreyImages:
    """8-bit grey images with local contrast evened out, so that dark corners can be tracked too; a few are kept."""

    def __init__(self, inputs: PriorInputs, keep: int = 32) -> None:
        self.inputs, self.keep = inputs, min(keep, 128)
        self.kept: dict[int, UInt8[np.ndarray, "h w"]] = {}

    def __call__(self, i: int) -> UInt8[np.ndarray, "h w"]:
        if i not in self.kept:
            grey = cv2.cvtColor(self.inputs.image(i), cv2.COLOR_RGB2GRAY)
            self.kept[i] = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(grey)
            while len(self.kept) > self.keep:
                del self.kept[next(iter(self.kept))]
        return self.kept[i]


def _advance(
    inputs: PriorInputs, grey: GreyImages, alive: _Alive, before: int, t: int, settings: TrackingSettings
) -> _Alive:
    """The tracks of frame `before` that are found in frame t."""
    if not len(alive.ids):
        return alive
    if t - before == 1:
        flow = inputs.flow(before, t)
    else:  # what lies between sees nothing, so flow must not be composed over it
        flow = inputs.flow_provider.estimate(inputs.image(before), inputs.image(t))
    guess = alive.xy + sample(flow, alive.xy)
    found, good = klt_round_trip(grey(before), grey(t), alive.xy, guess, settings)
    if t - before > 1:  # a leap lands on anything: what is found must also look like what was lost
        good[good] &= likeness(grey(before), grey(t), alive.xy[good], found[good]) > settings.leap_likeness
    good &= inside(found - settings.border, _shrunk(inputs.frames.size, 2 * settings.border))
    alive, found = alive.keep(good), found[good]
    kept = np.ones(len(found), bool)
    for anchor in np.unique(alive.anchor_frame):
        at = np.flatnonzero((alive.anchor_frame == anchor) & (alive.anchor_frame != before))
        if len(at):
            again, ok = klt_round_trip(grey(int(anchor)), grey(t), alive.anchor_xy[at], found[at], settings)
            ok &= np.linalg.norm(again - found[at], axis=1) < settings.drift
            found[at] = np.where(ok[:, None], again, found[at])
            kept[at] = ok
    alive, found = alive.keep(kept), found[kept]
    old = (t - alive.anchor_frame) >= settings.anchor_frames
    anchor_frame = np.where(old, t, alive.anchor_frame)
    return _Alive(alive.ids, found, anchor_frame, np.where(old[:, None], found, alive.anchor_xy))


def klt_round_trip(
    source: UInt8[np.ndarray, "h w"], target: UInt8[np.ndarray, "h w"], xy: Float[np.ndarray, "k 2"],
    guess: Float[np.ndarray, "k 2"], settings: TrackingSettings,
) -> tuple[Float[np.ndarray, "k 2"], Bool[np.ndarray, "k"]]:  # fmt: skip
    """Where points of the source are in the target, and whether they come back to where they were."""
    if not len(xy):
        return np.zeros((0, 2)), np.zeros(0, bool)
    options = {
        "winSize": (settings.window, settings.window),
        "maxLevel": 1,  # the guess is good to a few pixels already
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.005),
        "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
        "minEigThreshold": 1e-4,
    }
    start = np.ascontiguousarray(xy, np.float32)
    end, forward, _ = cv2.calcOpticalFlowPyrLK(
        source, target, start, np.ascontiguousarray(guess, np.float32).copy(), **options
    )
    back, backward, _ = cv2.calcOpticalFlowPyrLK(target, source, end, start.copy(), **options)
    trip = np.linalg.norm(back - start, axis=1)
    good = (forward[:, 0] == 1) & (backward[:, 0] == 1) & (trip < settings.round_trip)
    return end.astype(np.float64), good


def likeness(
    source: np.ndarray,
    target: np.ndarray,
    start: Float[np.ndarray, "k 2"],
    end: Float[np.ndarray, "k 2"],
    half: int = 5,
) -> Float[np.ndarray, "k"]:
    """Normalised cross-correlation of the patches around two positions."""
    offset = np.stack(np.meshgrid(*(np.arange(-half, half + 1.0),) * 2), axis=-1).reshape(-1, 2)
    patches = [sample(image, xy[:, None] + offset).astype(np.float64) for image, xy in ((source, start), (target, end))]
    a, b = (p - p.mean(1, keepdims=True) for p in patches)
    return (a * b).sum(1) / np.sqrt(np.maximum((a**2).sum(1) * (b**2).sum(1), 1e-12))


def _new_corners(
    grey: UInt8[np.ndarray, "h w"], taken: Float[np.ndarray, "k 2"], settings: TrackingSettings
) -> Float[np.ndarray, "k 2"]:
    """Corners away from the points that are there already, spread evenly, refined to parts of a pixel by KLT later."""
    height, width = grey.shape
    spacing = max(np.sqrt(height * width / settings.points), 3.0)
    if len(taken) > 0.9 * settings.points:
        return np.zeros((0, 2))
    mask = np.full(grey.shape, 255, np.uint8)
    b = settings.border
    mask[:b], mask[-b:], mask[:, :b], mask[:, -b:] = 0, 0, 0, 0
    for x, y in np.round(taken).astype(int):
        cv2.circle(mask, (int(x), int(y)), int(spacing), (0.0,), -1)
    corners = cv2.goodFeaturesToTrack(grey, settings.points, settings.quality, spacing, mask=mask, blockSize=5)
    return np.zeros((0, 2)) if corners is None else corners[:, 0].astype(np.float64)


def _nothing() -> _Alive:
    return _Alive(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros((0, 2)))


def _shrunk(size: tuple[int, int], by: int) -> tuple[int, int]:
    return size[0] - by, size[1] - by
