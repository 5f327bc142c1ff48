"""Rigid motions from six numbers [translation rho, rotation phi], safe at the identity, where every path starts.

Rotations are wxyz quaternions in between: they interpolate without a matrix logarithm.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.motion import rotations

_SMALL = 1e-4
"""Below this squared angle series take over: their first left-out term is under float32's rounding."""
_TINY = 1e-15
"""Angles below this are taken to be this: ratios to the angle are right there, and their gradients are 0."""


def _ratio(squared: Tensor, exact: Tensor, series: Tensor) -> Tensor:
    return torch.where(squared < _SMALL, series, exact)


def _angle(squared: Tensor) -> Tensor:
    # The branch that is not used must not divide by zero either: its gradient would be 0 times infinity.
    return squared.clamp_min(_SMALL).sqrt()


def _length(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 1"]:
    """The length of a vector, for a ratio to it that multiplies the vector: no series, as errors near 0 are multiplied too."""
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(_TINY)


def quaternion_exp(phi: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4"]:
    """The rotation by the angle ``|phi|`` about ``phi``."""
    angle = _length(phi)
    half = 0.5 * angle
    return torch.cat([torch.cos(half), torch.sin(half) / angle * phi], dim=-1)


def quaternion_log(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3"]:
    """The rotation vector of a unit quaternion, of at most half a turn: the inverse of `quaternion_exp`."""
    q = torch.where(q[..., :1] < 0, -q, q)  # both signs are the same rotation; this one is the shorter way
    w, v = q.split([1, 3], dim=-1)
    length = _length(v)
    return 2 * torch.atan2(length, w) / length * v


def quaternion_product(p: Float[Tensor, "*b 4"], q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """The rotation q followed by p."""
    (pw, pv), (qw, qv) = p.split([1, 3], dim=-1), q.split([1, 3], dim=-1)
    scalar = pw * qw - (pv * qv).sum(-1, keepdim=True)
    return torch.cat([scalar, pw * qv + qw * pv + torch.linalg.cross(pv, qv)], dim=-1)


def inverse(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """The opposite rotation of a unit quaternion."""
    return torch.cat([q[..., :1], -q[..., 1:]], dim=-1)


def matrix(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a unit quaternion: ``I + 2 w [v]x + 2 [v]x^2``."""
    w, v = q[..., :1], q[..., 1:]
    identity = torch.eye(3, dtype=q.dtype, device=q.device)
    crossing = torch.linalg.cross(v[..., None], identity.expand(*v.shape, 3), dim=-2)
    return identity + 2 * (w[..., None] * crossing + crossing @ crossing)


def rigid(q: Float[Tensor, "*b 4"], translation: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4 4"]:
    """The motion ``x -> R(q) x + translation`` as a matrix."""
    top = torch.cat([matrix(q), translation[..., None]], dim=-1)
    bottom = torch.eye(4, dtype=top.dtype, device=top.device)[3:]
    return torch.cat([top, bottom.expand(*top.shape[:-2], 1, 4)], dim=-2)


def translation_exp(xi: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3"]:
    """Where the origin goes under ``exp(xi)``: ``(I + B [phi]x + C [phi]x^2) rho``.

    ``B = (1 - cos a) / a^2`` and ``C = (a - sin a) / a^3`` with the angle ``a = |phi|``.
    """
    rho, phi = xi[..., :3], xi[..., 3:]
    length = _length(phi)
    sine = torch.sin(0.5 * length) / length
    b = 2 * sine * sine
    squared = (phi * phi).sum(-1, keepdim=True)
    angle = _angle(squared)
    c = _ratio(squared, (angle - torch.sin(angle)) / angle**3, 1 / 6 - squared / 120 + squared * squared / 5040)
    once = torch.linalg.cross(phi, rho)
    return rho + b * once + c * torch.linalg.cross(phi, once)


def exp(xi: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 4 4"]:
    """The rigid motion of a twist [rho, phi]."""
    return rigid(quaternion_exp(xi[..., 3:]), translation_exp(xi))


def log(motion: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 6"]:
    """The twist [rho, phi] of a rigid motion that turns by less than half a turn: the inverse of `exp`."""
    columns = motion[..., :3, :3].movedim((-1, -2), (0, 1))
    phi = quaternion_log(rotations.shepperd(columns).movedim(0, -1))
    squared = (phi * phi).sum(-1, keepdim=True)
    angle = _angle(squared)
    # V^-1 = I - [phi]x / 2 + d [phi]x^2 with d = (1 - (a/2) cot(a/2)) / a^2
    exact = (1 - 0.5 * angle / torch.tan(0.5 * angle)) / angle**2
    d = _ratio(squared, exact, 1 / 12 + squared / 720 + squared * squared / 30240)
    translation = motion[..., :3, 3]
    once = torch.linalg.cross(phi, translation)
    return torch.cat([translation - 0.5 * once + d * torch.linalg.cross(phi, once), phi], dim=-1)


def invert(motion: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """The opposite of a rigid motion, without solving for it."""
    rotation = motion[..., :3, :3].transpose(-1, -2)
    top = torch.cat([rotation, -rotation @ motion[..., :3, 3:]], dim=-1)
    return torch.cat([top, motion[..., 3:, :]], dim=-2)
