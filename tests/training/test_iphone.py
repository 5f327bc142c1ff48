"""DyCheck's iPhone layout with Shape of Motion's preprocessing, from files to scores, through the host's trainer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from dataparsers.som import SomDataParserConfig
from dyngs_plugins.priors.clip_files import Keypoints, read_ground_truth_tracks

QUERIES = (0, 5)


def mark_true_points(capture: Path, rig: Path) -> tuple[int, float]:
    """Replaces the key-points by moving surface points that both frames see, in pixels of 2x.

    Returns:
        How many, and the PCK-T of who says that nothing moves in the image.
    """
    truth = read_ground_truth_tracks(rig / "eval" / "tracks.npz")
    seen = truth.moving & truth.visible[:, QUERIES[0]] & truth.visible[:, QUERIES[1]]
    apart = (truth.xy[:, QUERIES[1]] - truth.xy[:, QUERIES[0]]).norm(dim=-1)
    rows = seen.nonzero().flatten()
    for step in QUERIES:
        marks = [[x / 2, y / 2, 1.0] for x, y in truth.xy[rows, step].tolist()]
        (capture / f"keypoint/2x/train/0_{step:05d}.json").write_text(json.dumps(marks))
    return len(rows), float((apart[rows] < 0.05 * 64).float().mean())


def test_an_iphone_capture_trains_and_its_keypoints_are_scored(iphone_capture, rig, train):
    count, still = mark_true_points(iphone_capture, rig)

    def change(config):
        config.pipeline.model.prefit_steps = 100
        config.pipeline.datamanager.frames_per_batch = 4
        config.pipeline.datamanager.dataparser = SomDataParserConfig(camera_type="original", mask_erosion=3)

    trainer = train(300, data=iphone_capture, change=change)
    pipeline = trainer.pipeline
    pipeline.test_mode = "test"
    scores = pipeline.get_average_eval_image_metrics()
    assert scores["protocol"].startswith("validation cameras of DyCheck (5 views at 1x")
    assert scores["keypoints_transferred"] == 2 * count > 20, "there and back"
    # 5 % of the longer side are 3.2 pixels here.
    assert scores["keypoints_pck_t_5percent"] > max(0.7, still + 0.2)
    assert scores["psnr_covisible"] > 12.0


def test_points_over_nothing_are_wrong_not_left_out(iphone_capture, rig, train):
    mark_true_points(iphone_capture, rig)

    def change(config):
        config.pipeline.model.prefit_steps = 0
        config.pipeline.datamanager.frames_per_batch = 2
        config.pipeline.datamanager.dataparser = SomDataParserConfig(camera_type="original", mask_erosion=3)

    pipeline = train(1, data=iphone_capture, change=change).pipeline
    with torch.no_grad():
        for gaussians in pipeline.model.scene.gaussian_sets():
            gaussians.raw["opacities"].fill_(-20.0)
    metadata = pipeline.datamanager.eval_dataset.metadata
    assert isinstance(metadata["keypoints"], Keypoints)
    pipeline.test_mode = "test"
    scores = pipeline.get_average_eval_image_metrics()
    assert scores["keypoints_pck_t_5percent"] == 0.0
    assert np.isfinite(scores["psnr"])
