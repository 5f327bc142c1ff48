"""Image metrics, on the full image and on a masked region.

Images are ``[h, w, c]`` in [0, 1]. Masks are ``[h, w]``, bool or weights in [0, 1]; 1 marks the pixels that count.
A metric of no pixels is undefined and comes back as NaN; ``mean_defined`` averages over the images that have one and
says how many did. Everything is computed in float64, so that a figure does not depend on the device.

Sources: SSIM is Wang et al. 2004; the masked forms are those of DyCheck (Gao et al. 2022), which Shape of Motion
(Wang et al. 2024) reports as mPSNR and mSSIM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SSIM_TAPS = 11
SSIM_SIGMA = 1.5


def psnr(prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"]) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB, with a peak of 1. Infinite for equal images, NaN for empty ones."""
    _require_same_shape(prediction, target)
    return masked_psnr(prediction, target, torch.ones_like(target[..., 0]))


def masked_psnr(
    prediction: Float[Tensor, "h w c"],
    target: Float[Tensor, "h w c"],
    mask: Float[Tensor, "h w"] | Bool[Tensor, "h w"],
) -> Float[Tensor, ""]:
    """PSNR of the masked pixels alone: ``-10 log10(sum m |d|^2 / (c sum m))`` (one image's term of mPSNR).

    Returns NaN where the mask is empty.
    """
    _require_same_shape(prediction, target)
    _require_mask(mask, target)
    weight = mask.double()
    squared_error = (prediction.double() - target.double()).square().sum(dim=-1)
    # 0 * inf must not turn a pixel that does not count into NaN.
    squared_error = torch.where(weight > 0, squared_error, 0.0)
    mean_squared_error = (weight * squared_error).sum() / (target.shape[-1] * weight.sum())
    return -10.0 * torch.log10(mean_squared_error)


def ssim(
    prediction: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"], data_range: float = 1.0
) -> Float[Tensor, ""]:
    """Structural similarity: 11-tap Gaussian window with sigma 1.5, windows inside the image only, mean over channels.

    ``data_range`` is 1 for images in [0, 1]. The constants are K1 = 0.01 and K2 = 0.03. Equal to pytorch_msssim's
    default; torchmetrics also counts the windows that hang over the border, on a reflected image.

    Raises:
        ValueError: if a side of the image is shorter than the window.
    """
    _require_same_shape(prediction, target)
    return masked_ssim(prediction, target, torch.ones_like(target[..., 0]), data_range)


def masked_ssim(
    prediction: Float[Tensor, "h w c"],
    target: Float[Tensor, "h w c"],
    mask: Float[Tensor, "h w"] | Bool[Tensor, "h w"],
    data_range: float = 1.0,
    count_empty_windows: bool = True,
) -> Float[Tensor, ""]:
    """SSIM of a masked region, DyCheck's mSSIM.

    Local moments come from a horizontal and then a vertical pass of the 1-D window. A pass sums the unmasked taps and
    multiplies by 11 / (number of unmasked taps); the vertical pass takes as its mask the positions where the
    horizontal pass saw anything. A window without an unmasked pixel has mean and variance 0, hence SSIM 1.

    Args:
        count_empty_windows: average over those windows too, as DyCheck does: the published protocol, and optimistic
            for small masks. False leaves them out, which is the better measure of a small region; say which you used.

    Returns:
        The mean over windows and channels; NaN where the mask is empty.

    Raises:
        ValueError: if a side of the image is shorter than the window.
    """
    _require_same_shape(prediction, target)
    _require_mask(mask, target)
    height, width = mask.shape
    if min(height, width) < SSIM_TAPS:
        raise ValueError(
            f"SSIM needs images of at least {SSIM_TAPS}x{SSIM_TAPS} pixels, got {width}x{height}. "
            "Evaluate at a larger size, or leave SSIM out."
        )
    weight = (mask > 0).double()[None, None]
    x = prediction.double().permute(2, 0, 1)[:, None]
    y = target.double().permute(2, 0, 1)[:, None]
    moments, seen = _window_means(torch.stack([x, y, x * x, y * y, x * y]).flatten(0, 1), weight)
    similarity = _similarity(moments.unflatten(0, (5, -1)), data_range)[:, 0]
    if not bool(weight.any()):
        return similarity.new_tensor(float("nan"))
    if count_empty_windows:
        return similarity.mean()
    return similarity[:, seen[0, 0] > 0].mean()


def _similarity(moments: Float[Tensor, "5 c 1 h w"], data_range: float) -> Float[Tensor, "c 1 h w"]:
    """SSIM of every window from its means of x, y, x^2, y^2 and x y (Wang et al. 2004, equation 13)."""
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = moments.unbind(0)
    # The renormalised moments of a partly masked window need not be those of any distribution: keep them valid.
    variance_x = (mean_xx - mean_x.square()).clamp_min(0.0)
    variance_y = (mean_yy - mean_y.square()).clamp_min(0.0)
    covariance = mean_xy - mean_x * mean_y
    bound = (variance_x * variance_y).sqrt()
    covariance = torch.minimum(torch.maximum(covariance, -bound), bound)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance * structure


def mean_defined(values: Iterable[float | Tensor]) -> tuple[float, int]:
    """Mean of the values that are not NaN, and how many there were. No such value: ``(nan, 0)``."""
    defined = [value for value in map(float, values) if value == value]
    return (sum(defined) / len(defined) if defined else float("nan")), len(defined)


def mean_scores(images: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the images that define it (a frame may have no moving pixel), in order of appearance."""
    names = dict.fromkeys(name for scores in images for name in scores)
    return {name: mean_defined(scores[name] for scores in images if name in scores)[0] for name in names}


def standard_deviations(images: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The spread of every metric over the images that define it; 0 for fewer than two."""
    spreads = {}
    for name in mean_scores(images):
        defined = torch.tensor([scores[name] for scores in images if name in scores and scores[name] == scores[name]])
        spreads[name] = float(defined.std(unbiased=True)) if len(defined) > 1 else 0.0
    return spreads


def _window_means(
    images: Float[Tensor, "n 1 h w"], mask: Float[Tensor, "1 1 h w"]
) -> tuple[Float[Tensor, "n 1 h2 w2"], Float[Tensor, "1 1 h2 w2"]]:
    """Gaussian-weighted means of the unmasked pixels of every whole window, and which windows had any."""
    offsets = torch.arange(SSIM_TAPS, device=images.device, dtype=images.dtype) - SSIM_TAPS // 2
    taps = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    taps = taps / taps.sum()
    for shape in ((1, 1, 1, SSIM_TAPS), (1, 1, SSIM_TAPS, 1)):
        unmasked = F.conv2d(mask, torch.ones_like(taps).view(shape))
        total = F.conv2d(torch.where(mask > 0, images, 0.0), taps.view(shape))
        images = torch.where(unmasked > 0, total * SSIM_TAPS / unmasked.clamp_min(1.0), 0.0)
        mask = (unmasked > 0).to(images.dtype)
    return images, mask


def _require_same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or target.ndim != 3:
        raise ValueError(
            f"two images of the same shape [h, w, c] are needed, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}. Resize or permute one of them first."
        )


def _require_mask(mask: Tensor, image: Tensor) -> None:
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}, but the image is {image.shape[0]} rows by {image.shape[1]} "
            "columns. Give a mask [h, w] of the image's size."
        )
