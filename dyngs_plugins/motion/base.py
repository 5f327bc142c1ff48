"""What a motion field promises: Gaussians at any continuous time in [0, 1].

A field is plain torch and knows nothing of images, cameras or nerfstudio's trainer. Its shared tensors (bases, planes,
networks) are its own parameters; what differs per Gaussian are row-wise *columns* of the Gaussian set it moves, so that
densification, pruning and resume carry them along without the field's help.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dyngs_plugins.config import ComponentConfig
from dyngs_plugins.types import Gaussians

if TYPE_CHECKING:
    from dyngs_plugins.priors.lifting import Tracks3D


class MotionField(nn.Module, ABC):
    """Moves Gaussians: ``at(gaussians, times)`` is differentiable in the times and in everything else."""

    prefits: bool = False
    """Whether the field has a pre-fit: a stage that fits it to 3-D tracks before anything is rendered."""

    def columns(self) -> dict[str, tuple[int, ...]]:
        """The row-wise columns this field adds to the set it moves: name to the shape of one row."""
        return {}

    @abstractmethod
    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        """The Gaussians at each of ``b`` times in [0, 1] (clamped), with means and quats ``[b, n, ...]``."""

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        """Only the centres at each time: cheaper than :meth:`at` where orientations are not needed."""
        return self.at(gaussians, times).means

    def initialise(self, tracks: Tracks3D, canonical_frame: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Start the shared tensors from lifted tracks and return the raw column values of the tracks' Gaussians.

        Row i of each returned column belongs to track i, whose Gaussian sits at the track's position in
        ``canonical_frame``.
        """
        return {}

    def prefit_regularisers(self, gaussians: Gaussians, smoothness: float) -> dict[str, Tensor]:
        """The field's penalties (weighted) during the pre-fit, whose smoothness weight rises with time."""
        return {}

    def regularisers(self, gaussians: Gaussians) -> dict[str, Tensor]:
        """The field's own penalties (already weighted) at the current parameters."""
        return {}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Shared tensors by parameter-group name."""
        return {name: [parameter] for name, parameter in self.named_parameters()}


@dataclass
class MotionFieldConfig(ComponentConfig):
    """A motion field and its settings; ``setup(num_frames=T)`` builds it."""

    _target: type = field(default_factory=lambda: MotionField)
