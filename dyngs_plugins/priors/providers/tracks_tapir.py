"""Long tracks by TAPIR and BootsTAPIR (Doersch et al., ICCV 2023 and 2024), through their own torch package.

Shape of Motion's tracks are made this way: frames are brought to 256 x 256 pixels, a grid of moving pixels of each frame
is tracked, and the network's occlusion and expected-distance logits are stored as they come (its sheet, section 10).
TAPIR counts pixels from the image's corner: the first pixel's centre is (0.5, 0.5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.limits import first_line, memory_advice
from dyngs_plugins.priors.providers.base import FrameResult, TrackProvider, query_pixels
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.learned import (
    choose_device,
    missing_package,
    result_settings,
)
from dyngs_plugins.priors.track_windows import TrackWindow, window_of

CHECKPOINT = "bootstapir_checkpoint_v2.pt"
_URL = f"https://storage.googleapis.com/dm-tapnet/bootstap/{CHECKPOINT}"
_PACKAGE = "pip install 'tapnet[torch] @ git+https://github.com/google-deepmind/tapnet'"
_STEP = 8  # the network works at multiples of this size


@dataclasses.dataclass
class TapirTracks(TrackProvider):
    """TAPIR or BootsTAPIR from a grid of moving pixels in every frame."""

    name: ClassVar[str] = "tapir"

    #: Torch checkpoint of TAPIR or BootsTAPIR.
    checkpoint: str = f"~/.cache/dyngs/{CHECKPOINT}"
    #: Spacing in pixels of the tracked points.
    stride: int = 4
    #: Points are followed this many frames to either side; None: through the whole clip.
    reach: int | None = 32
    #: Frames are brought to this size, width and height alike.
    input_size: int = 256
    #: Points that are tracked at once.
    chunk: int = 128
    #: Layers of the network's pyramid of costs: 1 for the published BootsTAPIR, 0 for the first TAPIR.
    pyramid_level: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.input_size < 64 or self.input_size % _STEP or self.chunk < 1 or self.stride < 1:
            raise ValueError(
                f"tracks.input_size={self.input_size}, tracks.chunk={self.chunk}, tracks.stride={self.stride}: expected a "
                f"multiple of {_STEP} from 64 on, and at least 1 point and 1 pixel."
            )
        self._loaded: tuple[Any, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        kept = {name: value for name, value in result_settings(self).items() if name != "chunk"}
        return kept | {"checkpoint": Path(self.checkpoint).name}

    def unavailable(self) -> str | None:
        """Why this provider cannot run here and what to do about it, or None when it can."""
        for module in ("tapnet.torch", "tree", "einshape"):
            missing = missing_package(module, _PACKAGE)
            if missing:
                return missing
        file = Path(self.checkpoint).expanduser()
        if file.is_file():
            return None
        return (
            f"The weights of BootsTAPIR (219 MB, licence: Apache-2.0) are not at {file}, and nothing is downloaded "
            f"without you. To get them: curl -L --create-dirs -o {file} {_URL}. To use another file: --settings "
            "tracks.checkpoint=FILE."
        )

    def compute(self, inputs: PriorInputs, indices: Sequence[int]) -> Iterator[FrameResult]:
        """See `PriorProvider.compute`.

        Raises:
            FileNotFoundError: without the package or the weights; see `unavailable`.
            ValueError: for weights of another network.
            MemoryError: with what to lower.
        """
        model, device = self._model()
        count = len(inputs.frames)
        for q in indices:
            frames = window_of(count, q, count if self.reach is None else self.reach)
            queries = query_pixels(inputs.mask(q), self.stride)
            with memory_advice(self.title, self.less_memory()):
                yield q, {"tracks": TrackWindow(frames, self._track(model, device, inputs, frames, q, queries), q)}

    def _track(
        self, model: Any, device: Any, inputs: PriorInputs, frames: tuple[int, ...], q: int,
        queries: Float[np.ndarray, "p 2"],
    ) -> Float[np.ndarray, "w p 4"]:  # fmt: skip
        """Rows of the query pixels in all frames of the window."""
        import torch

        if not len(queries):
            return np.zeros((len(frames), 0, 4), np.float32)
        scale = np.array([self.input_size / side for side in inputs.frames.size[::-1]], np.float32)  # x, y
        video = (
            torch.from_numpy(np.stack([self._frame(inputs, i) for i in frames])).to(device)[None].float() / 127.5 - 1
        )
        corner = (queries + 0.5) * scale
        txy = np.column_stack([np.full(len(queries), frames.index(q), np.float32), corner[:, 1], corner[:, 0]])
        parts = []
        for start in range(0, len(queries), self.chunk):
            points = torch.from_numpy(txy[start : start + self.chunk]).to(device)[None]
            with torch.inference_mode():
                out = model(video, points, query_chunk_size=self.chunk)
            found = torch.cat([out["tracks"], out["occlusion"][..., None], out["expected_dist"][..., None]], -1)
            parts.append(found[0].float().cpu().numpy().swapaxes(0, 1))
        rows = np.concatenate(parts, axis=1)
        rows[..., :2] = rows[..., :2] / scale - 0.5
        rows[frames.index(q), :, :2] = queries  # exact, as in the reference; the logits stay as predicted
        return rows.astype(np.float32)

    def _frame(self, inputs: PriorInputs, i: int) -> np.ndarray:
        size = (self.input_size, self.input_size)
        make = lambda: cv2.resize(inputs.image(i), size, interpolation=cv2.INTER_AREA)  # noqa: E731
        return inputs.remember(("tapir frame", i, self.input_size), make)

    def less_memory(self) -> str:
        return (
            f"Lower --settings tracks.chunk=... (now {self.chunk} points), tracks.reach=... (now {self.reach} frames to "
            f"either side) or tracks.input_size=... (now {self.input_size}), or run on the CPU with tracks.device=cpu."
        )

    def _model(self) -> tuple[Any, Any]:
        """The network and its device, loaded at the first use."""
        if self._loaded is None:
            reason = self.unavailable()
            if reason:
                raise FileNotFoundError(reason)
            import torch
            from tapnet.torch import tapir_model  # type: ignore[import-not-found]

            device = choose_device(self.device)
            model = tapir_model.TAPIR(pyramid_level=self.pyramid_level)
            file = Path(self.checkpoint).expanduser()
            try:
                model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
            except Exception as error:  # pickle, zip and torch each have their own errors for a wrong file
                raise ValueError(
                    f"{file}: not torch weights of this TAPIR ({first_line(error)}). Expected {_URL} with "
                    "tracks.pyramid_level=1; the JAX checkpoints (.npy) do not fit."
                ) from error
            self._loaded = model.eval().to(device), device
        return self._loaded
