"""From where a test image is looked at: scores of several protocols side by side, each under its name.

``novel``: the given pose. ``deblur_mid``: a training view, seen sharply from where training has found its camera in the
middle of the exposure. ``*_aligned``: after the pose was fitted to the test image. ``rig_transfer``: the pose that a
rigid rig gives, from the found pose of the training view at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from dyngs_plugins.alignment import AlignmentConfig, align
from dyngs_plugins.evaluation import batch_metrics
from dyngs_plugins.exposure import se3
from dyngs_plugins.host_cameras import views_of
from dyngs_plugins.metrics.image import mean_scores
from dyngs_plugins.metrics.lpips import Net
from dyngs_plugins.priors.pixels import read_pixels
from dyngs_plugins.scene import RenderOptions, Views
from dyngs_plugins.training_views import TrainingViews

Frame = tuple[Cameras, Mapping[str, Any]]
"""A camera and its image with masks, as the host's evaluation has them."""


@dataclass(frozen=True)
class Scorer:
    """Scores images of a model from several poses."""

    model: TrainingViews
    options: RenderOptions
    background: Float[Tensor, "3"]
    alignment: AlignmentConfig
    net: Net

    def all_modes(self, frames: Iterable[Frame]) -> dict[str, dict[str, Any]]:
        """Averages by mode, over the images that have it; each says how many, and how its poses came about."""
        scores: dict[str, list[dict[str, float]]] = {}
        for camera, batch in frames:
            for mode, view in self.poses(camera, batch).items():
                scores.setdefault(mode, []).append(self.score(view, batch))
        return {mode: self._averages(mode, found) for mode, found in scores.items()}

    def poses(self, camera: Cameras, batch: Mapping[str, Any]) -> dict[str, Views]:
        """The modes that one test image has, and from where each looks at it."""
        device = self.background.device
        given = views_of(camera.reshape((-1,)), self.model.clock, device)
        same = self.model.training_view_at(given)
        name = "novel" if same is None else "deblur_mid"
        if same is not None:
            found = self.model.found_poses(torch.tensor([same], device=device))
            given = replace(given, camera_T_world=found)
        modes = {name: given}
        transferred = self.rig_transfer(given) if name == "novel" else None
        if transferred is not None:
            modes["rig_transfer"] = transferred
        if self.alignment.steps > 0:
            start = transferred or given
            image = batch["image"].to(start.time.device)
            valid = batch["valid"].to(image.device) if "valid" in batch else None
            modes[f"{name}_aligned"] = align(
                self.model.scene, start, image, self.alignment, self.options, self.background, valid
            )
        return modes

    def rig_transfer(self, view: Views) -> Views | None:
        """The view as a rigid rig carries it along with the training view at its time; None: nothing has moved."""
        known, nearest = self.model.train_views, self.model.nearest_training_view(view)
        if known is None or nearest is None or not self.model.changes_cameras:
            return None
        if float((known.time[nearest] - view.time[0]).abs()) > 1e-4:
            return None
        row = torch.tensor([nearest], device=known.time.device)
        test_T_train = view.camera_T_world @ se3.invert(known.camera_T_world[row])
        return replace(view, camera_T_world=test_T_train @ self.model.found_poses(row))

    @torch.no_grad()
    def score(self, view: Views, batch: Mapping[str, Any]) -> dict[str, float]:
        """The metrics of one image from one pose."""
        render = self.model.scene.render(view, background=self.background, options=self.options)
        return batch_metrics(render.channels["rgb"][0].clamp(0, 1), batch, self.net)

    def _averages(self, mode: str, scores: list[dict[str, float]]) -> dict[str, Any]:
        return {"images": len(scores), "poses": self._poses_of(mode), **mean_scores(scores)}

    def _poses_of(self, mode: str) -> str:
        if mode.endswith("_aligned"):
            return f"fitted to each test image by {self.alignment.steps} steps of Adam, the scene as it is"
        return {
            "novel": "given",
            "deblur_mid": "found in training, middle of the exposure",
            "rig_transfer": "given relative to the training view at the same time, whose pose was found in training",
        }[mode]


def sharp_frames(cameras: Cameras, image_files: Iterable[Path], height: int, width: int) -> list[Frame]:
    """Training views whose sharp images lie beside their blurred ones: ``sharp/...`` beside ``images/...``."""
    frames: list[Frame] = []
    for index, path in enumerate(image_files):
        at = [k for k, part in enumerate(path.parts) if part == "images"]
        if not at:
            return []
        sharp = Path(*path.parts[: at[-1]], "sharp", *path.parts[at[-1] + 1 :])
        if not sharp.is_file():
            return []
        frames.append((cameras[index : index + 1], {"image": read_pixels(sharp, (height, width))[..., :3] / 255.0}))
    return frames
