"""SAM 2 and SAM 3 for videos, through transformers, in windows of bounded length.

SAM 2 (Ravi et al., 2024) and the tracker of SAM 3 follow what is pointed at; SAM 3 (Carion et al., 2025) also finds what
a text names. Which classes a checkpoint needs is read from its config.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from dyngs_plugins.priors.providers.learned import choose_device, load_pretrained
from dyngs_plugins.priors.providers.mask_prompts import ObjectPrompt

Image = Callable[[int], UInt8[np.ndarray, "h w 3"]]
Masks = dict[int, Bool[np.ndarray, "h w"]]  # by object


class SamVideo:
    """A loaded network. Methods yield each frame's mask once, the union over objects.

    Args:
        model: id on the hub, or a folder; must be on this machine.
        window: images that are held and followed at once.
        offload: keep them and the network's memories in main memory, not on the GPU.
    """

    def __init__(self, model: str, device: str = "auto", window: int = 100, offload: bool = True) -> None:
        self.model, self.window = model, window
        self.device = choose_device(device)
        self.store = "cpu" if offload else self.device
        self.architecture = _architecture(model)
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def follow(
        self, image: Image, count: int, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[tuple[int, Bool[np.ndarray, "h w"]]]:
        """Follow objects prompted on one image, forward and then backward.

        Args:
            prompts: all on the same frame, all with or all without a box; see `mask_prompts.groups`.
        """
        start = prompts[0].frame
        first, last = max(start - self.window // 2, 0), min(start + self.window - self.window // 2, count)
        ends: dict[int, Masks] = {}
        for i, masks in self._window(image, range(first, last), start, prompts):
            if i in (first, last - 1):
                ends[i] = masks
            yield i, _union(masks)
        for edge, step in ((last - 1, 1), (first, -1)):
            yield from self._onward(image, count, edge, step, ends[edge])

    def _onward(
        self, image: Image, count: int, edge: int, step: int, masks: Masks
    ) -> Iterator[tuple[int, Bool[np.ndarray, "h w"]]]:
        """Window by window from the masks of the frame `edge` to the end of the video (step 1) or its start (-1)."""
        end = count - 1 if step > 0 else 0
        while edge != end:
            far = min(edge + self.window - 1, end) if step > 0 else max(edge - self.window + 1, end)
            frames = range(min(edge, far), max(edge, far) + 1)
            seen = {k: mask for k, mask in masks.items() if mask.any()}
            if not seen:  # every object has left
                for i in range(edge + step, end + step, step):
                    yield i, np.zeros(image(i).shape[:2], bool)
                return
            for i, masks in self._window(image, frames, edge, seen):
                if i != edge:
                    yield i, _union(masks)
                if i == far:
                    reached = masks
            edge, masks = far, reached

    def _window(
        self, image: Image, frames: range, start: int, prompts: Sequence[ObjectPrompt] | Masks
    ) -> Iterator[tuple[int, Masks]]:
        """The objects' masks in consecutive frames, from what is known about frame `start`."""
        model, processor = self._load("follow")
        session = self._session(processor, image, frames)
        height, width = image(frames[0]).shape[:2]
        processor.add_inputs_to_inference_session(session, start - frames[0], **_session_inputs(prompts))
        names = list(prompts) if isinstance(prompts, dict) else list(range(len(prompts)))
        for reverse in (False, True):
            passed = model.propagate_in_video_iterator(session, start_frame_idx=start - frames[0], reverse=reverse)
            for output in passed:
                i = frames[0] + output.frame_idx
                if reverse and i == start:
                    continue
                logits = processor.post_process_masks([output.pred_masks], [[height, width]], binarize=False)[0]
                found = (logits[:, 0] > 0).cpu().numpy()
                yield i, {name: found[output.object_ids.index(k)] for k, name in enumerate(names)}

    def find(self, image: Image, count: int, texts: Sequence[str]) -> Iterator[tuple[int, Bool[np.ndarray, "h w"]]]:
        """Everything that the texts name, found anew in each window and followed within it (SAM 3)."""
        if self.architecture != "sam3_video":
            raise ValueError(
                f"{self.model} is a {self.architecture} and takes no text. Expected SAM 3, as in "
                "masks.model=facebook/sam3; or point with masks.click or masks.box."
            )
        model, processor = self._load("find")
        for first in range(0, count, self.window):
            frames = range(first, min(first + self.window, count))
            session = self._session(processor, image, frames)
            processor.add_text_prompt(session, list(texts))
            for output in model.propagate_in_video_iterator(session, start_frame_idx=0):
                found = processor.postprocess_outputs(session, output)["masks"].cpu().numpy()
                yield first + output.frame_idx, found.any(0) if len(found) else np.zeros(found.shape[1:], bool)

    def _session(self, processor: Any, image: Image, frames: range) -> Any:
        return processor.init_video_session(
            video=np.stack([image(i) for i in frames]),
            inference_device=self.device,
            inference_state_device=self.store,
            processing_device="cpu",
            video_storage_device=self.store,
        )

    def _load(self, what: str) -> tuple[Any, Any]:
        """Model and processor for following or for finding."""
        if what not in self._loaded:
            classes = _classes(self.architecture, what, self.model)
            loaded = load_pretrained(classes, self.model, "masks")
            self._loaded[what] = loaded["model"].eval().to(self.device), loaded["processor"]
        return self._loaded[what]


def _classes(architecture: str, what: str, model: str) -> dict[str, Any]:
    import transformers

    if what == "find":
        return {"model": transformers.Sam3VideoModel, "processor": transformers.Sam3VideoProcessor}
    if architecture in ("sam2_video", "sam2"):
        return {"model": transformers.Sam2VideoModel, "processor": transformers.Sam2VideoProcessor}
    if architecture in ("sam3_video", "sam3_tracker_video"):
        return {"model": transformers.Sam3TrackerVideoModel, "processor": transformers.Sam3TrackerVideoProcessor}
    raise ValueError(
        f"{model} is a {architecture!r}, not a SAM for videos. Expected for example masks.model="
        "facebook/sam2.1-hiera-small or facebook/sam3."
    )


def _architecture(model: str) -> str:
    """`model_type` of a config.json that is on this machine."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        path = folder / "config.json"
    else:
        from huggingface_hub import try_to_load_from_cache

        path = Path(str(try_to_load_from_cache(model, "config.json")))
    try:
        return str(json.loads(path.read_text()).get("model_type", "unknown"))
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}). Expected the config.json of a model; fetch it again."
        ) from error


def _session_inputs(prompts: Sequence[ObjectPrompt] | Masks) -> dict[str, Any]:
    """Arguments of `add_inputs_to_inference_session`, for all objects at once."""
    if isinstance(prompts, dict):
        return {"obj_ids": list(range(len(prompts))), "input_masks": list(prompts.values())}
    inputs: dict[str, Any] = {"obj_ids": list(range(len(prompts)))}
    if any(prompt.points for prompt in prompts):
        inputs["input_points"] = [[[list(point) for point in prompt.points] for prompt in prompts]]
        inputs["input_labels"] = [[list(prompt.labels) for prompt in prompts]]
    if prompts[0].box is not None:
        inputs["input_boxes"] = [[list(prompt.box or ()) for prompt in prompts]]
    return inputs


def _union(masks: Masks) -> Bool[np.ndarray, "h w"]:
    return np.any(list(masks.values()), axis=0)
