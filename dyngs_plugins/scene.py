"""The one picture: Gaussians, moved by a motion field, seen through an exposure, rasterized.

    image(view) = compose_j  raster( motion(Gaussians, t_j), camera_j )      over the instants j of one exposure

Plain torch, no host. The scene is named sets of Gaussians; at most one of them, ``dynamic``, is moved by the motion
field, the others stand still and never pay for motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dyngs_plugins.camera_refinement import CameraRefinement
from dyngs_plugins.cameras import intrinsics_as_axes
from dyngs_plugins.chunked import rasterize_in_chunks
from dyngs_plugins.color_head import ColorHead, ColorHeadConfig, PlainColors
from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.base import ExposureModel, Mode
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.harmonics import MAX_DEGREE, sh_colors
from dyngs_plugins.raster.inputs import RasterizeMode, RenderMode
from dyngs_plugins.types import Gaussians, Instants, Render, concatenate, principal_axes

DYNAMIC, STATIC = "dynamic", "static"


@dataclass(frozen=True)
class Views:
    """A batch of views to render: OpenCV cameras, times, and (while training) which training views they are."""

    camera_T_world: Float[Tensor, "b 4 4"]
    K: Float[Tensor, "b 3 3"]
    time: Float[Tensor, "b"]
    width: int
    height: int
    index: Int[Tensor, "b"] | None = None

    def __len__(self) -> int:
        return self.time.shape[0]


@dataclass(frozen=True)
class TargetCameras:
    """The cameras, at other times, in whose coordinates each view's track channels are rendered (``m`` per view)."""

    camera_T_world: Float[Tensor, "b m 4 4"]
    time: Float[Tensor, "b m"]


@dataclass(frozen=True)
class RenderOptions:
    """How to rasterize."""

    rasterize_mode: RasterizeMode = "classic"
    backend: str | None = None
    absgrad: bool = False
    """Have the backward pass fill ``info["means2d"].absgrad``, the sum of absolute image-plane gradients."""
    instants_per_pass: int = 0
    """Instants rasterized at a time, to save memory (``chunked.py``); 0: all at once."""


