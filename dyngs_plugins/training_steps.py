"""What the model does in a training step: rules of the stage, renders, losses, density control."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from dyngs_plugins import prefit
from dyngs_plugins.density import DensityControl
from dyngs_plugins.frame_batches import TrackBatch
from dyngs_plugins.loss_context import LossContext
from dyngs_plugins.neighbours import Neighbours
from dyngs_plugins.objective import look_up
from dyngs_plugins.resumed import Progress
from dyngs_plugins.scene import DYNAMIC, RenderOptions, Scene, TargetCameras, Views
from dyngs_plugins.stages import Schedule, Stage
from dyngs_plugins.types import Render

if TYPE_CHECKING:
    from dyngs_plugins.model import DynamicModelConfig


class TrainingSteps:
    """The half of the model that only training needs."""

    config: DynamicModelConfig
    scene: Scene
    density: dict[str, DensityControl]
    schedule: Schedule
    step: int
    num_frames: int
    train_background: Tensor
    unfed_losses: dict[str, str]
    training: bool
    device: torch.device
    device_indicator_param: Tensor
    _prefit_target: prefit.PrefitTarget | None
    _neighbours: Neighbours
    _host_optimizers: dict[str, torch.optim.Optimizer]
    _info: Mapping[str, Any] | None = None
    """The rasterizer's record of the step's render, until the density control has seen its gradients."""

    if TYPE_CHECKING:

        def enter(self, progress: Progress) -> None: ...
        def render_options(self) -> RenderOptions: ...
        def _views(self, cameras: Cameras, index: Tensor, size: tuple[int, int] | None) -> Views: ...

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
        outlook = self.schedule.outlook(trainer._start_step, trainer.config.max_num_iterations)
        if trainer.config.max_num_iterations == 0:  # the host would save what it has loaded as that of step 0
            raise ValueError(outlook)
        CONSOLE.log(outlook)
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
        info, self._info = self._info, None
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
        stage, step_in_stage = self.schedule.at(self.step)
        if not stage.renders or cameras is None:
            return {}
        size = (batch["image"].shape[1], batch["image"].shape[2]) if "image" in batch else None
        views = self.scene.refined(self._views(cameras, batch["view_index"], size))
        background = self.train_background = self.train_background.to(self.device)  # which waits for a GPU, so once
        error = partial(self._exposure_error, views, batch, background) if "image" in batch else None
        self.scene.exposure.observe(self.scene, views, self.step, error)
        needs = self.needs
        targets = self._targets(batch) if "targets" in needs else None
        if targets is None:
            needs.discard("targets")
        mode = "train" if step_in_stage >= stage.exposes_from else "mid"
        render = self.scene.render(
            views, mode=mode, needs=needs, targets=targets, background=background, options=self.render_options()
        )
        if render.info["means2d"].requires_grad:
            render.info["means2d"].retain_grad()
        self._info = dict(render.info)
        return {"render": render, "views": views, "rgb": render.channels["rgb"]}

    @torch.no_grad()
    def _exposure_error(self, views: Views, batch: Mapping[str, Any], background: Tensor) -> Float[Tensor, "b"]:
        """The mean absolute error of a batch's whole exposures, view by view."""
        render = self.scene.render(views, mode="train", background=background, options=self.render_options())
        return (render.channels["rgb"] - batch["image"].to(self.device)).abs().mean(dim=(1, 2, 3))

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
            background=self.train_background,
        )
        terms = {
            name: self.config.losses[name].weight * look_up(name).function(context) for name in self._active_losses()
        }
        if dynamic is not None and self.scene.moves:
            terms.update(self.scene.motion.regularisers(context.moving))
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

    def _targets(self, batch: Mapping[str, Any]) -> TargetCameras | None:
        tracks: TrackBatch | None = batch.get("tracks")
        if tracks is None or self.scene.dynamic is None:
            return None
        camera_T_world = tracks.target_camera_T_world
        if self.scene.cameras is not None:
            refined = self.scene.cameras.poses(camera_T_world.flatten(0, 1), tracks.target_views.flatten())
            camera_T_world = refined.view_as(camera_T_world)
        return TargetCameras(camera_T_world, tracks.target_times)
