"""What the comparison of exposures with the truth counts as a speed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

FILE = Path(__file__).parent.parent / "scripts" / "exposure_truth.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("exposure_truth", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_speed_in_the_image_is_the_objects_own_and_knows_no_motion_along_the_ray(script):
    """One point goes sideways at 4 px a frame, one straight away from the camera; the camera moves as well."""
    frames = torch.arange(5.0)
    sideways = torch.stack([0.4 * frames, torch.zeros(5), torch.full((5,), 4.0)], dim=-1)
    away = torch.stack([torch.zeros(5), torch.zeros(5), 4 + 0.5 * frames], dim=-1)
    cameras = torch.eye(4).repeat(5, 1, 1)
    K = torch.tensor([[40.0, 0, 24], [0, 40, 18], [0, 0, 1]]).repeat(5, 1, 1)
    views: Any = SimpleNamespace(camera_T_world=cameras, K=K)
    speeds = script.image_speeds(torch.stack([sideways, away]), views, range(1, 4))
    torch.testing.assert_close(speeds, torch.tensor([[4.0] * 3, [0.0] * 3]), atol=1e-5, rtol=0)
    cameras[:, 0, 3] = -0.4 * frames  # follows the first point: its own motion is the same
    followed = script.image_speeds(torch.stack([sideways, away]), views, range(1, 4))
    torch.testing.assert_close(followed[0], speeds[0], atol=1e-5, rtol=0)


def test_what_is_nearly_at_rest_does_not_count(script):
    true = torch.tensor([1.0, 1.0, 1.0, 0.01])
    ratio = script.speed_ratio(torch.tensor([0.9, 0.9, 0.9, 1.0]), true, torch.ones(4, dtype=torch.bool))
    assert ratio == pytest.approx(0.9)
