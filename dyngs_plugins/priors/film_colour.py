"""High dynamic range to 8-bit sRGB: phones film in HLG or PQ with BT.2020 colours, which look grey and flat if read as is.

Sources: ITU-R BT.2100 (PQ and HLG transfer functions), BT.2087 (BT.2020 to BT.709 primaries), BT.2408 (203 cd/m2 as
the white of graphics, which becomes 1 here).
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float, UInt8, UInt16

PQ, HLG = 16, 18
"""H.273's numbers of the two transfer functions, as FFmpeg gives them."""
NAMES = {PQ: "PQ (HDR10)", HLG: "HLG"}
WHITE_NITS = 203.0
HLG_PEAK_NITS = 1000.0
KNEE = 0.7
"""Light below this keeps its value; what is brighter is compressed into the rest."""
REC709_T_REC2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def to_srgb(pixels: UInt16[np.ndarray, "h w 3"], transfer: int) -> UInt8[np.ndarray, "h w 3"]:
    """16-bit BT.2020 values of a PQ or HLG film as 8-bit sRGB, highlights compressed."""
    light = _linear_table(transfer)[pixels]
    if transfer == HLG:  # the system gamma of 1.2 acts on luminance (BT.2100)
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = light * (HLG_PEAK_NITS / WHITE_NITS) * np.maximum(luminance, 1e-6)[..., None] ** 0.2
    light = np.maximum(light @ REC709_T_REC2020.T.astype(np.float32), 0.0)
    peak = light.max(axis=-1, keepdims=True)
    light = light * (compressed(peak) / np.maximum(peak, 1e-6))  # all channels alike, so that hues stay
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    return (np.clip(encoded, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def compressed(light: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Linear light with 1 as white: the same up to the knee, then smoothly towards 1, never above."""
    above = np.maximum(light - KNEE, 0.0) / (1.0 - KNEE)
    return np.where(light <= KNEE, light, KNEE + (1.0 - KNEE) * (1.0 - np.exp(-above)))


@functools.cache
def _linear_table(transfer: int) -> Float[np.ndarray, "65536"]:
    """Linear light of every 16-bit value: for PQ with 1 at the white of graphics, for HLG of the scene in [0, 1]."""
    value = np.arange(65536) / 65535.0
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = value ** (1 / m2)
        light = (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1) * (10000.0 / WHITE_NITS)
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(value <= 0.5, value**2 / 3.0, (np.exp((value - c) / a) + b) / 12.0)
    else:
        raise ValueError(f"transfer function {transfer}; expected {PQ} (PQ) or {HLG} (HLG).")
    return light.astype(np.float32)
