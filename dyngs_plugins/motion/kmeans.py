"""K-means of rows that are not known in every entry: what is unknown counts in no distance and in no mean.

Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007) on the known entries alone (k-POD, Chi et al.
2016): each pass still lowers the sum of squared distances.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def kmeans(
    features: Float[Tensor, "n d"],
    k: int,
    generator: torch.Generator,
    restarts: int = 3,
    steps: int = 50,
    known: Bool[Tensor, "n d"] | None = None,
) -> Int[Tensor, "n"]:
    """The cluster of every row; the restart with the least within-cluster variance wins.

    A row of which nothing is known is equally far from all clusters, and goes to the first.

    Args:
        known: the entries that count; None: all.
    """
    n = features.shape[0]
    k = min(k, n)
    counted = torch.ones_like(features) if known is None else known.to(features)
    rows = _Rows(features * counted, counted)
    best, best_cost = torch.zeros(n, dtype=torch.long, device=features.device), float("inf")
    for _ in range(restarts):
        centres = rows.seeds(k, generator)
        labels = torch.full((n,), -1, dtype=torch.long, device=features.device)
        distances = rows.square_distances(centres)
        for _ in range(steps):
            new_labels = distances.argmin(dim=1)
            if torch.equal(new_labels, labels):
                break
            labels = new_labels
            sums = torch.zeros_like(centres).index_add_(0, labels, rows.values)
            counts = torch.zeros_like(centres).index_add_(0, labels, counted)
            centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
            distances = rows.square_distances(centres)
        cost = float(distances.min(dim=1).values.sum())
        if cost < best_cost:
            best, best_cost = labels, cost
    return best


class _Rows:
    """Rows with 0 where an entry is unknown, and 1 in ``counted`` where it is known."""

    def __init__(self, values: Float[Tensor, "n d"], counted: Float[Tensor, "n d"]):
        self.values, self.counted = values, counted
        self.squares = values.square().sum(dim=1, keepdim=True)

    def square_distances(self, centres: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
        """Sums of squared differences over the entries that count."""
        return (self.squares - 2 * self.values @ centres.T + self.counted @ centres.square().T).clamp_min(0)

    def seeds(self, k: int, generator: torch.Generator) -> Float[Tensor, "k d"]:
        """Rows far from each other; where one is unknown, the mean stands in until its cluster knows better."""
        mean = self.values.sum(dim=0) / self.counted.sum(dim=0).clamp_min(1)

        def filled(row: int) -> Tensor:
            return torch.where(self.counted[row] > 0, self.values[row], mean)[None]

        chosen = [filled(int(torch.randint(len(self.values), (1,), generator=generator)))]
        nearest = self.square_distances(chosen[0])[:, 0]
        for _ in range(1, k):
            probabilities = nearest + 1e-12  # all points equal: uniform
            chosen.append(filled(int(torch.multinomial(probabilities.cpu(), 1, generator=generator))))
            nearest = torch.minimum(nearest, self.square_distances(chosen[-1])[:, 0])
        return torch.cat(chosen)
