"""Depth in a foreign unit, brought to the cameras' scale image by image.

Each image's disparity is aligned (`align.py`) against the pixels whose depth is triangulated from flow (`multiview.py`)
and that do not move. An image without enough such pixels takes the alignment of the nearest image that has them.
Without any parallax (a camera that stands) nothing can be triangulated, so the foreign unit stays, and a note says so.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.align import OWN_SCALE, Alignment, Freedom, align_disparity, apply_alignment
from dyngs_plugins.priors.providers.base import DepthProvider, FrameResult
from dyngs_plugins.priors.providers.depth_multiview import data_weight
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.multiview import FitSettings, observed_disparity_range, still_fit
from dyngs_plugins.priors.providers.working_size import working_inputs

_SURE = 0.1  # of `data_weight`; with fewer disparities the far ones are missing, and scale and shift go astray
_TRIANGULATED_SIDE = 512  # longer side of the images on which depth is triangulated, as for masks
_NEARER = 3.0  # aligned disparities are cut to this many times the largest triangulated one


@dataclasses.dataclass
class AlignedDepth(DepthProvider):
    """What comes from a network or from files, aligned to the cameras."""

    #: An image with fewer triangulated pixels takes its neighbour's alignment.
    min_points: int = 64

    def __post_init__(self) -> None:
        self._used: dict[int, tuple[Alignment, int, bool]] = {}  # alignment, unknown pixels, from a neighbour
        self._pixels = 0

    @property
    @abstractmethod
    def freedom(self) -> Freedom | None:
        """What the source leaves open; None where it is in the cameras' unit already."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What the depth comes from, for messages."""

    @abstractmethod
    def foreign_disparity(self, inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w"]:
        """Disparity of frame i in the source's own unit, larger is nearer, NaN where unknown."""

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Raises:
            FileNotFoundError: when weights or files are missing; see `unavailable`.
            ValueError: when no image can be aligned.
            MemoryError: with what to lower.
        """
        reason = self.unavailable()
        if reason:
            raise FileNotFoundError(reason)
        limits = observed_disparity_range(working_inputs(inputs, _TRIANGULATED_SIDE)) if self.freedom else None
        largest = None if limits is None else _NEARER * limits[1]
        for i in indices:
            alignment, borrowed = (OWN_SCALE, False) if limits is None else self._alignment_near(inputs, i)
            disparity, unknown = apply_alignment(self.foreign_disparity(inputs, i), alignment, largest)
            self._used[i] = (alignment, unknown, borrowed)
            self._pixels = disparity.size
            yield i, {"disparity": disparity}

    def figures(self) -> dict[str, float]:
        """Figures about the images made in this run: how well the alignment holds, and what it could not keep."""
        if not self._used:
            return {}
        alignments, unknown, borrowed = zip(*self._used.values(), strict=True)
        residuals = [a.residual for a in alignments if np.isfinite(a.residual)]
        return {
            "alignment residual": float(np.median(residuals)) if residuals else float("nan"),
            "worst image": max(residuals) if residuals else float("nan"),
            "unknown": sum(unknown) / (len(unknown) * max(self._pixels, 1)),
            "borrowed": float(sum(borrowed)),
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the images made in this run."""
        figures = self.figures()
        if not figures:
            return ()
        lost = f"{100 * figures['unknown']:.1f} % of the pixels have no depth (zero, negative or not finite)."
        if np.isfinite(figures["alignment residual"]):
            lines = [
                f"Depth of {self.source} differs from triangulated depth by {100 * figures['alignment residual']:.1f} % "
                f"(median; worst image {100 * figures['worst image']:.1f} %) after alignment; {lost}"
            ]
        elif self.freedom is None:
            lines = [f"Depth of {self.source} is used as it is; {lost}"]
        else:
            unit = "its metres" if self.freedom == "scale" else "no unit: only nearer and farther"
            lines = [f"The cameras show no parallax, so depth keeps the scale of {self.source} ({unit}); {lost}"]
        if figures["borrowed"]:
            lines.append(
                f"{figures['borrowed']:.0f} images have too few triangulated pixels and take a neighbour's alignment."
            )
        return tuple(lines)

    def memory_key(self) -> tuple[Hashable, ...]:
        """What this provider's intermediate results are remembered under."""
        return (self.name, *(str(value) for value in self.settings.values()))

    def _alignment_near(self, inputs: PriorInputs, i: int) -> tuple[Alignment, bool]:
        """The alignment of frame i, or else of the nearest frame that has one, and whether it is borrowed."""
        for j in sorted(range(len(inputs.frames)), key=lambda j: (abs(j - i), j)):
            found = inputs.remember(("alignment", *self.memory_key(), j), lambda j=j: self._alignment(inputs, j))
            if found.points >= self.min_points and found.sound:
                return found, j != i
        raise ValueError(
            f"The depth of {self.source} cannot be aligned to the cameras of {inputs.frames.name}: no image has "
            f"{self.min_points} static pixels where both agree on what is near. Check the poses and the masks, or "
            "lower depth.min_points."
        )

    def _alignment(self, inputs: PriorInputs, j: int) -> Alignment:
        small = working_inputs(inputs, _TRIANGULATED_SIDE)
        fit = still_fit(small, j, FitSettings())
        near_moving = cv2.dilate(small.mask(j).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        good = (data_weight(fit) > _SURE) & ~near_moving
        foreign = self.foreign_disparity(inputs, j)
        if small is not inputs:
            foreign = cv2.resize(foreign, small.frames.size[::-1], interpolation=cv2.INTER_NEAREST)
        usable = good & np.isfinite(foreign) & ((foreign > 0) | (self.freedom == "affine"))
        if not usable.any() or self.freedom is None:
            return OWN_SCALE
        return align_disparity(foreign, fit.disparity, usable, self.freedom)


def inverse_depth(depth: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Disparity of z-depth; depths of zero, below zero or not finite become NaN (unknown)."""
    good = np.isfinite(depth) & (depth > 0)
    return np.where(good, 1.0 / np.where(good, depth, 1.0), np.nan).astype(np.float32)
