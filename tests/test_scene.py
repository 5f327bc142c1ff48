"""The scene's one picture: canonical and moved Gaussians, mask and track channels, sets that stand still."""

import pytest
import torch

from dyngs_plugins.exposure.base import InstantExposure, InstantExposureConfig
from dyngs_plugins.gaussian_sets import GaussianSet, logit
from dyngs_plugins.losses.tracks import project
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.raster.harmonics import sh_colors
from dyngs_plugins.scene import Scene, TargetCameras, Views
from dyngs_plugins.types import concatenate

T, WIDTH, HEIGHT = 5, 48, 32


def plane_of_gaussians(z: float, n: int, width: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    xy = torch.rand(n, 2, generator=generator) * width - width / 2
    return {
        "means": torch.cat([xy, torch.full((n, 1), z)], 1),
        "quats": torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        "scales": torch.full((n, 3), -2.5),
        "opacities": torch.full((n,), 5.0),
        "colors": torch.randn(n, 3, generator=generator),
    }


@pytest.fixture
def scene() -> Scene:
    """A moving sheet in front of a static wall."""
    generator = torch.Generator().manual_seed(0)
    motion = MotionBases(MotionBasesConfig(num_bases=2), num_frames=T)
    motion.transls.data[:, :, 0] = torch.linspace(0, 0.8, T)
    dynamic, static = GaussianSet("dynamic", motion.columns()), GaussianSet("static")
    dynamic.load_rows({**plane_of_gaussians(2.0, 400, 1.0, generator), "motion_coefs": torch.zeros(400, 2)})
    static.load_rows(plane_of_gaussians(4.0, 900, 8.0, generator))
    return Scene([dynamic, static], motion, InstantExposure(InstantExposureConfig(), 1))


def views(times: list[float]) -> Views:
    b = len(times)
    K = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]]).repeat(b, 1, 1)
    return Views(torch.eye(4).repeat(b, 1, 1), K, torch.tensor(times), WIDTH, HEIGHT)


def test_canonical_is_unmoved_and_static_rows_never_move(scene):
    canonical, later = scene.at(None), scene.at(0.6)
    rows = scene.rows()
    assert torch.equal(canonical.means[rows["dynamic"]], scene.dynamic.raw["means"])
    assert torch.equal(later.means[rows["static"]], canonical.means[rows["static"]])
    moved = later.means[rows["dynamic"]] - canonical.means[rows["dynamic"]]
    torch.testing.assert_close(moved, torch.tensor([0.48, 0, 0]).expand_as(moved), atol=1e-5, rtol=0)


def test_each_view_of_a_batch_is_rendered_at_its_own_time(scene):
    both = scene.render(views([0.0, 1.0]), needs=("dynamic", "depth"))
    for index, time in enumerate((0.0, 1.0)):
        alone = scene.render(views([time]), needs=("dynamic", "depth"))
        torch.testing.assert_close(both.channels["rgb"][index], alone.channels["rgb"][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(both.depth[index], alone.depth[0], atol=1e-4, rtol=1e-4)
    assert (both.channels["dynamic"][0] - both.channels["dynamic"][1]).abs().max() > 0.5


def test_mask_channel_is_alpha_where_only_moving_gaussians_are(scene):
    scene.sets.pop("static")
    render = scene.render(views([0.3]), needs=("dynamic",))
    torch.testing.assert_close(render.channels["dynamic"], render.alpha, atol=1e-5, rtol=1e-4)


def test_track_channel_of_the_same_frame_and_camera_reprojects_to_the_pixel(scene):
    axis = torch.linspace(-0.8, 0.8, 64)  # two Gaussians a pixel, each about half a pixel wide
    rows = plane_of_gaussians(2.0, 64 * 64, 1.0, torch.Generator().manual_seed(0))
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    # All at one depth: in the grid's own order every Gaussian would hide its neighbour on the same side.
    rows["means"][:, :2] = grid[torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))]
    rows["scales"] = torch.full((64 * 64, 3), -4.0)
    rows["opacities"] = torch.zeros(64 * 64)
    scene.dynamic.load_rows({**rows, "motion_coefs": torch.zeros(64 * 64, 2)})
    view = views([0.5])
    targets = TargetCameras(view.camera_T_world[:, None], view.time[:, None])
    render = scene.render(view, needs=("targets",), targets=targets)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    xy = torch.stack([x, y], -1).float()
    points = render.channels["targets"][0] / render.alpha[0].clamp_min(1e-6)
    off = (project(points, view.K[0].expand(HEIGHT, WIDTH, 3, 3)) - 0.5 - xy).norm(dim=-1)
    opaque = render.alpha[0, ..., 0] > 0.98
    inside = torch.zeros_like(opaque)
    inside[6:-6, 6:-6] = True
    sheet = opaque & inside & (render.channels["targets"][0, ..., 2] < 2.5)
    assert int(sheet.sum()) > 200
    assert off[sheet].quantile(0.9) < 0.5


