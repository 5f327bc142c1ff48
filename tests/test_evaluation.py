"""What is scored, and on which pixels."""

import math

import torch

from dyngs_plugins.evaluation import image_metrics


def test_each_region_is_scored_on_its_own_pixels():
    target = torch.full((40, 48, 3), 0.5)
    prediction = target.clone()
    prediction[:20] += 0.1
    left = torch.zeros(40, 48, dtype=torch.bool)
    left[:20] = True
    scores = image_metrics(prediction, target, dynamic=left, covisible=~left)
    assert math.isclose(scores["psnr_dynamic"], 20.0, abs_tol=1e-4)
    assert math.isinf(scores["psnr_covisible"])
    assert math.isclose(scores["psnr"], 20.0 + 10 * math.log10(2), abs_tol=1e-4)
    assert scores["ssim_covisible"] > scores["ssim_dynamic"]


def test_regions_that_a_layout_does_not_know_are_left_out():
    image = torch.rand(40, 48, 3)
    assert set(image_metrics(image, image)) <= {"psnr", "ssim", "lpips"}


def test_an_empty_region_is_undefined_not_perfect():
    image = torch.rand(40, 48, 3)
    assert math.isnan(image_metrics(image, image, torch.zeros(40, 48, dtype=torch.bool))["psnr_dynamic"])
