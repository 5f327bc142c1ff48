"""What the camera solver is asked and what it answers."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool

from dyngs_plugins.priors.cameras.bundle import Reconstruction
from dyngs_plugins.priors.cameras.focal import DEFAULT_FOV
from dyngs_plugins.priors.cameras.observations import Observations


@dataclasses.dataclass(frozen=True)
class SolverSettings:
    """Lengths are in pixels of the images in use."""

    noise: float = 1.0
    """Residuals from where on an observation loses influence."""
    still_px: float = 0.5
    """A camera stands if most tracks stay within this distance."""
    key_frame_distance: float = 0.03
    """Median motion of the tracks between key frames, as a share of the image's width."""
    key_tracks: int = 600
    tracks: int = 2500
    """At most so many tracks decide the cameras; more cost time and change little."""
    rounds: int = 2
    """How often tracks are judged again and cameras adjusted, before and after tracks are found again."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """Cameras, and the still points that they see."""

    scene: Reconstruction
    observations: Observations
    """The tracks of the scene's points, judged still."""
    solved: Bool[np.ndarray, "n"]
    """Frames with a pose of their own; the others are interpolated."""
    still: bool
    """No depth can be triangulated: the camera stands or only turns."""
    focal_source: str
    still_share: float
    """Share of all tracks that are still."""
    notes: tuple[str, ...] = ()
    focal_uncertainty: float = 0.0
    """Relative standard deviation of a focal length that was searched for, from the key frames."""

    @property
    def median_error(self) -> float:
        """Median reprojection error of the still tracks in pixels."""
        return float(np.median(self.scene.errors(self.observations)))


def assumed_focal(focal: float) -> str:
    """The sentence for the user where the focal length cannot be known."""
    return (
        f"The focal length cannot be told from this motion: it is assumed to be {focal:.0f} pixels (a field of view of "
        f"{DEFAULT_FOV:.0f} degrees of the shorter side). Give it with --focal if you know it."
    )
