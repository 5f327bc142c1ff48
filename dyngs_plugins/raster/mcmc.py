"""Density control as Markov chain Monte Carlo, on any device.

gsplat's `MCMCStrategy` calls CUDA kernels in three places (relocate, add, noise). Here they are plain PyTorch, so that
the strategy also runs with the CPU rasterizer. Source: Kheradmand et al. 2024, "3D Gaussian Splatting as Markov Chain
Monte Carlo", equations 8 to 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from gsplat import MCMCStrategy
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from dyngs_plugins.raster.ewa import quats_to_rotations

MAX_COPIES = 51
"""Copies beyond this are counted as this many (the size of the binomial table in the paper's code)."""

Params = MutableMapping[str, nn.Parameter] | nn.ParameterDict


@dataclass
class PortableMCMCStrategy(MCMCStrategy):
    """gsplat's `MCMCStrategy` (same options, same calls) without CUDA kernels."""

    def step_post_backward(
        self,
        params: Any,
        optimizers: Any,
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        lr: float,
    ) -> None:
        """Relocate and add on refinement steps, then disturb the positions; call after the optimizers' steps.

        Args:
            params: Gaussians by column, all with one row each; scales are logarithms, opacities logits.
            optimizers: one for every column.
            state: from ``initialize_state()``.
            step: of training.
            info: from the rasterizer (not used).
            lr: learning rate of the means now: noise fades with it.
        """
        refine = self.refine_start_iter < step < self.refine_stop_iter and step % self.refine_every == 0
        if refine:
            moved = self._relocate_gs(params, optimizers, state["binoms"])
            added = self._add_new_gs(params, optimizers, state["binoms"])
            if self.verbose:
                print(f"Step {step}: {moved} Gaussians moved, {added} added, {len(params['means'])} in total.")
        add_noise(params, lr * self.noise_lr)

    @torch.no_grad()
    def _relocate_gs(self, params: Any, optimizers: Any, binoms: Tensor) -> int:
        """Move dead Gaussians onto living ones; returns how many."""
        dead = torch.sigmoid(params["opacities"].flatten()) <= self.min_opacity
        if not dead.any() or dead.all():
            return 0
        relocate(params, optimizers, dead, self.min_opacity)
        return int(dead.sum())

    @torch.no_grad()
    def _add_new_gs(self, params: Any, optimizers: Any, binoms: Tensor) -> int:
        """Grow by 5 %, up to the cap; returns how many were added."""
        now = len(params["means"])
        count = max(0, min(self.cap_max, int(1.05 * now)) - now)
        if count > 0:
            sample_add(params, optimizers, count, self.min_opacity)
        return count


def relocated_opacities_and_scales(
    opacities: Float[Tensor, "n"], scales: Float[Tensor, "n 3"], copies: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
    """Opacity and scales of each of N equal Gaussians that together look like the one they replace (equation 9)::

        o_new = 1 - (1 - o)^(1/N)
        Sigma_new = o^2 ( sum_{i=1..N} sum_{k=0..i-1} binom(i-1, k) (-1)^k o_new^{k+1} / sqrt(k+1) )^-2 Sigma

    Summed over i first, the binomials telescope (hockey stick) and one sum over m = k + 1 is left:
    ``sum_{m=1..N} binom(N, m) (-1)^{m-1} o_new^m / sqrt(m)``.

    Args:
        opacities: of the Gaussians to be replaced, in (0, 1).
        scales: theirs, any unit.
        copies: N of each, at least 1; more than `MAX_COPIES` count as `MAX_COPIES`.
    """
    eps = torch.finfo(torch.float32).eps
    old = opacities.double().clamp(max=1.0 - eps)
    n = copies.clamp(1, MAX_COPIES).double()[:, None]
    new = 1.0 - (1.0 - old) ** (1.0 / n[:, 0])
    m = torch.arange(1, MAX_COPIES + 1, dtype=torch.float64, device=opacities.device)
    log_binomial = torch.lgamma(n + 1) - torch.lgamma(m + 1) - torch.lgamma((n - m).clamp(min=0) + 1)
    signs = 1.0 - 2.0 * ((m - 1) % 2)
    terms = signs * torch.exp(log_binomial + m * torch.log(new)[:, None]) / torch.sqrt(m)
    denominator = torch.where(m <= n, terms, 0.0).sum(dim=-1)
    return new.to(opacities), scales * (old / denominator).to(scales)[:, None]


@torch.no_grad()
def relocate(params: Params, optimizers: Mapping[str, Optimizer], dead: Bool[Tensor, "n"], min_opacity: float) -> None:
    """Put each dead Gaussian onto a living one, drawn by opacity; both share what the living one looked like."""
    alive = (~dead).nonzero().squeeze(1)
    gone = dead.nonzero().squeeze(1)
    weights = torch.sigmoid(params["opacities"].flatten())[alive]
    target = alive[torch.multinomial(weights, len(gone), replacement=True)]
    _share(params, target, min_opacity)

    def overwrite(values: Tensor) -> Tensor:
        values[gone] = values[target]
        return values

    def restart(moment: Tensor) -> Tensor:
        moment[target] = 0
        return moment

    _replace(params, optimizers, overwrite, restart)


@torch.no_grad()
def sample_add(params: Params, optimizers: Mapping[str, Optimizer], count: int, min_opacity: float) -> None:
    """Add copies of Gaussians drawn by opacity; each shares with its copies what it looked like alone."""
    source = torch.multinomial(torch.sigmoid(params["opacities"].flatten()), count, replacement=True)
    _share(params, source, min_opacity)
    _replace(
        params,
        optimizers,
        lambda values: torch.cat([values, values[source]]),
        lambda moment: torch.cat([moment, torch.zeros_like(moment[source])]),
    )


@torch.no_grad()
def add_noise(params: Params, scale: float) -> None:
    """Disturb the positions of nearly transparent Gaussians, along their own shape (equation 8).

    Args:
        params: changed in place.
        scale: standard deviation over that of the Gaussian (times one more standard deviation of the Gaussian).
    """
    faintness = torch.sigmoid(100.0 * (0.005 - torch.sigmoid(params["opacities"].flatten())))
    factor = quats_to_rotations(params["quats"]) * torch.exp(params["scales"])[:, None, :]
    noise = torch.randn_like(params["means"]) * faintness[:, None] * scale
    params["means"].add_((factor @ (factor.mT @ noise[..., None])).squeeze(-1))


def _share(params: Params, target: Int[Tensor, "m"], min_opacity: float) -> None:
    """Fade and resize the Gaussians in `target` so that they and as many copies as `target` lists look like one."""
    chosen, listed = torch.unique(target, return_counts=True)
    shape = params["opacities"][chosen].shape
    opacities, scales = relocated_opacities_and_scales(
        torch.sigmoid(params["opacities"][chosen].flatten()), torch.exp(params["scales"][chosen]), listed + 1
    )
    opacities = opacities.clamp(min_opacity, 1.0 - torch.finfo(torch.float32).eps)
    params["opacities"].data[chosen] = torch.logit(opacities).reshape(shape)
    params["scales"].data[chosen] = torch.log(scales)


def _replace(
    params: Params,
    optimizers: Mapping[str, Optimizer],
    change_values: Callable[[Tensor], Tensor],
    change_moment: Callable[[Tensor], Tensor],
) -> None:
    """New parameters in place of the old, also in their optimizers, whose row-wise state is changed along."""
    for name in list(params.keys()):
        optimizer = optimizers[name]
        old = params[name]
        state = optimizer.state.pop(old, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == old.shape:
                state[key] = change_moment(value)
        new = nn.Parameter(change_values(old.data), requires_grad=old.requires_grad)
        optimizer.param_groups[0]["params"] = [new]
        if state:
            optimizer.state[new] = state
        params[name] = new
