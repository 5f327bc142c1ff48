"""What training may change about the cameras of training views: their poses, and a common factor of their focal length.

A pose is corrected in the camera's own frame, on the right-hand side of ``world_T_camera``, as exposures move it; so
both compose, ``world_T_camera . refined . moved``. Delays and freezing are a matter of the method's stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.config import ComponentConfig
from dyngs_plugins.exposure import se3
from dyngs_plugins.parameter_groups import parameter_groups


@dataclass
class CameraRefinementConfig(ComponentConfig):
    """Which parts of the training cameras are learned along with the scene."""

    _target: type = field(default_factory=lambda: CameraRefinement)
    poses: bool = False
    """Refine the pose of every training view."""
    focal: bool = False
    """Refine one factor of all training views' focal lengths."""
    anchor: float = 1e-3
    """Weight of the corrections' squared lengths: without it, cameras and scene may drift together."""
    pose_rate: float = 1e-4
    """Learning rate of the poses (scene units and radians)."""
    focal_rate: float = 1e-4
    """Learning rate of the focal factor's logarithm."""

    def rates(self) -> dict[str, float]:
        """The learning rate of each parameter group that may be there."""
        return {"camera_twists": self.pose_rate, "camera_log_focal": self.focal_rate}


class CameraRefinement(nn.Module):
    """Parameters, where the config asks for them: ``twists [views, 6]`` [translation, rotation] of ``given_T_refined``, and
    ``log_focal [1]``.
    """

    def __init__(self, config: CameraRefinementConfig, num_views: int):
        super().__init__()
        self.config = config
        self.twists = nn.Parameter(torch.zeros(num_views, 6)) if config.poses else None
        self.log_focal = nn.Parameter(torch.zeros(1)) if config.focal else None

    def poses(self, camera_T_world: Float[Tensor, "b 4 4"], view_index: Int[Tensor, "b"]) -> Float[Tensor, "b 4 4"]:
        """The refined cameras of training views, from the given ones."""
        if self.twists is None:
            return camera_T_world
        return se3.exp(-self.twists[view_index]) @ camera_T_world

    def intrinsics(self, K: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """Intrinsics with the refined focal length."""
        if self.log_focal is None:
            return K
        factor = torch.cat([self.log_focal.exp().expand(2), self.log_focal.new_ones(1)])
        principal = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 1]], device=K.device)
        return torch.where(principal > 0, K, K * factor[:, None])

    def regularisers(self, view_index: Int[Tensor, "b"]) -> dict[str, Tensor]:
        """The penalty on what was changed."""
        if self.config.anchor == 0.0 or self.twists is None:
            return {}
        return {"camera_anchor": self.config.anchor * self.twists[view_index].square().sum(dim=-1).mean()}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return parameter_groups(self, "camera")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = state_dict.get(f"{prefix}twists")
        if saved is not None and self.twists is not None and saved.shape != self.twists.shape:
            raise ValueError(
                f"This checkpoint has refined cameras of {len(saved)} training views; this clip has {len(self.twists)}. "
                "Train and resume on the same clip."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[arg-type]
