"""Blocks of 4x4 pixels to and from images [c, height, width, channels].

Blocks inside the image go as vectors, four channels at a time: sixteen short moves and a 4x4 transpose in each quarter. The
few that stick out over the right or lower edge go pixel by pixel.
"""

from __future__ import annotations

from typing import Any

from numba import float32

from dyngs_plugins.raster.kernels.compiling import inlined
from dyngs_plugins.raster.kernels.elementary import fma, negative
from dyngs_plugins.raster.kernels.memory import Array, Pixels
from dyngs_plugins.raster.kernels.tracing import traced
from dyngs_plugins.raster.kernels.vector import LANES, Int, Lanes


@traced
def _write_light(pixel: Int, width: Int, T: Lanes, transmittance: Array, alpha: Array) -> None:
    block = Pixels(pixel, width, width * 0 + 1)
    block.store1(transmittance, T)
    block.store1(alpha, 1.0 - T)


@traced
def _write4(
    pixel: Int,
    width: Int,
    channels: Int,
    channel: Int,
    count: Any,
    T: Lanes,
    sums: Array,
    behind: Array,
    at: Int,
    image: Array,
) -> None:
    """Four channels over the background, or the first `count` of them."""
    values = [fma(T, behind.broadcast(at + k), sums.load((channel + k) * LANES)) for k in range(4)]
    Pixels(pixel * channels, width * channels, channels).store4(image, channel, values, count)


@traced
def light(T: Lanes) -> Lanes:
    """The transmittance, whether or not a pixel is marked as done."""
    return -negative(T)


@traced
def _store(array: Array, value: Lanes) -> None:
    array.store(0, value)


@inlined
def write_block(picture, camera, left, top, channels, stride, backgrounds, T, sums, scratch):
    """Writes a block: its colours (`sums`, channel by channel) over the background, alpha, and the transmittance T."""
    T = light(T)
    width, height = picture.width, picture.height
    pixel = (camera * height + top) * width + left
    if left + 4 <= width and top + 4 <= height:
        _write_light(pixel, width, T, picture.transmittance, picture.alpha)
        for channel in range(0, channels - 3, 4):
            at = camera * stride + channel
            _write4(pixel, width, channels, channel, None, T, sums, backgrounds, at, picture.image)
        if channels % 4 > 0:
            channel = channels // 4 * 4
            at = camera * stride + channel
            _write4(pixel, width, channels, channel, channels % 4, T, sums, backgrounds, at, picture.image)
        return
    _store(scratch, T)
    for row in range(min(4, height - top)):
        for column in range(min(4, width - left)):
            lane, here = 4 * row + column, pixel + row * width + column
            picture.transmittance[here] = scratch[lane]
            picture.alpha[here] = float32(1.0) - scratch[lane]
            for k in range(channels):
                value = sums[k * LANES + lane] + scratch[lane] * backgrounds[camera * stride + k]
                picture.image[here * channels + k] = value


@traced
def _read_light(pixel: Int, width: Int, transmittance: Array, d_alpha: Array) -> tuple[Lanes, Lanes]:
    """T behind everything, and what alpha contributes to U."""
    block = Pixels(pixel, width, width * 0 + 1)
    T = block.load1(transmittance)
    return T, -T * block.load1(d_alpha)


@traced
def _read4(
    pixel: Int,
    width: Int,
    channels: Int,
    channel: Int,
    count: Any,
    image: Array,
    d_image: Array,
    target: Array,
    at: Int,
    U: Lanes,
) -> Lanes:
    """Four channels of d_image, or the first `count`; adds their product with the image to U."""
    block = Pixels(pixel * channels, width * channels, channels)
    values = zip(block.load4(d_image, channel, count), block.load4(image, channel, count), strict=True)
    for k, (d, value) in enumerate(values):
        target.store((at + channel + k) * LANES, d)
        U = fma(d, value, U)
    return U


@traced
def _begin(array: Array, at: Int, value: Lanes) -> None:
    array.store(at * LANES, value)


@traced
def _open() -> Lanes:
    from dyngs_plugins.raster.kernels.vector import lanes

    return lanes(1.0)


@inlined
def read_block(picture, gradients, camera, block, left, top, channels, stride, blocks):
    """Fills the state of a block (see `backward.Blocks`): T = 1, U, and the image's derivatives lane by lane."""
    width, height = picture.width, picture.height
    pixel = (camera * height + top) * width + left
    if left + 4 <= width and top + 4 <= height:
        T, U = _read_light(pixel, width, picture.transmittance, gradients.alpha)
        at = block * stride
        for channel in range(0, channels - 3, 4):
            U = _read4(pixel, width, channels, channel, None, picture.image, gradients.image, blocks.d_image, at, U)
        if channels % 4 > 0:
            U = _read4(
                pixel,
                width,
                channels,
                channels // 4 * 4,
                channels % 4,
                picture.image,
                gradients.image,
                blocks.d_image,
                at,
                U,
            )
        _begin(blocks.T, block, _open())
        _begin(blocks.U, block, U)
        _begin(blocks.T_end, block, T)
        return
    for lane in range(LANES):
        blocks.T[block * LANES + lane], blocks.U[block * LANES + lane] = -1.0, 0.0
        blocks.T_end[block * LANES + lane] = 0.0
        for k in range(stride):
            blocks.d_image[(block * stride + k) * LANES + lane] = 0.0
    for row in range(min(4, height - top)):
        for column in range(min(4, width - left)):
            lane, here = 4 * row + column, pixel + row * width + column
            U = -picture.transmittance[here] * gradients.alpha[here]
            for k in range(channels):
                d = gradients.image[here * channels + k]
                blocks.d_image[(block * stride + k) * LANES + lane] = d
                U += d * picture.image[here * channels + k]
            blocks.T[block * LANES + lane], blocks.U[block * LANES + lane] = 1.0, U
            blocks.T_end[block * LANES + lane] = picture.transmittance[here]
