"""Camera paths within an exposure: rigid motions, the invariants of blur, and the facts of the papers' sheets."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from exposure_scenes import IDENTITY, arguments, make_scene, make_views, twists
from scipy.spatial.transform import Rotation

from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.base import InstantExposureConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.shutter import ShutterConfig
from dyngs_plugins.exposure.trajectories import KNOTS, cumulative_basis, poses_along
from dyngs_plugins.gaussian_sets import logit
from dyngs_plugins.scene import Scene

KINDS = list(KNOTS)


def shutter(share: float) -> ShutterConfig:
    """Open for a share of the time between two frames."""
    return ShutterConfig(half_exposure=share / 2)


# Rigid motions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4, 1e-8, 0.0])
def test_exponential_is_the_matrix_exponential(scale: float):
    xi = twists(50, scale=scale)
    generator = torch.zeros(50, 4, 4, dtype=torch.float64)
    rho, (x, y, z) = xi[:, :3], xi[:, 3:].unbind(-1)
    generator[:, :3, 3] = rho
    generator[:, 0, 1], generator[:, 0, 2], generator[:, 1, 2] = -z, y, -x
    generator[:, 1, 0], generator[:, 2, 0], generator[:, 2, 1] = z, -y, x
    torch.testing.assert_close(se3.exp(xi), torch.linalg.matrix_exp(generator), atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("scale", [0.8, 1e-2, 1e-4, 1e-8, 0.0])
def test_logarithm_undoes_the_exponential(scale: float):
    xi = twists(50, scale=scale)
    torch.testing.assert_close(se3.log(se3.exp(xi)), xi, atol=1e-9, rtol=1e-6)
    motion = se3.exp(xi)
    torch.testing.assert_close(se3.invert(motion), torch.linalg.inv(motion), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("scale", [0.9, 1e-3, 1e-8])
def test_quaternions_agree_with_scipy(scale: float):
    phi = twists(50, scale=scale)[:, 3:]
    q = se3.quaternion_exp(phi)
    theirs = torch.from_numpy(Rotation.from_rotvec(phi.numpy()).as_quat(canonical=True))[:, [3, 0, 1, 2]]
    torch.testing.assert_close(torch.where(q[:, :1] < 0, -q, q), theirs, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(se3.quaternion_log(q), phi, atol=1e-11, rtol=1e-8)
    torch.testing.assert_close(se3.quaternion_log(-q), phi, atol=1e-11, rtol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 1e-1, 1e-3, 1e-6, 1e-12, 1e-18, 0.0])
def test_gradients_keep_their_digits_in_single_precision_at_small_angles(scale: float):
    weight = torch.randn(50, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for dtype in (torch.float64, torch.float32):
        xi = twists(50, scale=1.0).to(dtype)
        xi[:, 3:] *= scale
        turned = xi[:, 3:].clone().requires_grad_()
        again = se3.quaternion_exp(se3.quaternion_log(se3.quaternion_exp(turned)))
        (
            se3.rigid(again, se3.translation_exp(torch.cat([xi[:, :3], turned], dim=-1))) * weight.to(dtype)
        ).sum().backward()
        gradients.append(turned.grad)
    torch.testing.assert_close(gradients[1].double(), gradients[0], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_at_the_identity_are_finite_and_right(kind):
    knots = torch.zeros(1, KNOTS[kind], 6, dtype=torch.float64, requires_grad=True)
    u = torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda k: poses_along(kind, k, u), (knots,), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_control_poses_of_a_translation_stand_still_there(kind):
    knots = torch.zeros(1, KNOTS[kind], 6)
    knots[..., :3] = torch.tensor([0.1, -0.2, 0.3])
    path = poses_along(kind, knots, torch.linspace(0, 1, 5))
    expected = IDENTITY.clone()
    expected[:3, 3] = knots[0, 0, :3]
    torch.testing.assert_close(path[0], expected.expand(5, 4, 4), atol=1e-6, rtol=1e-6)


def test_linear_paths_end_at_their_control_poses_and_bsplines_pass_by_theirs():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    knots = twists(3, 2, scale=0.3)
    torch.testing.assert_close(poses_along("linear", knots, ends), se3.exp(knots))
    knots = twists(3, 4, scale=0.3)
    position = se3.translation_exp(knots)
    start = poses_along("bspline", knots, ends)[:, 0, :3, 3]
    torch.testing.assert_close(start, (position[:, 0] + 4 * position[:, 1] + position[:, 2]) / 6)


def test_the_cumulative_basis_is_that_of_the_cubic_bspline():
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    steps = torch.cat([torch.ones(11, 1, dtype=torch.float64), cumulative_basis(u), torch.zeros(11, 1)], dim=1)
    weights = steps[:, :-1] - steps[:, 1:]
    expected = torch.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], 1) / 6
    torch.testing.assert_close(weights, expected)


def test_the_middle_of_a_linear_path_is_half_way_in_translation_and_rotation():
    """BAD-NeRF's sheet, fact 2."""
    start, middle, end = poses_along("linear", twists(2, scale=0.5), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(middle[:3, 3], (start[:3, 3] + end[:3, 3]) / 2)
    torch.testing.assert_close(start[:3, :3].T @ middle[:3, :3], middle[:3, :3].T @ end[:3, :3])


def test_a_bspline_of_control_poses_on_a_line_covers_a_third_of_it_at_one_speed():
    """BAD-NeRF's sheet, fact 5."""
    span = torch.tensor([0.3, -0.6, 0.9], dtype=torch.float64)
    knots = torch.zeros(1, 4, 6, dtype=torch.float64)
    knots[0, :, :3] = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None] * span
    path = poses_along("bspline", knots, torch.linspace(0, 1, 7, dtype=torch.float64))[0, :, :3, 3]
    torch.testing.assert_close(path[-1] - path[0], span / 3)
    torch.testing.assert_close(path[1:] - path[:-1], (span / 18).expand(6, 3))


