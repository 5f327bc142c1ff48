"""Every motion field that a method uses, with the settings of its smallest method, started on a few Gaussians."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from used_motions import smaller_motion_configs

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.priors.lifting import Tracks3D
from dyngs_plugins.types import Gaussians

FRAMES, N = 7, 10
MIDDLE = FRAMES // 2


def paths(velocity: Tensor) -> Tensor:
    """Where points that pass their own places in the middle of the clip are at every frame, ``[n, frames, 3]``."""
    places = torch.randn(len(velocity), 3, generator=torch.Generator().manual_seed(0)) * 0.5
    return places[:, None] + (torch.linspace(0, 1, FRAMES) - 0.5)[None, :, None] * velocity[:, None]


def start(name: str, points: Tensor) -> tuple[MotionField, GaussianSet]:
    """A field and the set it moves, started as a scene would start them: from tracks, or from points at half time."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    field = copy.deepcopy(smaller_motion_configs()[name]).setup(num_frames=FRAMES)
    means = points[:, MIDDLE]
    if field.starts_from == "points":
        columns = field.start_from_points(means, torch.full((len(means),), 0.5), generator)
    else:
        seen = torch.ones(points.shape[:2], dtype=torch.bool)
        tracks = Tracks3D(
            points, seen, ~seen, seen.float(), torch.full_like(means, 0.5), torch.zeros(len(means)).long()
        )
        columns = field.initialise(tracks, MIDDLE, generator)
    gaussians = GaussianSet("dynamic", field.columns())
    rows = {
        "means": means,
        "quats": torch.tensor([1.0, 0.1, -0.2, 0.3]).repeat(len(means), 1),
        "scales": torch.full((len(means), 3), 0.05).log(),
        "opacities": torch.full((len(means),), 0.5),
        "colors": torch.randn(len(means), 3, generator=generator),
    }
    gaussians.load_rows({**rows, **columns})
    return field, gaussians


def stir(field: MotionField, gaussians: GaussianSet, scale: float = 0.05) -> None:
    """Move shared tensors, and the columns of a field that has just started without motion, to no special place."""
    generator = torch.Generator().manual_seed(1)
    names = field.columns() if field.starts_from == "points" else ()
    for tensor in [*field.parameters(), *(gaussians.raw[name] for name in names)]:
        tensor.data += scale * torch.randn(tensor.shape, generator=generator).to(tensor)


def everything(moved: Gaussians) -> Tensor:
    """All that a field may change with time, side by side: ``[b, numbers]``."""
    b = len(moved.means)
    parts = [moved.means, moved.quats]
    parts += [part for part in (moved.scales, moved.colors) if part.ndim == 3]
    parts += [moved.opacities] if moved.opacities.ndim == 2 else []
    return torch.cat([part.reshape(b, -1) for part in parts], dim=1)
