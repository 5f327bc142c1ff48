"""The CUDA backend: gsplat's own ``rasterization``, called with the arguments every version since 1.4 knows.

gsplat 1.4 shares the Gaussians among all cameras of a call. Where they differ from camera to camera it is called once
per camera, and the results are put together so that nobody can tell.
"""

from __future__ import annotations

import weakref
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.raster.gsplat_kernels import load_gsplat_kernels
from dyngs_plugins.raster.inputs import RasterInputs

_TRAILING = {"means": 1, "quats": 1, "scales": 1, "covars": 2, "opacities": 0}
"""Axes after the Gaussian axis: one more than these and the Gaussian axis is a camera axis."""


def rasterize_with_gsplat(
    inputs: RasterInputs,
) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"], dict[str, Any]]:
    """Rasterize checked inputs with the installed gsplat.

    Raises:
        ImportError: when gsplat is not installed, or its kernels cannot be had.
        ValueError: when the tensors are not on CUDA or not float32: gsplat's kernels know nothing else.
    """
    _require_cuda(inputs.means)
    if inputs.means.dtype != torch.float32:
        raise ValueError(
            f"gsplat rasterizes float32 only, means is {inputs.means.dtype}: convert, or use backend='torch'"
        )
    own = [name for name, trailing in _TRAILING.items() if _has_camera_axis(getattr(inputs, name), trailing)]
    if not own:
        return _call(inputs)
    renders = [_call(_of_camera(inputs, own, camera)) for camera in range(inputs.num_cameras)]
    images, alphas, infos = zip(*renders, strict=True)
    return torch.cat(images), torch.cat(alphas), _merge(infos)


def _require_cuda(means: Tensor) -> None:
    if not means.is_cuda:
        raise ValueError(f"gsplat rasterizes on CUDA only, means is on {means.device}: use backend='numba' or 'torch'")
    load_gsplat_kernels()


def _has_camera_axis(tensor: Tensor | None, trailing: int) -> bool:
    return tensor is not None and tensor.ndim == trailing + 2


def _of_camera(inputs: RasterInputs, own: list[str], camera: int) -> RasterInputs:
    """One camera's share of the inputs."""
    one: dict[str, Any] = {name: getattr(inputs, name)[camera] for name in own}
    keep = slice(camera, camera + 1)
    one["viewmats"], one["Ks"] = inputs.viewmats[keep], inputs.Ks[keep]
    if inputs.backgrounds is not None:
        one["backgrounds"] = inputs.backgrounds[keep]
    if inputs.colors.ndim == (3 if inputs.sh_degree is None else 4):
        one["colors"] = inputs.colors[keep]
    return replace(inputs, **one)


def _call(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from gsplat import rasterization

    arguments = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    image, alpha, info = rasterization(**arguments, packed=False)
    names = {"width": inputs.width, "height": inputs.height, "n_cameras": inputs.num_cameras}
    info = {"camera_ids": None, "gaussian_ids": None, **info, **names}
    info["radii"] = _square_radii(info["radii"])
    return image, alpha, info


def _square_radii(radii: Tensor) -> Int[Tensor, "c n"]:
    """From 1.5 on radii are (x, y) pairs; 0 in either means not drawn."""
    if radii.ndim == 2:
        return radii
    return torch.where((radii > 0).all(dim=-1), radii.amax(dim=-1), 0)


def _merge(infos: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One record of several cameras from the records of calls with one camera each.

    What gsplat says about intersections with tiles is left out: it counts within one call.
    """
    first = infos[0]
    merged = {name: first.get(name) for name in ("camera_ids", "gaussian_ids", "width", "height")}
    merged |= {name: first[name] for name in ("tile_size", "tile_width", "tile_height") if name in first}
    merged |= {name: torch.cat([info[name] for info in infos]) for name in ("radii", "depths", "conics", "opacities")}
    merged["n_cameras"] = len(infos)
    merged["means2d_per_camera"] = [info["means2d"] for info in infos]
    merged["means2d"] = merge_means2d(merged["means2d_per_camera"])
    return merged


def merge_means2d(parts: list[Float[Tensor, "1 n 2"]]) -> Float[Tensor, "c n 2"]:
    """The parts in one tensor, which receives the parts' gradients (``.grad`` and ``.absgrad``) in the backward pass.

    The images were made from the parts, so autograd alone would never give the merged tensor a gradient. It is also
    connected to the parts, so a loss on the merged tensor reaches the Gaussians (and is counted in ``.grad`` once).
    """
    merged = torch.cat(parts)
    total = torch.zeros_like(merged, requires_grad=False)
    for row, part in enumerate(parts):
        if part.requires_grad:
            # Weak, because the graph of `merged` owns the hooks: strong references would never be freed.
            part.register_hook(partial(_deposit, weakref.ref(merged), weakref.ref(part), total, row))
    return merged


def _deposit(
    merged_ref: weakref.ref[Tensor], part_ref: weakref.ref[Tensor], total: Tensor, row: int, grad: Tensor
) -> None:
    merged, part = merged_ref(), part_ref()
    if merged is None:
        return
    total[row] += grad[0]
    merged.grad = total
    absgrad = getattr(part, "absgrad", None)
    if absgrad is not None:
        if not hasattr(merged, "absgrad"):
            merged.absgrad = torch.zeros_like(total)  # pyright: ignore[reportAttributeAccessIssue]
        merged.absgrad[row] = absgrad[0]  # pyright: ignore[reportAttributeAccessIssue]
