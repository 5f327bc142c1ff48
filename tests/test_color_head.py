"""Colour heads: nothing by default, SplineGS's decoder, and how a scene uses either."""

import pytest
import torch

from dyngs_plugins.color_head import ColorHeadConfig, PlainColors, SandwichHead, SandwichHeadConfig, pixel_rays
from dyngs_plugins.exposure.base import InstantExposure, InstantExposureConfig
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.losses.tracks import project
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.scene import Scene, Views
from dyngs_plugins.types import Gaussians, Instants

WIDTH, HEIGHT, N = 24, 16, 60


def head(seed: int = 0) -> SandwichHead:
    """A decoder that does something."""
    torch.manual_seed(seed)
    found = SandwichHead(SandwichHeadConfig())
    torch.nn.init.normal_(found.out.weight)
    return found


def gaussians(columns: bool = True) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(N, 3, generator=generator) for name in ("view_features", "time_features")}
    return Gaussians(
        means=torch.randn(N, 3, generator=generator),
        quats=torch.randn(N, 4, generator=generator),
        scales=torch.rand(N, 3, generator=generator),
        opacities=torch.rand(N, generator=generator),
        colors=torch.rand(N, 3, generator=generator),
        columns=features if columns else {},
    )


def instants(times: list[float]) -> Instants:
    b = len(times)
    turned = torch.eye(4).repeat(b, 1, 1)
    turned[:, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    turned[:, :3, 3] = torch.tensor([0.1, 0.2, 3.0])
    K = torch.tensor([[20.0, 0, WIDTH / 2], [0, 25, HEIGHT / 2], [0, 0, 1]]).repeat(b, 1, 1)
    return Instants(turned, K, torch.tensor(times), torch.ones(b), torch.arange(b), True)


def scene_with(color_head, seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    motion = MotionBases(MotionBasesConfig(num_bases=2), num_frames=3)
    sets = [
        GaussianSet("dynamic", motion.columns(), color_head=color_head),
        GaussianSet("static", color_head=color_head),
    ]
    for s in sets:
        colors = torch.rand(N, 3, generator=generator)
        place = torch.rand(N, 3, generator=generator) - 0.5 + torch.tensor([0.0, 0, 2])
        rows = {name: torch.zeros(N, *column.shape[1:]) for name, column in s.raw.items()}
        quats = torch.tensor([1.0, 0, 0, 0]).expand(N, 4)
        s.load_rows(
            {**rows, "means": place, "quats": quats, "scales": torch.full((N, 3), -2.0), **s.color_columns(colors)}
        )
    return Scene(sets, motion, InstantExposure(InstantExposureConfig(), 1), color_head=color_head)


def views(times: list[float]) -> Views:
    b = len(times)
    K = torch.tensor([[20.0, 0, WIDTH / 2], [0, 20, HEIGHT / 2], [0, 0, 1]]).repeat(b, 1, 1)
    return Views(torch.eye(4).repeat(b, 1, 1), K, torch.tensor(times), WIDTH, HEIGHT)


def test_plain_colours_change_nothing():
    plain, row = PlainColors(ColorHeadConfig()), gaussians(columns=False)
    assert plain.features(row, row.colors, torch.zeros(2), True) is row.colors
    image = torch.rand(2, HEIGHT, WIDTH, 3)
    assert plain.decode(image, instants([0.0, 1.0])) is image
    assert plain.param_groups() == {}
    assert plain.columns() == {}


def test_the_decoder_has_ninety_weights():
    (parameters,) = head().param_groups().values()
    assert sum(p.numel() for p in parameters) == 12 * 6 + 6 * 3 == 90


def test_without_what_it_learns_the_decoder_shows_the_colours():
    fresh, row = SandwichHead(SandwichHeadConfig()), gaussians()
    features = fresh.features(row, row.colors, torch.tensor([0.7]), moves=True)[0]
    image = fresh.decode(features[None, None], instants([0.7]))
    torch.testing.assert_close(image[0, 0], row.colors, atol=1e-5, rtol=1e-4)


def test_time_changes_only_what_moves():
    row, times = gaussians(), torch.tensor([0.0, 0.5, 1.0])
    moving = head().features(row, row.colors, times, moves=True)
    still = head().features(row, row.colors, times, moves=False)
    assert moving.shape == (3, N, 9)
    assert still.shape == (N, 9)
    torch.testing.assert_close(moving[..., :6], still[:, :6].expand(3, N, 6))
    torch.testing.assert_close(moving[..., 6:], times[:, None, None] * row.columns["time_features"])
    assert still[:, 6:].abs().sum() == 0


def test_decoding_by_hand():
    decoder, at = head(), instants([0.0])
    features = torch.randn(1, HEIGHT, WIDTH, 9)
    centre, directions = pixel_rays(at, WIDTH, HEIGHT)
    pixel = features[0, 3, 5]
    joined = torch.cat([pixel[3:], centre[0], directions[0, 3, 5]])
    expected = torch.sigmoid(pixel[:3] + decoder.out(torch.relu(decoder.hidden(joined))))
    torch.testing.assert_close(decoder.decode(features, at)[0, 3, 5], expected)


def test_rays_pass_through_their_pixels():
    at = instants([0.0])
    centre, directions = pixel_rays(at, WIDTH, HEIGHT)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(1, HEIGHT, WIDTH))
    points = centre[:, None, None] + 4 * directions
    camera = points @ at.camera_T_world[0, :3, :3].T + at.camera_T_world[0, :3, 3]
    xy = project(camera, at.K.expand(HEIGHT, WIDTH, 3, 3)[None])
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    torch.testing.assert_close(xy[0], torch.stack([x, y], -1), atol=1e-4, rtol=0)


def test_a_scene_with_a_fresh_decoder_renders_like_one_without_where_it_is_opaque():
    plain, decoded = scene_with(None), scene_with(SandwichHead(SandwichHeadConfig()))
    for s in (*plain.gaussian_sets(), *decoded.gaussian_sets()):
        s.raw["opacities"].data.fill_(8.0)
        s.raw["colors"].data.fill_(0.3)
    background = torch.full((3,), float(torch.sigmoid(torch.tensor(0.3))))
    a, b = (s.render(views([0.0, 1.0]), background=background).channels["rgb"] for s in (plain, decoded))
    torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_gradients_reach_the_decoder_and_the_features():
    scene = scene_with(head())
    render = scene.render(views([0.2, 1.0]), needs=("dynamic", "depth"), background=torch.ones(3))
    assert render.channels["rgb"].shape == (2, HEIGHT, WIDTH, 3)
    assert render.channels["dynamic"].shape == (2, HEIGHT, WIDTH, 1)
    render.channels["rgb"].square().sum().backward()
    groups = scene.param_groups()
    for name in ("color_head", "dynamic_view_features", "dynamic_time_features", "static_view_features"):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in groups[name]), name
    assert scene.static is not None
    assert scene.static.raw["time_features"].grad is None


def test_an_export_holds_the_base_colours():
    scene = scene_with(head())
    whole = scene.at(0.5)
    expected = torch.cat([torch.sigmoid(s.raw["colors"]) for s in scene.gaussian_sets()])
    torch.testing.assert_close(whole.colors, expected)


@pytest.mark.parametrize("color", [0.0, 0.3, 1.0])
def test_the_background_keeps_its_colour(color):
    behind = SandwichHead(SandwichHeadConfig()).behind(torch.full((3,), color))
    assert behind.shape == (9,)
    torch.testing.assert_close(torch.sigmoid(behind[:3]), torch.full((3,), color), atol=1.1e-3, rtol=0)