def test_target_channels_are_positions_in_the_target_camera(scene):
    turned = torch.eye(4)
    turned[:3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    turned[:3, 3] = torch.tensor([0.1, 0.2, 3.0])
    targets = TargetCameras(turned[None, None], torch.tensor([[1.0]]))
    found = scene._target_positions(targets)[0]
    expected = scene.at(1.0).means @ turned[:3, :3].T + turned[:3, 3]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter_and_the_cameras(scene):
    view = views([0.3, 0.7])
    cameras = view.camera_T_world.clone().requires_grad_()
    view = Views(cameras, view.K, view.time, WIDTH, HEIGHT)
    targets = TargetCameras(cameras.detach()[:, None], torch.tensor([[1.0], [0.0]]))
    with torch.no_grad():
        scene.motion.transls[1, 2, 1] += 0.1  # with equal bases the blending weights would have no gradient
    render = scene.render(view, mode="train", needs=("dynamic", "depth", "targets"), targets=targets)
    total = sum(channel.square().mean() for channel in render.channels.values()) + render.depth.mean()
    total.backward()
    for name, parameters in scene.param_groups().items():
        for parameter in parameters:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0 or "quats" in name, name
    assert cameras.grad.abs().sum() > 0


def test_crop_keeps_only_the_chosen_rows(scene):
    everything = scene.render(views([0.0]))
    nothing = scene.render(views([0.0]), keep=lambda g: torch.zeros(len(g), dtype=torch.bool))
    assert everything.alpha.max() > 0.9
    assert nothing.alpha.max() == 0.0


def test_loading_a_checkpoint_takes_its_number_of_gaussians(scene):
    state = scene.state_dict()
    motion = MotionBases(MotionBasesConfig(num_bases=7), num_frames=T)
    other = Scene(
        [GaussianSet("dynamic", motion.columns()), GaussianSet("static")],
        motion,
        InstantExposure(InstantExposureConfig(), 1),
    )
    kept = dict(other.named_parameters())
    other.load_state_dict(state)
    assert all(parameter is kept[name] for name, parameter in other.named_parameters())
    a, b = scene.render(views([0.4])), other.render(views([0.4]))
    torch.testing.assert_close(a.channels["rgb"], b.channels["rgb"])


def with_harmonics(scene: Scene, degree: int) -> Scene:
    """The same scene with colours that depend on the direction of view."""
    generator = torch.Generator().manual_seed(3)
    sets = []
    for old in scene.gaussian_sets():
        new = GaussianSet(old.name, scene.motion.columns() if old.name == "dynamic" else None, sh_degree=degree)
        rows = {name: p.data for name, p in old.raw.items()} | new.color_columns(torch.sigmoid(old.raw["colors"].data))
        rows["harmonics"] = 0.3 * torch.randn(rows["harmonics"].shape, generator=generator)
        new.load_rows(rows)
        sets.append(new)
    return Scene(sets, scene.motion, scene.exposure)


def test_harmonics_are_looked_at_from_the_camera_and_used_up_to_the_active_degree(scene):
    plain = scene.render(views([0.3])).channels["rgb"]
    lively = with_harmonics(scene, 2)
    lively.active_degree = 0
    torch.testing.assert_close(lively.render(views([0.3])).channels["rgb"], plain, atol=1e-4, rtol=1e-3)
    lively.active_degree = 3  # more than there are: all
    moved = lively.at(0.3)
    view = views([0.3])
    view.camera_T_world[0, :3, 3] = torch.tensor([0.2, -0.1, 0.5])
    centre = torch.linalg.inv(view.camera_T_world)[:, None, :3, 3]
    expected = sh_colors(2, moved.means - centre, moved.harmonics)
    instants = scene.exposure.instants(view.camera_T_world, view.K, view.time, None, "mid")
    colors = lively._colors(concatenate(lively.parts_at(instants.time), 1), instants)
    torch.testing.assert_close(colors, expected, atol=1e-5, rtol=1e-4)
    assert (lively.render(view).channels["rgb"] - plain).abs().max() > 0.01


def test_harmonics_start_as_the_colour_given():
    gaussians = GaussianSet("static", sh_degree=3)
    colors = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    columns = gaussians.color_columns(colors)
    assert columns["harmonics"].shape == (5, 15, 3)
    rows = {name: torch.zeros(5, *p.shape[1:]) for name, p in gaussians.raw.items()}
    gaussians.load_rows({**rows, **columns})
    activated = gaussians.activated()
    torch.testing.assert_close(activated.colors, colors)
    seen = sh_colors(3, torch.randn(1, 5, 3), activated.harmonics)
    torch.testing.assert_close(seen[0], colors, atol=1e-6, rtol=1e-5)


def test_only_some_sets_with_harmonics_are_refused(scene):
    parts = scene.parts_at(None)
    parts[0] = parts[0].replace(harmonics=torch.zeros(len(parts[0]), 4, 3))
    with pytest.raises(ValueError, match="1 of 2 sets of Gaussians have harmonics"):
        concatenate(parts, 1)


def test_before_the_motion_is_in_use_nothing_moves_and_nothing_is_learned_of_it(scene):
    scene.moves = False
    both = scene.render(views([0.0, 1.0]))
    torch.testing.assert_close(both.channels["rgb"][0], both.channels["rgb"][1])
    assert torch.equal(scene.at(0.7).means, scene.at(None).means)
    both.channels["rgb"].sum().backward()
    assert scene.motion.transls.grad is None
    still = scene.positions(scene.dynamic.activated(), torch.tensor([0.0, 1.0]))
    assert torch.equal(still[0], still[1])


class Blinking(MotionField):
    """Grows with time, shows covariances, and lives in the first half alone."""

    def at(self, gaussians, times):
        b = len(times)
        alive = (times < 0.5).to(gaussians.means)[:, None]
        scales = gaussians.scales * (1 + times)[:, None, None]
        moved = gaussians.replace(
            means=gaussians.means.expand(b, -1, -1), quats=gaussians.quats.expand(b, -1, -1), scales=scales
        )
        return moved.replace(opacities=gaussians.opacities * alive, covars=moved.covariances())


def test_a_field_may_change_shapes_and_opacities_with_time(scene):
    dynamic = GaussianSet("dynamic")
    dynamic.load_rows({n: p.data for n, p in scene.dynamic.raw.items() if n != "motion_coefs"})
    blinking = Scene([dynamic, scene.static], Blinking(), scene.exposure)
    render = blinking.render(views([0.2, 0.8]), needs=("dynamic",))
    assert render.channels["dynamic"][0].max() > 0.9
    assert render.channels["dynamic"][1].max() == 0.0
    rows = blinking.rows()["dynamic"]
    assert (render.info["radii"][0, rows] > 0).any()
    assert not (render.info["opacities"][1, rows] > 0).any()
    alone = blinking.render(views([0.2]))
    torch.testing.assert_close(render.channels["rgb"][0], alone.channels["rgb"][0], atol=1e-5, rtol=1e-4)
    exported, canonical = blinking.at(0.2), blinking.at(None)
    expected = canonical.scales[rows].sort(dim=-1).values * 1.2
    torch.testing.assert_close(exported.scales[rows].sort(dim=-1).values, expected, atol=1e-5, rtol=1e-3)
    assert exported.means.ndim == 2


def test_select_and_instant_take_every_tensor_along(scene):
    gaussians = scene.parts_at(torch.tensor([0.1, 0.6]))[0].replace(covars=torch.rand(400, 3, 3))
    chosen = gaussians.select(torch.tensor([7, 2])).instant(1)
    assert torch.equal(chosen.means, gaussians.means[1, [7, 2]])
    assert torch.equal(chosen.covars, gaussians.covars[[7, 2]])
    assert torch.equal(chosen.columns["motion_coefs"], gaussians.columns["motion_coefs"][[7, 2]])


def test_bases_of_another_clip_are_refused(scene):
    with pytest.raises(ValueError, match="cover 5 frames, the clip has 9"):
        MotionBases(MotionBasesConfig(), num_frames=9).load_state_dict(scene.motion.state_dict())


def test_columns_of_unequal_length_are_refused():
    columns = plane_of_gaussians(1.0, 5, 1.0, torch.Generator())
    columns["means"] = columns["means"][:3]
    with pytest.raises(ValueError, match="equal numbers of rows"):
        GaussianSet("static").load_rows(columns)


def test_isotropic_gaussians_have_one_scale():
    gaussians = GaussianSet("static", isotropic=True)
    assert gaussians.raw["scales"].shape == (0, 1)
    assert gaussians.activated().scales.shape == (0, 3)


def test_colours_of_0_and_255_stay_finite():
    assert torch.isfinite(logit(torch.tensor([0.0, 1.0]))).all()
