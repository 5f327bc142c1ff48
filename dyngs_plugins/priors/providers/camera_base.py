"""What a camera provider is: it turns the frames of one video into one pose for each frame and one focal length.

Cameras come before masks and depth, so a provider sees images and flow alone and must find out by itself what stands
still. Where nothing can be known (a camera that only turns, a camera on a tripod) it says so instead of inventing a path.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.progress import Track, silent
from dyngs_plugins.priors.providers.base import FrameResult, PriorProvider
from dyngs_plugins.priors.providers.inputs import PriorInputs


@dataclasses.dataclass(frozen=True)
class SolvedCameras:
    """Cameras of the frames of one video, OpenCV axes; the unit of length is the provider's own."""

    world_T_camera: Float[np.ndarray, "n 4 4"]
    K: Float[np.ndarray, "3 3"]
    """Pixels at the frames' size; pixel centres at +0.5."""
    interpolated: tuple[int, ...] = ()
    """Frames whose pose is not solved but interpolated between its neighbours."""
    still: bool = False
    """The camera stands (or only turns) for the whole clip: no depth can be triangulated from it."""
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Figures for the summary: reprojection error in pixels, number of tracks, where the focal length comes from, ..."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what could not be recovered, what was assumed, what to try."""


class CameraProvider(PriorProvider):
    """Poses and focal length of one video."""

    kind: ClassVar[str] = "cameras"
    track: Track = staticmethod(silent)
    """Wraps what a phase goes through, with the phase's name, so that the user sees how far it is."""

    @abstractmethod
    def solve(self, inputs: PriorInputs, focal: float | None) -> SolvedCameras:
        """Solve the cameras of all frames of `inputs`, whose own cameras are unknown and must not be looked at.

        Args:
            inputs: images and flow; `inputs.frames` has names, sizes and time steps.
            focal: focal length in pixels if it is known (given by the user, or from EXIF), else None.

        Raises:
            ValueError: when no camera can be found, with what was found and what to try.
        """

    def locate(self, inputs: PriorInputs, solved: SolvedCameras, frames: Sequence[int]) -> Float[np.ndarray, "n 4 4"]:
        """world_T_camera of all frames of `inputs`, of which `solved` belongs to the frames `frames`, in that order.

        The others are frames held out for evaluation: each is located against what the solved ones saw, and changes
        nothing of theirs.
        """
        raise NotImplementedError(f"The camera provider {self.name!r} cannot locate held-out frames. Use --holdout 0.")

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """Not used: cameras are solved for all frames together, see :meth:`solve`."""
        raise TypeError("Cameras are solved together; call solve().")
