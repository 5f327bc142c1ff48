"""Motion blur and defocus: pictures as averages over an exposure and over a lens, in linear light.

An exposure is a list of samples, each a moment and a point of the lens. Every sample is a sharp picture of its own;
the picture is their mean in linear light, encoded afterwards. Camera and objects both move within the exposure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .cameras import CameraPath
from .raycast import render_linear
from .scene import Scene


@dataclass(frozen=True)
class ExposureSample:
    """One moment of the exposure, seen through one point of the lens.

    Attributes:
        offset: time from the middle of the exposure, in frame intervals.
        lens: (x, y) from the lens centre, in scene units.
    """

    offset: float
    lens: tuple[float, float]


@dataclass(frozen=True)
class Exposure:
    """How long the shutter is open, and how wide.

    Attributes:
        fraction: open time as a fraction of the frame interval; the exposure is centred on the frame's time.
        subframes: moments averaged (midpoint rule). 1 freezes the motion.
        aperture: lens radius in scene units. 0 is a pinhole.
        focus_distance: z-depth in focus.
        lens_samples: points of the lens averaged.
    """

    fraction: float = 0.0
    subframes: int = 1
    aperture: float = 0.0
    focus_distance: float = 1.0
    lens_samples: int = 1

    @property
    def blurs(self) -> bool:
        """Whether pictures differ from sharp ones at all."""
        return self.fraction > 0 or self.aperture > 0

    def samples(self) -> list[ExposureSample]:
        """The samples to average. With both kinds of blur, moments and lens points are paired, not multiplied."""
        moments = self.subframes if self.fraction > 0 else 1
        points = self.lens_samples if self.aperture > 0 else 1
        count = max(moments, points)
        offsets = self.fraction * ((np.arange(count) + 0.5) / count - 0.5) if moments > 1 else np.zeros(count)
        lens = _disc(count) * self.aperture if points > 1 else np.zeros((count, 2))
        # The disc's points come ordered by radius: unshuffled, the lens would seem to open while the time runs.
        order = np.random.default_rng(0).permutation(count)
        return [ExposureSample(float(o), (float(x), float(y))) for o, (x, y) in zip(offsets, lens[order], strict=True)]


def circle_of_confusion(
    focal: float, aperture: float, depth: Float[np.ndarray, "..."], focus_distance: float
) -> Float[np.ndarray, "..."]:
    """Radius in pixels of the disc that a thin lens makes of a point at a z-depth.

    ``focal * aperture * |1 / depth - 1 / focus_distance|`` with the focal length in pixels and the lens radius in
    scene units.
    """
    return focal * aperture * np.abs(1.0 / np.asarray(depth) - 1.0 / focus_distance)


def expose(
    scene: Scene, path: CameraPath, t: float, frame_interval: float, exposure: Exposure, supersample: int = 3
) -> Float[np.ndarray, "h w 3"]:
    """The linear-light picture of an exposure centred on time t.

    Args:
        frame_interval: time between two frames, in the unit of t.
    """
    samples = exposure.samples()
    total = 0.0
    for sample in samples:
        moment = t + sample.offset * frame_interval
        total = total + render_linear(scene, path.at(moment), moment, supersample, sample.lens, exposure.focus_distance)
    return np.asarray(total / len(samples))


def _disc(count: int) -> Float[np.ndarray, "n 2"]:
    """Evenly spread points of the unit disc (Vogel's sunflower spiral), centred so that no blur shifts the image."""
    index = np.arange(count)
    radius, angle = np.sqrt((index + 0.5) / count), index * np.pi * (3.0 - np.sqrt(5.0))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points - points.mean(axis=0)
