"""Tiny scenes for tests of exposures: every motion field and every exposure model that is registered or configured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dyngs_plugins.exposure.base import ExposureConfig
from dyngs_plugins.gaussian_sets import GaussianSet, logit
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.scene import DYNAMIC, STATIC, Scene, Views

IDENTITY = torch.eye(4)
FRAMES, VIEWS = 5, 2


def twists(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Glide(MotionField):
    """Everything moves at one speed."""

    def __init__(self, velocity: tuple[float, float, float]):
        super().__init__()
        self.velocity = nn.Parameter(torch.tensor(velocity))

    def at(self, gaussians, times):
        means = gaussians.means + times[:, None, None] * self.velocity
        return gaussians.replace(means=means, quats=gaussians.quats.expand(len(times), -1, -1))


def rows(means: Tensor, size: float = 0.15, color: Tensor | None = None) -> dict[str, Tensor]:
    """Raw columns of round Gaussians."""
    n = len(means)
    colors = torch.rand(n, 3, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1 if color is None else color
    return {
        "means": means,
        "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        "scales": torch.full((n, 3), size).log(),
        "opacities": logit(torch.full((n,), 0.8)),
        "colors": logit(colors),
    }


def make_set(name: str, means: Tensor, size: float = 0.15, color: Tensor | None = None) -> GaussianSet:
    gaussians = GaussianSet(name, {})
    gaussians.load_rows(rows(means, size, color))
    return gaussians


def cloud(n: int, seed: int = 0) -> Tensor:
    """Centres before a camera at the origin."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator) * torch.tensor([0.8, 0.6, 0.3]) + torch.tensor([0.0, 0, 4])


def make_scene(
    exposure: ExposureConfig, motion: MotionField | None = None, n: int = 40, views: int = VIEWS, frames: int = FRAMES
) -> Scene:
    means = cloud(n)
    motion = motion or StaticMotionConfig().setup(num_frames=frames)
    sets = [make_set(DYNAMIC, means[: n // 2]), make_set(STATIC, means[n // 2 :])]
    return Scene(sets, motion, exposure.setup(num_views=views, num_frames=frames))


def make_views(index: tuple[int, ...] | None = (0, 1), width: int = 48, height: int = 36) -> Views:
    count = VIEWS
    cameras = IDENTITY.repeat(count, 1, 1)
    cameras[1, 0, 3] = 0.2
    focal = 40.0 * width / 48
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).repeat(count, 1, 1)
    shown = None if index is None else torch.tensor(index)
    return Views(cameras, K, torch.tensor([0.25, 0.75]), width, height, shown)


def arguments(views: Views) -> tuple:
    """Of :meth:`ExposureModel.instants`, but for the mode."""
    return views.camera_T_world, views.K, views.time, views.index


@torch.no_grad()
def stir(module: nn.Module, scale: float, seed: int = 3) -> None:
    """Move every parameter a little, so that nothing is at a special place."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in module.named_parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
