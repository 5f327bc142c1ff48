"""EWA splatting: the picture of a 3D Gaussian is a 2D Gaussian (Zwicker et al. 2001, "EWA Volume Splatting").

A camera is not linear, so its Jacobian at the Gaussian's centre stands in for it: ``Sigma_2d = J R Sigma R^T J^T``.
Written for autograd, on all Gaussians and cameras at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Splats:
    """Gaussians on the image plane: means in pixels, depths along the camera's z, covariances ``[[a, b], [b, c]]``."""

    means2d: Float[Tensor, "c n 2"]
    depths: Float[Tensor, "c n"]
    a: Float[Tensor, "c n"]
    b: Float[Tensor, "c n"]
    c: Float[Tensor, "c n"]
    det: Float[Tensor, "c n"]
    """Of the covariance after blurring."""
    compensations: Float[Tensor, "c n"]
    """``sqrt(det before blurring / det after)``: what blurring would add to the opacity (Mip-Splatting, equation 9)."""


@dataclass(frozen=True)
class Pinholes:
    """Cameras: world to camera (OpenCV axes), intrinsics and image size in pixels."""

    viewmats: Float[Tensor, "c 4 4"]
    Ks: Float[Tensor, "c 3 3"]
    width: int
    height: int
    margin: float
    """How far outside the image the Jacobian is still taken, as a fraction of half the image's size."""

    def to_camera(self, means: Float[Tensor, "*c n 3"]) -> Float[Tensor, "c n 3"]:
        rotation, translation = self.viewmats[:, :3, :3], self.viewmats[:, None, :3, 3]
        if means.ndim == 2:
            return torch.einsum("cij,nj->cni", rotation, means) + translation
        return means @ rotation.mT + translation

    def to_image(self, points: Float[Tensor, "c n 3"]) -> Float[Tensor, "c n 2"]:
        x, y, z = points.unbind(-1)
        fx, fy, cx, cy = self._intrinsics()
        return torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)

    def jacobian(self, points: Float[Tensor, "c n 3"]) -> tuple[Float[Tensor, "c n 3"], Float[Tensor, "c n 3"]]:
        """The two rows of ``J R``, with ``J = [[fx/z, 0, -fx x/z^2], [0, fy/z, -fy y/z^2]]``.

        Far outside the image the linearisation is meaningless, so x/z and y/z go no further than `margin`.
        """
        x, y, z = points.unbind(-1)
        fx, fy, cx, cy = self._intrinsics()
        slope_x = _clamp(x / z, -cx / fx, (self.width - cx) / fx, self.margin * 0.5 * self.width / fx)
        slope_y = _clamp(y / z, -cy / fy, (self.height - cy) / fy, self.margin * 0.5 * self.height / fy)
        right, down, forward = self.viewmats[:, None, :3, :3].unbind(-2)
        return (
            (fx / z)[..., None] * (right - slope_x[..., None] * forward),
            (fy / z)[..., None] * (down - slope_y[..., None] * forward),
        )

    def _intrinsics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.Ks[:, 0, 0, None], self.Ks[:, 1, 1, None], self.Ks[:, 0, 2, None], self.Ks[:, 1, 2, None]


@dataclass(frozen=True)
class Shapes:
    """The shapes of Gaussians, one way or the other."""

    covars: Float[Tensor, "*c n 3 3"] | None = None
    factor: Float[Tensor, "*c n 3 3"] | None = None
    """M with covariance ``M M^T``."""

    def seen_along(
        self, row_x: Float[Tensor, "c n 3"], row_y: Float[Tensor, "c n 3"]
    ) -> tuple[Float[Tensor, "c n"], Float[Tensor, "c n"], Float[Tensor, "c n"], Float[Tensor, "c n"]]:
        """``a, b, c`` of the covariance ``[[a, b], [b, c]]`` of its picture, and ``a c - b^2``."""
        if self.factor is not None:
            u, v = (row_x[..., None] * self.factor).sum(-2), (row_y[..., None] * self.factor).sum(-2)
            # Lagrange's identity: a c - b^2 = |u x v|^2, without the cancellation.
            return (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1), torch.linalg.cross(u, v).square().sum(-1)
        assert self.covars is not None
        u, v = (self.covars @ row_x[..., None]).squeeze(-1), (self.covars @ row_y[..., None]).squeeze(-1)
        a, b, c = (row_x * u).sum(-1), (row_x * v).sum(-1), (row_y * v).sum(-1)
        return a, b, c, a * c - b * b


def shapes_of(
    quats: Tensor | None, scales: Tensor | None, covars: Tensor | None, seen: Bool[Tensor, "c n"] | None = None
) -> Shapes:
    """The shapes of Gaussians given by rotations and scales or by covariances; points where no camera sees them."""
    if covars is not None:
        return Shapes(covars=covars if seen is None else zero_unseen(seen, covars, 2))
    if quats is None or scales is None:
        raise ValueError("give quats and scales, or covars")
    if seen is not None:
        quats, scales = zero_unseen(seen, quats, 1), zero_unseen(seen, scales, 1)
    return Shapes(factor=quats_to_rotations(quats) * scales[..., None, :])


def quats_to_rotations(quats: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of wxyz quaternions of any length.

    A zero quaternion gives the identity, and no gradient: every entry below is quadratic in it.
    """
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*quats.shape[:-1], 3, 3)


def project_splats(
    pinholes: Pinholes,
    means: Float[Tensor, "*c n 3"],
    shapes: Shapes,
    eps2d: float,
    compensation_min: float,
    seen: Bool[Tensor, "c n"] | None = None,
) -> Splats:
    """Pictures of the Gaussians, blurred by `eps2d` squared pixels.

    Gaussians outside `seen` are moved in front of the camera, out of harm's way.
    """
    points = pinholes.to_camera(means)
    if seen is not None:
        points = torch.where(seen[..., None], points, points.new_tensor([0.0, 0.0, 1.0]))
    a, b, c, det_sharp = shapes.seen_along(*pinholes.jacobian(points))
    det = det_sharp + eps2d * (a + c) + eps2d * eps2d
    compensations = _safe_sqrt(det_sharp / det, compensation_min**2)
    return Splats(pinholes.to_image(points), points[..., 2], a + eps2d, b, c + eps2d, det, compensations)


def zero_unseen(seen: Bool[Tensor, "c n"], rows: Tensor, trailing: int) -> Tensor:
    """Zeros in the rows no camera sees (a row shared by all cameras is kept if any of them sees it).

    Args:
        rows: ``[n, ...]`` or ``[c, n, ...]`` with so many `trailing` axes.
    """
    keep = seen if rows.ndim == 2 + trailing else seen.any(dim=0)
    return torch.where(keep.reshape(*keep.shape, *[1] * trailing), rows, 0.0)


def _clamp(slope: Tensor, low: Tensor, high: Tensor, margin: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(slope, low - margin), high + margin)


def _safe_sqrt(x: Tensor, minimum: float) -> Tensor:
    """``sqrt(max(x, minimum))`` with a finite gradient everywhere, also at 0."""
    above = x > minimum
    return torch.where(above, torch.sqrt(torch.where(above, x, 1.0)), minimum**0.5)
