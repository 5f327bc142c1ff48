"""Adaptive density control of one set of Gaussians: duplicate, split, cull, reset opacities.

The rules are those of 3D Gaussian Splatting with the thresholds and cadence of Shape of Motion (sheet section 4), which
differ from gsplat's strategy in three ways: a split keeps both copies at the parent's centre (``split="sample"`` draws
them from the parent, as 3D Gaussian Splatting does), culling and growing pause for different lengths after an opacity
reset, and each set has its own thresholds. Two slips of the reference are not repeated: the screen-radius statistic is
really updated, and a Gaussian is never split and duplicated in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.optim import Optimizer

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.raster.ewa import quats_to_rotations

Children = dict[str, Tensor]
"""Raw columns of the two copies of each split row; rows 2i and 2i + 1 are siblings."""
AdaptChildren = Callable[[Children, torch.Generator], Children]
"""A motion field's ``split_children``."""


@dataclass
class DensityControlConfig:
    """Thresholds and cadence; steps count from the start of the stage."""

    every: int = 100
    """Steps between two controls."""
    start: int = 200
    """No control up to this step ..."""
    stop: int = 4000
    """... nor from this one on."""
    grad_threshold: float = 2e-4
    """Mean norm of the image-plane gradient (in units of half the image, one view) above which a Gaussian grows."""
    absolute_gradients: bool = False
    """Sum the absolute values of a Gaussian's gradients over its pixels, so that opposite pulls do not cancel."""
    split: Literal["keep", "sample"] = "keep"
    """Where the copies of a split Gaussian go. ``keep``: its centre. ``sample``: drawn from it (3DGS)."""
    split_scale: float = 0.01
    """A growing Gaussian larger than this (largest axis, scene units) is split, a smaller one duplicated."""
    split_screen: float = 0.05
    """... or one whose radius on screen exceeds this fraction of the image's larger side."""
    prune_opacity: float = 0.1
    """Cull Gaussians less opaque than this."""
    prune_scale: float = 0.5
    """After the first opacity reset: cull Gaussians larger than this (times the set's own extent, if measured)."""
    prune_screen: float = 0.15
    """... or whose radius on screen exceeds this fraction of the image's larger side."""
    stop_screen_at: int = 4000
    """Radius on screen is a reason to split or cull only before this step."""
    reset_every: int = 3000
    """Steps between two resets of all opacities, from which only what is needed recovers."""
    reset_opacity: float = 0.08
    """What a reset sets them to."""
    pause_growth: int = 0
    """Steps without growth after a reset; 0: the number of frames."""
    pause_culling: int = 0
    """Steps without culling after a reset; 0: min(3 x number of frames, 1000)."""
    max_gaussians: int = 0
    """Growth stops here (0: no limit)."""
    prune_above: int = 0
    """Only a set of more Gaussians than this is culled."""