class Scene(nn.Module):
    """Named sets of Gaussians with a motion field and an exposure model."""

    moves: bool = True
    """Whether the motion field is in use; in a stage that warms up the canonical pose is shown at every time."""
    active_degree: int = MAX_DEGREE
    """Up to which degree spherical harmonics are in use (the sets may have fewer)."""

    def __init__(
        self,
        sets: list[GaussianSet],
        motion: MotionField,
        exposure: ExposureModel,
        cameras: CameraRefinement | None = None,
        color_head: ColorHead | None = None,
    ):
        super().__init__()
        self.sets = nn.ModuleDict({s.name: s for s in sets})
        self.motion = motion
        self.exposure = exposure
        self.cameras = cameras
        self.color_head = PlainColors(ColorHeadConfig()) if color_head is None else color_head

    def set_named(self, name: str) -> GaussianSet | None:
        """The set of that name, or None when the scene has none."""
        return next((s for s in self.gaussian_sets() if s.name == name), None)

    @property
    def dynamic(self) -> GaussianSet | None:
        return self.set_named(DYNAMIC)

    @property
    def static(self) -> GaussianSet | None:
        return self.set_named(STATIC)

    def gaussian_sets(self) -> list[GaussianSet]:
        """The sets in the order in which they are concatenated."""
        return [s for s in self.sets.values() if isinstance(s, GaussianSet)]

    def rows(self) -> dict[str, slice]:
        """Where each set's rows lie in the concatenation."""
        start, rows = 0, {}
        for s in self.gaussian_sets():
            rows[s.name] = slice(start, start + len(s))
            start += len(s)
        return rows

    def parts_at(self, times: Float[Tensor, "j"] | None) -> list[Gaussians]:
        """Every set at the given times (None: the canonical pose)."""
        parts = []
        for s in self.gaussian_sets():
            gaussians = s.activated()
            if self.moves and times is not None and s.name == DYNAMIC:
                gaussians = self.motion.at(gaussians, times)
            parts.append(gaussians)
        return parts

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "j"]) -> Float[Tensor, "j n 3"]:
        """Where Gaussians of the dynamic set are at some times."""
        if not self.moves:
            return gaussians.means.expand(len(times), -1, -1)
        return self.motion.positions(gaussians, times)

    def at(self, time: float | None) -> Gaussians:
        """The whole scene at one time (None: canonical), without an instant axis: what exporters want.

        Quats and scales say what is rendered, also where a field renders covariances.
        """
        times = None if time is None else self.gaussian_sets()[0].raw["means"].new_tensor([time])
        whole = concatenate([g.instant(0) for g in self.parts_at(times)], 1)
        if whole.covars is not None:
            quats, scales = principal_axes(whole.covars)
            whole = whole.replace(quats=quats, scales=scales)
        return whole

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = {}
        for s in self.gaussian_sets():
            groups.update(s.param_groups())
        if self.dynamic is not None:
            groups.update(self.motion.param_groups())
        groups.update(self.exposure.param_groups())
        if self.cameras is not None:
            groups.update(self.cameras.param_groups())
        groups.update(self.color_head.param_groups())
        return groups

    def refined(self, views: Views) -> Views:
        """Training views with their cameras as training has refined them; other views as they are."""
        if self.cameras is None or views.index is None:
            return views
        camera_T_world = self.cameras.poses(views.camera_T_world, views.index)
        return replace(views, camera_T_world=camera_T_world, K=self.cameras.intrinsics(views.K))

    def render(
        self,
        views: Views,
        *,
        mode: Mode = "mid",
        needs: Collection[str] = (),
        targets: TargetCameras | None = None,
        background: Float[Tensor, "3"] | None = None,
        options: RenderOptions = RenderOptions(),
        keep: Callable[[Gaussians], Tensor] | None = None,
        moved: list[Gaussians] | None = None,
    ) -> Render:
        """Render a batch of views in one call of the rasterizer seam.

        Args:
            views: cameras and times.
            mode: ``"train"`` renders whole exposures, ``"mid"`` their sharp middle.
            needs: extra outputs, of ``"dynamic"`` (1 for moving Gaussians), ``"depth"``, ``"targets"``.
            targets: for ``"targets"``: each Gaussian's centre at other times in other cameras' coordinates.
            background: colour behind everything (default black); extra channels have 0 behind them.
            keep: optional row mask of the concatenated Gaussians (the viewer's crop box).
            moved: ``parts_at(views.time)`` where it is known already, for one sharp instant a view.
        """
        instants = self.exposure.instants(views.camera_T_world, views.K, views.time, views.index, mode)
        parts = self.parts_at(instants.time) if moved is None else moved
        gaussians = self.exposure.before_raster(concatenate(parts, len(instants.time)), instants)
        features, widths = self._features(gaussians, parts, needs, targets, instants)
        if keep is not None:
            rows = keep(gaussians).nonzero().flatten()
            gaussians, features = gaussians.select(rows), features.index_select(-2, rows)
        backgrounds = features.new_zeros(len(instants.time), features.shape[-1])
        behind = self.color_head.behind(features.new_zeros(3) if background is None else background)
        backgrounds[:, : len(behind)] = behind
        size, kind = (views.width, views.height), "RGB+D" if "depth" in needs else "RGB"
        image, alpha, info = _draw(gaussians, features, instants, size, backgrounds, kind, options)
        pieces = image.split([*widths.values(), *([1] if "depth" in needs else [])], dim=-1)
        channels = dict(zip(widths, pieces, strict=False))
        channels["rgb"] = self.color_head.decode(channels["rgb"], instants)
        # Expected depth, as RGB+ED gives it, without joining all channels again.
        depth = pieces[-1] / alpha.clamp(min=1e-10) if "depth" in needs else None
        return self.exposure.compose(Render(channels, alpha, depth, info), instants, len(views))

    def _features(
        self,
        gaussians: Gaussians,
        parts: list[Gaussians],
        needs: Collection[str],
        targets: TargetCameras | None,
        instants: Instants,
    ) -> tuple[Tensor, dict[str, int]]:
        """The channels of every Gaussian, side by side, and the width of each by name."""
        channels: dict[str, Tensor] = {"rgb": self._color_features(gaussians, parts, instants)}
        if "dynamic" in needs:
            channels["dynamic"] = self._dynamic_flags(parts)
        if "targets" in needs and targets is not None and targets.time.shape[1] > 0:
            positions = self._target_positions(targets)
            channels["targets"] = positions if instants.one_per_view else positions[instants.view]
        widths = {name: channel.shape[-1] for name, channel in channels.items()}
        return _joined(list(channels.values()), len(instants.time), dim=-1), widths

    def _color_features(
        self, gaussians: Gaussians, parts: list[Gaussians], instants: Instants
    ) -> Float[Tensor, "*j n c"]:
        """What is splatted for the colours, set by set: the colour head may treat what moves differently."""
        colors = self._colors(gaussians, instants)
        features = []
        for (name, rows), part in zip(self.rows().items(), parts, strict=True):
            moves = self.moves and name == DYNAMIC
            features.append(self.color_head.features(part, colors[..., rows, :], instants.time, moves))
        return _joined(features, len(instants.time), dim=-2)

    def _colors(self, gaussians: Gaussians, instants: Instants) -> Float[Tensor, "*j n 3"]:
        """Each Gaussian's colour as each instant's camera sees it."""
        harmonics = gaussians.harmonics
        if harmonics is None:
            return gaussians.colors
        degree = min(self.active_degree, math.isqrt(harmonics.shape[-2]) - 1)
        centre = se3.invert(instants.camera_T_world)[:, :3, 3]
        return sh_colors(degree, gaussians.means - centre[:, None], harmonics)

    def _dynamic_flags(self, parts: list[Gaussians]) -> Float[Tensor, "n 1"]:
        sets = zip(self.gaussian_sets(), parts, strict=True)
        return torch.cat([part.opacities.new_full((len(part), 1), float(s.name == DYNAMIC)) for s, part in sets])

    def _target_positions(self, targets: TargetCameras) -> Float[Tensor, "b n c"]:
        """Centres at the target times in the target cameras, ``c = 3 m`` channels."""
        b, m = targets.time.shape
        rotation, translation = targets.camera_T_world[..., :3, :3], targets.camera_T_world[..., :3, 3]
        parts = []
        for s in self.gaussian_sets():
            if s.name == DYNAMIC:
                means = self.positions(s.activated(), targets.time.reshape(-1)).reshape(b, m, -1, 3)
                seen = means @ rotation.transpose(-1, -2) + translation[:, :, None]
                parts.append(seen.permute(0, 2, 1, 3).reshape(b, -1, 3 * m))
            else:  # what stands still: one matrix product for all cameras
                seen = torch.addmm(translation.reshape(-1), s.raw["means"], rotation.reshape(-1, 3).T)
                parts.append(seen.reshape(-1, b, 3 * m).transpose(0, 1))
        return torch.cat(parts, dim=1)


