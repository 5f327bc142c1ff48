"""Nearest neighbours of Gaussians that move little from step to step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from dyngs_plugins.gaussian_sets import GaussianSet


class Neighbours:
    """Searches again when enough steps have passed, or when density control has changed the rows."""

    def __init__(self, every: int = 100, k: int = 8):
        self.every, self.k = every, k
        self._found: tuple[int, Int[Tensor, "n k"]] | None = None

    def state(self) -> dict[str, Tensor]:
        """What was found last, so that a resumed training goes on with it."""
        if self._found is None:
            return {}
        step, found = self._found
        return {"step": torch.tensor(step), "found": found.int().cpu()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._found = (int(state["step"]), state["found"].long()) if state else None

    def of(self, gaussians: GaussianSet | None, step: int) -> Int[Tensor, "n k"]:
        """The ``k`` nearest rows of each row by their centres (fewer where there are fewer)."""
        from scipy.spatial import KDTree

        if gaussians is None:
            raise ValueError("There are no moving Gaussians whose neighbours could be found.")
        means = gaussians.raw["means"].detach()
        known = self._found
        if known is None or step - known[0] >= self.every or known[1].shape[0] != means.shape[0]:
            points = means.cpu().numpy()
            _, found = KDTree(points).query(points, k=min(self.k + 1, len(points)))
            self._found = known = (step, torch.as_tensor(found, device=means.device)[:, 1:])
        return known[1].to(means.device)
