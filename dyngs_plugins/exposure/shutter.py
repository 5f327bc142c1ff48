"""How long the shutter is open: fixed, learned by gradient, or estimated from the scene.

Everything is in *half exposures*: tau frames before and after the frame's own time, so that the shutter is open for
``2 tau`` of the time between two frames. What blur tells of moving things is the product of tau and velocity; tau alone
is known only because velocity is also seen between frames, from the camera's own motion, or from a prior.

Sources: Deblur4DGS (Wu et al. 2024, learned with a band prior); MoBGS (Bui et al. 2025, estimated).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.exposure.base import require_same_views


@dataclass
class ShutterConfig:
    """The half exposure of each training view."""

    kind: Literal["fixed", "learned", "estimated"] = "fixed"
    """fixed: ``half_exposure``; learned: a parameter per view that starts there; estimated: from the scene's flow."""
    half_exposure: float = 0.0
    """In frames: 0.25 for a shutter that is open half of the time; 0: what moves stands still during an exposure."""
    shortest: float = 0.1
    """Of learned and estimated half exposures."""
    longest: float = 0.9
    """Of learned and estimated half exposures."""
    band: tuple[float, float] = (0.5, 0.75)
    """Half exposures that cost a learned shutter nothing."""
    band_weight: float = 0.1
    """Weight of a learned half exposure's distance from the band."""
    shared: bool = False
    """Whether a learned half exposure is one for all views, as most cameras hold theirs through a clip. Alone, a view in
    which little moves hardly tells its own."""
    reversible: bool = False
    """Whether each view's exposure may run along its camera path from end to start. Blur of what stands still does not
    tell a path's direction; only what moves shows it. From ``observe_from`` on, every ``observe_every`` steps, both
    directions of the batch's views are rendered, and the one whose image is nearer is kept."""
    observe_from: int = 2000
    """Training step from which an estimated or reversible shutter looks at the scene."""
    observe_every: int = 10
    """Training steps between two looks."""
    learning_rate: float = 1e-2
    """Of a learned shutter, in frames per step of Adam."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.half_exposure <= 2.0:
            raise ValueError(
                f"half_exposure is {self.half_exposure} frames; expected between 0 and 2. A shutter that is open for "
                "half of the time between two frames has 0.25."
            )
        if not 0.0 <= self.shortest <= self.longest:
            raise ValueError(
                f"shortest is {self.shortest} and longest {self.longest}; expected 0 <= shortest <= longest."
            )


class _Within(torch.autograd.Function):
    """Clamping whose gradient goes on where a step along it leads back inside: a plain clamp would never let go."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(value)
        ctx.bounds = (low, high)
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (value,), (grad,), (low, high) = ctx.saved_tensors, grads, ctx.bounds
        leads_out = ((value < low) & (grad > 0)) | ((value > high) & (grad < 0))
        return torch.where(leads_out, torch.zeros_like(grad), grad), None, None


class Shutter(nn.Module):
    """Half exposures of the training views, in frames.

    A learned one has the parameter ``tau [views]`` (``[1]`` if shared), an estimated one the buffer ``tau [views]``. A
    reversible one has the buffer ``direction [views]``, 1 or -1.
    """

    def __init__(self, config: ShutterConfig, num_views: int):
        super().__init__()
        self.config = config
        start = torch.full((num_views,), float(config.half_exposure))
        if config.kind == "learned":
            self.tau = nn.Parameter(start[:1] if config.shared else start)
        elif config.kind == "estimated":
            self.register_buffer("tau", start)
            self.tau: Tensor
        else:
            self.tau = torch.empty(0)
        if config.reversible:
            self.register_buffer("direction", torch.ones(num_views))
            self.direction: Tensor

    def half_exposure(self, view_index: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Of the given views, in frames."""
        if self.config.kind == "fixed":
            return torch.full(view_index.shape, float(self.config.half_exposure), device=view_index.device)
        shared = self.config.kind == "learned" and self.config.shared
        half = self.tau[torch.zeros_like(view_index) if shared else view_index]
        if self.config.kind == "learned":
            half = _Within.apply(half, self.config.shortest, self.config.longest)
        return half

    def reach(self, view_index: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The half exposures, negative where the path of the camera runs backward in time."""
        half = self.half_exposure(view_index)
        return half * self.direction[view_index] if self.config.reversible else half

    @torch.no_grad()
    def try_directions(self, view_index: Int[Tensor, "b"], error: Callable[[], Float[Tensor, "b"]]) -> None:
        """Keep of each view the direction in which its image is nearer.

        Args:
            error: of each view's image as the exposures now are.
        """
        kept = self.direction[view_index]
        errors = []
        for turn in (1.0, -1.0):
            self.direction[view_index] = turn * kept
            errors.append(error())
        self.direction[view_index] = torch.where(errors[1] < errors[0], -kept, kept)

    @torch.no_grad()
    def set(self, view: int, half_exposure: float) -> None:
        """Store an estimate, within the shortest and longest exposure."""
        self.tau[view] = min(max(half_exposure, self.config.shortest), self.config.longest)

    def band(self, view_index: Int[Tensor, "b"]) -> Float[Tensor, ""]:
        """Mean distance of learned half exposures from the band (Deblur4DGS' exposure range), weighted."""
        low, high = self.config.band
        half = self.half_exposure(view_index)
        return self.config.band_weight * ((low - half).relu() + (half - high).relu()).mean()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        require_same_views(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[arg-type]
