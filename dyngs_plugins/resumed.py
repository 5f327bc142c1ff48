"""What a checkpoint keeps of a model beside its parameters, and how it is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dyngs_plugins.density import DensityControl
from dyngs_plugins.neighbours import Neighbours
from dyngs_plugins.scene import Scene


@dataclass(frozen=True)
class Progress:
    """How far a training is: what a render depends on beside parameters."""

    stage: str
    step: int
    """Of the stage."""
    moves: bool
    """Whether the motion field is in use."""
    degree: int
    """The degree of spherical harmonics in use."""


class ResumedScene:
    """State of the density control, the training's progress, and the scene frame that the Gaussians were trained in."""

    density: dict[str, DensityControl]
    scene: Scene
    _neighbours: Neighbours
    scene_frame: Tensor | None
    num_frames: int
    _progress: Progress | None = None

    def enter(self, progress: Progress) -> None:
        """Tell the scene how far the training is."""
        self._progress = progress
        self.scene.moves, self.scene.active_degree = progress.moves, progress.degree
        self.scene.motion.begin_step(progress.stage, progress.step)

    def get_extra_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {name: control.state() for name, control in self.density.items()}
        if self._progress is not None:
            state["progress"] = asdict(self._progress)
        state["neighbours"] = self._neighbours.state()
        state["num_frames"] = self.num_frames
        return state if self.scene_frame is None else {**state, "scene_frame": self.scene_frame}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        _require_same_length(state.get("num_frames", self.num_frames), self.num_frames)
        trained_in = state.get("scene_frame")
        if trained_in is not None and self.scene_frame is not None:
            _require_same_frame(trained_in, self.scene_frame)
        if "progress" in state:
            self.enter(Progress(**state["progress"]))
        self._neighbours.load_state(state.get("neighbours", {}))
        for name, control in self.density.items():
            if name in state:
                control.load_state(state[name])

    def load_state_dict(self, state_dict, strict: bool = True, **kwargs):
        # Not splatfacto's, which replaces parameters behind the optimizers' backs; the sets resize themselves.
        assert isinstance(self, nn.Module)
        return nn.Module.load_state_dict(self, state_dict, strict=strict)


def _require_same_length(trained_on: int, now: int) -> None:
    """Times run from 0 to 1 over any clip, so motion of one length would play on another at the wrong speed, silently."""
    if trained_on != now:
        raise ValueError(
            f"This checkpoint was trained on a clip of {trained_on} frames; the clip that was given has {now}. Give the clip "
            "(and the loader's options, such as start and end) that it was trained on, or train again."
        )


def _require_same_frame(trained_in: Tensor, now: Tensor) -> None:
    """Gaussians of one scene frame seen from cameras of another would render nonsense without a word."""
    if not torch.allclose(trained_in, now, atol=1e-3, rtol=1e-3):
        raise ValueError(
            "The clip's scene frame (rotation, centre, scale) is not the one this checkpoint was trained in: the "
            f"loader gives {[round(v, 3) for v in now.flatten().tolist()]}, the checkpoint says "
            f"{[round(v, 3) for v in trained_in.flatten().tolist()]}. The clip's files or the loader's settings have "
            "changed since. Restore them, or train again."
        )
