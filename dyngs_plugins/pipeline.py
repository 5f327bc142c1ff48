"""The host seam for training and evaluation: start the scene, feed batches with priors, score by protocol."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision.utils as vutils
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track

from dyngs_plugins.alignment import AlignmentConfig
from dyngs_plugins.config import GrowingConfig
from dyngs_plugins.data import DynamicDataManager, DynamicDataManagerConfig
from dyngs_plugins.evaluation import keypoint_scores, track_scores
from dyngs_plugins.evaluation_modes import Scorer, sharp_frames
from dyngs_plugins.metrics.image import mean_scores, standard_deviations
from dyngs_plugins.metrics.lpips import backbone, missing_message
from dyngs_plugins.model import DynamicModel, DynamicModelConfig
from dyngs_plugins.relocation import check_data_of_run
from dyngs_plugins.run_options import check_one_device
from dyngs_plugins.user_errors import end_in_one_message

TestMode = Literal["test", "val", "inference"]
"""The host's words: "val" for training, the others open a trained run."""


@dataclass
class DynamicPipelineConfig(GrowingConfig, VanillaPipelineConfig):
    """Datamanager and model of a dynamic method."""

    _target: type = field(default_factory=lambda: DynamicPipeline)
    datamanager: DynamicDataManagerConfig = field(default_factory=DynamicDataManagerConfig)  # type: ignore[assignment]
    model: DynamicModelConfig = field(default_factory=DynamicModelConfig)  # type: ignore[assignment]
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    """How ``ns-eval`` aligns test cameras for the scores that say so."""


class RunPipeline(VanillaPipeline):
    """The host's pipeline; a trained run whose data is not where it was says how to name the new place."""

    def __init__(self, config: VanillaPipelineConfig, device, test_mode: TestMode = "val", **rest: Any):
        end_in_one_message()
        if test_mode != "val":  # a trained run is opened
            check_data_of_run(config.datamanager)
        super().__init__(config, device, test_mode, **rest)


class DynamicPipeline(RunPipeline):
    """The host's pipeline with batches of frames, stages without rendering, and protocols in the evaluation."""

    config: DynamicPipelineConfig
    datamanager: DynamicDataManager
    _model: DynamicModel

    def __init__(
        self, config: DynamicPipelineConfig, device, test_mode: TestMode = "val", world_size: int = 1, **rest: Any
    ):
        check_one_device(world_size, f"world_size {world_size}")
        super().__init__(config, device, test_mode, **rest)
        known = [self.datamanager.train_dataset.cameras]
        if self.datamanager.eval_dataset is not None:
            known.append(self.datamanager.eval_dataset.cameras)
        self.model.know_cameras(known)
        outputs = self.datamanager.train_dataparser_outputs
        scale = torch.tensor([float(outputs.dataparser_scale)])
        self.model.scene_frame = torch.cat([outputs.dataparser_transform.flatten().float().cpu(), scale])
        if test_mode == "val":  # training; the other modes load a checkpoint over an empty scene
            CONSOLE.log("Starting the scene from the clip's priors")
            self.model.start_from(self.datamanager.views, config.datamanager.frames_per_batch)
            counts = ", ".join(f"{len(s)} {s.name}" for s in self.model.scene.gaussian_sets())
            CONSOLE.log(f"Gaussians to start from: {counts}. Evaluation: {self.protocol}")

    @property
    def model(self) -> DynamicModel:
        return self._model

    @property
    def protocol(self) -> str:
        """Which images train and which test, in words; goes beside every number."""
        return str(self.datamanager.eval_dataset.metadata.get("protocol", "not stated by the dataparser"))

    def get_train_loss_dict(self, step: int):
        self.datamanager.want(self.model.needs)
        cameras, batch = self.datamanager.next_train(step) if self.model.stage.renders else (None, {})
        outputs = self.model.get_training_outputs(cameras, batch)
        metrics = self.model.get_metrics_dict(outputs, batch)
        losses = self.model.get_loss_dict(outputs, batch, metrics)
        self._check_finite(losses, step)
        return outputs, losses, metrics

    def _check_finite(self, losses: dict[str, torch.Tensor], step: int) -> None:
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        for name, value in zip(losses, values, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"The loss '{name}' became {value} at step {step} ({self.model.stage.name}). The last "
                    "checkpoint is intact; resume from it with --load-dir and a lower learning rate."
                )

    def get_average_image_metrics(
        self,
        data_loader,
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, Any]:
        """The host's average, over the images that define a metric (a frame may have no moving pixel)."""
        self.eval()
        if output_path is not None:
            output_path.mkdir(exist_ok=True, parents=True)
        per_image = []
        for index, (camera, batch) in enumerate(track(data_loader, "Evaluating all images", transient=True)):
            outputs = self.model.get_outputs_for_camera(camera=camera)
            metrics, images = self.model.get_image_metrics_and_images(outputs, batch)
            per_image.append(metrics)
            if output_path is not None:
                for key, image in images.items():
                    vutils.save_image(
                        image.permute(2, 0, 1).cpu(), output_path / f"{image_prefix}_{key}_{index:04d}.png"
                    )
        averages = mean_scores(per_image)
        if get_std:
            averages |= {f"{name}_std": spread for name, spread in standard_deviations(per_image).items()}
        averages["images"] = float(len(per_image))
        self.train()
        return averages

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, Any]:
        metrics = super().get_average_eval_image_metrics(step, output_path, get_std)
        known, scene, views = self.datamanager.eval_dataset.metadata, self.model.scene, self.datamanager.views
        if known.get("ground_truth_tracks") is not None:
            scale = float(known.get("scene_scale", 1.0))
            metrics |= track_scores(scene, known["ground_truth_tracks"], views, scale, self.model.render_options())
        if known.get("keypoints") is not None:
            metrics |= keypoint_scores(scene, known["keypoints"], views, self.model.render_options())
        if self.test_mode == "test":  # ns-eval: goes into its JSON (the training loggers take numbers only)
            metrics["modes"] = self._scores_by_mode()
            metrics["protocol"] = self.protocol
            metrics["gaussians"] = {s.name: len(s) for s in self.model.scene.gaussian_sets()}
            net = self.model.lpips_net
            metrics["notes"] = missing_message(net) or f"LPIPS: {backbone(net).title}"
            for name, value in metrics.items():
                CONSOLE.print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
        return metrics

    def _scores_by_mode(self) -> dict[str, dict[str, Any]]:
        """Scores from given, found, transferred and aligned poses (``evaluation_modes.py``), each under its name."""
        self.eval()
        model, data = self.model, self.datamanager
        background = model.background_color.to(model.device)
        scorer = Scorer(model, model.render_options(), background, self.config.alignment, model.lpips_net)
        modes = scorer.all_modes(track(data.fixed_indices_eval_dataloader, "Scores by mode", transient=True))
        views = data.views
        if views.distortion is None:
            cameras = data.train_dataset.cameras.to(self.device)
            sharp = sharp_frames(cameras, views.image_files, views.height, views.width)
            modes.update(scorer.all_modes(track(sharp, "Scores of training views", transient=True)))
        self.train()
        return modes
