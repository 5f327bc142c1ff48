"""What a method found out about exposures, against what the sample scene knows: camera paths, exposure times, the lens.

    dyngs sample clip --still --blur --exposure 0.8 --shake 4
    ns-train deblur-bad-small --data clip --vis tensorboard --pipeline.model.exposure.camera-path.blend linear
    python scripts/exposure_truth.py RUN/config.yml

Camera paths are compared as image motion of points in the middle of the scene, relative to the middle of the exposure,
in whichever direction of time fits better: blur tells neither direction nor, without a given pose, the middle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Float
from nerfstudio.utils.eval_utils import eval_setup
from torch import Tensor

from dyngs_plugins.evaluation import predict_tracks
from dyngs_plugins.exposure.path import PathExposure
from dyngs_plugins.exposure.thin_lens import Lens
from dyngs_plugins.losses.tracks import project
from dyngs_plugins.priors.views import ClipViews


def image_paths(
    camera_T_world: Float[Tensor, "s 4 4"], K: Float[Tensor, "3 3"], depth: float, size: tuple[int, int]
) -> Float[Tensor, "s p 2"]:
    """How points at a depth of the middle camera move over the image, relative to there, in pixels."""
    width, height = size
    y, x = torch.meshgrid(torch.linspace(0.25, 0.75, 3) * height, torch.linspace(0.25, 0.75, 3) * width, indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten(), torch.ones(9)], dim=-1)
    seen = depth * pixels @ torch.linalg.inv(K).T
    moved = camera_T_world @ torch.linalg.inv(camera_T_world[len(camera_T_world) // 2])
    points = seen @ moved[:, :3, :3].mT + moved[:, None, :3, 3]
    projected = points @ K.T
    return projected[..., :2] / projected[..., 2:] - pixels[:, :2]


def path_error(found: Float[Tensor, "s p 2"], true: Float[Tensor, "s p 2"]) -> tuple[float, float]:
    """Mean distance of two image paths, in the better direction of time, and the length of the true one (pixels)."""
    length = (true[1:] - true[:-1]).norm(dim=-1).sum(0).mean()
    off = min(float((path - true).norm(dim=-1).mean()) for path in (found, found.flip(0)))
    return off, float(length)


@torch.no_grad()
def compare_paths(pipeline: Any, exposure: PathExposure, truth: dict[str, Any]) -> None:
    """Print the error of every frame's camera path, and of all together."""
    model, views = pipeline.model, pipeline.datamanager.views
    scale = float(pipeline.datamanager.train_dataparser_outputs.dataparser_scale)
    fraction = truth["settings"]["exposure"]["fraction"]
    offsets = torch.tensor([sample["offset"] for sample in truth["exposure"]["samples"]])
    order = torch.argsort(offsets)
    u = offsets[order] / fraction + 0.5
    known = model.training_views(torch.arange(len(views)))
    found = torch.linalg.inv(exposure.path(known.index, known.camera_T_world, u)) @ known.camera_T_world[:, None]
    cameras = [poses for name in truth["exposure"]["cameras"] for poses in truth["exposure"]["cameras"][name]]
    errors, lengths = [], []
    for view, poses in enumerate(cameras):
        true = torch.linalg.inv(torch.tensor(poses)[order])
        true[:, :3, 3] *= scale
        depth, size = float(views.depth(view).median()), (views.width, views.height)
        off, length = path_error(*(image_paths(c, views.K[view], depth, size) for c in (found[view], true)))
        errors.append(off)
        lengths.append(length)
        print(f"  view {view:3d}: path of {length:5.1f} px, error {off:5.2f} px, {100 * off / length:5.1f} %")
    relative = [off / length for off, length in zip(errors, lengths, strict=True)]
    print(f"camera paths: mean relative error {100 * sum(relative) / len(relative):.1f} %, "
          f"all errors over all lengths {100 * sum(errors) / sum(lengths):.1f} %")  # fmt: skip


