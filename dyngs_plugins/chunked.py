"""Rasterizing many instants a few at a time, for exposures that do not fit into memory at once.

The backward pass rasterizes each chunk again instead of keeping what the forward pass made: memory falls with the size
of a chunk, and a step takes about a third longer. (gsplat keeps all it needs in tensors, which are dropped meanwhile;
the CPU rasterizer's lists of tiles stay.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.merging import merge_infos
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
    return torch.cat(images), torch.cat(alphas), merge_infos(infos)


def _rows(name: str, value: Any, cameras: slice) -> Any:
    per_camera = name in ("viewmats", "Ks", "backgrounds") or (
        name in TRAILING and value is not None and value.ndim > TRAILING[name]
    )
    return value[cameras] if per_camera and value is not None else value
