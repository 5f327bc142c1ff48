"""Moving-object masks from what a still world cannot explain, without learned weights.

Evidence of motion is twofold: the residual of one inverse depth per pixel over several baselines (`multiview.py`),
which covers whole objects but also wrong flow; and colours that still surfaces do not explain (`photometric.py`), which
is sure but sparse. Where poses are wrong or the camera does not move, both come from pairs of images alone
(`pair_geometry.py`). Both are averaged along flow over some frames. Sure pixels grow through the support of the first
evidence, GrabCut (Rother et al., SIGGRAPH 2004) finds the outline, and masks are voted over time.

Known limits: objects without texture (a black sleeve) give no evidence inside and are found in part; surfaces that
mirror or shine may count as moving; what stands still for the whole clip is static.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dyngs_plugins.priors.providers.base import FrameResult, MaskProvider
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.multiview import FitSettings, observed_disparity_range, still_fit
from dyngs_plugins.priors.providers.pair_geometry import pair_fit, pairwise_still_flows, poses_explain_flow
from dyngs_plugins.priors.providers.photometric import colour_contradiction, posed_still_flows
from dyngs_plugins.priors.providers.temporal import Recent, vote
from dyngs_plugins.priors.providers.working_size import working_inputs

_SMALL = np.ones((3, 3), np.uint8)
_WITHOUT_POSES = (
    "Masks come from pairs of images alone (a homography or epipolar lines fitted to each pair), because the cameras "
    "show no parallax or do not explain the flow of most pixels."
)


@dataclasses.dataclass
class EpipolarMasks(MaskProvider):
    """Residuals of a still world, confirmed by colour, cut out with GrabCut, voted over time."""

    name: ClassVar[str] = "epipolar"

    #: What stands still: by the cameras' "poses", by "pairs" of images alone, or "auto": poses if they explain the flow.
    geometry: str = "auto"
    #: Geometric misfit, in noise units, above which a pixel may belong to a moving object.
    support: float = 1.0
    #: Colour contradiction, in noise units, above which a pixel that is also well supported surely moves.
    seed: float = 0.55
    #: How far an object may reach beyond its sure pixels, as a share of the longer image side.
    reach: float = 0.2
    #: Objects with a smaller share of the evidence than the frame's strongest one are dropped as noise.
    min_share: float = 0.12
    #: Specks and holes below this share of the image are removed.
    min_area: float = 0.0025
    #: Pixels seen by a smaller share of the neighbours are never sure.
    min_trust: float = 0.6
    #: Longer side of the images on which the evidence is gathered; outlines are found at full size. 0: at full size.
    working_side: int = 512
    vote_frames: int = 6
    mask_vote_frames: int = 4
    image_noise: float = 1.0
    #: Colours are compared with the frames at +- these offsets.
    colour_offsets: tuple[int, ...] = (2, 4, 8)

    def __post_init__(self) -> None:
        self._notes: tuple[str, ...] = ()

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`; a frame looks at its neighbours only."""
        small = working_inputs(inputs, self.working_side)
        self._notes = () if self.uses_poses(small) else (_WITHOUT_POSES,)
        reach = 2 * (self.vote_frames + self.mask_vote_frames)
        evidence = Recent(lambda i: self._evidence(small, i), reach)
        single = Recent(lambda i: self._frame_mask(small, i, evidence), reach)
        everywhere = np.ones(small.frames.size, np.float32)
        for i in indices:
            share = vote(small, i, self.mask_vote_frames, lambda j: single(j)[..., None], lambda j: everywhere)
            mask = clean(share[..., 0] > 0.5, self.min_area)
            yield i, {"mask": mask if small is inputs else clean(at_full_size(mask, inputs.image(i)), self.min_area)}

    def less_memory(self) -> str:
        return f"Lower --settings masks.working_side=... (now {self.working_side})."

    def notes(self) -> tuple[str, ...]:
        """Where the poses were not used, and why."""
        return self._notes

    def _frame_mask(
        self, inputs: PriorInputs, i: int, evidence: Callable[[int], Float[np.ndarray, "h w 3"]]
    ) -> Bool[np.ndarray, "h w"]:
        """The mask of frame i before the vote over masks."""
        voted = vote(inputs, i, self.vote_frames, lambda j: evidence(j)[..., :2], lambda j: evidence(j)[..., 2])
        return self.cut(inputs.image(i), voted[..., 0], voted[..., 1], evidence(i)[..., 2].astype(np.float32))

    def _evidence(self, inputs: PriorInputs, i: int) -> Float[np.ndarray, "h w 3"]:
        """Misfit and colour contradiction in noise units, and how far they may be trusted; half floats for memory."""
        settings = FitSettings()
        if self.uses_poses(inputs):
            fit, still_flows = still_fit(inputs, i, settings), posed_still_flows(inputs, i, settings)
        else:
            fit, still_flows = pair_fit(inputs, i, settings), pairwise_still_flows(inputs, i)
        colour = colour_contradiction(inputs, i, settings, self.colour_offsets, self.image_noise, still_flows)
        return np.stack([fit.misfit, colour, fit.trust], axis=-1).astype(np.float16)

    def uses_poses(self, inputs: PriorInputs) -> bool:
        """Whether the evidence comes from the cameras' poses (not: from pairs of images alone)."""
        if self.geometry != "auto":
            return self.geometry == "poses"
        return inputs.remember(("masks use poses",), lambda: poses_are_usable(inputs))

    def cut(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        misfit: Float[np.ndarray, "h w"],
        colour: Float[np.ndarray, "h w"],
        trust: Float[np.ndarray, "h w"],
    ) -> Bool[np.ndarray, "h w"]:
        """The moving pixels of one frame from its voted evidence."""
        sure = (colour > self.seed) & (misfit > 1.2 * self.support) & (trust > self.min_trust)
        border = 6  # flow is least reliable where surfaces enter and leave the image
        sure[:border], sure[-border:], sure[:, :border], sure[:, -border:] = False, False, False, False
        seeds = clean(sure, self.min_area / 4)
        supported = ((misfit > self.support) & (trust > 0.2)).astype(np.uint8)
        region = seeds.astype(np.uint8) & supported
        for _ in range(max(int(self.reach * max(image.shape[:2])), 1)):
            region = np.minimum(cv2.dilate(region, _SMALL), supported)
        region = self._strong(region, np.clip(colour, 0.0, 2.0))
        if region.sum() < 20:
            return np.zeros(region.shape, bool)
        region = cv2.morphologyEx(region, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        ring = cv2.dilate(region, np.ones((21, 21), np.uint8)) > 0
        labels = np.where(region > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[(region > 0) & (colour > 1.8 * self.seed) & (misfit > 1.5 * self.support)] = cv2.GC_FGD
        labels[(region == 0) & (~ring | (misfit < 0.6 * self.support))] = cv2.GC_BGD
        return clean(grab_cut(image, labels), self.min_area)

    def _strong(self, region: UInt8[np.ndarray, "h w"], colour: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
        """Without the connected parts that hold little of the evidence."""
        count, parts = cv2.connectedComponents(region)
        evidence = np.bincount(parts.ravel(), colour.ravel(), minlength=count)
        evidence[0] = 0.0
        keep = evidence >= self.min_share * max(evidence.max(), 1e-6)
        keep[0] = False
        return keep[parts].astype(np.uint8)


def poses_are_usable(inputs: PriorInputs) -> bool:
    """Whether the poses show parallax and explain the flow of what stands still."""
    if not inputs.frames.has_cameras or observed_disparity_range(inputs) is None:
        return False
    return poses_explain_flow(inputs)


def at_full_size(mask: Bool[np.ndarray, "a b"], image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """A mask of a smaller image, with its outline found again in the image: within two of its pixels by GrabCut."""
    height, width = image.shape[:2]
    large = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    if not large.any():
        return large
    band = np.ones((2 * round(2 * height / mask.shape[0]) + 1,) * 2, np.uint8)
    inner, outer = cv2.erode(large.astype(np.uint8), band) > 0, cv2.dilate(large.astype(np.uint8), band) > 0
    labels = np.where(large, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inner], labels[~outer] = cv2.GC_FGD, cv2.GC_BGD
    return grab_cut(image, labels)


def grab_cut(
    image: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], iterations: int = 2
) -> Bool[np.ndarray, "h w"]:
    """Foreground by GrabCut from a trimap in OpenCV's labels; the same result at every call."""
    if not (labels == cv2.GC_BGD).any() and not (labels == cv2.GC_PR_BGD).any():
        return np.ones(labels.shape, bool)
    high = max(float(np.percentile(image, 99.0)), 16.0)
    y, x = np.nonzero(labels != cv2.GC_BGD)
    box = tuple(slice(max(int(v.min()) - 16, 0), int(v.max()) + 17) for v in (y, x))  # what is far away costs only time
    bright = np.clip(image[box].astype(np.float32) * (255.0 / high), 0, 255).astype(np.uint8)
    part = np.ascontiguousarray(labels[box])
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(bright, part, (0, 0, 1, 1), *models, iterations, cv2.GC_INIT_WITH_MASK)
    result = np.zeros(labels.shape, bool)
    result[box] = (part == cv2.GC_FGD) | (part == cv2.GC_PR_FGD)
    return result


def clean(mask: Bool[np.ndarray, "h w"], min_area: float) -> Bool[np.ndarray, "h w"]:
    """Without specks and holes smaller than `min_area` of the image."""
    area = max(int(min_area * mask.size), 4)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    without_specks = _drop_small(opened, area)
    return ~_drop_small((~without_specks).astype(np.uint8), area)


def _drop_small(mask: UInt8[np.ndarray, "h w"], area: int) -> Bool[np.ndarray, "h w"]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= area
    keep[0] = False
    return keep[np.asarray(labels, np.int64)]
