"""What a loss may look at in one training step: the render, the batch, and what several losses derive from them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.losses import tracks as track_losses
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.types import Gaussians, Render

if TYPE_CHECKING:  # it reads a host's dataset, of which losses know nothing
    from dyngs_plugins.frame_batches import TrackBatch


@dataclass
class LossContext:
    """All that a loss may look at in one training step."""

    render: Render
    batch: Mapping[str, Any]
    times: Float[Tensor, "b"]
    camera_T_world: Float[Tensor, "b 4 4"]
    num_frames: int
    dynamic: GaussianSet | None
    static: GaussianSet | None
    motion: MotionField
    neighbours: Callable[[], Int[Tensor, "n k"]]
    """Nearest neighbours of the dynamic Gaussians' canonical centres (cached for some steps)."""
    background: Float[Tensor, "3"] = field(default_factory=lambda: torch.ones(3))
    """The colour that renders have where nothing is."""

    @property
    def only_moving(self) -> bool:
        """Whether the scene is what moves and nothing else: Gaussians from tracks, with no set for the rest."""
        alone = self.dynamic is not None and self.static is None and self.motion.starts_from == "tracks"
        return alone and self.batch.get("dynamic") is not None

    @cached_property
    def image(self) -> Float[Tensor, "b h w 3"]:
        """What the render should look like: the batch's images, or what surely moves in them over the background."""
        image = self.batch["image"]
        if not self.only_moving:
            return image
        kept = (self.batch["dynamic"] > 0)[..., None].to(image.dtype)
        return image * kept + self.background.to(image) * (1 - kept)

    @cached_property
    def moving(self) -> Gaussians:
        """The dynamic set in its canonical pose, activated once for all losses."""
        assert self.dynamic is not None
        return self.dynamic.activated()

    @cached_property
    def valid(self) -> Bool[Tensor, "b h w"] | None:
        """Pixels that count: those surely moving or surely static; None for all.

        Without masks, and where one set of Gaussians holds both, so that nothing needs to be told apart: all that are
        real.
        """
        dynamic = self.batch.get("dynamic")
        if dynamic is None or self.dynamic is None or self.static is None:
            return self.batch.get("valid")
        return dynamic != 0

    @cached_property
    def neighbouring_positions(self) -> Float[Tensor, "3 b n 3"]:
        """Dynamic centres one frame before, at, and one frame after each batch time (kept inside the clip)."""
        step = 1.0 / max(self.num_frames - 1, 1)
        now = self.times.clamp(step, max(1 - step, step))
        times = torch.cat([now - step, now, now + step])
        return self.motion.positions(self.moving, times).unflatten(0, (3, -1))

    @cached_property
    def tracks(self) -> track_losses.TrackPredictions | None:
        """Rendered target positions gathered at the query pixels of the batch's tracks; None where none were rendered."""
        targets = self.render.channels.get("targets")
        return None if targets is None else gather_tracks(targets, self.batch, self.num_frames)

    @cached_property
    def depth_valid(self) -> Bool[Tensor, "b h w"]:
        """Pixels with a known depth, outside the masks' unknown band, where something is rendered."""
        valid = (self.batch["depth"] > 0) & (self.render.alpha[..., 0].detach() > 0.05)
        if self.only_moving:
            valid = valid & (self.batch["dynamic"] > 0)
        return valid if self.valid is None else valid & self.valid


def gather_tracks(
    targets: Float[Tensor, "b h w c"], batch: Mapping[str, Any], num_frames: int
) -> track_losses.TrackPredictions | None:
    """The rendered ``3 n`` target channels at each track's query pixel, as points; None without any tracked pixel."""
    tracks: TrackBatch | None = batch["tracks"]
    if tracks is None or tracks.confidence.numel() == 0:
        return None
    height, width = targets.shape[1:3]
    x, y = tracks.query_xy.unbind(-1)
    # All queries in one look-up: one per frame would fill a gradient of the whole batch each.
    pixels = (tracks.query * height + y) * width + x
    gap = tracks.target_frames - batch["frame_index"][:, None]
    weight = track_losses.interval_weight(gap, num_frames).index_select(0, tracks.query)
    return track_losses.TrackPredictions(
        points=targets.reshape(-1, targets.shape[-1]).index_select(0, pixels).reshape(-1, 3),
        K=tracks.target_K.index_select(0, tracks.query).reshape(-1, 3, 3),
        xy=tracks.xy.reshape(-1, 2),
        depth=tracks.depth.reshape(-1),
        weight=(tracks.confidence * tracks.visible * weight).reshape(-1),
    )
