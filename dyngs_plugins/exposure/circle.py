"""Defocus at the price of one render: every Gaussian is widened by its circle of confusion.

A disc of radius r has the variance r^2 / 4 along each axis, so ``Sigma' = Sigma + r^2/4 I`` on the image; the opacity
falls by ``sqrt(det Sigma / det Sigma')``, which keeps the Gaussian's light. On the scene's side that is a widening by
``a |1 - z/d| / 2`` in all directions. Wrong at the edges of occluders, which a lens looks past: there, use `thin_lens`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.exposure.base import Mode
from dyngs_plugins.exposure.thin_lens import Lens, LensConfig
from dyngs_plugins.types import Gaussians, Instants

PIXEL_VARIANCE = 0.3
"""What the rasterizer adds to every variance on the image, in squared pixels."""


@dataclass
class CircleExposureConfig(LensConfig):
    """Defocus by each Gaussian's circle of confusion: one render, approximate at occluders' edges."""

    _target: type = field(default_factory=lambda: CircleExposure)


class CircleExposure(Lens):
    """Widens the Gaussians that training views see; its instants are those it is given."""

    def spread(self, instants: Instants, view_index: Int[Tensor, "b"] | None, mode: Mode) -> Instants:
        if view_index is None or mode != "train":
            return instants
        lens = torch.stack(self.lens_of(view_index[instants.view]), dim=-1)
        return replace(instants, lens=lens)

    def before_raster(self, gaussians: Gaussians, instants: Instants) -> Gaussians:
        return gaussians if instants.lens is None else widened(gaussians, instants, instants.lens)


def widened(gaussians: Gaussians, instants: Instants, lens: Float[Tensor, "j 2"]) -> Gaussians:
    """The Gaussians as each instant's lens blurs them: larger and fainter, ``[j, n, ...]``."""
    rotation = instants.camera_T_world[:, :3, :3]
    points = gaussians.means @ rotation.mT + instants.camera_T_world[:, None, :3, 3]
    z = points[..., 2].clamp_min(1e-3)
    aperture, inverse_focus = lens[:, :1], lens[:, 1:]
    extra = 0.25 * (aperture * (1 - z * inverse_focus)).square()  # a variance, in squared scene units
    sharp, wide = _determinants(gaussians, points, z, instants, extra)
    opacities = gaussians.opacities * (sharp / wide).sqrt()
    if gaussians.covars is not None:
        identity = torch.eye(3, device=extra.device)
        return gaussians.replace(covars=gaussians.covars + extra[..., None, None] * identity, opacities=opacities)
    scales = (gaussians.scales.square() + extra[..., None]).sqrt()
    return gaussians.replace(scales=scales, opacities=opacities)


def _determinants(
    gaussians: Gaussians, points: Tensor, z: Tensor, instants: Instants, extra: Float[Tensor, "j n"]
) -> tuple[Float[Tensor, "j n"], Float[Tensor, "j n"]]:
    """Of each Gaussian's covariance on the image, as it is and widened in all directions by a variance."""
    rotation, K = instants.camera_T_world[:, None, :3, :3], instants.K
    right, down, forward = rotation.unbind(-2)
    limit = 4.0  # the linearisation means nothing far outside the image
    slopes = (points[..., :2] / z[..., None]).clamp(-limit, limit)
    rows = (
        (K[:, :1, 0] / z)[..., None] * (right - slopes[..., :1] * forward),
        (K[:, 1:2, 1] / z)[..., None] * (down - slopes[..., 1:] * forward),
    )
    covariance = gaussians.covariances()
    seen = [(covariance @ row[..., None])[..., 0] for row in rows]

    def determinant(variance: Tensor | float) -> Tensor:
        def entry(i: int, k: int) -> Tensor:
            return (rows[i] * seen[k]).sum(-1) + variance * (rows[i] * rows[k]).sum(-1)

        return ((entry(0, 0) + PIXEL_VARIANCE) * (entry(1, 1) + PIXEL_VARIANCE) - entry(0, 1) ** 2).clamp_min(1e-12)

    return determinant(0.0), determinant(extra)