def _joined(tensors: list[Float[Tensor, "*j _ _"]], instants: int, dim: int) -> Float[Tensor, "*j n c"]:
    """Tensors in one; if any of them differs between instants, all get that axis."""
    if any(tensor.ndim == 3 for tensor in tensors):
        tensors = [tensor if tensor.ndim == 3 else tensor.expand(instants, *tensor.shape) for tensor in tensors]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=dim)


def _draw(
    gaussians: Gaussians,
    features: Float[Tensor, "*j n c"],
    instants: Instants,
    size: tuple[int, int],
    backgrounds: Float[Tensor, "j c"],
    render_mode: RenderMode,
    options: RenderOptions,
) -> tuple[Float[Tensor, "j h w _"], Float[Tensor, "j h w 1"], dict[str, Any]]:
    """All instants rasterized: the features' image (with depth behind them, if asked for), alpha, and the record."""
    camera_T_world, K = intrinsics_as_axes(instants.camera_T_world, instants.K)
    draw = partial(rasterize_in_chunks, options.instants_per_pass) if options.instants_per_pass else rasterize
    return draw(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        features,
        camera_T_world,
        K,
        *size,
        backgrounds=backgrounds,
        render_mode=render_mode,
        covars=gaussians.covars,
        rasterize_mode=options.rasterize_mode,
        absgrad=options.absgrad,
        backend=options.backend,
    )