def test_another_number_of_knots_is_refused():
    with pytest.raises(ValueError, match="A bspline path has 4 control poses, found 2"):
        poses_along("bspline", torch.zeros(1, 2, 6), torch.tensor([0.5]))


# Exposures ------------------------------------------------------------------------------------------------------------


def knots_of(scene: Scene, scale: float = 0.02, seed: int = 3) -> None:
    with torch.no_grad():
        scene.exposure.knots.copy_(twists(*scene.exposure.knots.shape[:2], scale=scale, seed=seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blend", ["display", "linear"])
def test_a_path_that_has_not_begun_blurs_nothing(kind, blend):
    config = CameraPathExposureConfig(trajectory=kind, blend=blend, num_instants=3)
    sharp = make_scene(InstantExposureConfig()).render(make_views(), mode="train", needs=("dynamic", "depth"))
    blurred = make_scene(config).render(make_views(), mode="train", needs=("dynamic", "depth"))
    for name in sharp.channels:
        torch.testing.assert_close(blurred.channels[name], sharp.channels[name], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(blurred.alpha, sharp.alpha, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_sum_to_one_and_a_plain_wall_stays_plain(kind):
    scene = make_scene(CameraPathExposureConfig(trajectory=kind, num_instants=5, blend="linear"))
    knots_of(scene)
    instants = scene.exposure.instants(*arguments(make_views()), mode="train")
    total = torch.zeros(2).index_add(0, instants.view, instants.weight)
    torch.testing.assert_close(total, torch.ones(2))
    color = torch.tensor([0.2, 0.5, 0.8])
    for gaussians in scene.gaussian_sets():
        gaussians.raw["colors"].data[:] = logit(color)
    image = scene.render(make_views(), mode="train", background=color).channels["rgb"]
    torch.testing.assert_close(image, color.expand_as(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_path_and_no_further_than_the_views_in_the_batch(kind):
    scene = make_scene(CameraPathExposureConfig(trajectory=kind, num_instants=3), views=3)
    views = make_views((0, 2))
    (scene.render(views, mode="train").channels["rgb"] * torch.linspace(0, 1, 48)[:, None]).sum().backward()
    grad = scene.exposure.knots.grad
    assert torch.isfinite(grad).all()
    assert grad[0].abs().max() > 0
    assert grad[2].abs().max() > 0
    assert not grad[1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_middle_is_one_of_the_instants(kind):
    scene = make_scene(CameraPathExposureConfig(trajectory=kind, num_instants=5))
    knots_of(scene)
    several = scene.exposure.instants(*arguments(make_views()), mode="train")
    middle = scene.exposure.instants(*arguments(make_views()), mode="mid")
    torch.testing.assert_close(several.camera_T_world[[2, 7]], middle.camera_T_world, atol=1e-6, rtol=1e-6)
    assert len(middle.time) == 2
    start, end = (scene.exposure.instants(*arguments(make_views()), mode=m) for m in ("start", "end"))
    torch.testing.assert_close(several.camera_T_world[[0, 5]], start.camera_T_world, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(several.camera_T_world[[4, 9]], end.camera_T_world, atol=1e-6, rtol=1e-6)


def test_motion_is_in_the_cameras_own_frame():
    """Along its own z, whichever way it looks."""
    scene = make_scene(CameraPathExposureConfig(num_instants=3))
    scene.exposure.knots.data[:, :, 2] = 0.1
    camera_T_world = se3.exp(twists(2, scale=0.7)).float()
    instants = scene.exposure.instants(
        camera_T_world, torch.eye(3).repeat(2, 1, 1), torch.zeros(2), torch.tensor([0, 1]), "mid"
    )
    moved = torch.linalg.inv(instants.camera_T_world)
    given = torch.linalg.inv(camera_T_world)
    torch.testing.assert_close(moved[:, :3, 3] - given[:, :3, 3], 0.1 * given[:, :3, 2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "bspline"])
def test_control_poses_can_hold_the_gauge_that_the_anchor_fixes(kind):
    """The given cameras moved, and the opposite motion in every control pose: the same image at another penalty."""
    scene = make_scene(CameraPathExposureConfig(trajectory=kind, num_instants=3))
    knots_of(scene)
    views, knots, G = make_views(), scene.exposure.knots, se3.exp(twists(1, scale=0.05))[0].float()
    image, penalty = (scene.render(views, mode="train").channels["rgb"], scene.exposure.regularisers(views.index))
    with torch.no_grad():
        knots.copy_(se3.log(G @ se3.exp(knots)))
    moved = dataclasses.replace(views, camera_T_world=G @ views.camera_T_world)
    torch.testing.assert_close(scene.render(moved, mode="train").channels["rgb"], image, atol=1e-5, rtol=1e-4)
    assert scene.exposure.regularisers(views.index)["exposure_anchor"] > 2 * penalty["exposure_anchor"] > 0
    knots.data.zero_()
    assert float(scene.exposure.regularisers(views.index)["exposure_anchor"]) == 0.0


def test_linear_light_is_brighter_than_display_values():
    """Black and white average to 0.73 in linear light and to 0.5 in display values."""
    for blend, expected in (("linear", 0.7297), ("display", 0.5)):
        exposure = CameraPathExposureConfig(num_instants=3, blend=blend).setup(num_views=1, num_frames=1)
        from dyngs_plugins.types import Instants, Render

        image = torch.stack([torch.zeros(1, 1, 3), torch.ones(1, 1, 3)])
        instants = Instants(
            IDENTITY.repeat(2, 1, 1),
            torch.eye(3).repeat(2, 1, 1),
            torch.zeros(2),
            torch.full((2,), 0.5),
            torch.zeros(2).long(),
        )
        found = exposure.compose(Render({"rgb": image}, image[..., :1], None), instants, 1).channels["rgb"]
        assert float(found[0, 0, 0, 0]) == pytest.approx(expected, abs=1e-3)


def test_an_even_number_of_instants_is_refused():
    with pytest.raises(ValueError, match="num_instants is 4; expected an odd number"):
        CameraPathExposureConfig(num_instants=4).setup(num_views=1, num_frames=1)


def test_a_pinned_middle_keeps_the_given_pose_and_the_shape_of_the_path():
    scene = make_scene(CameraPathExposureConfig(num_instants=3))
    knots_of(scene)
    free = scene.exposure.instants(*arguments(make_views()), mode="train").camera_T_world.reshape(2, 3, 4, 4)
    scene.exposure.config.pin_middle = True
    pinned = scene.exposure.instants(*arguments(make_views()), mode="train").camera_T_world.reshape(2, 3, 4, 4)
    torch.testing.assert_close(pinned[:, 1], make_views().camera_T_world, atol=1e-6, rtol=1e-6)
    between = pinned[:, 0] @ torch.linalg.inv(pinned[:, 2])
    torch.testing.assert_close(between, free[:, 0] @ torch.linalg.inv(free[:, 2]), atol=1e-6, rtol=1e-5)
    assert scene.exposure.regularisers(make_views().index) == {}


def test_density_control_sees_the_gradients_of_one_sharp_view():
    """Where all instants coincide, the statistics are those of the view alone (BAD-Gaussians divides its threshold)."""
    from dyngs_plugins.density import DensityControl, DensityControlConfig

    found = []
    for config in (InstantExposureConfig(), CameraPathExposureConfig(num_instants=5)):
        scene = make_scene(config)
        render = scene.render(make_views(), mode="train")
        render.info["means2d"].retain_grad()
        render.channels["rgb"].square().mean().backward()
        control = DensityControl(DensityControlConfig(), 5)
        control.observe(render.info["means2d"].grad, render.info["radii"], 48, 36)
        found.append(control.grad_sum / control.seen.clamp_min(1))
    torch.testing.assert_close(found[1], found[0], atol=1e-7, rtol=1e-3)


def test_shapes_of_the_parameters():
    for kind, count in (("linear", 2), ("bspline", 4), ("bezier", 9)):
        exposure = CameraPathExposureConfig(trajectory=kind).setup(num_views=5, num_frames=5)
        assert exposure.knots.shape == (5, count, 6)
        assert list(exposure.param_groups()) == ["exposure_knots"]
