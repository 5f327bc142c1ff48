"""Dense completion of a sparse map along an image: the smoothest map that keeps to the data, with creases at edges.

Minimises  sum_p w_p (u_p - v_p)^2 + s sum_(p,q) e_pq (u_p - u_q)^2  over 4-neighbours; e_pq is small across edges.
Solved from coarse to fine: directly on a small image, then refined by conjugate gradients at each size.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg
from jaxtyping import Float, Int, UInt8

_DIRECT = 8192  # pixels up to which a direct solve is cheap
_FAINT = 1e-6  # pull of every pixel towards the mean of the data, so that the system is never singular


def complete(
    values: Float[np.ndarray, "h w"],
    weight: Float[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "h w 3"],
    smoothness: float = 1.0,
    edge: float = 6.0,
    regions: Int[np.ndarray, "h w"] | None = None,
) -> Float[np.ndarray, "h w"]:
    """The completed map.

    Args:
        values: data; ignored where `weight` is 0.
        weight: confidence, about 1 for good data.
        image: guide; its edges cut the smoothness.
        smoothness: weight of the smoothness term.
        edge: colour difference (in 8-bit CIELAB) at which smoothness falls to 1/e.
        regions: labels; nothing is smoothed between pixels of different labels.

    Raises:
        ValueError: when all weights are 0.
    """
    if not (weight > 0).any():
        raise ValueError("There is nothing to complete from: all weights are 0.")
    height, width = values.shape
    data = np.where(weight > 0, values, 0.0).astype(np.float64)
    mean = float((data * weight).sum() / weight.sum())
    links = _links(image, smoothness, edge, regions)
    if height * width <= _DIRECT or min(height, width) < 32:
        matrix, right = _system(data, weight, links, mean)
        direct = np.asarray(scipy.sparse.linalg.spsolve(matrix.tocsc(), right))
        return direct.reshape(height, width).astype(np.float32)
    start = _coarse_solution(data, weight, image, smoothness, edge, regions)
    matrix, right = _system(data, weight, links, mean)
    inverse_diagonal = sparse.diags(1.0 / matrix.diagonal())
    solution, _ = scipy.sparse.linalg.cg(matrix, right, start.ravel(), rtol=1e-5, maxiter=80, M=inverse_diagonal)
    return solution.reshape(height, width).astype(np.float32)


def _coarse_solution(data, weight, image, smoothness, edge, regions):
    height, width = data.shape
    half = (width + 1) // 2, (height + 1) // 2

    def shrink(array: np.ndarray) -> np.ndarray:
        return cv2.resize(array, half, interpolation=cv2.INTER_AREA)

    small_weight = shrink(weight.astype(np.float64))
    small = shrink(data * weight) / np.maximum(small_weight, 1e-9)
    labels = None if regions is None else regions[::2, ::2][: half[1], : half[0]]
    # Each coarse pixel stands for four data terms, and for links that are half as long.
    coarse = complete(small, small_weight, shrink(image), smoothness / 4.0, edge, labels)
    if regions is None:
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.float64)


def _links(image, smoothness, edge, regions) -> tuple[np.ndarray, np.ndarray]:
    """Weights between vertical [h-1, w] and horizontal [h, w-1] neighbours."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    links = []
    for axis in (0, 1):
        difference = np.linalg.norm(np.diff(lab, axis=axis), axis=-1)
        link = smoothness * (np.exp(-difference / edge) + 0.01)
        if regions is not None:
            link = link * (np.diff(regions, axis=axis) == 0)
        links.append(link.astype(np.float64))
    return links[0], links[1]


def _system(data, weight, links, mean):
    height, width = data.shape
    index = np.arange(height * width).reshape(height, width)
    diagonal = weight.astype(np.float64) + _FAINT
    rows, cols, entries = [], [], []
    for link, first, second in (
        (links[0], index[:-1], index[1:]),
        (links[1], index[:, :-1], index[:, 1:]),
    ):
        diagonal = diagonal + _scatter(link, diagonal.shape)
        rows += [first.ravel(), second.ravel()]
        cols += [second.ravel(), first.ravel()]
        entries += [-link.ravel(), -link.ravel()]
    rows.append(index.ravel())
    cols.append(index.ravel())
    entries.append(diagonal.ravel())
    size = (index.size, index.size)
    matrix = sparse.csr_matrix((np.concatenate(entries), (np.concatenate(rows), np.concatenate(cols))), shape=size)
    return matrix, (weight * data + _FAINT * mean).ravel()


def _scatter(link: Float[np.ndarray, "a b"], shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """Sum of the links that end at each pixel."""
    total = np.zeros(shape)
    rows, cols = link.shape
    total[:rows, :cols] += link
    total[shape[0] - rows :, shape[1] - cols :] += link
    return total
