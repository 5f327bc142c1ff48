"""What all paths of a camera within an exposure share: moments, times, and the middle.

A path is a rigid motion ``given_T_moved(u)`` in the camera's own frame for u in [0, 1]: it is multiplied on the right of
``world_T_camera``. While the camera moves, time runs from tau frames before the view's time to tau frames after it.
Times are kept inside the clip: beyond its ends no motion field knows anything.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.base import Blend, ErrorNow, ExposureConfig, ExposureModel, Mode, only_middle, per_instant
from dyngs_plugins.exposure.flow_ratio import FlowRatio
from dyngs_plugins.exposure.shutter import Shutter, ShutterConfig
from dyngs_plugins.types import Instants

if TYPE_CHECKING:
    from dyngs_plugins.priors.views import ClipViews
    from dyngs_plugins.scene import Scene, Views

Sampling = Literal["ends", "middles"]
"""Where S instants lie in an exposure. ``ends``: evenly from its start to its end, both included, as the papers have it;
their mean is as wide as an exposure S / (S - 1) times as long, so that times and paths found from images come out too
short by that much (a seventh with 7 instants). ``middles``: each in the middle of its own S-th of the exposure."""


@dataclass
class PathExposureConfig(ExposureConfig):
    """What all camera paths have."""

    num_instants: int = 9
    """Sharp images averaged; odd, so that the middle is one of them. About one for every two pixels of blur."""
    shutter: ShutterConfig = field(default_factory=ShutterConfig)
    """How long the shutter is open, for what moves."""
    blend: Blend = "display"
    """Whether to average display values, as the papers do, or linear light, as film does."""
    sampling: Sampling = "ends"
    """Where in the exposure its instants lie: on its ends and evenly between, or each in the middle of its share of it."""
    pin_middle: bool = False
    """Whether the middle of the exposure keeps the given pose, where that is known well."""
    along_clip: bool = False
    """Whether paths start along the camera's own motion from the frame before to the frame after, for as long as
    ``shutter.half_exposure`` says, and not at rest: blur of what stands still tells a path, but not its direction."""

    def rates(self) -> dict[str, float]:
        return {"exposure_shutter": self.shutter.learning_rate}


class PathExposure(ExposureModel):
    """The mean of ``num_instants`` renders along a path of the camera; subclasses say which path."""

    def __init__(self, config: PathExposureConfig, num_views: int, num_frames: int):
        super().__init__()
        if config.num_instants < 1 or config.num_instants % 2 == 0:
            raise ValueError(
                f"num_instants is {config.num_instants}; expected an odd number, so that the sharp middle is one of the "
                "averaged images. Try 9."
            )
        self.config = config
        self.blend = config.blend
        self.frame_interval = 1.0 / max(num_frames - 1, 1)
        self.shutter = Shutter(config.shutter, num_views)
        self._flow_ratio: FlowRatio | None = None
        if config.along_clip:
            self.register_buffer("drift", torch.zeros(num_views, 6))
            self.drift: Tensor

    @abstractmethod
    def motion(
        self, view_index: Int[Tensor, "j"], camera_T_world: Float[Tensor, "j 4 4"], u: Float[Tensor, "s"]
    ) -> Float[Tensor, "j s 4 4"]:
        """``given_T_moved`` of training views at the moments u of their exposures, given their cameras."""

    def path(
        self, view_index: Int[Tensor, "j"], camera_T_world: Float[Tensor, "j 4 4"], u: Float[Tensor, "s"]
    ) -> Float[Tensor, "j s 4 4"]:
        """The camera's motion from where it starts, with its middle pinned if the config says so."""
        if not self.config.pin_middle:
            return self._from_start(view_index, camera_T_world, u)
        moved = self._from_start(view_index, camera_T_world, torch.cat([u, u.new_tensor([0.5])]))
        return se3.invert(moved[:, -1:]) @ moved[:, :-1]

    def _from_start(self, view_index: Tensor, camera_T_world: Tensor, u: Tensor) -> Float[Tensor, "j s 4 4"]:
        """The path, whose parameters change what it starts as."""
        motion = self.motion(view_index, camera_T_world, u)
        if not self.config.along_clip:
            return motion
        frames = (2 * u - 1) * self.config.shutter.half_exposure
        return se3.exp(frames[:, None] * self.drift[view_index][:, None]) @ motion

    def spread(self, instants: Instants, view_index: Int[Tensor, "b"] | None, mode: Mode) -> Instants:
        if view_index is None:
            return instants
        count = self.config.num_instants if mode == "train" else 1
        u = moments(mode, count, self.config.sampling).to(instants.time)
        index = view_index[instants.view]
        cameras = se3.invert(self.path(index, instants.camera_T_world, u)) @ instants.camera_T_world[:, None]
        reach = self.shutter.reach(index) * self.frame_interval
        if self.config.shutter.shared:
            # An exposure that the clip's ends cut off seems shorter than it is; the other views know better.
            cut = (instants.time - reach.abs() < 0) | (instants.time + reach.abs() > 1)
            reach = torch.where(cut, reach.detach(), reach)
        times = instants.time[:, None] + (2 * u - 1) * reach[:, None]
        return only_middle(per_instant(instants, count, cameras, times.clamp(0, 1)), count)

    def regularisers(self, view_index: Int[Tensor, "b"] | None) -> dict[str, Tensor]:
        if view_index is None or self.config.shutter.kind != "learned" or self.config.shutter.band_weight == 0.0:
            return {}
        return {"exposure_band": self.shutter.band(view_index)}

    def start_from(self, views: ClipViews) -> None:
        if self.config.along_clip:
            self.drift.copy_(drift_of(views).to(self.drift))
        if self.config.shutter.kind == "estimated":
            self._flow_ratio = FlowRatio.of(views)

    @torch.no_grad()
    def observe(self, scene: Scene, views: Views, step: int, error: ErrorNow | None = None) -> None:
        shutter = self.config.shutter
        due = step >= shutter.observe_from and (step - shutter.observe_from) % shutter.observe_every == 0
        if views.index is None or not due:
            return
        if shutter.reversible and error is not None:
            self.shutter.try_directions(views.index, error)
        if self._flow_ratio is not None:
            self._estimate(self._flow_ratio, scene, views, views.index)

    def _estimate(self, flow_ratio: FlowRatio, scene: Scene, views: Views, index: Int[Tensor, "b"]) -> None:
        """Set the half exposures of a batch's views from what the static Gaussians look like."""
        if scene.static is None:
            warnings.warn(
                "shutter.kind is 'estimated', which looks at a set of static Gaussians, and this method has none: every "
                f"half exposure stays at {self.config.shutter.half_exposure} frames. Set the kind to 'learned' to train it.",
                stacklevel=1,
            )
            return
        # Those instants that images were really made of: a path need not be known farther out.
        u = moments("train", max(self.config.num_instants, 2), self.config.sampling).to(views.time)[[0, -1]]
        ends = self.path(index, views.camera_T_world, u)
        cameras = se3.invert(ends) @ views.camera_T_world[:, None]
        for row, view in enumerate(index.tolist()):
            ratio = flow_ratio.estimate(scene, views, row, cameras[row])
            if ratio is not None:
                self.shutter.set(view, ratio / float(u[1] - u[0]))


def drift_of(views: ClipViews) -> Float[Tensor, "v 6"]:
    """How each view's camera moves in the time between two frames, as a twist in its own frame; 0 for a lone frame."""
    neighbours = FlowRatio.of(views)
    before, after = views.camera_T_world[neighbours.before], views.camera_T_world[neighbours.after]
    return se3.log(before @ se3.invert(after)) / neighbours.frames_between.clamp_min(1)[:, None]


def moments(mode: Mode, count: int, sampling: Sampling = "ends") -> Float[Tensor, "s"]:
    """Where in the exposure its instants lie: 0 is its start, 1 its end."""
    if count > 1 and sampling == "middles":
        return (torch.arange(count) + 0.5) / count
    if count > 1:
        return torch.linspace(0, 1, count)
    return torch.tensor([{"start": 0.0, "end": 1.0}.get(mode, 0.5)])
