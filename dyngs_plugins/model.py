"""The host seam for models: one nerfstudio model for every motion field and exposure model.

A subclass of splatfacto for type identity alone (``ns-export gaussian-splat`` and the viewer test ``isinstance``);
nothing of its construction is used, since that needs CUDA and downloads weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils.colors import get_color
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from dyngs_plugins import observed, overlay, prefit
from dyngs_plugins.camera_refinement import CameraRefinementConfig
from dyngs_plugins.cameras import PathClock
from dyngs_plugins.color_head import ColorHeadConfig
from dyngs_plugins.config import GrowingConfig
from dyngs_plugins.density import DensityControl, DensityControlConfig
from dyngs_plugins.evaluation import batch_metrics
from dyngs_plugins.exported import ExportedScene
from dyngs_plugins.exposure.base import ExposureConfig
from dyngs_plugins.exposure.choice import ExposureChoice
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.host_cameras import views_of
from dyngs_plugins.initialise import InitialiseConfig, start_scene
from dyngs_plugins.metrics.lpips import Net
from dyngs_plugins.motion.base import MotionFieldConfig, StartsFrom
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.neighbours import Neighbours
from dyngs_plugins.objective import LossTerm, look_up
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.raster.backends import prepare_backend
from dyngs_plugins.resumed import ResumedScene
from dyngs_plugins.scene import DYNAMIC, STATIC, RenderOptions, Scene, Views
from dyngs_plugins.stages import Decay, Schedule, Stage
from dyngs_plugins.training_steps import TrainingSteps
from dyngs_plugins.training_views import TrainingViews


@dataclass
class DynamicModelConfig(GrowingConfig, ModelConfig):
    """A product of a motion field and an exposure model, with its losses, schedule and density control."""

    _target: type = field(default_factory=lambda: DynamicModel)
    motion: MotionFieldConfig = field(default_factory=StaticMotionConfig)
    """How the dynamic Gaussians move."""
    exposure: ExposureConfig = field(default_factory=ExposureChoice)
    """What one image exposes."""
    color_head: ColorHeadConfig = field(default_factory=ColorHeadConfig)
    """What decodes rasterized features into colours."""
    cameras: CameraRefinementConfig = field(default_factory=CameraRefinementConfig)
    """What training may change about the cameras."""
    sets: tuple[str, ...] = (DYNAMIC, STATIC)
    """The sets of Gaussians: what moves, and what stands still and never pays for motion; or only one of them. The
    dynamic one alone is the whole scene, or, where it starts from tracks, what moves over a plain background."""
    losses: dict[str, LossTerm] = field(default_factory=lambda: {"rgb": LossTerm()})
    """Loss terms by name."""
    density: dict[str, DensityControlConfig] = field(
        default_factory=lambda: {DYNAMIC: DensityControlConfig(), STATIC: DensityControlConfig()}
    )
    """Density control by set."""
    initialise: InitialiseConfig = field(default_factory=InitialiseConfig)
    isotropic: bool = False
    """One scale per Gaussian instead of three."""
    prefit_steps: int = 0
    """Steps of fitting the motion to 3-D tracks before the first render, for motion fields that have a pre-fit."""
    prefit_rates: dict[str, float] = field(default_factory=dict)
    """Learning rates of the pre-fit by parameter group; groups not named do not train in it."""
    coarse_steps: int = 0
    """Steps of rendering with nothing moving, as a stage of its own before the training with motion."""
    still_steps: int = 0
    """Steps at the start of the training proper in which nothing moves yet (its schedules run meanwhile)."""
    sharp_steps: int = 0
    """Steps at the start of the training proper in which images are taken for sharp ones (no exposure model yet)."""
    group_starts: dict[str, int] = field(default_factory=dict)
    """Steps of the training proper after which a parameter group begins to train, where that is not at once."""
    train_steps: int = 0
    """Steps of rendering; 0: max(5000, 500 epochs of the clip)."""
    scale_decay: Decay = Decay(factor=0.1, steps=5000)
    """How the learning rate of the scales falls."""
    decays: dict[str, Decay] = field(default_factory=dict)
    """How further learning rates fall while rendering, by parameter group."""
    harmonics_every: int = 1000
    """Steps of rendering after which colours use one more degree of spherical harmonics, up to ``sh_degree``."""
    background_color: Literal["white", "black"] = "white"
    """Behind everything; a dataset whose images are composited over a colour of its own overrides it."""
    rasterize_mode: Literal["classic", "antialiased"] = "classic"
    backend: str | None = None
    """Rasterizer backend, also one of a plugin; None: gsplat on CUDA, numba on the CPU."""
    instants_per_pass: int = 0
    """Instants of exposures rasterized at a time in training, where all at once do not fit into memory; 0: all."""
    export_time: float | None = None
    """The time in [0, 1] at which ``ns-export gaussian-splat`` sees the scene; None: the canonical pose.
    The environment variable DYNGS_EXPORT_TIME overrides it when exporting."""
    default_time: float = 0.0
    """The time shown for cameras that carry none and lie on no known path."""
    track_overlay_points: int = 60
    """Moving points whose trails the ``tracks`` output draws."""
    sh_degree: int = 0
    """Of the colours' spherical harmonics; 0: plain RGB, the same from everywhere. The host's exporter reads this."""

    @property
    def starts_from(self) -> StartsFrom:
        """What the method's moving Gaussians start from."""
        return self.motion.setup(num_frames=2).starts_from

    def stages(self, num_frames: int, batch_size: int) -> tuple[Stage, ...]:
        """The schedule for a clip of ``num_frames`` frames trained in batches of ``batch_size``."""
        epoch = -(-num_frames // max(batch_size, 1))
        decays = {f"{name}_scales": self.scale_decay for name in (DYNAMIC, STATIC)} | self.decays
        prefit_steps = self.prefit_steps if self.motion.setup(num_frames=2).prefits else 0
        return (
            Stage(
                "prefit",
                prefit_steps,
                renders=False,
                groups=tuple(self.prefit_rates),
                learning_rates=self.prefit_rates,
                decays={"*": Decay(factor=0.1, steps=prefit_steps)},
                density_control=False,
            ),
            Stage("coarse", self.coarse_steps, decays=decays, resets_moments=True, moves_from=self.coarse_steps),
            Stage(
                "train",
                self.train_steps or max(5000, 500 * epoch),
                decays=decays,
                resets_moments=True,
                moves_from=self.still_steps,
                exposes_from=self.sharp_steps,
                starts=self.group_starts,
            ),
        )


class DynamicModel(TrainingSteps, ExportedScene, ResumedScene, TrainingViews, SplatfactoModel):
    """Sets of Gaussians, a motion field and an exposure model as a nerfstudio model."""

    config: DynamicModelConfig  # type: ignore[assignment]

    def populate_modules(self) -> None:
        metadata: Mapping[str, Any] = self.kwargs.get("metadata") or {}
        self.num_frames = int(metadata.get("num_frames", self.num_train_data))
        prepare_backend(self.config.backend, self.kwargs.get("device", "cpu"))
        motion = self.config.motion.setup(num_frames=self.num_frames)
        color_head = self.config.color_head.setup()
        isotropic, sh_degree = self.config.isotropic, self.config.sh_degree
        sets = [
            GaussianSet(name, motion.columns() if name == DYNAMIC else None, isotropic, sh_degree, color_head)
            for name in self._set_names()
        ]
        exposure = self.config.exposure.setup(num_views=self.num_train_data, num_frames=self.num_frames)
        cameras = self.config.cameras.setup(num_views=self.num_train_data)
        self.scene = Scene(sets, motion, exposure, cameras, color_head)
        for name in self.config.losses:
            look_up(name)
        self.density = {
            s.name: DensityControl(self.config.density[s.name], self.num_frames)
            for s in sets
            if s.name in self.config.density
        }
        # Until training starts, which knows the batches; a checkpoint says itself how far it is.
        self.schedule = Schedule(self.config.stages(self.num_frames, batch_size=1))
        self.clock = PathClock([], self.config.default_time)
        self.step = 0
        self.crop_box: OrientedBox | None = None
        self.lpips_net: Net = metadata.get("lpips_net") or "alex"
        """The network of LPIPS that the dataset's protocol names."""
        self.unfed_losses: dict[str, str] = {}
        """Losses that the clip has no input for, and what it lacks."""
        self.train_background = get_color(metadata.get("background") or self.config.background_color)
        self.background_color = self.train_background  # the viewer may change this one
        self.scene_frame: Tensor | None = None
        """The dataparser's transform and scale ``[13]``, kept in checkpoints to notice when they change."""
        self._prefit_target: prefit.PrefitTarget | None = None
        self._neighbours = Neighbours()
        self._host_optimizers: dict[str, torch.optim.Optimizer] = {}

    def _set_names(self) -> tuple[str, ...]:
        names = self.config.sets
        if not names or len(set(names)) < len(names) or not set(names) <= {DYNAMIC, STATIC}:
            raise ValueError(
                f"--pipeline.model.sets is {' '.join(names) or 'empty'}; expected '{DYNAMIC} {STATIC}', '{DYNAMIC}' or "
                f"'{STATIC}'."
            )
        return names

    # --- starting -----------------------------------------------------------------------------------------------

    def start_from(self, views: ClipViews, batch_size: int) -> None:
        """Fill the scene from a clip's priors; called once, before training."""
        self.schedule = Schedule(self.config.stages(self.num_frames, batch_size))
        dynamic, static = self.scene.dynamic, self.scene.static
        self.unfed_losses = observed.unfed_losses(self.config.losses, views)
        if self.unfed_losses:
            CONSOLE.log(observed.explain(self.unfed_losses))
        tracks, extents = start_scene(self.config.initialise, views, dynamic, static, self.scene.motion)
        for name, extent in extents.items():
            if name in self.density:
                self.density[name].extent = extent
        self.scene.exposure.start_from(views)
        self.scene.to(self.device)
        self.scene.motion.know_cameras(views.camera_T_world, views.K, views.times)
        if tracks is not None and self.scene.motion.prefits and self.config.prefit_steps > 0:
            self._prefit_target = prefit.PrefitTarget.from_tracks(tracks, views, self.device)

    # --- rendering ----------------------------------------------------------------------------------------------

    def render_options(self) -> RenderOptions:
        """How training, or everything else, has the scene rasterized."""
        absolute = self.training and any(control.config.absolute_gradients for control in self.density.values())
        passes = self.config.instants_per_pass if self.training else 0
        return RenderOptions(self.config.rasterize_mode, self.config.backend, absolute, passes)

    def _views(self, cameras: Cameras, index: Tensor, size: tuple[int, int] | None) -> Views:
        return views_of(cameras, self.clock, self.device, index, size)

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """The images of one camera: ``rgb, depth, accumulation, dynamic, tracks, background``, all ``[h, w, 1|3]``."""
        if not isinstance(camera, Cameras):
            raise ValueError(
                f"Gaussians are rendered from cameras, but a {type(camera).__name__} was given. "
                "Point cloud, mesh and nearest-camera commands of the host need a ray-based method."
            )
        views, mode = self.shown(camera.reshape((-1,)))
        background = self.background_color.to(self.device)
        crop = self.crop_box
        render = self.scene.render(
            views,
            mode=mode,
            needs=("dynamic", "depth"),
            background=background,
            options=self.render_options(),
            keep=None if crop is None else lambda g: crop.within(g.means.reshape(-1, 3)).reshape(-1),
        )
        rgb = render.channels["rgb"][0].clamp(0, 1)
        alpha = render.alpha[0]
        assert render.depth is not None
        depth = torch.where(alpha > 0, render.depth[0], render.depth[0].max())
        return {
            "rgb": rgb,
            "depth": depth,
            "accumulation": alpha,
            "dynamic": render.channels["dynamic"][0],
            "tracks": overlay.draw_tracks(rgb, self.scene, views, self.num_frames, self.config.track_overlay_points),
            "background": background.expand(*rgb.shape[:2], 3),
        }

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        self.set_crop(obb_box)
        return self.get_outputs(camera.to(self.device))

    def get_image_metrics_and_images(self, outputs, batch):
        return batch_metrics(outputs["rgb"], batch, self.lpips_net), {
            "img": torch.cat([batch["image"].to(self.device), outputs["rgb"]], dim=1),
            "dynamic": outputs["dynamic"].expand(-1, -1, 3),
            "accumulation": outputs["accumulation"].expand(-1, -1, 3),
        }

    # --- the host's bookkeeping ---------------------------------------------------------------------------------

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.scene.param_groups()

    def get_gaussian_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.scene.param_groups()
