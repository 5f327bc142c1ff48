"""Several calls of the rasterizer that pass for one: the record of all their cameras, gradients for the density control included."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_SHARED = ("camera_ids", "gaussian_ids", "width", "height", "tile_size", "tile_width", "tile_height")
"""What says the same in the record of each call."""


def merge_infos(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record of all cameras from the records of calls with some of them each.

    What gsplat says about intersections with tiles is left out: it counts within one call.
    """
    first = infos[0]
    merged = {name: first[name] for name in _SHARED if name in first}
    merged |= {name: torch.cat([info[name] for info in infos]) for name in ("radii", "depths", "conics", "opacities")}
    merged["n_cameras"] = sum(info["n_cameras"] for info in infos)
    merged["means2d_parts"] = [info["means2d"] for info in infos]  # keeps the tensors alive that get gradients
    merged["means2d"] = merge_means2d(merged["means2d_parts"])
    return merged


def merge_means2d(parts: list[Float[Tensor, "_ n 2"]]) -> Float[Tensor, "c n 2"]:
    """The parts in one tensor, which receives the parts' gradients (``.grad`` and ``.absgrad``) in the backward pass.

    The images were made from the parts, so autograd alone would never give the merged tensor a gradient. It is also
    connected to the parts, so a loss on the merged tensor reaches the Gaussians (and is counted in ``.grad`` once).
    """
    merged = torch.cat(parts)
    total, start = torch.zeros_like(merged, requires_grad=False), 0
    for part in parts:
        rows = slice(start, start + len(part))
        if part.requires_grad:
            # Weak, because the graph of `merged` owns the hooks: strong references would never be freed.
            part.register_hook(partial(_deposit, weakref.ref(merged), weakref.ref(part), total, rows))
        start = rows.stop
    return merged


def _deposit(
    merged_ref: weakref.ref[Tensor], part_ref: weakref.ref[Tensor], total: Tensor, rows: slice, grad: Tensor
) -> None:
    merged, part = merged_ref(), part_ref()
    if merged is None:
        return
    total[rows] += grad
    merged.grad = total
    absgrad = getattr(part, "absgrad", None)
    if absgrad is not None:
        if not hasattr(merged, "absgrad"):
            merged.absgrad = torch.zeros_like(total)  # pyright: ignore[reportAttributeAccessIssue]
        merged.absgrad[rows] = absgrad  # pyright: ignore[reportAttributeAccessIssue]
