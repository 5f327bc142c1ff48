"""Dense disparity in the cameras' scale: triangulated from flow to many frames, completed, smoothed over time.

Still pixels come from the fit of one inverse depth to the flow to neighbours at several baselines (`multiview.py`); the
rest is completed along image edges (`completion.py`). Moving regions are placed by contact and slowness
(`moving_depth.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.prior_kinds import DepthKind
from dyngs_plugins.priors.providers.base import DepthProvider, FrameResult
from dyngs_plugins.priors.providers.completion import complete
from dyngs_plugins.priors.providers.flow_math import pixel_grid, warp
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.moving_depth import moving_disparity
from dyngs_plugins.priors.providers.multiview import FitSettings, StillFit, observed_disparity_range, still_fit
from dyngs_plugins.priors.providers.temporal import flows_around
from dyngs_plugins.priors.providers.working_size import enlarged, flows_fit, working_inputs

_TRIANGULATED = 0.1  # data weight from which a pixel counts as measured


@dataclasses.dataclass
class MultiViewDepth(DepthProvider):
    """Multi-view fit of the still world, completed densely; moving regions by contact and slowness."""

    name: ClassVar[str] = "multiview"
    needs_parallax: ClassVar[bool] = True

    smoothness: float = 0.3
    #: Relative standard deviation of the disparity that contact gives a moving region.
    contact_uncertainty: float = 0.25
    #: Pixels nearer than this to a moving one, as a share of the longer side, are filled in and not triangulated.
    margin: float = 0.016
    #: Longer side of the images on which depth is found; it is enlarged along edges. 0: at full size.
    working_side: int = 512
    #: Frames on each side that take part in smoothing over time.
    smooth_frames: int = 2
    #: Relative difference of disparity beyond which a neighbouring frame is another surface.
    smooth_tolerance: float = 0.1

    def __post_init__(self) -> None:
        self._shares: list[tuple[float, float]] = []  # of what is triangulated and what is cut off, by frame

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Raises:
            ValueError: when the cameras show no parallax.
        """
        small = working_inputs(inputs, self.working_side)
        limits = observed_disparity_range(small)
        if limits is None:
            raise ValueError(
                f"Depth of camera {inputs.frames.name} cannot be triangulated: too few pixels show parallax. The "
                "camera stands still or only turns, or the poses do not belong to the images. Depth must come from "
                "elsewhere: --depth depth-anything or depth-pro (networks), or --depth files (yours, also without the "
                "cameras' scale)."
            )
        self._shares = []
        # Masks end at the last frame. If memory holds the latest flows only, they are used before they are gone.
        for i in indices if flows_fit(small, 2 * len(FitSettings().offsets)) else reversed(indices):
            disparity = self._smoothed(small, i)
            if small is not inputs:
                labels = small.mask(i).astype(np.int32), inputs.mask(i).astype(np.int32)
                disparity = np.exp(enlarged(np.log(disparity), small.image(i), inputs.image(i), *labels))
            still = ~small.mask(i)
            seen = data_weight(still_fit(small, i, FitSettings())) > _TRIANGULATED
            outside = (disparity < limits[0]) | (disparity > limits[1])
            self._shares.append((seen[still].mean() if still.any() else 0.0, outside.mean()))
            yield i, {"disparity": np.clip(disparity, *limits).astype(np.float32)}

    def less_memory(self) -> str:
        return f"Lower --settings depth.working_side=... (now {self.working_side})."

    def notes(self) -> tuple[str, ...]:
        """How much of the depth is measured and how much is guessed."""
        if not self._shares:
            return ()
        seen, outside = (100.0 * np.mean(share) for share in zip(*self._shares, strict=True))
        return (
            f"{seen:.0f} % of the pixels that stand still are triangulated, the others are filled in along the image; "
            f"{outside:.1f} % were nearer or further than anything triangulated and are cut off there.",
        )

    def _single(self, inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w"] | None:
        """The disparity of frame i before smoothing over time; None where nothing in it can be triangulated."""

        def make() -> np.ndarray | None:
            fit, image, moving = still_fit(inputs, i, FitSettings()), inputs.image(i), inputs.mask(i)
            weight = data_weight(fit) * (cv2.dilate(moving.astype(np.uint8), self._margin(moving.shape)) == 0)
            if not (weight > 0).any():
                return None
            background = np.exp(complete(np.log(fit.disparity), weight, image, self.smoothness))
            return moving_disparity(background, moving, fit, image, self.contact_uncertainty)

        return inputs.remember(("single depth", i), make)

    def _margin(self, shape: tuple[int, ...]) -> np.ndarray:
        """What a mask is grown by before its surroundings count as still: flow smears a moving outline outwards."""
        return np.ones((2 * max(round(self.margin * max(shape)), 3) + 1,) * 2, np.uint8)

    def _smoothed(self, inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w"]:
        """Disparity averaged over frames, carried along flow and into this camera; other surfaces do not count."""
        single = self._single(inputs, i)
        if single is None:
            name = inputs.frames.stems[i]
            raise ValueError(
                f"Frame {name}: the whole image is masked as moving or shows no parallax, so there is nothing to take "
                f"depth from. Correct its mask, or put a file of yours at {DepthKind.folder_name}/{inputs.frames.name}/"
                f"{name}.npy (disparity, 0 where unknown), and run the same command again."
            )
        own = np.log(single)
        total, weight = own.copy(), np.ones_like(own)
        for j, flow, valid in flows_around(inputs, i, self.smooth_frames, max_round_trip_px=1.0):
            other = self._single(inputs, j)
            if other is None:  # its depth must come from elsewhere, and that must not stop this frame
                continue
            seen = warp(other, flow)
            carried = np.log(carried_disparity(inputs.frames, i, j, flow, seen))
            w = valid * np.exp(-0.5 * ((carried - own) / self.smooth_tolerance) ** 2)
            total += w * np.where(valid, carried, 0.0)
            weight += w
        return np.exp(total / weight)


def data_weight(fit: StillFit) -> Float[np.ndarray, "h w"]:
    """How far the still fit of a pixel may be trusted, about 1 for good ones, 0 for hopeless ones."""
    relative = fit.deviation / fit.disparity
    weight = 1.0 / (1.0 + (relative / 0.03) ** 2) / (1.0 + fit.misfit**2) ** 1.5
    return np.where((relative < 0.5) & (fit.trust > 0.1), weight, 0.0).astype(np.float32)


def carried_disparity(
    frames: FrameSequence, i: int, j: int, flow: Float[np.ndarray, "h w 2"], disparity: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Disparity in camera i of the still points that camera j sees at the ends of `flow` with `disparity`."""
    xy = pixel_grid(*frames.size) + flow + 0.5
    rays = np.concatenate([xy, np.ones((*frames.size, 1))], axis=-1) @ frames.inverse_K[j].T
    i_T_j = frames.target_T_source(j, i)
    depth = (rays @ i_T_j[2, :3]) / disparity + i_T_j[2, 3]
    return (1.0 / np.maximum(depth, 1e-6)).astype(np.float32)
