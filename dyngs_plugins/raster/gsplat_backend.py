"""The CUDA backend: gsplat's own ``rasterization``, or the stages of version 1.4's (`gsplat_stages`).

gsplat shares the Gaussians among all cameras of a call. Where they differ from camera to camera it is called once per
camera, and the results are put together so that nobody can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.raster.gsplat_kernels import load_gsplat_kernels
from dyngs_plugins.raster.gsplat_stages import rasterize_without_faint
from dyngs_plugins.raster.inputs import RasterInputs
from dyngs_plugins.raster.merging import merge_infos
from dyngs_plugins.raster.semantics import installed_semantics

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
    renders = [_call(one) for one in _by_camera(inputs, own)]
    images, alphas, infos = zip(*renders, strict=True)
    return torch.cat(images), torch.cat(alphas), merge_infos(infos)


def _require_cuda(means: Tensor) -> None:
    if not means.is_cuda:
        raise ValueError(f"gsplat rasterizes on CUDA only, means is on {means.device}: use backend='numba' or 'torch'")
    load_gsplat_kernels()


def _has_camera_axis(tensor: Tensor | None, trailing: int) -> bool:
    return tensor is not None and tensor.ndim == trailing + 2


def _by_camera(inputs: RasterInputs, own: list[str]) -> list[RasterInputs]:
    """Each camera's share of the inputs. Taken apart once: picked one by one, each would fill a gradient of all with zeros."""
    parts: dict[str, Sequence[Tensor]] = {name: getattr(inputs, name).unbind(0) for name in own}
    parts |= {"viewmats": inputs.viewmats.split(1), "Ks": inputs.Ks.split(1)}
    if inputs.backgrounds is not None:
        parts["backgrounds"] = inputs.backgrounds.split(1)
    if inputs.colors.ndim == (3 if inputs.sh_degree is None else 4):
        parts["colors"] = inputs.colors.split(1)
    return [
        replace(inputs, **{name: part[camera] for name, part in parts.items()}) for camera in range(inputs.num_cameras)
    ]


def _call(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    image, alpha, info = _draw(inputs)
    names = {"width": inputs.width, "height": inputs.height, "n_cameras": inputs.num_cameras}
    info = {"camera_ids": None, "gaussian_ids": None, **info, **names}
    info["radii"] = _square_radii(info["radii"])
    return image, alpha, info


def _draw(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """gsplat's images and `info`. From 1.5 on its radii know the opacities, and it leaves out what is too faint itself."""
    if installed_semantics().radius_rule == "three-sigma":
        return rasterize_without_faint(inputs)
    from gsplat import rasterization

    arguments = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    return rasterization(**arguments, packed=False)


def _square_radii(radii: Tensor) -> Int[Tensor, "c n"]:
    """From 1.5 on radii are (x, y) pairs; 0 in either means not drawn."""
    if radii.ndim == 2:
        return radii
    return torch.where((radii > 0).all(dim=-1), radii.amax(dim=-1), 0)
