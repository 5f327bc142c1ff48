"""The vocabulary every part of the package speaks: small frozen dataclasses of tensors.

Shapes: n Gaussians, b instants (views at a time), c feature channels, h x w pixels. Units: scene units, seconds never;
time is normalised to [0, 1] over the clip. Cameras at this level are OpenCV (x right, y down, z forward) and named by
their frames: ``camera_T_world`` takes world points to camera points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """Gaussians with *activated* values: what a rasterizer or an exporter wants.

    ``means`` and ``quats`` have a leading instant axis ``b`` once a motion field has moved them (one row of positions
    per instant); everything constant in time has none.
    """

    means: Float[Tensor, "*b n 3"]
    quats: Float[Tensor, "*b n 4"]
    """wxyz; need not be normalised, the rasterizer does that."""
    scales: Float[Tensor, "*b n 3"]
    """Standard deviations along the principal axes, scene units."""
    opacities: Float[Tensor, "*b n"]
    """In (0, 1)."""
    colors: Float[Tensor, "*b n c"]
    """Direct colours in [0, 1], or feature channels."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """What each Gaussian knows about its own motion: raw row-wise tensors, e.g. basis weights."""

    def __len__(self) -> int:
        return self.opacities.shape[-1]

    def replace(self, **changes: Any) -> Gaussians:
        return replace(self, **changes)


def concatenate(parts: list[Gaussians], instants: int) -> Gaussians:
    """Join sets of Gaussians, giving every tensor that differs between the parts the instant axis ``[b, n, ...]``."""

    def join(name: str, trailing: int) -> Tensor:
        tensors = [getattr(part, name) for part in parts]
        if any(tensor.ndim > trailing for tensor in tensors):
            tensors = [t if t.ndim > trailing else t.expand(instants, *t.shape) for t in tensors]
        return torch.cat(tensors, dim=-trailing) if len(tensors) > 1 else tensors[0]

    return Gaussians(
        means=join("means", 2),
        quats=join("quats", 2),
        scales=join("scales", 2),
        opacities=join("opacities", 1),
        colors=join("colors", 2),
    )


@dataclass(frozen=True)
class Instants:
    """The moments one exposure is made of: sharp cameras at times, each with a weight.

    An image is ``sum_j weight[j] * render(gaussians(time[j]), camera[j])``. An instant exposure has one entry a view;
    ``view`` says to which view of the batch each instant belongs.
    """

    camera_T_world: Float[Tensor, "j 4 4"]
    K: Float[Tensor, "j 3 3"]
    """Pixels; pixel centres at +0.5."""
    time: Float[Tensor, "j"]
    weight: Float[Tensor, "j"]
    view: Int[Tensor, "j"]
    one_per_view: bool = False
    """Whether ``view`` is 0, 1, ... b - 1, so that nothing needs to be gathered by it."""


@dataclass(frozen=True)
class Render:
    """What the rasterizer made of a batch of views, by channel name.

    ``channels["rgb"]`` is ``[b, h, w, 3]``; other entries depend on what the losses asked for.
    """

    channels: Mapping[str, Float[Tensor, "b h w c"]]
    alpha: Float[Tensor, "b h w 1"]
    depth: Float[Tensor, "b h w 1"] | None
    """Expected z-depth (alpha-normalised), scene units; undefined where alpha is 0."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """The rasterizer's own record (means2d, radii, ...), for density control."""
