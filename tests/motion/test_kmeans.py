"""K-means of rows that are not known in every entry."""

import torch

from dyngs_plugins.motion.kmeans import kmeans


def blobs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.cat([torch.randn(30, 4, generator=generator) + 10 * i for i in range(3)])


def clusters(features: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    return kmeans(features, 3, torch.Generator().manual_seed(0), known=known)


def test_blobs_are_separated_and_the_result_is_reproducible():
    labels = clusters(blobs())
    assert len({tuple(labels[30 * i : 30 * (i + 1)].unique().tolist()) for i in range(3)}) == 3
    assert torch.equal(labels, clusters(blobs()))


def test_unknown_entries_count_in_nothing():
    known = torch.rand(90, 4, generator=torch.Generator().manual_seed(2)) > 0.4
    known[:, 0] |= ~known.any(dim=1)
    labels = clusters(torch.where(known, blobs(), 1e4), known)
    assert len({tuple(labels[30 * i : 30 * (i + 1)].unique().tolist()) for i in range(3)}) == 3
    assert torch.equal(labels, clusters(torch.where(known, blobs(), -1e4), known))


def test_all_entries_known_is_the_same_as_nothing_said():
    assert torch.equal(clusters(blobs()), clusters(blobs(), torch.ones(90, 4, dtype=torch.bool)))


def test_more_clusters_than_rows():
    assert kmeans(torch.randn(2, 3), 5, torch.Generator().manual_seed(0)).sort().values.tolist() == [0, 1]
