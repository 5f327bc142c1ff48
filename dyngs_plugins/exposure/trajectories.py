"""Paths of a camera within one exposure: control poses (twists) to a rigid motion at every u in [0, 1].

All are differentiable at zero twists, where every pose is the identity. Sources: BAD-NeRF (Wang et al. 2023, linear and
cubic B-spline) and BAD-Gaussians (Zhao et al. 2024, Bezier).
"""

from __future__ import annotations

from math import comb
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.exposure import se3

Kind = Literal["linear", "bspline", "bezier"]
BEZIER_KNOTS = 9
KNOTS: dict[str, int] = {"linear": 2, "bspline": 4, "bezier": BEZIER_KNOTS}
"""Control poses of each kind."""


def poses_along(kind: Kind, knots: Float[Tensor, "*v k 6"], u: Float[Tensor, "s"]) -> Float[Tensor, "*v s 4 4"]:
    """The rigid motions at the parameters ``u`` of each path.

    Raises:
        ValueError: another number of knots than the kind has.
    """
    if knots.shape[-2] != KNOTS[kind]:
        raise ValueError(f"A {kind} path has {KNOTS[kind]} control poses, found {knots.shape[-2]}.")
    return {"linear": _linear, "bspline": _bspline, "bezier": _bezier}[kind](knots, u)


def _between(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """The part ``share`` of the rotation from one quaternion to another, as a quaternion."""
    turn = se3.quaternion_log(se3.quaternion_product(se3.inverse(start), end))
    return se3.quaternion_exp(share * turn)


def _linear(knots: Float[Tensor, "*v 2 6"], u: Float[Tensor, "s"]) -> Float[Tensor, "*v s 4 4"]:
    """Translation straight, rotation at constant speed, each on its own."""
    q, p = se3.quaternion_exp(knots[..., 3:]), se3.translation_exp(knots)
    share = u[:, None]
    q0, q1 = q[..., :1, :], q[..., 1:, :]
    rotation = se3.quaternion_product(q0.expand(*q0.shape[:-2], len(u), 4), _between(q0, q1, share))
    return se3.rigid(rotation, p[..., :1, :] * (1 - share) + p[..., 1:, :] * share)


def cumulative_basis(u: Float[Tensor, "s"]) -> Float[Tensor, "s 3"]:
    """How far a uniform cubic B-spline has gone from each of its first three control poses towards the next."""
    return torch.stack([(5 + 3 * u - 3 * u**2 + u**3) / 6, (1 + 3 * u + 3 * u**2 - 2 * u**3) / 6, u**3 / 6], dim=-1)


def _bspline(knots: Float[Tensor, "*v 4 6"], u: Float[Tensor, "s"]) -> Float[Tensor, "*v s 4 4"]:
    """Cubic B-splines of translation and rotation in cumulative form; they pass by their control poses, not through."""
    q, p = se3.quaternion_exp(knots[..., 3:]), se3.translation_exp(knots)
    basis = cumulative_basis(u)
    rotation = q[..., :1, :].expand(*q.shape[:-2], len(u), 4)
    position = p[..., :1, :].expand(*p.shape[:-2], len(u), 3)
    for k in range(3):
        share = basis[:, k, None]
        rotation = se3.quaternion_product(rotation, _between(q[..., k : k + 1, :], q[..., k + 1 : k + 2, :], share))
        position = position + share * (p[..., k + 1 : k + 2, :] - p[..., k : k + 1, :])
    return se3.rigid(rotation, position)


def _bezier(knots: Float[Tensor, "*v k 6"], u: Float[Tensor, "s"]) -> Float[Tensor, "*v s 4 4"]:
    """The product of ``exp(b_j(u) xi_j)`` with Bernstein's polynomials b_j: coupled, on all of SE(3)."""
    degree = knots.shape[-2] - 1
    path = torch.eye(4, dtype=knots.dtype, device=knots.device)
    for j in range(degree + 1):
        weight = comb(degree, j) * (1 - u) ** (degree - j) * u**j
        path = path @ se3.exp(weight[:, None] * knots[..., j : j + 1, :])
    return path
