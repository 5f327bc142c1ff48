"""Averaging maps of neighbouring frames along flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from dyngs_plugins.priors.providers.flow_math import compose_flow, inside, pixel_grid, warp
from dyngs_plugins.priors.providers.inputs import PriorInputs

T = TypeVar("T")


class Recent(Generic[T]):
    """What `make` gives for a frame, kept while frames within `reach` of it are asked for."""

    def __init__(self, make: Callable[[int], T], reach: int) -> None:
        self.make, self.reach = make, reach
        self.values: dict[int, T] = {}

    def __call__(self, i: int) -> T:
        if i not in self.values:
            self.values[i] = self.make(i)
            self.values = {k: value for k, value in self.values.items() if abs(k - i) <= self.reach}
        return self.values[i]


def flows_around(
    inputs: PriorInputs, i: int, window: int, max_round_trip_px: float
) -> Iterator[tuple[int, Float[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]]:
    """(j, flow from i to j, pixels whose every hop passed the round trip) for the frames within `window` of i but i."""
    size = inputs.frames.size
    grid = pixel_grid(*size)
    for step in (-1, 1):
        flow, valid = np.zeros((*size, 2), np.float32), np.ones(size, bool)
        for k in range(1, window + 1):
            j = i + step * k
            if not 0 <= j < len(inputs.frames):
                break
            passed = (inputs.flow_error(j - step, j) < max_round_trip_px).astype(np.float32)
            valid = valid & (warp(passed, flow) > 0.5)
            flow = compose_flow(flow, inputs.flow(j - step, j))
            valid = valid & inside(grid + flow, size)
            yield j, flow, valid


def vote(
    inputs: PriorInputs, i: int, window: int, of_frame: Callable[[int], Float[np.ndarray, "h w c"]],
    trust: Callable[[int], Float[np.ndarray, "h w"]], max_round_trip_px: float = 1.5,
) -> Float[np.ndarray, "h w c"]:  # fmt: skip
    """Maps of the frames within `window` of i, averaged along flow with weights `trust`, less with distance in time.

    Pixels of little trust in all frames are drawn towards 0.
    """
    weight = np.asarray(trust(i), np.float32)
    total = np.asarray(of_frame(i), np.float32) * weight[..., None]
    for j, flow, valid in flows_around(inputs, i, window, max_round_trip_px):
        w = valid * warp(trust(j), flow) * (1.0 - abs(i - j) / (window + 1))
        total = total + warp(of_frame(j), flow) * w[..., None]
        weight = weight + w
    return (total / np.maximum(weight, 0.3)[..., None]).astype(np.float32)
