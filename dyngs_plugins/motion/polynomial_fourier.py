"""Gaussian-Flow's field: every Gaussian's change over time is a polynomial plus a Fourier series (Lin et al. 2024).

The paper's dual-domain deformation model: to a Gaussian's centre, rotation and (optionally) colour a function of time of
its own is added, with ``tau`` a stretched and shifted time and ``n`` terms::

    D(tau) = 1/n sum_j  f_j0 tau^j + f_j1 sin(2 pi j tau) + f_j2 cos(2 pi j tau)        j = 0 ... n - 1

There is no network and nothing shared; all coefficients start at zero, or from tracks. Each term acts at all times:
smooth, but what starts or stops suddenly takes many terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.motion.bases_init import displacements
from dyngs_plugins.randomness import draw_of_step
from dyngs_plugins.raster.harmonics import SH_C0
from dyngs_plugins.types import Gaussians

if TYPE_CHECKING:
    from dyngs_plugins.priors.lifting import Tracks3D

PARTS = 3
"""Coefficients of one term: of the power, the sine and the cosine."""


@dataclass
class PolynomialFourierConfig(MotionFieldConfig):
    """A polynomial and a Fourier series per Gaussian."""

    _target: type = field(default_factory=lambda: PolynomialFourier)
    position_terms: int = 3
    """n for centres. Clips of hundreds of frames want 8 to 16."""
    rotation_terms: int = 3
    """n for quaternions (added before they are normalised); 0: orientations stay."""
    color_terms: int = 0
    """n for the constant part of the colour; 0: colours stay."""
    time_scale: float = 0.5
    """tau = time_scale t + time_offset - the Gaussian's own centre. Below 1, so that the series, whose period is 1, need
    not come back to its start at the end of the clip."""
    time_offset: float = 0.1
    learn_centre: bool = True
    """Whether every Gaussian shifts time by a centre of its own. Without, all share one small matrix: faster."""
    jitter: float = 0.1
    """Standard deviation of the noise on training times, in frames; falls linearly to 0 over ``jitter_steps``."""
    jitter_steps: int = 10_000
    starts_from: Literal["tracks", "points"] = "points"
    """``tracks``: one Gaussian per lifted track, its coefficients fitted to it. ``points`` (the paper): without motion."""
    fit_roughness: float = 1e-7
    """Weight of the mean squared second derivative of a path in its fit to a track; straight motion has none."""


class PolynomialFourier(MotionField):
    """Per Gaussian: ``position_terms [n, 3, parts]``, ``rotation_terms [n, 4, parts]``, ``color_terms [n, 3, parts]`` and
    ``time_centres []``.
    """

    def __init__(self, config: PolynomialFourierConfig, num_frames: int):
        super().__init__()
        if config.position_terms < 1:
            raise ValueError(f"position_terms is {config.position_terms}; expected 1 or more. Try 3.")
        self.config = config
        self.num_frames = num_frames
        self.starts_from = config.starts_from
        self.noise = 0.0
        """What is added to tau while training; nothing before the first step."""

    def columns(self) -> dict[str, tuple[int, ...]]:
        c = self.config
        terms = {"position_terms": (c.position_terms, 3), "rotation_terms": (c.rotation_terms, 4)}
        terms["color_terms"] = (c.color_terms, 3)
        found: dict[str, tuple[int, ...]] = {name: (*shape, PARTS) for name, shape in terms.items() if shape[0] > 0}
        return found | ({"time_centres": ()} if c.learn_centre else {})

    def begin_step(self, stage: str, step: int) -> None:
        """One draw for all times of a step, so that the instants of an exposure stay in order; the same after a resume."""
        c = self.config
        strength = c.jitter * max(0.0, 1 - step / max(c.jitter_steps, 1))
        frame = c.time_scale / max(self.num_frames - 1, 1)
        self.noise = strength * frame * draw_of_step(step) if strength > 0.0 else 0.0

    def dilated(self, times: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """tau without the Gaussians' own centres; noisy while training."""
        c = self.config
        return c.time_scale * times.clamp(0, 1) + c.time_offset + (self.noise if self.training else 0.0)

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        basis = self._basis(gaussians, self.dilated(times), max(self._orders().values()))
        changes: dict[str, Tensor] = {"means": gaussians.means + self._sum(gaussians, "position_terms", basis)}
        quats = gaussians.quats.expand(times.shape[0], -1, -1)
        if "rotation_terms" in gaussians.columns:
            quats = torch.nn.functional.normalize(quats + self._sum(gaussians, "rotation_terms", basis), dim=-1)
        changes["quats"] = quats
        if "color_terms" in gaussians.columns:
            change = self._sum(gaussians, "color_terms", basis)
            changes["colors"] = (gaussians.colors + SH_C0 * change).clamp_min(0)
            if gaussians.harmonics is not None:
                h = gaussians.harmonics.expand(times.shape[0], -1, -1, -1)
                changes["harmonics"] = torch.cat([h[..., :1, :] + change[..., None, :], h[..., 1:, :]], dim=-2)
        return gaussians.replace(**changes)

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        basis = self._basis(gaussians, self.dilated(times), self.config.position_terms)
        return gaussians.means + self._sum(gaussians, "position_terms", basis)

    def motion_coefficients(self, gaussians: Gaussians) -> Float[Tensor, "n d"]:
        """What describes a Gaussian's motion: all 0 where it stands still."""
        names = [name for name in ("position_terms", "rotation_terms") if name in gaussians.columns]
        return torch.cat([gaussians.columns[name].flatten(1) for name in names], dim=1)

    # --- the two bases ------------------------------------------------------------------------------------------

    def _orders(self) -> dict[str, int]:
        return {name: shape[0] for name, shape in self.columns().items() if len(shape) > 1}

    def _basis(self, gaussians: Gaussians, tau: Float[Tensor, "b"], order: int) -> Tensor:
        """``[b, order, parts]`` for all, or ``[n, b, order, parts]`` where each Gaussian has a centre in time."""
        centres = gaussians.columns.get("time_centres")
        return basis_at(tau if centres is None else tau - centres[:, None], order)

    def _sum(self, gaussians: Gaussians, name: str, basis: Tensor) -> Float[Tensor, "b n d"]:
        terms = gaussians.columns[name]
        n, order, d, _ = terms.shape
        used = basis[..., :order, :].flatten(-2) / order
        if used.ndim == 2:  # one matrix product for all
            flat = terms.permute(1, 3, 0, 2).reshape(order * PARTS, n * d)
            return (used @ flat).reshape(-1, n, d)
        return torch.bmm(used, terms.transpose(2, 3).reshape(n, order * PARTS, d)).transpose(0, 1)

    # --- starting -----------------------------------------------------------------------------------------------

    def initialise(self, tracks: Tracks3D, canonical_frame: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        c = self.config
        moved, certainty = displacements(tracks, canonical_frame)
        tau = c.time_scale * torch.linspace(0, 1, moved.shape[1], dtype=torch.float64) + c.time_offset
        fitted = fit_terms(moved, certainty, tau, c.position_terms, c.fit_roughness)
        return {**self._still(moved.shape[0], moved), "position_terms": fitted}

    def start_from_points(self, means, times, generator: torch.Generator) -> Mapping[str, Tensor]:
        return self._still(means.shape[0], means)

    def _still(self, n: int, like: Tensor) -> dict[str, Tensor]:
        return {name: like.new_zeros(n, *shape) for name, shape in self.columns().items()}


def basis_at(tau: Float[Tensor, "*b"], order: int) -> Float[Tensor, "*b order parts"]:
    """``tau^j, sin(2 pi j tau), cos(2 pi j tau)`` for ``j = 0 ... order - 1``."""
    j = torch.arange(order, dtype=tau.dtype, device=tau.device)
    powers = [torch.ones_like(tau)]
    for _ in range(order - 1):  # not torch.pow, whose derivative at 0 is not a number for the power 0
        powers.append(powers[-1] * tau)
    angles = 2 * math.pi * tau[..., None] * j
    return torch.stack([torch.stack(powers, dim=-1), torch.sin(angles), torch.cos(angles)], dim=-1)


def fit_terms(
    points: Float[Tensor, "n t d"],
    certainty: Float[Tensor, "n t"],
    tau: Float[Tensor, "t"],
    order: int,
    roughness: float,
) -> Float[Tensor, "n order d parts"]:
    """The coefficients whose functions lie nearest to points at given (stretched) times: penalised least squares.

    The penalty is on the second derivative, so that straight motion is reproduced whatever its weight; among equal
    functions (the constants of power, cosine and base) the smallest coefficients are taken.

    Args:
        certainty: weight of each point's squared distance.
        roughness: weight of the squared second derivative per unit of clip time, mean over the clip.
    """
    flat = basis_at(tau, order).flatten(1) / order  # [t, order * parts]
    dense = torch.linspace(float(tau[0]), float(tau[-1]), 128, dtype=torch.float64, device=tau.device)
    bending = (_second_derivative(dense, order) * (tau[-1] - tau[0]) ** 2 / order).flatten(1)
    weight = certainty.double() / certainty.double().sum(dim=1, keepdim=True)
    weighted = weight[..., None] * flat
    normal = weighted.transpose(1, 2) @ flat + roughness * (bending.T @ bending) / len(dense)
    smallest = 1e-12 * torch.eye(normal.shape[-1], dtype=torch.float64, device=points.device)
    solved = torch.linalg.solve(normal + smallest, weighted.transpose(1, 2) @ points.double())
    return solved.reshape(len(points), order, PARTS, -1).transpose(2, 3).to(points)


def _second_derivative(tau: Float[Tensor, "t"], order: int) -> Float[Tensor, "t order parts"]:
    """Of :func:`basis_at` with respect to tau."""
    j = torch.arange(order, dtype=tau.dtype, device=tau.device)
    powers = j * (j - 1) * tau[:, None] ** (j - 2).clamp_min(0)
    angles = 2 * math.pi * tau[:, None] * j
    return torch.stack([powers, *(-((2 * math.pi * j) ** 2) * f(angles) for f in (torch.sin, torch.cos))], dim=-1)
