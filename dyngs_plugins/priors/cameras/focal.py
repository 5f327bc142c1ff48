"""The focal length: a search over the field of view, each candidate scored by how well a still world then fits.

MoSca (Lei et al., 2024, section "focal search" of the sheet) scores candidates by the depth prior of single images. No
such depth is given here: points are triangulated, so a candidate's energy is the robust cost of its bundle adjustment
over key frames, which starts from a turning camera before a flat world and therefore needs no lucky first pair.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.cameras.bundle import Adjusted, Freedom, adjust, focal_uncertainty
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.turning import all_but_first, points_on_rays, turning_camera
from dyngs_plugins.priors.progress import Track, silent

DEFAULT_FOV = 53.0
"""Degrees of the shorter side, where nothing tells the focal length (the reference's fall-back)."""
MAX_UNCERTAINTY = 0.1
"""A focal length with a larger relative standard deviation is not observed."""


@dataclasses.dataclass(frozen=True)
class FocalSearch:
    """What the search found."""

    best: Adjusted
    """The key frames' cameras and points at the best focal length."""
    candidates: tuple[float, ...]
    """Focal lengths in pixels that were tried."""
    energies: tuple[float, ...]
    """Robust cost in square pixels of each."""
    observable: bool
    """Whether there is a minimum within the range, and a sharp one; if not, the focal length is assumed."""
    uncertainty: float = 0.0
    """Relative standard deviation of the focal length."""


def focal_of_fov(degrees: float, size: tuple[int, int]) -> float:
    """Focal length in pixels for a field of view of the shorter side of an image of (height, width)."""
    return 0.5 * min(size) / float(np.tan(np.radians(degrees) / 2))


def candidate_fovs(count: int = 7, low: float = 20.0, high: float = 95.0) -> Float[np.ndarray, "c"]:
    """Fields of view in degrees, evenly spaced in the logarithm of the focal length."""
    return np.degrees(2 * np.arctan(np.geomspace(np.tan(np.radians(high) / 2), np.tan(np.radians(low) / 2), count)))


def flat_start(
    observations: Observations, focal: float, center: Float[np.ndarray, "2"], *, steps: int = 20
) -> Adjusted:
    """Cameras and points at a fixed focal length, from a turning camera before a world at distance one."""
    turning = turning_camera(observations, focal, center, False, scale=3.0, steps=5).reconstruction
    points = points_on_rays(observations, turning.rotation, focal, center, 1.0)
    free = all_but_first(observations.num_frames)
    start = dataclasses.replace(turning, points=points)
    return adjust(start, observations, Freedom(free, free), scale=3.0, steps=steps, tolerance=1e-3)


def given_focal(observations: Observations, focal: float, size: tuple[int, int], *, scale: float = 1.0) -> FocalSearch:
    """Cameras and points of the key frames at a focal length that is known."""
    center, free = np.array([size[1] / 2, size[0] / 2]), all_but_first(observations.num_frames)
    start = flat_start(observations, focal, center)
    best = adjust(start.reconstruction, observations, Freedom(free, free), scale=scale, steps=30)
    return FocalSearch(best, (focal,), (best.cost,), True)


def search_focal(
    observations: Observations, size: tuple[int, int], *, scale: float = 1.0, fovs: np.ndarray | None = None,
    track: Track = silent,
) -> FocalSearch:  # fmt: skip
    """Try every field of view at a fixed focal length, then let the best ones free.

    Args:
        observations: still tracks in key frames.
        fovs: degrees of the shorter side.
    """
    tried = [given_focal(observations, focal_of_fov(fov, size), size, scale=scale)
             for fov in track(candidate_fovs() if fovs is None else fovs, "focal length")]  # fmt: skip
    candidates, energies = tuple(t.candidates[0] for t in tried), tuple(t.energies[0] for t in tried)
    all_free = Freedom(*(all_but_first(observations.num_frames),) * 2, focal=True)
    freed = [
        adjust(tried[k].best.reconstruction, observations, all_free, scale=scale, steps=40, tolerance=1e-5)
        for k in np.argsort(energies)[:3]
    ]
    best = min(freed, key=lambda a: a.cost)
    inside = 0.7 * min(candidates) < best.reconstruction.focal < 1.5 * max(candidates)
    uncertainty = focal_uncertainty(best.reconstruction, observations, all_free, scale=scale)
    if uncertainty > MAX_UNCERTAINTY or not inside:
        assumed = given_focal(observations, focal_of_fov(DEFAULT_FOV, size), size, scale=scale)
        return FocalSearch(assumed.best, candidates, energies, False, uncertainty)
    return FocalSearch(best, candidates, energies, True, uncertainty)
