"""4D Gaussian Splatting (Wu et al. 2024): six planes of features over place and time, and small heads (section 4.2 there).

A canonical centre and a time are looked up in the planes (xy, xz, xt, yz, yt, zt) of several resolutions; the product of
the six is decoded to changes of centre, scale, rotation, opacity and colour. At one time a plane with a time axis is a
row, so all Gaussians share three rows per time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dyngs_plugins.losses.motion import second_difference
from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.types import Gaussians

AXES = tuple(combinations(range(4), 2))
"""The planes' axes of (x, y, z, t): columns, rows."""
SPACE = tuple(i for i, (_, rows) in enumerate(AXES) if rows < 3)
TIME = tuple(i for i, (_, rows) in enumerate(AXES) if rows == 3)
HEADS = {"means": 3, "scales": 3, "quats": 4, "opacities": 1, "colors": 48}
"""What is decoded, and its width; colours are 16 spherical harmonics, of which those of the scene are used."""
MOST_LOG = 10.0
"""A size changes by a factor of at most e^10 either way. What is decoded is a product of six planes and three layers, so a
step that is somewhat too long makes it larger by magnitudes, and an exponential that overflows turns all numbers to NaN."""
THINNEST = 0.01
"""The least side of the planes' box, in its largest."""
HeadName = Literal["means", "scales", "quats", "opacities", "colors"]


@dataclass
class HexPlaneConfig(MotionFieldConfig):
    """Six planes a resolution, and heads. The defaults are the paper's for multi-camera video (Neu3D)."""

    _target: type = field(default_factory=lambda: HexPlane)
    features: int = 16
    """Of one plane; those of all resolutions are put side by side."""
    levels: tuple[int, ...] = (1, 2)
    """Multiples of ``space_resolution``; the resolution in time is the same on all."""
    space_resolution: int = 64
    time_resolution: int = 150
    """About half the number of frames."""
    width: int = 128
    depth: int = 1
    heads: tuple[HeadName, ...] = ("means", "scales", "quats", "opacities", "colors")
    """Which changes are in use; all are built."""
    time_map: Literal["raw", "symmetric"] = "raw"
    """Where time lies on its axis from -1 to 1. ``raw``: from 0 to 1, as in the reference, whose other half is never
    used. ``symmetric``: from -1 to 1, which doubles the resolution."""
    zero_start: bool = False
    """Start from no change at all. The reference does not: its scene jumps a little when the motion comes into use."""
    space_smoothness: float = 2e-4
    """Weight of the squared second differences along the rows of planes without time."""
    time_smoothness: float = 1e-3
    """The same for planes with time, whose rows are times."""
    time_sparsity: float = 1e-4
    """Weight of the mean distance of planes with time from 1, at which they change nothing."""


