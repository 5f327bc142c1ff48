"""Every exposure with a lens: sharp where the lens is closed, and in the plane in focus however far it is open."""

import math

import pytest
import torch
from exposure_motions import gliding
from exposure_pairs import (
    each_pair,
    exposure_model,
    has_a_lens,
    modules_of,
    rendered,
    scene_of,
    set_half_exposure,
    stand_still,
    without,
)
from torch import Tensor

from dyngs_plugins.exposure.base import ExposureModel
from dyngs_plugins.exposure.thin_lens import Lens
from dyngs_plugins.scene import Scene

DEPTH, FLAT = 4.0, -9.0
"""Where the Gaussians are, and the logarithm of how far they stick out of that plane."""


@torch.no_grad()
def set_lenses(model: ExposureModel, aperture: float, focus: float) -> None:
    for lens in modules_of(model, Lens):
        lens.log_aperture.fill_(math.log(aperture) if aperture > 0 else -math.inf)
        lens.inverse_focus.fill_(1 / focus)


@each_pair(has_a_lens)
def test_a_closed_lens_is_none(motion: str, exposure: str):
    """Whatever else the exposure does: its path and its shutter are those of the exposure without the lens."""
    scene = scene_of(motion, exposure)
    opened = rendered(scene)
    set_lenses(scene.exposure, 0.0, 3.0)
    closed = rendered(scene)
    scene.exposure = without(scene.exposure, Lens)
    torch.testing.assert_close(closed, rendered(scene), atol=1e-6, rtol=1e-5)
    assert bool(((opened - closed).abs() > 1e-3).any())


def in_a_plane(motion: str, exposure: str) -> Scene:
    """Flat Gaussians that stay at one depth wherever the field takes them, before a camera that stands still."""
    field, dynamic = gliding(motion, (1.6, 0.0, 0.0), size=0.1)
    dynamic.raw["scales"].data[:, 2] = FLAT
    scene = Scene([dynamic], field, exposure_model(exposure))
    stand_still(scene.exposure)
    set_half_exposure(scene.exposure, 0.4)
    return scene


@each_pair(has_a_lens)
@pytest.mark.parametrize("aperture", [0.05, 0.4])
def test_the_plane_in_focus_is_sharp_for_every_aperture(motion: str, exposure: str, aperture: float):
    scene = in_a_plane(motion, exposure)
    set_lenses(scene.exposure, aperture, DEPTH)
    in_focus = rendered(scene)
    set_lenses(scene.exposure, aperture, 0.5 * DEPTH)
    out_of_focus = rendered(scene)
    scene.exposure = without(scene.exposure, Lens)
    sharp = rendered(scene)
    blur, left = largest(out_of_focus - sharp), largest(in_focus - sharp)
    assert left < min(2e-3, 0.05 * blur)


def largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max())
