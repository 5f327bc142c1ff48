"""What a checkpoint keeps of a model beside its parameters, and how it is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dyngs_plugins.density import DensityControl


class ResumedScene:
    """State of the density control, and the scene frame that the Gaussians were trained in."""

    density: dict[str, DensityControl]
    scene_frame: Tensor | None

    def get_extra_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {name: control.state() for name, control in self.density.items()}
        return state if self.scene_frame is None else {**state, "scene_frame": self.scene_frame}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        trained_in = state.get("scene_frame")
        if trained_in is not None and self.scene_frame is not None:
            _require_same_frame(trained_in, self.scene_frame)
        for name, control in self.density.items():
            if name in state:
                control.load_state(state[name])

    def load_state_dict(self, state_dict, strict: bool = True, **kwargs):
        # Not splatfacto's, which replaces parameters behind the optimizers' backs; the sets resize themselves.
        assert isinstance(self, nn.Module)
        return nn.Module.load_state_dict(self, state_dict, strict=strict)


def _require_same_frame(trained_in: Tensor, now: Tensor) -> None:
    """Gaussians of one scene frame seen from cameras of another would render nonsense without a word."""
    if not torch.allclose(trained_in, now, atol=1e-3, rtol=1e-3):
        raise ValueError(
            "The clip's scene frame (rotation, centre, scale) is not the one this checkpoint was trained in: the "
            f"loader gives {[round(v, 3) for v in now.flatten().tolist()]}, the checkpoint says "
            f"{[round(v, 3) for v in trained_in.flatten().tolist()]}. The clip's files or the loader's settings have "
            "changed since. Restore them, or train again."
        )