def image_speeds(points: Float[Tensor, "p t 3"], views: ClipViews, frames: range) -> Float[Tensor, "p f"]:
    """How fast points move over the image for the camera of each frame, held still: pixels per frame.

    This is what blur shows of a speed, times the exposure; motion along the ray leaves none.
    """

    def pixels(frame: int, seen_at: int) -> Float[Tensor, "p 2"]:
        camera_T_world = views.camera_T_world[seen_at]
        camera = points[:, frame] @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
        return project(camera, views.K[seen_at].expand(len(camera), 3, 3))

    return torch.stack([(pixels(k + 1, k) - pixels(k - 1, k)).norm(dim=-1) / 2 for k in frames], dim=1)


def speed_ratio(found: Tensor, true: Tensor, counted: Tensor) -> float:
    """The median of found over true speeds, of what is not nearly at rest."""
    found, true = found[counted], true[counted]
    moves = true > 0.2 * true.mean()
    return float((found[moves] / true[moves]).median())


@torch.no_grad()
def compare_shutter(pipeline: Any, exposure: PathExposure, truth: dict[str, Any]) -> None:
    """Print half exposures, speeds of moving points, and their product, over the true ones."""
    views = pipeline.datamanager.views
    tracks = pipeline.datamanager.eval_dataset.metadata.get("ground_truth_tracks")
    half = exposure.shutter.half_exposure(torch.arange(len(views)))
    true_half = 0.5 * truth["settings"]["exposure"]["fraction"]
    print(f"half exposures: {[round(float(h), 3) for h in half]}, true {true_half:.3f}")
    if tracks is None or not bool(tracks.moving.any()):
        return
    predicted = predict_tracks(pipeline.model.scene, tracks, views, pipeline.model.render_options())
    counted = (tracks.moving & predicted.covered)[:, None] & (tracks.visible[:, 2:] & tracks.visible[:, :-2])
    share = float(half[1:-1].median()) / true_half
    found, true = ((p[:, 2:] - p[:, :-2]).norm(dim=-1) / 2 for p in (predicted.points, tracks.points))
    speed = speed_ratio(found, true, counted)
    print(f"found over true, 3-D:      half exposure {share:.3f}, speed {speed:.3f}, their product {share * speed:.3f}")
    frames = range(1, tracks.points.shape[1] - 1)
    if len(views) == tracks.points.shape[1]:  # one camera, all frames: view k is frame k
        found, true = (image_speeds(p, views, frames) for p in (predicted.points, tracks.points))
        speed = speed_ratio(found, true, counted)
        print(
            f"found over true, in image: half exposure {share:.3f}, speed {speed:.3f}, their product {share * speed:.3f}"
        )


@torch.no_grad()
def compare_lens(pipeline: Any, lens: Lens, truth: dict[str, Any]) -> None:
    """Print radius and focus distance of the lens beside the true ones, in world units."""
    scale = float(pipeline.datamanager.train_dataparser_outputs.dataparser_scale)
    aperture, inverse_focus = (float(value.median()) for value in lens.lens_of(torch.zeros(1, dtype=torch.long)))
    true = truth["settings"]["exposure"]
    focus = 1 / inverse_focus / scale
    print(
        f"focus distance {focus:.3f}, true {true['focus_distance']:.3f}: {100 * (focus / true['focus_distance'] - 1):+.1f} %"
    )
    print(f"lens radius    {aperture / scale:.3f}, true {true['aperture']:.3f}")


def main(config: tyro.conf.Positional[Path]) -> None:
    """Compare a finished run on a blurred sample clip with the clip's ground truth.

    Args:
        config: the run's config.yml.
    """
    settings, loaded, _, _ = eval_setup(config, test_mode="test")
    pipeline: Any = loaded
    record = Path(str(settings.pipeline.datamanager.data)) / "ground_truth.json"
    if not record.is_file():
        raise ValueError(f"{record} does not exist: expected a run on a clip of `dyngs sample --blur` or `--defocus`.")
    truth = json.loads(record.read_text())
    if "exposure" not in truth:
        raise ValueError(f"{record.parent} is a sharp clip. Make one with `dyngs sample --blur` or `--defocus`.")
    for part in pipeline.model.scene.exposure.modules():
        if isinstance(part, PathExposure):
            compare_paths(pipeline, part, truth)
            compare_shutter(pipeline, part, truth)
        if isinstance(part, Lens):
            compare_lens(pipeline, part, truth)


if __name__ == "__main__":
    tyro.cli(main)
