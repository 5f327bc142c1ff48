"""Structural similarity of images: fused kernels on the CPU, convolutions elsewhere.

The window of 3D Gaussian Splatting: Gaussian, 11 taps, sigma 1.5, zero padding; constants 0.01^2 and 0.03^2 for images in
[0, 1] (Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity").
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]) -> Float[Tensor, ""]:
    """Mean structural similarity of images in [0, 1]; 1 where they are equal.

    On the CPU, in float32 and with numba installed, this runs compiled (and compiles for some seconds on first use), more
    than ten times faster than `ssim_reference`. The result does not depend on the number of threads.

    Raises:
        ValueError: when the shapes differ or are not [b, h, w, c].
    """
    _check(prediction, target)
    fits = all(image.device.type == "cpu" and image.dtype == torch.float32 for image in (prediction, target))
    if fits and prediction.numel() > 0 and prediction.shape[-1] <= 4 and has_numba():
        return _FusedSSIM.apply(prediction, target)  # type: ignore[return-value]
    return ssim_reference(prediction, target)


def ssim_reference(prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]) -> Float[Tensor, ""]:
    """`ssim` with five convolutions: any device, any floating type.

    Raises:
        ValueError: when the shapes differ or are not [b, h, w, c].
    """
    _check(prediction, target)
    a, b = prediction.movedim(-1, 1), target.movedim(-1, 1)
    channels = a.shape[1]
    taps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=a.dtype, device=a.device)
    window = torch.exp(-(taps**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    weight = (window[:, None] * window).expand(channels, 1, -1, -1)

    def windowed(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=_RADIUS, groups=channels)

    u, v = windowed(a), windowed(b)
    luminance = (2 * u * v + _C1) / (u * u + v * v + _C1)
    variances = windowed(a * a) - u * u + windowed(b * b) - v * v
    structure = (2 * (windowed(a * b) - u * v) + _C2) / (variances + _C2)
    return (luminance * structure).mean()


def _check(prediction: Tensor, target: Tensor) -> None:
    if prediction.ndim != 4 or prediction.shape != target.shape:
        raise ValueError(
            f"SSIM of images of shape {tuple(prediction.shape)} and {tuple(target.shape)}: expected the same shape "
            "[batch, height, width, channels] twice; add a batch axis with image[None]"
        )


@cache
def has_numba() -> bool:
    """Whether compiled kernels can be used here."""
    return find_spec("numba") is not None


class _FusedSSIM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor) -> Tensor:
        # The gradient costs little more when it is computed together with the value.
        mean, gradient = _similarity(prediction, target, ctx.needs_input_grad[0])
        ctx.save_for_backward(prediction, target)
        ctx.gradient = gradient
        return mean

    @staticmethod
    def backward(ctx: Any, d_mean: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        d_prediction = d_target = None
        if ctx.needs_input_grad[0]:
            d_prediction = ctx.gradient * d_mean
        if ctx.needs_input_grad[1]:  # rare, so it is computed when it is needed: SSIM is symmetric
            prediction, target = ctx.saved_tensors
            d_target = _similarity(target, prediction, True)[1] * d_mean
        return d_prediction, d_target


def _similarity(a: Tensor, b: Tensor, with_gradient: bool) -> tuple[Tensor, Any]:
    """The mean similarity, and its gradient with respect to a or None."""
    from dyngs_plugins.raster.kernels import ssim as kernels
    from dyngs_plugins.raster.kernels.threads import current_team

    count, height, width, channels = a.shape
    a, b = (image.detach().contiguous().view(-1) for image in (a, b))
    images = kernels.Images(a.numpy(), b.numpy(), height, width * channels, channels)
    sums = torch.empty(count * -(-width * channels // kernels.STRIP) * -(-height // kernels.BAND))
    gradient = torch.empty_like(a) if with_gradient else None
    out = None if gradient is None else gradient.numpy()
    kernels.similarity(current_team(), count, images, sums.numpy(), np.float32(1 / a.numel()), out)
    mean = (sums.double().sum() / a.numel()).float()
    return mean, None if gradient is None else gradient.view(count, height, width, channels)
