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

from dyngs_plugins.motion.rotations import shepperd
from dyngs_plugins.raster.ewa import quats_to_rotations

TRAILING = {"means": 2, "quats": 2, "scales": 2, "opacities": 1, "colors": 2, "harmonics": 3, "covars": 3}
"""Axes of each tensor of :class:`Gaussians` without an instant axis."""


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
    """In (0, 1); 0 where a Gaussian does not live at a time."""
    colors: Float[Tensor, "*b n c"]
    """Direct colours in [0, 1], or feature channels; with ``harmonics`` their mean over all directions."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """What each Gaussian knows about its own motion: raw row-wise tensors, e.g. basis weights."""
    harmonics: Float[Tensor, "*b n k 3"] | None = None
    """Spherical harmonics of a colour that depends on the direction of view (``raster/harmonics.py``)."""
    covars: Float[Tensor, "*b n 3 3"] | None = None
    """Covariances to render instead of quats and scales."""

    def __len__(self) -> int:
        return self.opacities.shape[-1]

    def replace(self, **changes: Any) -> Gaussians:
        return replace(self, **changes)

    def select(self, rows: Int[Tensor, "m"]) -> Gaussians:
        """Some of the rows, in the given order."""
        chosen = {
            name: tensor.index_select(-trailing, rows)
            for name, trailing in TRAILING.items()
            if (tensor := getattr(self, name)) is not None
        }
        columns = {name: column.index_select(0, rows) for name, column in self.columns.items()}
        return Gaussians(**chosen, columns=columns)

    def instant(self, index: int) -> Gaussians:
        """One instant, without the instant axis."""
        one = {
            name: tensor[index]
            for name, trailing in TRAILING.items()
            if (tensor := getattr(self, name)) is not None and tensor.ndim > trailing
        }
        return replace(self, **one)

    def covariances(self) -> Float[Tensor, "*b n 3 3"]:
        """``covars``, or what quats and scales say: ``R diag(scales^2) R^T``."""
        if self.covars is not None:
            return self.covars
        columns = quats_to_rotations(self.quats) * self.scales[..., None, :]
        return columns @ columns.mT


def principal_axes(covars: Float[Tensor, "n 3 3"]) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 3"]]:
    """Quaternions (wxyz) and standard deviations along the principal axes of covariances."""
    variances, axes = torch.linalg.eigh(covars)
    # Axes may form a left-handed frame; an axis turned round spans the same Gaussian.
    axes = axes * torch.where(torch.det(axes) < 0, -1.0, 1.0)[:, None, None]
    return shepperd(axes.permute(2, 1, 0)).T, variances.clamp_min(1e-14).sqrt()


def concatenate(parts: list[Gaussians], instants: int) -> Gaussians:
    """Join sets of Gaussians, giving every tensor that differs between the parts the instant axis ``[b, n, ...]``.

    Raises:
        ValueError: when only some of the sets have harmonics.
    """
    if len(parts) == 1:
        return parts[0].replace(columns={})

    def join(name: str, tensors: list[Tensor]) -> Tensor:
        trailing = TRAILING[name]
        if any(tensor.ndim > trailing for tensor in tensors):
            tensors = [t if t.ndim > trailing else t.expand(instants, *t.shape) for t in tensors]
        return torch.cat(tensors, dim=-trailing)

    if any(part.covars is not None for part in parts):
        parts = [part.replace(covars=part.covariances()) for part in parts]
    joined = {}
    for name in TRAILING:
        tensors = [tensor for part in parts if (tensor := getattr(part, name)) is not None]
        if len(tensors) == len(parts):
            joined[name] = join(name, tensors)
        elif tensors:
            raise ValueError(
                f"{len(tensors)} of {len(parts)} sets of Gaussians have {name}: all of a scene's sets need it, or none."
            )
    return Gaussians(**joined)


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
    lens: Float[Tensor, "j 2"] | None = None
    """Radius (scene units) and inverse focus distance of the lens that widens each instant's Gaussians; None: none."""
    middle: Float[Tensor, "j"] | None = None
    """Weights of the instants that show each view at its own time, summing to 1 as ``weight`` does; None: all do."""


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
