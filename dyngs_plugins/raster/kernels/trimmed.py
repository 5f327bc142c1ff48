"""A trimmed, weighted L1 and its gradient in a few passes: no sorting, no selected copies.

The quantile of n errors is the error of a certain rank. Floats that are not negative have the order of their bit patterns,
so counting the upper eleven bits tells in which of 1024 ranges that error lies; counting the next eleven bits of those in
it, and then the last ten, tells the error itself (a radix selection). What does not count gets the error -1, whose pattern
falls into none of the ranges: no branch has to be guessed.
"""

from __future__ import annotations

import numpy as np

from dyngs_plugins.raster.kernels.compiling import inlined, inlined_sum, kernel

_BINS = 2048


@inlined
def _fill_errors(prediction, target, counted, errors):
    """Mean absolute differences over channels, -1 where not counted; how many are counted."""
    n, channels = prediction.shape
    nobody = np.float32(-1.0)
    number = 0
    if channels == 1:  # the usual case, in a loop that becomes vector instructions
        for i in range(n):
            error = abs(prediction[i, 0] - target[i, 0])
            errors[i] = error if counted[i] else nobody
    else:
        for i in range(n):
            error = np.float32(0.0)
            for k in range(channels):
                error += abs(prediction[i, k] - target[i, k])
            errors[i] = error / np.float32(channels) if counted[i] else nobody
    for i in range(n):
        number += counted[i]
    return number


@inlined
def _range_of_rank(counts, rank):
    """The bin in which the element of a rank lies, and its rank within the bin."""
    chosen = 0
    while rank >= counts[chosen] and chosen < _BINS - 1:
        rank -= counts[chosen]
        chosen += 1
    return chosen, rank


@inlined
def _of_rank(bits, rank):
    """The bit pattern of the element of a rank (0 is the smallest) among those that are not negative."""
    counts = np.zeros(_BINS, np.int32)
    for i in range(len(bits)):
        counts[(bits[i] >> 21) & 2047] += 1
    high, rank = _range_of_rank(counts, rank)
    counts[:] = 0
    for i in range(len(bits)):
        counts[(bits[i] >> 10) & 2047] += bits[i] >> 21 == high
    middle, rank = _range_of_rank(counts, rank)
    counts[:] = 0
    prefix = (high << 11) | middle
    for i in range(len(bits)):
        counts[bits[i] & 1023] += bits[i] >> 10 == prefix
    low, rank = _range_of_rank(counts, rank)
    return (prefix << 10) | low


@inlined_sum
def _common_sums(errors, bar):
    """Of the errors from 0 to `bar`, and their number."""
    total, number = 0.0, 0.0
    for i in range(len(errors)):
        kept = (errors[i] >= 0) & (errors[i] <= bar)
        total += np.float64(errors[i] if kept else np.float32(0.0))
        number += np.float64(kept)
    return total, number


@inlined_sum
def _weighted_sums(errors, weight, bar):
    """Of the weighted errors from 0 to `bar`, and of their weights."""
    total, norm = 0.0, 0.0
    for i in range(len(errors)):
        kept = (errors[i] >= 0) & (errors[i] <= bar)
        w = weight[i] if kept else np.float32(0.0)
        total += np.float64(w * (errors[i] if kept else np.float32(0.0)))
        norm += np.float64(w)
    return total, norm


@kernel
def trimmed_l1(prediction, target, weight, counted, quantile, errors, gradient):
    """Weighted mean of the errors up to their quantile, and its gradient with respect to the prediction.

    Args:
        prediction, target: [n, c].
        weight: [n], or one element that holds for all.
        counted: [n] of bool.
        quantile: 1 trims nothing.
        errors: [n], filled.
        gradient: [n, c], filled.

    Returns:
        ``sum w e / (sum w + 1e-8)``; 0 when nothing is counted.
    """
    n, channels = prediction.shape
    number = _fill_errors(prediction, target, counted, errors)
    bar = np.float32(np.inf)
    if number > 0 and quantile < 1.0:
        pattern = np.empty(1, np.int32)
        pattern[0] = _of_rank(errors.view(np.int32), int(quantile * (number - 1)))
        bar = pattern.view(np.float32)[0]
    common = len(weight) == 1
    total, norm = _common_sums(errors, bar) if common else _weighted_sums(errors, weight, bar)
    total, norm = (total * weight[0], norm * weight[0]) if common else (total, norm)
    share = np.float32(1.0 / ((norm + 1e-8) * channels))
    if common and channels == 1:  # the usual case, in a loop that becomes vector instructions
        share = share * weight[0]
        for i in range(n):
            difference = prediction[i, 0] - target[i, 0]
            sign = np.float32(difference > 0) - np.float32(difference < 0)
            kept = (errors[i] >= 0) & (errors[i] <= bar)
            gradient[i, 0] = share * sign if kept else np.float32(0.0)
        return total / (norm + 1e-8)
    for i in range(n):
        kept = (errors[i] >= 0) & (errors[i] <= bar)
        w = np.float32(kept) * share * (weight[0] if common else weight[i])
        for k in range(channels):
            difference = prediction[i, k] - target[i, k]
            gradient[i, k] = w * (np.float32(difference > 0) - np.float32(difference < 0))
    return total / (norm + 1e-8)
