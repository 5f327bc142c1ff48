"""The definition of the image, word for word, in float64: every Gaussian at every pixel.

Shares no code with the backends it judges. Memory is about 100 bytes per pixel and Gaussian: for small images only.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.raster.semantics import Semantics, installed_semantics


class DenseBackend:
    """A `seam.StagedBackend` that computes in float64 whatever it is given, and answers in float64."""

    def __init__(self, semantics: Semantics | None = None):
        self.semantics = semantics or installed_semantics()

    def project(
        self,
        means: Float[Tensor, "*c n 3"],
        quats: Float[Tensor, "*c n 4"] | None,
        scales: Float[Tensor, "*c n 3"] | None,
        covars: Float[Tensor, "*c n 3 3"] | None,
        opacities: Float[Tensor, "*c n"],
        viewmats: Float[Tensor, "c 4 4"],
        Ks: Float[Tensor, "c 3 3"],
        width: int,
        height: int,
        eps2d: float,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
        antialiased: bool,
    ) -> tuple[
        Int[Tensor, "c n"],
        Float[Tensor, "c n 2"],
        Float[Tensor, "c n"],
        Float[Tensor, "c n 3"],
        Float[Tensor, "c n"] | None,
    ]:
        """See `seam.StagedBackend.project`."""
        if covars is None:
            if quats is None or scales is None:
                raise ValueError("give quats and scales, or covars")
            covars = _covariances(quats.double(), scales.double())
        means, covars, opacities = means.double(), covars.double(), opacities.double()
        columns = []
        for i in range(viewmats.shape[0]):
            points = (means[i] if means.ndim == 3 else means) @ viewmats[i, :3, :3].double().T
            points = points + viewmats[i, :3, 3].double()
            ahead = ((points[:, 2] >= near_plane) & (points[:, 2] <= far_plane)).nonzero().squeeze(1)
            covars_camera = _rotated(covars[i] if covars.ndim == 4 else covars, viewmats[i, :3, :3].double())[ahead]
            opacity = (opacities[i] if opacities.ndim == 2 else opacities)[ahead]
            size = means.new_tensor([width, height])
            values = self._project_one(points[ahead], covars_camera, opacity, Ks[i].double(), size, eps2d, antialiased)
            reach, means2d = values[0], values[1]
            drawn = (reach > radius_clip).any(-1) & (means2d + reach > 0).all(-1) & (means2d - reach < size).all(-1)
            blanks = [value.new_zeros(len(points), *value.shape[1:]) for value in values]
            columns.append([b.index_copy(0, ahead[drawn], v[drawn]) for b, v in zip(blanks, values, strict=True)])
        reach, means2d, depths, conics, compensations = (torch.stack(column) for column in zip(*columns, strict=True))
        radii = reach.amax(-1).clamp(max=2**30).int()
        return radii, means2d, depths, conics, compensations if antialiased else None

    def _project_one(
        self,
        points: Float[Tensor, "n 3"],
        covars: Float[Tensor, "n 3 3"],
        opacities: Float[Tensor, "n"],
        K: Float[Tensor, "3 3"],
        size: Float[Tensor, "2"],
        eps2d: float,
        antialiased: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Reach (half width and height, whole pixels), means2d, depths, conics and compensations; all in one camera."""
        jacobian = self._jacobian(points, K, size)
        sharp = jacobian @ covars @ jacobian.mT
        blurred = sharp + eps2d * torch.eye(2, dtype=sharp.dtype, device=sharp.device)
        ratio = torch.linalg.det(sharp) / torch.linalg.det(blurred)
        floor = self.semantics.compensation_min**2
        compensations = torch.where(ratio > floor, ratio.clamp(min=max(floor, 1e-30)).sqrt(), floor**0.5)
        inverse = torch.linalg.inv(blurred)
        conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], dim=-1)
        reach = self._reach(blurred.detach(), (opacities * compensations if antialiased else opacities).detach())
        return reach, (points @ K.T)[:, :2] / points[:, 2:], points[:, 2], conics, compensations

    def _jacobian(
        self, points: Float[Tensor, "n 3"], K: Float[Tensor, "3 3"], size: Float[Tensor, "2"]
    ) -> Float[Tensor, "n 2 3"]:
        """Of the pinhole projection, at the point or, if that is far outside the image, at the edge of a larger one."""
        margin = self.semantics.field_of_view_margin * size / 2
        focal, centre = K.diagonal()[:2], K[:2, 2]
        slopes = points[:, :2] / points[:, 2:]
        slopes = slopes.clamp(min=-(centre + margin) / focal, max=(size - centre + margin) / focal)
        on_unit_plane = torch.cat([torch.diag(focal).expand(len(points), 2, 2), -(focal * slopes)[..., None]], -1)
        return on_unit_plane / points[:, 2, None, None]

    def _reach(self, covars2d: Float[Tensor, "n 2 2"], opacities: Float[Tensor, "n"]) -> Float[Tensor, "n 2"]:
        """Half the width and height of what each Gaussian is allowed to touch, whole pixels; 0: nothing."""
        a, b, c = covars2d[:, 0, 0], covars2d[:, 0, 1], covars2d[:, 1, 1]
        if self.semantics.radius_rule == "three-sigma":
            largest = (a + c) / 2 + ((a - c) ** 2 / 4 + b**2).clamp(min=0.01).sqrt()
            return (3 * largest.sqrt()).ceil()[:, None].expand(-1, 2)
        level = opacities / self.semantics.alpha_min
        sigmas = (2 * level.clamp(min=1).log()).sqrt().clamp(max=3.33)
        return torch.where((level >= 1)[:, None], (sigmas[:, None] * torch.stack([a, c], -1).sqrt()).ceil(), 0.0)

    def composite(
        self,
        means2d: Float[Tensor, "c n 2"],
        conics: Float[Tensor, "c n 3"],
        colors: Float[Tensor, "*c n d"],
        opacities: Float[Tensor, "*c n"],
        radii: Int[Tensor, "c n"],
        depths: Float[Tensor, "c n"],
        backgrounds: Float[Tensor, "c d"] | None,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"]]:
        """See `seam.StagedBackend.composite`. No `absgrad`: tests differentiate per pixel instead."""
        if absgrad:
            raise ValueError("the dense reference has no absgrad: use the torch or numba backend")
        cameras = means2d.shape[0]
        colors, opacities = colors.double().expand(cameras, -1, -1), opacities.double().expand(cameras, -1)
        images, alphas = [], []
        for i in range(cameras):
            image, transmittance = self._composite_one(
                means2d[i].double(), conics[i].double(), colors[i], opacities[i], radii[i], depths[i], width, height
            )
            if backgrounds is not None:
                image = image + transmittance[..., None] * backgrounds[i].double()
            images.append(image.reshape(height, width, -1))
            alphas.append(1 - transmittance.reshape(height, width, 1))
        return torch.stack(images), torch.stack(alphas)

    def _composite_one(
        self,
        means2d: Float[Tensor, "n 2"],
        conics: Float[Tensor, "n 3"],
        colors: Float[Tensor, "n d"],
        opacities: Float[Tensor, "n"],
        radii: Int[Tensor, "n"],
        depths: Float[Tensor, "n"],
        width: int,
        height: int,
    ) -> tuple[Float[Tensor, "p d"], Float[Tensor, "p"]]:
        order = front_to_back(radii, depths)
        pixels = pixel_centres(width, height).to(means2d)
        alphas = alphas_at(means2d[order], conics[order], opacities[order], pixels).clamp(max=self.semantics.max_alpha)
        touched = tiles_touched(means2d[order].detach(), radii[order].double(), pixels, self.semantics.tile_size)
        drawn, _ = decide(alphas.detach(), touched, self.semantics)
        alphas = torch.where(drawn, alphas, 0.0)
        transmittance = torch.cumprod(torch.cat([torch.ones_like(pixels[None, :, 0]), 1 - alphas]), dim=0)
        return (alphas * transmittance[:-1]).T @ colors[order], transmittance[-1]


def decide(
    alphas: Float[Tensor, "n p"], touched: Bool[Tensor, "n p"], semantics: Semantics
) -> tuple[Bool[Tensor, "n p"], Bool[Tensor, "n p"]]:
    """Which Gaussians are drawn at each pixel, and which of them light would still have reached."""
    transmittance = alphas.new_ones(alphas.shape[1])
    done = torch.zeros_like(transmittance, dtype=torch.bool)
    drawn, lit = torch.zeros_like(touched), torch.zeros_like(touched)
    for i in range(len(alphas)):
        lit[i] = ~done
        candidate = lit[i] & touched[i] & (alphas[i] >= semantics.alpha_min)
        after = transmittance * (1 - alphas[i])
        done |= candidate & (after <= semantics.transmittance_min)
        drawn[i] = candidate & ~done
        transmittance = torch.where(drawn[i], after, transmittance)
    return drawn, lit


def front_to_back(radii: Int[Tensor, "n"], depths: Float[Tensor, "n"]) -> Int[Tensor, "m"]:
    """Indices of the drawn Gaussians, nearest first; equal depths in the order given."""
    order = torch.argsort(depths, stable=True)
    return order[radii[order] > 0]


def pixel_centres(width: int, height: int) -> Float[Tensor, "p 2"]:
    """(x, y) of every pixel, row by row, float64."""
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).double() + 0.5


