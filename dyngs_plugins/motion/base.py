"""What a motion field promises: Gaussians at any continuous time in [0, 1].

A field is plain torch and knows nothing of images, cameras or nerfstudio's trainer. Its shared tensors (bases, planes,
networks) are its own parameters; what differs per Gaussian are row-wise *columns* of the Gaussian set it moves, so that
densification, pruning and resume carry them along without the field's help.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from dyngs_plugins.config import ComponentConfig
from dyngs_plugins.parameter_groups import parameter_groups
from dyngs_plugins.types import Gaussians

if TYPE_CHECKING:
    from dyngs_plugins.gaussian_sets import GaussianSet
    from dyngs_plugins.priors.lifting import Tracks3D

StartsFrom = Literal["tracks", "tracks if any", "points"]
"""``tracks``: one Gaussian per lifted 3-D track, an error without tracks. ``tracks if any``: none where the clip has no
tracks. ``points``: the layout's depth, its point cloud, or random places; no tracks are needed."""


class MotionField(nn.Module, ABC):
    """Moves Gaussians: ``at(gaussians, times)`` is differentiable in the times and in everything else.

    Whether a training step or a viewer asks is ``self.training``, as in every module.
    """

    prefits: bool = False
    """Whether the field has a pre-fit: a stage that fits it to 3-D tracks before anything is rendered."""
    starts_from: StartsFrom = "tracks"
    """What the Gaussians that the field moves start from; may depend on the field's config."""

    def columns(self) -> dict[str, tuple[int, ...]]:
        """The row-wise columns this field adds to the set it moves: name to the shape of one row."""
        return {}

    @abstractmethod
    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        """The Gaussians at each of ``b`` times in [0, 1] (clamped), with means and quats ``[b, n, ...]``.

        Scales, opacities, colors, harmonics and covars may have the leading ``b`` too, where they change with time. All
        rows are returned, in order, so that statistics of the renders stay aligned with the set: a Gaussian that does
        not live at a time has opacity 0 there, and the rasterizer skips it. Where ``covars`` is set it is what is
        rendered, and quats and scales are only a description.
        """

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        """Only the centres at each time: cheaper than :meth:`at` where orientations are not needed."""
        return self.at(gaussians, times).means

    def initialise(self, tracks: Tracks3D, canonical_frame: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Start the shared tensors from lifted tracks and return the raw column values of the tracks' Gaussians.

        Row i of each returned column belongs to track i, whose Gaussian sits at the track's position in
        ``canonical_frame``, or where an entry ``means`` says. For fields that start from tracks.
        """
        return {}

    def start_from_points(
        self, means: Float[Tensor, "n 3"], times: Float[Tensor, "n"], generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """Start the shared tensors (bounds, ...) from points and return the raw column values of their Gaussians.

        For fields that start from points; ``times`` is when each point was seen there, NaN where nothing says and
        for points that stand still.
        """
        return {}

    def know_cameras(
        self, camera_T_world: Float[Tensor, "v 4 4"], K: Float[Tensor, "v 3 3"], times: Float[Tensor, "v"]
    ) -> None:
        """Look at the training cameras and their times once, before training starts or goes on.

        For what asks where a motion can be seen, such as the pruning of control points.
        """

    def motion_coefficients(self, gaussians: Gaussians) -> Float[Tensor, "n d"] | None:
        """The numbers that describe each Gaussian's motion, all 0 where it stands still; None for fields without such.

        Losses compare those of neighbours, or ask for few that are not 0.
        """
        return None

    def begin_step(self, stage: str, step: int) -> None:
        """Called before each training step, and once for the step that a checkpoint was saved at.

        For what changes with the step and not with data: annealed noise, weights of frequency bands.

        Args:
            stage: the name of the stage.
            step: of the stage, from 0.
        """

    def split_children(self, children: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Adapt the raw columns of the two copies of every Gaussian that is split (rows 2i and 2i + 1 are siblings).

        They are still equal to their parent; density control divides the scales (and, if its config says so, samples
        the centres) afterwards.
        """
        return children

    def upkeep(self, gaussians: GaussianSet, optimizers: Mapping[str, Optimizer], stage: str, step: int) -> None:
        """Called after each training step and its density control, for changes that are no gradient step.

        A field may rewrite its columns or drop rows here (``gaussians.set_rows`` carries the optimizers' state), for
        instance to prune control points. It must do the same after a resume, so it may depend on the step and on
        parameters and buffers alone.
        """

    def prefit_regularisers(self, gaussians: Gaussians, smoothness: float) -> dict[str, Tensor]:
        """The field's penalties (weighted) during the pre-fit, whose smoothness weight rises with time."""
        return {}

    def regularisers(self, gaussians: Gaussians) -> dict[str, Tensor]:
        """The field's own penalties (already weighted) at the current parameters."""
        return {}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Shared tensors by parameter-group name: one group per tensor and per part, ``motion_<name>``.

        The method's config gives each group an optimizer.
        """
        return parameter_groups(self, "motion")


@dataclass
class MotionFieldConfig(ComponentConfig):
    """A motion field and its settings; ``setup(num_frames=T)`` builds it."""

    _target: type = field(default_factory=lambda: MotionField)
