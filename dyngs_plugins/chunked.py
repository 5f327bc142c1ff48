"""Rasterizing many instants a few at a time, for exposures that do not fit into memory at once.

The backward pass rasterizes each chunk again instead of keeping what the forward pass made: memory falls with the size
of a chunk, and a step takes about a third longer. (gsplat keeps all it needs in tensors, which are dropped meanwhile;
the CPU rasterizer's lists of tiles stay.)
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dyngs_plugins.raster import rasterize
from dyngs_plugins.types import TRAILING

_POSITIONAL = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "width", "height")


def rasterize_in_chunks(chunk: int, *tensors: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`rasterize(*tensors, **options)`, ``chunk`` cameras at a time (as many as there are, or more: all at once).

    Raises:
        ValueError: when absolute gradients are asked for, which rasterizing again would lose.
    """
    arguments = dict(zip(_POSITIONAL, tensors, strict=True)) | options
    cameras = arguments["viewmats"].shape[0]
    if chunk <= 0:
        raise ValueError(f"instants_per_pass is {chunk}; expected how many to rasterize at a time, or 0 for all.")
    if chunk >= cameras:
        return rasterize(**arguments)
    if arguments.get("absgrad"):
        raise ValueError(
            "instants_per_pass is set, but density control wants absolute image-plane gradients, which are lost when "
            "instants are rasterized again. Set instants_per_pass to 0, or absolute_gradients of the density to False."
        )
    outputs = []
    for start in range(0, cameras, chunk):
        part = {name: _rows(name, value, slice(start, start + chunk)) for name, value in arguments.items()}
        outputs.append(checkpoint(partial(rasterize, **part), use_reentrant=False, preserve_rng_state=False))
    images, alphas, infos = zip(*outputs, strict=True)
    return torch.cat(images), torch.cat(alphas), _merged(infos, cameras)


def _rows(name: str, value: Any, cameras: slice) -> Any:
    per_camera = name in ("viewmats", "Ks", "backgrounds") or (
        name in TRAILING and value is not None and value.ndim > TRAILING[name]
    )
    return value[cameras] if per_camera and value is not None else value


def _merged(infos: tuple[dict[str, Any], ...], cameras: int) -> dict[str, Any]:
    """One record of all cameras; what it says about tiles counts within one chunk and is left out."""
    first = infos[0]
    merged = {name: first[name] for name in ("width", "height")}
    merged |= {name: torch.cat([info[name] for info in infos]) for name in ("radii", "depths", "conics", "opacities")}
    merged["n_cameras"] = cameras
    merged["means2d_by_chunk"] = [info["means2d"] for info in infos]  # keeps the tensors alive that get gradients
    merged["means2d"] = _joined(merged["means2d_by_chunk"])
    return merged


def _joined(parts: list[Float[Tensor, "c n 2"]]) -> Float[Tensor, "j n 2"]:
    """The parts in one tensor, which is given the parts' gradients in the backward pass.

    The images were made from the parts, so autograd alone would never give the joined tensor a gradient.
    """
    joined = torch.cat(parts)
    total, start = torch.zeros_like(joined, requires_grad=False), 0
    for part in parts:
        if part.requires_grad:
            part.register_hook(partial(_deposit, weakref.ref(joined), total, slice(start, start + len(part))))
        start += len(part)
    return joined


def _deposit(joined_ref: weakref.ref[Tensor], total: Tensor, rows: slice, grad: Tensor) -> None:
    joined = joined_ref()
    if joined is not None:
        total[rows] += grad
        joined.grad = total