class DensityControl:
    """The statistics of one set, and the decisions made from them."""

    def __init__(self, config: DensityControlConfig, num_frames: int):
        self.config = config
        self.pause_growth = config.pause_growth or num_frames
        self.pause_culling = config.pause_culling or min(3 * num_frames, 1000)
        self.extent = 1.0
        """Half the 5-95 % width of the set when it was made: scales the size limit."""
        self.grad_sum = torch.zeros(0)
        self.seen = torch.zeros(0)
        self.screen_radius = torch.zeros(0)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors."""
        return {
            "grad_sum": self.grad_sum.cpu(),
            "seen": self.seen.cpu(),
            "screen_radius": self.screen_radius.cpu(),
            "extent": torch.tensor(self.extent),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.grad_sum, self.seen = state["grad_sum"].clone(), state["seen"].clone()
        self.screen_radius = state["screen_radius"].clone()
        self.extent = float(state["extent"])

    @torch.no_grad()
    def observe(
        self,
        means2d_grad: Float[Tensor, "c n 2"],
        radii: Int[Tensor, "c n"],
        width: int,
        height: int,
    ) -> None:
        """Add one training step's image-plane gradients (of the mean over ``c`` views) to the statistics."""
        c, n, _ = means2d_grad.shape
        if self.seen.shape[0] != n:
            self._restart(n, means2d_grad.device)
        elif self.seen.device != means2d_grad.device:  # as a checkpoint is read: on the CPU
            self.grad_sum, self.seen = self.grad_sum.to(means2d_grad), self.seen.to(means2d_grad)
            self.screen_radius = self.screen_radius.to(means2d_grad)
        visible = radii > 0
        x, y = means2d_grad.unbind(-1)  # whole columns: a norm over an axis of two is slow
        norms = torch.hypot(x * (c * width / 2.0), y * (c * height / 2.0))
        self.grad_sum += torch.where(visible, norms, torch.zeros_like(norms)).sum(0)
        self.seen += visible.sum(0)
        self.screen_radius = torch.maximum(self.screen_radius, radii.amax(0).float() / max(width, height))

    def step(
        self,
        gaussians: GaussianSet,
        optimizers: Mapping[str, Optimizer],
        step: int,
        adapt: AdaptChildren | None = None,
    ) -> dict[str, int] | None:
        """Run the control that is due at ``step`` (of the stage); returns what it did, or None when nothing was due.

        Args:
            adapt: the motion field's say in the columns of the children of a split.
        """
        c = self.config
        report = None
        if c.start < step < c.stop and step % c.every == 0 and self.seen.shape[0] == len(gaussians) > 0:
            since_reset = step % c.reset_every
            report = {"duplicated": 0, "split": 0, "culled": 0}
            if since_reset > self.pause_growth:
                report["duplicated"], report["split"] = self._grow(gaussians, optimizers, step, adapt)
            if since_reset > self.pause_culling and len(gaussians) > c.prune_above:
                report["culled"] = self._cull(gaussians, optimizers, step)
            self._restart(len(gaussians), self.seen.device)
        if step > 0 and step % c.reset_every == 0 and step < c.stop:
            reset_opacities(gaussians, optimizers, c.reset_opacity)
        return report

    def _restart(self, n: int, device: torch.device) -> None:
        self.grad_sum = torch.zeros(n, device=device)
        self.seen = torch.zeros(n, device=device)
        self.screen_radius = torch.zeros(n, device=device)

    def _grow(
        self, gaussians: GaussianSet, optimizers: Mapping[str, Optimizer], step: int, adapt: AdaptChildren | None
    ) -> tuple[int, int]:
        c = self.config
        # Drawn anew from the step, so that a resumed training draws the same.
        generator = torch.Generator().manual_seed(step)
        grad = self.grad_sum / self.seen.clamp_min(1)
        grows = grad > c.grad_threshold
        if c.max_gaussians:
            room = max(c.max_gaussians - len(gaussians), 0)
            if int(grows.sum()) > room:  # the largest gradients first
                order = torch.argsort(torch.where(grows, grad, torch.full_like(grad, -1.0)), descending=True)
                grows = torch.zeros_like(grows)
                grows[order[:room]] = True
        large = torch.exp(gaussians.raw["scales"].data).amax(-1) > c.split_scale
        if step < c.stop_screen_at:
            large |= self.screen_radius > c.split_screen
        split, duplicate = grows & large, grows & ~large
        if bool(grows.any()):
            grow(gaussians, optimizers, duplicate, split, lambda rows: self._children(rows, adapt, generator))
            # New rows start without a screen radius, so that they are not culled for their parent's.
            self.screen_radius = torch.cat(
                [self.screen_radius[~split], self.screen_radius.new_zeros(int(duplicate.sum() + 2 * split.sum()))]
            )
        return int(duplicate.sum()), int(split.sum())

    def _children(self, children: Children, adapt: AdaptChildren | None, generator: torch.Generator) -> Children:
        if adapt is not None:
            children = adapt(children, generator)
        return sampled(children, generator) if self.config.split == "sample" else children

    def _cull(self, gaussians: GaussianSet, optimizers: Mapping[str, Optimizer], step: int) -> int:
        c = self.config
        drop = torch.sigmoid(gaussians.raw["opacities"].data) < c.prune_opacity
        if step > c.reset_every:
            drop |= torch.exp(gaussians.raw["scales"].data).amax(-1) > c.prune_scale * self.extent
            if step < c.stop_screen_at:
                drop |= self.screen_radius > c.prune_screen
        if bool(drop.any()):
            keep_rows(gaussians, optimizers, ~drop)
        return int(drop.sum())


def grow(
    gaussians: GaussianSet,
    optimizers: Mapping[str, Optimizer],
    duplicate: Bool[Tensor, "n"],
    split: Bool[Tensor, "n"],
    place: Callable[[Children], Children] = lambda children: children,
) -> None:
    """Duplicate some rows, replace others by two copies with scales divided by 1.6; new rows have zero moments.

    Rows are ordered: those not split, the duplicates, then the two copies of each split row. A duplicated or split
    Gaussian keeps its centre (Shape of Motion), unless ``place`` changes the copies, which still are their parents'
    equals when it sees them; copies in one place part through their gradients' moments.
    """
    if bool((duplicate & split).any()):
        raise ValueError("A Gaussian cannot be duplicated and split in the same pass.")

    copies = {name: column.data[split].repeat_interleave(2, dim=0) for name, column in gaussians.raw.items()}
    children = place(copies) if bool(split.any()) else copies
    children["scales"] = children["scales"] - math.log(1.6)

    def rows(column: str, old: Tensor) -> Tensor:
        return torch.cat([old[~split], old[duplicate], children[column]])

    def moments(old: Tensor) -> Tensor:
        fresh = int(duplicate.sum()) + 2 * int(split.sum())
        return torch.cat([old[~split], old.new_zeros(fresh, *old.shape[1:])])

    gaussians.set_rows(rows, optimizers, moments)


def sampled(children: Children, generator: torch.Generator) -> Children:
    """The children with their centres drawn from their parents (Kerbl et al. 2023, section 5.2)."""
    means, scales = children["means"], torch.exp(children["scales"]).expand(-1, 3)
    offset = torch.randn(means.shape, generator=generator).to(means) * scales
    turned = (quats_to_rotations(children["quats"]) @ offset[..., None])[..., 0]
    return {**children, "means": means + turned}


def keep_rows(gaussians: GaussianSet, optimizers: Mapping[str, Optimizer], keep: Bool[Tensor, "n"]) -> None:
    """Drop the rows that are not kept, with their moments."""
    gaussians.set_rows(lambda _, old: old[keep], optimizers, lambda old: old[keep])


def reset_opacities(gaussians: GaussianSet, optimizers: Mapping[str, Optimizer], opacity: float) -> None:
    """Set every opacity to ``opacity`` and forget the opacity optimizer's moments."""
    value = float(torch.logit(torch.tensor(opacity)))
    gaussians.raw["opacities"].data.fill_(value)
    optimizer = optimizers.get(gaussians.group("opacities"))
    if optimizer is not None:
        optimizer.state.clear()