class HexPlane(MotionField):
    """Parameters: ``planes``, per resolution six of ``[1, features, rows, columns]``, and a network."""

    starts_from = "points"

    low: Tensor
    high: Tensor

    def __init__(self, config: HexPlaneConfig, num_frames: int):
        super().__init__()
        self.config = config
        self.register_buffer("low", -torch.ones(3))
        self.register_buffer("high", torch.ones(3))
        self.planes = nn.ParameterList()
        for level in config.levels:
            sizes = [level * config.space_resolution] * 3 + [config.time_resolution]
            for columns, rows in AXES:
                plane = torch.ones(1, config.features, sizes[rows], sizes[columns])
                self.planes.append(nn.Parameter(plane if rows == 3 else plane.uniform_(0.1, 0.5)))
        self.network = HexPlaneNetwork(config)

    def start_from_points(self, means, times, generator: torch.Generator) -> Mapping[str, Tensor]:
        """The planes cover the bounding box of the points; what leaves it sees the border."""
        if len(means) > 0:
            low, high = means.amin(dim=0), means.amax(dim=0)  # on the CPU; this field may be on a device already
            # Across points in a plane, or of one point alone, the box would be nothing to divide by.
            side = (high - low).amax()
            missing = (THINNEST * (side if side > 0 else 1.0) - (high - low)).clamp_min(0)
            self.low.copy_(low - missing / 2)
            self.high.copy_(high + missing / 2)
        return {}

    def level(self, index: int) -> list[Tensor]:
        """The six planes of one resolution."""
        return list(self.planes)[6 * index : 6 * index + 6]

    def look_up(self, means: Float[Tensor, "n 3"], times: Float[Tensor, "b"]) -> Float[Tensor, "b n f"]:
        """Features of canonical centres at times."""
        places = (2 * (means - self.low) / (self.high - self.low) - 1).unbind(-1)
        times = times.clamp(0, 1)
        if self.config.time_map == "symmetric":
            times = 2 * times - 1
        found = []
        for index in range(len(self.config.levels)):
            planes = self.level(index)
            still = 1.0
            for i in SPACE:
                columns, rows = AXES[i]
                grid = torch.stack([places[columns], places[rows]], dim=-1)[None, None]
                seen = F.grid_sample(planes[i], grid, align_corners=True, padding_mode="border")
                still = still * seen[0, :, 0].T
            features = still
            for i in TIME:
                rows_now = between_rows(planes[i][0].permute(1, 2, 0), times)  # [b, columns, f]
                features = features * between_rows(rows_now.transpose(0, 1), places[AXES[i][0]]).transpose(0, 1)
            found.append(features)
        return torch.cat(found, dim=-1)

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        changes = self.network(self.look_up(gaussians.means, times), self.config.heads)
        moved: dict[str, Tensor] = {
            "means": gaussians.means + changes.get("means", torch.zeros_like(times)[:, None, None]),
            "quats": F.normalize(
                gaussians.quats + changes.get("quats", torch.zeros_like(times)[:, None, None]), dim=-1
            ),
        }
        if "scales" in changes:
            moved["scales"] = gaussians.scales * torch.exp(changes["scales"].clamp(-MOST_LOG, MOST_LOG))
        if "opacities" in changes:
            logits = torch.logit(gaussians.opacities, eps=1e-6)
            moved["opacities"] = torch.sigmoid(logits + changes["opacities"][..., 0])
        if "colors" in changes:
            moved |= recolored(gaussians, changes["colors"].unflatten(-1, (16, 3)))
        return gaussians.replace(**moved)

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        if "means" not in self.config.heads:
            return gaussians.means.expand(len(times), -1, -1)
        return gaussians.means + self.network(self.look_up(gaussians.means, times), ("means",))["means"]

    def regularisers(self, gaussians: Gaussians) -> dict[str, Tensor]:
        c = self.config
        space = [self.level(level)[i] for level in range(len(c.levels)) for i in SPACE]
        time = [self.level(level)[i] for level in range(len(c.levels)) for i in TIME]
        return {
            "planes_space": c.space_smoothness * roughness(space),
            "planes_time": c.time_smoothness * roughness(time),
            "planes_sparse": c.time_sparsity * torch.stack([(1 - plane).abs().mean() for plane in time]).sum(),
        }


class HexPlaneNetwork(nn.Module):
    """A trunk and one head for each change."""

    def __init__(self, config: HexPlaneConfig):
        super().__init__()
        trunk: list[nn.Module] = [nn.Linear(config.features * len(config.levels), config.width)]
        for _ in range(config.depth - 1):
            trunk += [nn.ReLU(), nn.Linear(config.width, config.width)]
        self.trunk = nn.Sequential(*trunk)
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU(), nn.Linear(config.width, size)
                )
                for name, size in HEADS.items()
            }
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        if config.zero_start:
            for head in self.heads.values():
                assert isinstance(head, nn.Sequential)
                for parameter in head[-1].parameters():
                    nn.init.zeros_(parameter)

    def forward(self, features: Float[Tensor, "b n f"], heads: tuple[str, ...]) -> dict[str, Float[Tensor, "b n _"]]:
        hidden = self.trunk(features)
        return {name: self.heads[name](hidden) for name in heads}


def between_rows(table: Float[Tensor, "r *rest"], u: Float[Tensor, "m"]) -> Float[Tensor, "m *rest"]:
    """Linear interpolation between the rows of a table whose first is at -1 and last at 1, clamped at both."""
    last = table.shape[0] - 1
    place = (u.clamp(-1, 1) + 1) * (last / 2)
    left = place.detach().long().clamp(0, max(last - 1, 0))
    fraction = (place - left).reshape(-1, *[1] * (table.ndim - 1))
    below, above = table.index_select(0, left), table.index_select(0, left + min(last, 1))
    return below + (above - below) * fraction


def recolored(gaussians: Gaussians, change: Float[Tensor, "b n 16 3"]) -> dict[str, Tensor]:
    """Colours with a change of spherical harmonics; of plain colours the constant one counts, as a colour."""
    if gaussians.harmonics is None:
        return {"colors": gaussians.colors + change[..., 0, :]}
    return {"harmonics": gaussians.harmonics + change[..., : gaussians.harmonics.shape[-2], :]}


def roughness(planes: list[Tensor]) -> Float[Tensor, ""]:
    """Sum over planes of the mean squared second difference along the rows (the reference's "plane TV")."""
    total = planes[0].new_zeros(())
    for plane in planes:
        if plane.shape[2] > 2:
            total = total + second_difference(plane, 2).square().mean()
    return total
