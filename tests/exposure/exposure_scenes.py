"""Tiny scenes for tests of exposures: every motion field and every exposure model that is registered or configured."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from used_motions import used_motion_configs

from dyngs_plugins.exposure.base import ExposureConfig, ExposureModel
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.choice import choose
from dyngs_plugins.exposure.circle import CircleExposureConfig
from dyngs_plugins.exposure.thin_lens import DefocusExposureConfig
from dyngs_plugins.gaussian_sets import GaussianSet, logit
from dyngs_plugins.hooks import registry
from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.priors.lifting import Tracks3D
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
def still(exposure: nn.Module) -> None:
    """An exposure of no length through a pinhole: all parameters zero, logarithms at minus infinity."""
    for name, parameter in exposure.named_parameters():
        parameter.fill_(-1e4 if name.split(".")[-1].startswith("log_") else 0.0)
    for module in exposure.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "half_exposure"):
            config.half_exposure = config.shortest = 0.0
            if module.tau.numel():
                module.tau.zero_()


@torch.no_grad()
def stir(module: nn.Module, scale: float, seed: int = 3) -> None:
    """Move every parameter a little, so that nothing is at a special place."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in module.named_parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


# Every pair -----------------------------------------------------------------------------------------------------------


@functools.cache
def motion_configs() -> dict[str, MotionFieldConfig]:
    """One config of every motion field that a method uses or a plugin registers, by the field's class name."""
    found = used_motion_configs()
    for config in registry().motion_fields.values():
        found.setdefault(config()._target.__name__, config())
    return found


@functools.cache
def exposure_configs() -> dict[str, ExposureConfig]:
    """Every registered exposure model, and products of motion and lens; sized for tests."""
    found: dict[str, ExposureConfig] = {name: kind() for name, kind in registry().exposure_models.items()}
    found["camera-path+defocus"] = choose(CameraPathExposureConfig(), DefocusExposureConfig()).chosen()
    found["camera-path+circle"] = choose(CameraPathExposureConfig(), CircleExposureConfig()).chosen()
    for config in found.values():
        for part in (config, *getattr(config, "parts", ())):
            if hasattr(part, "num_instants"):
                part.num_instants = 5
                part.shutter.half_exposure = 0.4
            if hasattr(part, "num_points"):
                part.num_points = 4
            if hasattr(part, "focus_distance"):
                part.aperture, part.focus_distance = 0.1, 3.0
    return found


def constant_tracks(means: Tensor, frames: int = FRAMES, speed: float = 0.4) -> Tracks3D:
    """Points that go to the right at one speed, seen everywhere."""
    n = len(means)
    t = torch.linspace(0, 1, frames)
    points = means[:, None] + (t - 0.5)[None, :, None] * torch.tensor([speed, 0.1, 0.0])
    seen = torch.ones(n, frames, dtype=torch.bool)
    return Tracks3D(points, seen, ~seen, seen.float(), torch.full((n, 3), 0.5), torch.zeros(n, dtype=torch.long))


def scene_of(motion: str, exposure: str, n: int = 24) -> Scene:
    """A scene of a motion field, started and stirred, and an exposure model, stirred too."""
    torch.manual_seed(0)
    field = motion_configs()[motion].setup(num_frames=FRAMES)
    tracks = constant_tracks(cloud(n // 2))
    generator = torch.Generator().manual_seed(0)
    if field.starts_from == "points":
        middles = torch.full((n // 2,), 0.5)
        started = field.start_from_points(tracks.points[:, FRAMES // 2], middles, generator)
        columns = {name: c + 0.02 * torch.randn(c.shape, generator=generator) for name, c in started.items()}
    else:
        columns = dict(field.initialise(tracks, FRAMES // 2, generator))
    for name, shape in field.columns().items():
        columns.setdefault(name, torch.zeros(n // 2, *shape))
    dynamic = GaussianSet(DYNAMIC, field.columns())
    dynamic.load_rows({**rows(tracks.points[:, FRAMES // 2]), **columns})
    stir(field, 0.02)
    model: ExposureModel = exposure_configs()[exposure].setup(num_views=VIEWS, num_frames=FRAMES)
    stir(model, 0.02)
    return Scene([dynamic, make_set(STATIC, cloud(n, 5)[: n // 2])], field, model)
