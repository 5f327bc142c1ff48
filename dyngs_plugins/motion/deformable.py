"""Deformable 3D Gaussians (Yang et al. 2024): a network that moves one canonical set (section 3.2 and 3.3 there).

From the encoded canonical centre (without a gradient to it) and the encoded time it tells offsets of centre, rotation and
scale. While training on real captures the time is noisy, less and less ("annealed smooth training").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dyngs_plugins.encodings import frequency_encoding
from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.randomness import draw_of_step
from dyngs_plugins.types import Gaussians

SKIP = 4
"""The inputs are given once more after this layer."""


@dataclass
class DeformableConfig(MotionFieldConfig):
    """A network of place and time."""

    _target: type = field(default_factory=lambda: Deformable)
    layers: int = 8
    width: int = 256
    place_frequencies: int = 10
    time_frequencies: int = 10
    time_network: int = 0
    """Pass the encoded time through a layer of ``width`` to this many numbers first; the paper has 30 for synthetic
    scenes (with 6 time frequencies). 0: the encoding itself."""
    noise: float = 0.1
    """Standard deviation of the noise on the time of a training step, in frames, at the start; 0 for synthetic scenes."""
    noise_steps: int = 20_000
    """Steps (of the stage) after which the noise is gone; it falls linearly."""
    zero_start: bool = False
    """Start from no motion at all. The paper does not: its scene jumps when the motion comes into use."""


class Deformable(MotionField):
    """The network, and the frame its inputs are given in: relative to the start's points, in units of their extent."""

    starts_from = "points"

    middle: Tensor
    extent: Tensor

    def __init__(self, config: DeformableConfig, num_frames: int):
        super().__init__()
        self.config = config
        self.frame = 1.0 / max(num_frames - 1, 1)
        self.noise = 0.0
        self.register_buffer("middle", torch.zeros(3))
        self.register_buffer("extent", torch.ones(()))
        self.network = DeformationNetwork(config)

    def start_from_points(self, means, times, generator: torch.Generator) -> Mapping[str, Tensor]:
        if len(means) > 0:
            low, high = torch.quantile(means[:100_000], means.new_tensor([0.05, 0.95]), dim=0)
            self.middle.copy_((low + high) / 2)
            self.extent.copy_(((high - low).max() / 2).clamp_min(1e-6))
        return {}

    def begin_step(self, stage: str, step: int) -> None:
        """One draw for all Gaussians and times of a step; the same again after a resume."""
        strength = self.noise_strength(step)
        self.noise = strength * self.frame * draw_of_step(step) if strength > 0.0 else 0.0

    def noise_strength(self, step: int) -> float:
        """Standard deviation of the time's noise at a step, in frames."""
        return self.config.noise * max(0.0, 1.0 - step / max(self.config.noise_steps, 1))

    def offsets(
        self, means: Float[Tensor, "n 3"], times: Float[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 4"], Float[Tensor, "b n 3"]]:
        """Offsets of centre (scene units), quaternion and scale (scene units) at each time."""
        times = times.clamp(0, 1) + (self.noise if self.training else 0.0)
        places = (means.detach() - self.middle) / self.extent
        moved, turned, grown = self.network(places, times[:, None]).split([3, 4, 3], dim=-1)
        return self.extent * moved, turned, self.extent * grown

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        return gaussians.means + self.offsets(gaussians.means, times)[0]

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        moved, turned, grown = self.offsets(gaussians.means, times)
        return gaussians.replace(
            means=gaussians.means + moved,
            quats=F.normalize(gaussians.quats, dim=-1) + turned,
            # The sum may pass zero; a Gaussian with a negative scale is that with the positive one.
            scales=(gaussians.scales + grown).abs(),
        )


class DeformationNetwork(nn.Module):
    """Encoded place and time to 3 + 4 + 3 offsets. Weights are those of one network of both; place and time are
    multiplied apart, because the part of the place is the same at all times."""

    def __init__(self, config: DeformableConfig):
        super().__init__()
        self.config = config
        self.place_size = 3 * (1 + 2 * config.place_frequencies)
        time_size = 1 + 2 * config.time_frequencies
        self.time_layers = nn.ModuleList()
        if config.time_network > 0:
            self.time_layers.extend([nn.Linear(time_size, config.width), nn.Linear(config.width, config.time_network)])
            time_size = config.time_network
        self.input_size = self.place_size + time_size
        first, after_skip = self.input_size, self.input_size + config.width
        sizes = [first if i == 0 else after_skip if i == SKIP + 1 else config.width for i in range(config.layers)]
        self.layers = nn.ModuleList(nn.Linear(size, config.width) for size in sizes)
        self.head = nn.Linear(config.width, 10)
        if config.zero_start:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, places: Float[Tensor, "n 3"], times: Float[Tensor, "b 1"]) -> Float[Tensor, "b n 10"]:
        place = frequency_encoding(places, self.config.place_frequencies)
        time = frequency_encoding(times, self.config.time_frequencies)
        for i, layer in enumerate(self.time_layers):
            time = layer(time if i == 0 else torch.relu(time))
        hidden = torch.zeros(())
        for i, layer in enumerate(self.layers):
            if i == 0:
                hidden = self._of_inputs(layer, place, time)
            elif i == SKIP + 1:
                of_hidden = layer.get_parameter("weight")[:, self.input_size :]
                hidden = hidden @ of_hidden.T + self._of_inputs(layer, place, time)
            else:
                hidden = layer(hidden)
            hidden = torch.relu(hidden)
        return self.head(hidden)

    def _of_inputs(self, layer: nn.Module, place: Tensor, time: Tensor) -> Float[Tensor, "b n w"]:
        """What a layer makes of the encoded inputs."""
        assert isinstance(layer, nn.Linear)
        of_place, of_time = layer.weight[:, : self.place_size], layer.weight[:, self.place_size : self.input_size]
        return place @ of_place.T + F.linear(time, of_time, layer.bias)[:, None]