def alphas_at(
    means2d: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    pixels: Float[Tensor, "p 2"],
) -> Float[Tensor, "n p"]:
    """``opacity exp(-sigma)``, 0 where sigma is negative."""
    dx, dy = (means2d[:, k, None] - pixels[:, k] for k in range(2))
    a, b, c = (conics[:, k, None] for k in range(3))
    sigma = (a * dx**2 + 2 * b * dx * dy + c * dy**2) / 2
    return torch.where(sigma >= 0, opacities[:, None] * torch.exp(-sigma.clamp(min=0)), 0.0)


def tiles_touched(
    means2d: Float[Tensor, "n 2"], radii: Float[Tensor, "n"], pixels: Float[Tensor, "p 2"], tile_size: int
) -> Bool[Tensor, "n p"]:
    """Whether the square of that radius around each mean overlaps the tile each pixel is in."""
    touched = torch.ones(len(means2d), len(pixels), dtype=torch.bool, device=pixels.device)
    for k in range(2):
        corner = torch.floor(pixels[:, k] / tile_size) * tile_size
        touched &= (means2d[:, k] + radii)[:, None] > corner
        touched &= (means2d[:, k] - radii)[:, None] < corner + tile_size
    return touched


def _rotated(covars: Float[Tensor, "n 3 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "n 3 3"]:
    return rotation @ covars @ rotation.T


def _covariances(quats: Float[Tensor, "*c n 4"], scales: Float[Tensor, "*c n 3"]) -> Float[Tensor, "*c n 3 3"]:
    """``R diag(scales)^2 R^T``, with R by Rodrigues' formula: ``R v = v + 2 w (u x v) + 2 u x (u x v)``, q = (w, u)."""
    length = quats.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, quats / length.clamp(min=1e-300), quats.new_tensor([1.0, 0.0, 0.0, 0.0]))
    w, (x, y, z) = unit[..., 0, None, None], unit[..., 1:].unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*x.shape, 3, 3)
    rotation = torch.eye(3, dtype=quats.dtype, device=quats.device) + 2 * w * cross + 2 * cross @ cross
    return rotation @ torch.diag_embed(scales**2) @ rotation.mT
