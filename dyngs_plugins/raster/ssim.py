"""Structural similarity of images: fused kernels on the CPU, separable convolutions elsewhere.

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
from torch.autograd.function import once_differentiable

_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]) -> Float[Tensor, ""]:
    """Mean structural similarity of images in [0, 1]; 1 where they are equal.

    On the CPU, in float32 and with numba installed, this runs compiled (and compiles for some seconds on first use), more
    than ten times faster than `ssim_reference`. The result does not depend on the number of threads. It can be
    differentiated once.

    Raises:
        ValueError: when the shapes differ or are not [b, h, w, c].
    """
    _check(prediction, target)
    if prediction.numel() == 0:
        return ssim_reference(prediction, target)
    return _SSIM.apply(prediction, target)  # type: ignore[return-value]


def ssim_reference(prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]) -> Float[Tensor, ""]:
    """`ssim` as it is written, with five convolutions: any device, any floating type.

    Raises:
        ValueError: when the shapes differ or are not [b, h, w, c].
    """
    _check(prediction, target)
    a, b = prediction.movedim(-1, 1), target.movedim(-1, 1)
    channels = a.shape[1]
    window = _window(a)
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


def _window(like: Tensor) -> Float[Tensor, "11"]:
    taps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=like.dtype, device=like.device)
    window = torch.exp(-(taps**2) / (2 * _SIGMA**2))
    return window / window.sum()


class _SSIM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor) -> Tensor:
        # The gradient costs little more when it is computed together with the value.
        mean, gradient = _similarity(prediction, target, ctx.needs_input_grad[0])
        ctx.save_for_backward(prediction, target)
        ctx.gradient = gradient
        return mean

    @staticmethod
    @once_differentiable
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
    fits = all(image.device.type == "cpu" and image.dtype == torch.float32 for image in (a, b))
    compiled = fits and a.shape[-1] <= 4 and has_numba()
    return (_compiled if compiled else _separable)(a.detach(), b.detach(), with_gradient)


def _separable(a: Tensor, b: Tensor, with_gradient: bool) -> tuple[Tensor, Any]:
    """`_similarity` with one pair of convolutions for all moments, and one for the gradient.

    The similarity of a pixel is ``S = l s``, of the windowed moments ``u = W a``, ``v = W b``, ``W aa``, ``W bb`` and
    ``W ab``, with ``l = (2uv + C1) / p`` and ``s = (2 (W ab - uv) + C2) / q``. The window is symmetric, and so is W with
    zeros around the image; therefore::

        dS/da = W(dS/du) + 2a W(dS/dWaa) + b W(dS/dWab)
        dS/du = 2 (s (v - l u) / p + l (s u - v) / q),   dS/dWaa = -l s / q,   dS/dWab = 2 l / q
    """
    window = _window(a)

    def windowed(*images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], ...]:
        x = torch.cat(images, dim=1)
        down = F.conv2d(x, window.view(-1, 1).expand(x.shape[1], 1, -1, -1), padding=(_RADIUS, 0), groups=x.shape[1])
        both = F.conv2d(down, window.expand(x.shape[1], 1, 1, -1), padding=(0, _RADIUS), groups=x.shape[1])
        return both.chunk(len(images), dim=1)

    a, b = a.movedim(-1, 1), b.movedim(-1, 1)
    u, v, aa, bb, ab = windowed(a, b, a * a, b * b, a * b)
    uv, squares = u * v, u * u + v * v
    p, q = squares + _C1, aa + bb - squares + _C2
    luminance, structure = (2 * uv + _C1) / p, (2 * (ab - uv) + _C2) / q
    mean = (luminance * structure).mean()
    if not with_gradient:
        return mean, None
    along_u = structure * (v - luminance * u) / p + luminance * (structure * u - v) / q
    per_ab = luminance / q
    along_u, per_aa, per_ab = windowed(along_u, structure * per_ab, per_ab)
    gradient = (along_u - a * per_aa + b * per_ab) * (2 / a.numel())
    return mean, gradient.movedim(1, -1)


def _compiled(a: Tensor, b: Tensor, with_gradient: bool) -> tuple[Tensor, Any]:
    """`_similarity` with fused kernels."""
    from dyngs_plugins.raster.kernels import ssim as kernels
    from dyngs_plugins.raster.kernels.threads import current_team

    count, height, width, channels = a.shape
    a, b = (image.contiguous().view(-1) for image in (a, b))
    images = kernels.Images(a.numpy(), b.numpy(), height, width * channels, channels)
    sums = torch.empty(count * -(-width * channels // kernels.STRIP) * -(-height // kernels.BAND))
    gradient = torch.empty_like(a) if with_gradient else None
    out = None if gradient is None else gradient.numpy()
    kernels.similarity(current_team(), count, images, sums.numpy(), np.float32(1 / a.numel()), out)
    mean = (sums.double().sum() / a.numel()).float()
    return mean, None if gradient is None else gradient.view(count, height, width, channels)
