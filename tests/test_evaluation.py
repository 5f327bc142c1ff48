"""What is scored, and on which pixels."""

import math

import torch

from dyngs_plugins import evaluation
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


def test_pixels_without_a_source_count_in_no_score():
    target = torch.rand(40, 48, 3, generator=torch.Generator().manual_seed(0))
    prediction = target.clone()
    prediction[:, :16] = 0.0
    valid = torch.ones(40, 48, dtype=torch.bool)
    valid[:, :16] = False
    scores = image_metrics(prediction, target, valid=valid)
    assert math.isinf(scores["psnr"])
    assert math.isclose(scores["ssim"], 1.0, abs_tol=1e-5)
    assert image_metrics(prediction, target, valid=torch.ones_like(valid)) == image_metrics(prediction, target)
    assert image_metrics(prediction, target)["psnr"] < 15


def test_lpips_is_of_the_network_that_the_protocol_names(monkeypatch):
    asked = []

    def note(prediction, target, *rest):
        asked.append(rest[-1])
        return torch.tensor(0.0)

    monkeypatch.setattr(evaluation, "lpips", note)
    monkeypatch.setattr(evaluation, "masked_lpips", note)
    image, everywhere = torch.rand(20, 24, 3), torch.ones(20, 24, dtype=torch.bool)
    image_metrics(image, image, everywhere, everywhere, net="vgg")
    assert asked == ["vgg"] * 3
    asked.clear()
    image_metrics(image, image, everywhere)  # too small for AlexNet
    assert asked == []
