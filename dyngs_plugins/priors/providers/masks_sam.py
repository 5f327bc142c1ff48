"""Masks of objects that are pointed at or named, followed through the video: SAM 2 and SAM 3 through transformers.

Clicks and boxes (see `mask_prompts.py`) are followed forward and backward from the image they were made on. SAM 3 also
takes a text, such as "the dancer": it finds what fits on every image by itself. Without any of these the image on which
the weight-free masks (`masks_epipolar.py`) are surest gives a box around each moving object.

Long videos are followed in windows of `window` images: a window starts from the masks that the one before ended with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool

from dyngs_plugins.priors.limits import memory_advice
from dyngs_plugins.priors.providers.base import FrameResult, MaskProvider
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.learned import (
    Weights,
    missing_package,
    missing_weights,
    result_settings,
)
from dyngs_plugins.priors.providers.mask_prompts import ObjectPrompt, groups, parse_prompts, prompts_from_mask
from dyngs_plugins.priors.providers.masks_epipolar import EpipolarMasks
from dyngs_plugins.priors.providers.multiview import FitSettings, still_fit
from dyngs_plugins.priors.providers.sam_video import SamVideo

_APACHE = "Apache-2.0"
SAM3 = "facebook/sam3"
CATALOGUE = {
    "facebook/sam2.1-hiera-tiny": Weights("156 MB", _APACHE),
    "facebook/sam2.1-hiera-small": Weights("184 MB", _APACHE),
    "facebook/sam2.1-hiera-base-plus": Weights("323 MB", _APACHE),
    "facebook/sam2.1-hiera-large": Weights("898 MB", _APACHE),
    SAM3: Weights("3.4 GB", "SAM License", "Ask for access on its page, then log in once with: hf auth login."),
}


@dataclasses.dataclass
class SamMasks(MaskProvider):
    """Objects from a click, a box or a text, followed by SAM 2 or SAM 3."""

    name: ClassVar[str] = "sam"

    #: Id on the Hugging Face hub, or a folder; empty: SAM 2.1 small, or SAM 3 where there is a text.
    model: str = ""
    #: Clicks on objects.
    click: tuple[Any, ...] = ()
    #: Clicks on what belongs to none of the objects.
    exclude: tuple[Any, ...] = ()
    box: tuple[Any, ...] = ()
    #: Index of the image that clicks and boxes were made on, for all objects or for each.
    frame: int | tuple[int, ...] = 0
    #: What to look for, in a few words; several objects as a tuple of texts. SAM 3 only.
    text: str | tuple[str, ...] = ""
    #: Images that are held in memory and followed at once.
    window: int = 100
    #: Without a prompt, this many images are searched for the one that shows best what moves.
    search: int = 8
    device: str = "auto"
    #: Keep images and what the network remembers of them in main memory instead of the GPU's.
    offload: bool = True

    def __post_init__(self) -> None:
        if self.window < 2 or self.search < 1:
            raise ValueError(f"masks.window={self.window}, masks.search={self.search}: expected at least 2 and 1.")
        if self.text and (self.click or self.box or self.exclude):
            raise ValueError("masks.text and masks.click or masks.box are two ways to say the same; give one of them.")
        self._notes: tuple[str, ...] = ()
        self._video: SamVideo | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return result_settings(self) | {"model": self.chosen_model}

    @property
    def chosen_model(self) -> str:
        return self.model or (SAM3 if self.text else "facebook/sam2.1-hiera-small")

    def unavailable(self) -> str | None:
        """Why this provider cannot run here and what to do about it, or None when it can."""
        known = {SAM3: CATALOGUE[SAM3]} if self.text else CATALOGUE
        return missing_package("transformers") or missing_weights("masks", self.chosen_model, known)

    def less_memory(self) -> str:
        return f"Lower --settings masks.window=... (now {self.window}), or run on the CPU with masks.device=cpu."

    def notes(self) -> tuple[str, ...]:
        return self._notes

    def video(self) -> SamVideo:
        """The network, loaded at the first use.

        Raises:
            FileNotFoundError: without the weights; see `unavailable`.
        """
        if self._video is None:
            reason = self.unavailable()
            if reason:
                raise FileNotFoundError(reason)
            self._video = SamVideo(self.chosen_model, self.device, self.window, self.offload)
        return self._video

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`. Frames come in the order in which they are reached.

        Raises:
            FileNotFoundError: without the weights; see `unavailable`.
            ValueError: for prompts that do not fit the images, or when nothing moves.
            MemoryError: with what to lower.
        """
        wanted = set(indices)
        with memory_advice(self.title, self.less_memory()):
            for i, mask in self._masks(inputs):
                if i in wanted:
                    wanted.discard(i)
                    yield i, {"mask": mask}

    def _masks(self, inputs: PriorInputs) -> Iterator[tuple[int, Bool[np.ndarray, "h w"]]]:
        """The masks of all frames, each once."""
        video = self.video()
        if self.text:
            texts = (self.text,) if isinstance(self.text, str) else tuple(self.text)
            yield from video.find(inputs.image, len(inputs.frames), texts)
            return
        parts = groups(self._prompts(inputs))
        if len(parts) == 1:
            yield from video.follow(inputs.image, len(inputs.frames), parts[0])
            return
        union: dict[int, np.ndarray] = {}
        for part in parts:
            for i, mask in video.follow(inputs.image, len(inputs.frames), part):
                bits = np.packbits(mask)
                union[i] = bits | union[i] if i in union else bits
        height, width = inputs.frames.size
        for i, bits in union.items():
            yield i, np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)

    def _prompts(self, inputs: PriorInputs) -> tuple[ObjectPrompt, ...]:
        frames = inputs.frames
        given = parse_prompts(self.click, self.exclude, self.box, self.frame, frames.size, len(frames))
        return given or self._moving_objects(inputs)

    def _moving_objects(self, inputs: PriorInputs) -> tuple[ObjectPrompt, ...]:
        """Boxes on the image that shows best what moves, by the weight-free masks."""
        count = len(inputs.frames)
        searched = sorted({int(i) for i in np.linspace(0, count - 1, min(count, self.search)).round()})
        best, strength = None, 0.0
        for i, arrays in EpipolarMasks().compute(inputs, searched):
            mask = arrays["mask"]
            evidence = float(np.minimum(still_fit(inputs, i, FitSettings()).misfit, 5.0)[mask].sum())
            if evidence > strength:
                best, strength = (i, mask), evidence
        if best is None:
            raise ValueError(
                f"Nothing moves in {len(searched)} searched images of {inputs.frames.name}, so SAM does not know what "
                'to follow. Point at it: --settings masks.click="(x,y)" masks.frame=0, or masks.box="(x0,y0,x1,y1)", '
                'or masks.text="a few words" with SAM 3.'
            )
        prompts = prompts_from_mask(best[1], best[0])
        self._notes = (
            f"No click, box or text was given: SAM follows {len(prompts)} object(s) that move in image "
            f"{inputs.frames.stems[best[0]]} by the weight-free masks. Look at the masks, or point with masks.click.",
        )
        return prompts
