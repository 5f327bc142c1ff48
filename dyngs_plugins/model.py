"""The host seam for models: one nerfstudio model for every motion field and exposure model.

A subclass of splatfacto for type identity alone (``ns-export gaussian-splat`` and the viewer test ``isinstance``);
nothing of its construction is used, since that needs CUDA and downloads weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils.colors import get_color
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from dyngs_plugins import observed, overlay, prefit
from dyngs_plugins.camera_refinement import CameraRefinementConfig
from dyngs_plugins.cameras import PathClock
from dyngs_plugins.color_head import ColorHeadConfig
from dyngs_plugins.density import DensityControl, DensityControlConfig
from dyngs_plugins.evaluation import image_metrics
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
from dyngs_plugins.objective import LossContext, LossTerm, look_up
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.raster.backends import prepare_backend
from dyngs_plugins.resumed import Progress, ResumedScene
from dyngs_plugins.scene import DYNAMIC, STATIC, RenderOptions, Scene, TargetCameras, Views
from dyngs_plugins.stages import Decay, Schedule, Stage
from dyngs_plugins.training_views import TrainingViews
from dyngs_plugins.types import Render


@dataclass
class DynamicModelConfig(ModelConfig):
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
    """The sets of Gaussians: what moves, and what stands still and never pays for motion; or only one of them."""
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
    """Steps of fitting the motion to 3-D tracks before the first render."""
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
    """Rasterizer backend; None: gsplat on CUDA, numba on the CPU."""
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
        return (
            Stage(
                "prefit",
                self.prefit_steps,
                renders=False,
                groups=tuple(self.prefit_rates),
                learning_rates=self.prefit_rates,
                decays={"*": Decay(factor=0.1, steps=self.prefit_steps)},
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


class DynamicModel(ExportedScene, ResumedScene, TrainingViews, SplatfactoModel):
    """Sets of Gaussians, a motion field and an exposure model as a nerfstudio model."""

    config: DynamicModelConfig  # type: ignore[assignment]

    def populate_modules(self) -> None:
        metadata: Mapping[str, Any] = self.kwargs.get("metadata") or {}
        self.num_frames = int(metadata.get("num_frames", self.num_train_data))
        prepare_backend()
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
        self.schedule = Schedule(self.config.stages(self.num_frames, batch_size=8))
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

    # --- training -----------------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """The stage of the current step."""
        return self.schedule.at(self.step)[0]

    def get_training_callbacks(self, training_callback_attributes: TrainingCallbackAttributes):
        trainer = training_callback_attributes.trainer
        assert trainer is not None
        self._host_optimizers = trainer.optimizers.optimizers
        rates = {name: float(entry["optimizer"].lr) for name, entry in trainer.config.optimizers.items()}
        if trainer.config.max_num_iterations <= 0:
            trainer.config.max_num_iterations = max(self.schedule.total_steps - trainer._start_step, 0)
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [
            TrainingCallback([before], partial(self._before_step, rates=rates)),
            TrainingCallback([after], self._after_step),
        ]

    def _before_step(self, step: int, rates: Mapping[str, float]) -> None:
        self.step = step
        self.schedule.apply(step, self._host_optimizers, rates)
        self.enter(self.progress())

    def progress(self) -> Progress:
        """Where the training is, as a checkpoint keeps it."""
        stage, step_in_stage = self.schedule.at(self.step)
        rendered = self.step - sum(s.steps for s in self.schedule.stages if not s.renders)
        degree = min(max(rendered, 0) // max(self.config.harmonics_every, 1), self.config.sh_degree)
        return Progress(stage.name, step_in_stage, step_in_stage >= stage.moves_from, degree)

    def _after_step(self, step: int) -> None:
        stage, step_in_stage = self.schedule.at(step)
        info, self._info = getattr(self, "_info", None), None
        if info is not None and stage.density_control:
            self._control_density(info, step_in_stage)
        if self.scene.dynamic is not None:
            self.scene.motion.upkeep(self.scene.dynamic, self._host_optimizers, stage.name, step_in_stage)

    def _control_density(self, info: Mapping[str, Any], step_in_stage: int) -> None:
        means2d = info["means2d"]
        drawn = (info["radii"] > 0) & (info["opacities"] > 0)  # a Gaussian that does not live now is not drawn
        for name, rows in self.scene.rows().items():
            control, gaussians = self.density.get(name), self.scene.set_named(name)
            if control is None or gaussians is None:
                continue
            grad = means2d.absgrad if control.config.absolute_gradients else means2d.grad
            radii = info["radii"][:, rows] * drawn[:, rows]
            control.observe(grad[:, rows], radii, info["width"], info["height"])
            adapt = self.scene.motion.split_children if name == DYNAMIC else None
            control.step(gaussians, self._host_optimizers, step_in_stage, adapt)

    def get_training_outputs(self, cameras: Cameras | None, batch: dict[str, Any]) -> dict[str, Any]:
        """What the losses need in one training step: renders of the batch, or the pre-fit's nothing."""
        if not self.stage.renders or cameras is None:
            return {}
        views = self.scene.refined(self._views(cameras, batch["view_index"]))
        stage, step_in_stage = self.schedule.at(self.step)
        self.scene.exposure.observe(self.scene, views, self.step)
        needs = self.needs
        targets = self._targets(batch) if "targets" in needs else None
        if targets is None:
            needs.discard("targets")
        background = self.train_background.to(self.device)
        mode = "train" if step_in_stage >= stage.exposes_from else "mid"
        render = self.scene.render(
            views, mode=mode, needs=needs, targets=targets, background=background, options=self._options()
        )
        if render.info["means2d"].requires_grad:
            render.info["means2d"].retain_grad()
        self._info = dict(render.info)
        return {"render": render, "views": views, "rgb": render.channels["rgb"]}

    def get_metrics_dict(self, outputs, batch) -> dict[str, Tensor]:
        metrics = {f"gaussians_{s.name}": torch.tensor(float(len(s))) for s in self.scene.gaussian_sets()}
        if "rgb" in outputs and "image" in batch:
            error = (outputs["rgb"].detach() - batch["image"].to(self.device)).square().mean()
            metrics["psnr"] = -10 * torch.log10(error.clamp_min(1e-10))
        return metrics

    def get_loss_dict(self, outputs, batch, metrics_dict=None) -> dict[str, Tensor]:
        if not self.training:
            return {"rgb": (outputs["rgb"] - batch["image"].to(self.device)).abs().mean()}
        stage, step_in_stage = self.schedule.at(self.step)
        dynamic = self.scene.dynamic
        if not stage.renders:
            if self._prefit_target is None or dynamic is None:
                return {"prefit": self.device_indicator_param.sum()}
            return prefit.prefit_losses(self._prefit_target, dynamic, self.scene.motion, step_in_stage / stage.steps)
        render: Render = outputs["render"]
        views: Views = outputs["views"]
        context = LossContext(
            render=render,
            batch=batch,
            times=views.time,
            camera_T_world=views.camera_T_world,
            num_frames=self.num_frames,
            dynamic=dynamic,
            static=self.scene.static,
            motion=self.scene.motion,
            neighbours=partial(self._neighbours.of, dynamic, self.step),
        )
        terms = {
            name: self.config.losses[name].weight * look_up(name).function(context) for name in self._active_losses()
        }
        if dynamic is not None and self.scene.moves:
            terms.update(self.scene.motion.regularisers(dynamic.activated()))
        terms.update(self.scene.exposure.regularisers(views.index))
        if self.scene.cameras is not None and views.index is not None:
            terms.update(self.scene.cameras.regularisers(views.index))
        return terms

    @property
    def needs(self) -> set[str]:
        """What the active losses declare: channels to render, and priors that batches hold only where asked for."""
        return {need for name in self._active_losses() for need in look_up(name).needs}

    def _active_losses(self) -> list[str]:
        stage, step = self.schedule.at(self.step)
        return [
            name
            for name, term in self.config.losses.items()
            if term.active(step) and (stage.losses is None or name in stage.losses) and name not in self.unfed_losses
        ]

    # --- rendering ----------------------------------------------------------------------------------------------

    def _options(self) -> RenderOptions:
        absolute = self.training and any(control.config.absolute_gradients for control in self.density.values())
        return RenderOptions(self.config.rasterize_mode, self.config.backend, absolute)

    def _views(self, cameras: Cameras, index: Tensor | None = None) -> Views:
        return views_of(cameras, self.clock, self.device, index)

    def _targets(self, batch: Mapping[str, Any]) -> TargetCameras | None:
        tracks = batch.get("tracks")
        if not tracks or self.scene.dynamic is None:
            return None
        count = min(t.target_times.shape[0] for t in tracks)
        camera_T_world = torch.stack([t.target_camera_T_world[:count] for t in tracks])
        if self.scene.cameras is not None:
            index = torch.stack([t.target_views[:count] for t in tracks])
            camera_T_world = self.scene.cameras.poses(camera_T_world.flatten(0, 1), index.flatten()).view_as(
                camera_T_world
            )
        return TargetCameras(camera_T_world, time=torch.stack([t.target_times[:count] for t in tracks]))

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
            options=self._options(),
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
        image = batch["image"].to(self.device)
        masks = {name: batch[name].to(self.device) for name in ("dynamic", "covisible", "valid") if name in batch}
        metrics = image_metrics(
            outputs["rgb"],
            image,
            masks["dynamic"] > 0 if "dynamic" in masks else None,
            masks.get("covisible"),
            masks.get("valid"),
            self.lpips_net,
        )
        return metrics, {
            "img": torch.cat([image, outputs["rgb"]], dim=1),
            "dynamic": outputs["dynamic"].expand(-1, -1, 3),
            "accumulation": outputs["accumulation"].expand(-1, -1, 3),
        }

    # --- the host's bookkeeping ---------------------------------------------------------------------------------

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.scene.param_groups()

    def get_gaussian_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.scene.param_groups()
