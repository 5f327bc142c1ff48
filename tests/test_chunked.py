"""Rasterizing instants a few at a time gives the same images, gradients and statistics."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "exposure"))

from exposure_scenes import Glide, make_scene, make_views, stir  # noqa: E402

from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig  # noqa: E402
from dyngs_plugins.exposure.circle import CircleExposureConfig  # noqa: E402
from dyngs_plugins.exposure.product import ProductExposureConfig  # noqa: E402
from dyngs_plugins.exposure.shutter import ShutterConfig  # noqa: E402
from dyngs_plugins.scene import RenderOptions  # noqa: E402


def trained(chunk: int, absgrad: bool = False):
    """A blurred, defocused, moving scene after a backward pass, with its image and the rasterizer's record."""
    path = CameraPathExposureConfig(num_instants=5, shutter=ShutterConfig(half_exposure=0.4))
    lens = CircleExposureConfig(aperture=0.1, focus_distance=3.0)
    scene = make_scene(ProductExposureConfig(parts=(path, lens)), Glide((0.8, 0.1, 0.0)))
    stir(scene.exposure, 0.02)
    options = RenderOptions(absgrad=absgrad, instants_per_pass=chunk)
    render = scene.render(make_views(), mode="train", needs=("dynamic", "depth"), options=options)
    render.info["means2d"].retain_grad()
    image, ramp = render.channels["rgb"], torch.linspace(0, 1, 48)[:, None]
    ((image * ramp).sum() + render.depth.mean() + render.channels["dynamic"].square().sum()).backward()
    return scene, image, render.info


@pytest.mark.parametrize("chunk", [1, 3, 4, 10])
def test_nothing_depends_on_the_size_of_a_chunk(chunk):
    whole, image, info = trained(0)
    parts, same_image, same_info = trained(chunk)
    torch.testing.assert_close(same_image, image, atol=1e-6, rtol=1e-5)
    for (name, expected), (_, found) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-4, rtol=1e-3, msg=name)
    torch.testing.assert_close(same_info["means2d"].grad, info["means2d"].grad, atol=1e-5, rtol=1e-3)
    assert torch.equal(same_info["radii"], info["radii"])
    assert same_info["n_cameras"] == info["n_cameras"] == 10


def test_what_chunks_cannot_do_is_said():
    with pytest.raises(ValueError, match="absolute image-plane gradients"):
        trained(3, absgrad=True)
    with pytest.raises(ValueError, match="instants_per_pass is -1"):
        trained(-1)
