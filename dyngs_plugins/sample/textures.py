"""Solid textures: a soft checker under several octaves of value noise, painted in the object's own frame.

The colour of a surface point never changes: no light moves over an object, no shadow falls. So a Gaussian of
constant colour can represent every point, and differences between frames are motion alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Complex, Float

GAMMA = 2.2
"""Display value = linear light ** (1 / GAMMA). A plain power, as the deblurring papers use (Deblur-NeRF, eq. 5)."""


def encode(linear: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Display values in [0,1] of linear light in [0,1]."""
    return np.clip(linear, 0.0, 1.0) ** (1.0 / GAMMA)


def decode(display: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Linear light in [0,1] of display values in [0,1]: the inverse of :func:`encode`."""
    return np.clip(display, 0.0, 1.0) ** GAMMA


class Texture(Protocol):
    """Linear-light colour of surface points, given in the object's frame."""

    def colors(
        self, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
    ) -> Float[np.ndarray, "n 3"]: ...


@dataclass(frozen=True)
class NoisyChecker:
    """A soft checker of two colours, stained with a third one and modulated by value noise.

    Args:
        dark, light, stain: display RGB in [0,1] of the two checker colours and of the stains.
        checker: edge length of a checker cell, in scene units. Faces that lie on a multiple of half a cell from
            the origin are cut through the middle of a cell.
        noise: cell size of the coarsest noise octave; each further octave halves it.
        octaves: number of octaves. The finest one should stay wider than about four pixels.
        seed: picks the noise.
        shade: how much darker a side is that faces away from the painted light, in [0,1].
    """

    dark: tuple[float, float, float]
    light: tuple[float, float, float]
    stain: tuple[float, float, float]
    checker: float
    noise: float
    octaves: int
    seed: int
    shade: float = 0.45
    lattice: Complex[np.ndarray, "p p p"] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        real, imaginary = np.random.default_rng(self.seed).random((2, _PERIOD, _PERIOD, _PERIOD), dtype=np.float32)
        object.__setattr__(self, "lattice", real + np.complex64(1j) * imaginary)

    def colors(self, points, normals):
        kind = points.dtype
        dark, light, stain = (decode(np.asarray(c)).astype(kind) for c in (self.dark, self.light, self.stain))
        waves = np.cos(points * kind.type(np.pi / self.checker))
        checker = 0.5 + 0.5 * np.tanh(5.0 * waves[:, 0] * waves[:, 1] * waves[:, 2])
        noise = self._fractal(points)
        brightness, stained = noise.real, noise.imag
        color = dark + (light - dark) * checker[:, None]
        color = color + (stain - color) * _ramp((stained - 0.5) * 5.0 + 0.25)[:, None]
        towards_light = np.clip(normals @ _LIGHT.astype(kind), 0.0, 1.0)
        shading = (1.0 - self.shade) + self.shade * towards_light
        gain = np.clip(0.25 + 1.5 * brightness, 0.0, 1.6) * shading
        return np.clip(color * gain[:, None], 0.0, 1.0)

    def _fractal(self, points: Float[np.ndarray, "n 3"]) -> Complex[np.ndarray, "n"]:
        """Two independent noises in [0,1] with mean 1/2, octave amplitudes falling as 0.7^k (real and imaginary)."""
        total, weight = 0.0, 0.0
        for octave in range(self.octaves):
            amplitude = 0.7**octave
            # The shift keeps the octaves' lattices from lining up at the origin.
            where = points * points.dtype.type(2.0**octave / self.noise) + points.dtype.type(5.37 * (octave + 1))
            total = total + amplitude * value_noise(where, self.lattice)
            weight += amplitude
        return np.asarray(total / weight)


def value_noise(points: Float[np.ndarray, "n 3"], lattice: Complex[np.ndarray, "p p p"]) -> Complex[np.ndarray, "n"]:
    """Periodic value noise: lattice values blended with the cubic ramp 3u^2 - 2u^3 along each axis.

    Args:
        points: positions in lattice units.
        lattice: random values; its side length is the period. Real and imaginary part are two independent noises:
            looking up both at once halves the index work, which is most of the cost of a picture.
    """
    period, flat = lattice.shape[0], lattice.reshape(-1)
    base = np.floor(points)
    ramp_x, ramp_y, ramp_z = np.ascontiguousarray(_ramp(points - base).T)
    low = np.ascontiguousarray((base.astype(np.int32) % period).T)
    high = (low + 1) % period

    def along_z(row):
        near = flat[row + low[2]]
        return near + (flat[row + high[2]] - near) * ramp_z

    def along_y(slab):
        near = along_z((slab + low[1]) * period)
        return near + (along_z((slab + high[1]) * period) - near) * ramp_y

    near = along_y(low[0] * period)
    return near + (along_y(high[0] * period) - near) * ramp_x


_PERIOD = 16
_LIGHT = np.array([-0.45, -0.75, -0.48]) / np.linalg.norm([-0.45, -0.75, -0.48])


def _ramp(u):
    u = np.clip(u, 0.0, 1.0)
    return u * u * (3.0 - 2.0 * u)
