"""The latent path: the facts of MoBGS' sheet."""

import pytest
import torch
from exposure_scenes import arguments, make_views, stir

from dyngs_plugins.exposure.blur_score import blur_score
from dyngs_plugins.exposure.latent_screw import EMBEDDING, HALF, LatentCameras, LatentPathExposureConfig, screw_exp


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_screw_of_no_angle_moves_nothing_and_a_small_one_moves_by_its_angle():
    axis, moment = random(9, 3), random(9, 3, seed=1)
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(
        screw_exp(axis, moment, torch.zeros(9, 1, dtype=torch.float64)), identity.expand(9, 4, 4)
    )
    small = torch.full((9, 1), 1e-4, dtype=torch.float64)
    torch.testing.assert_close(screw_exp(axis, moment, small)[:, :3, 3], small * moment, atol=1e-7, rtol=0)


def test_a_screws_rotation_is_one_for_any_axis():
    motion = screw_exp(random(50, 3) * torch.logspace(-8, 2, 50)[:, None], random(50, 3, seed=1), random(50, 1, seed=2))
    rotation = motion[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64)
    # (an axis as short as 1e-8 is normalised to 0.99)
    torch.testing.assert_close((rotation @ rotation.mT)[10:], identity.expand(40, 3, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation)[10:], torch.ones(40, dtype=torch.float64), atol=1e-3, rtol=0)
    still = screw_exp(torch.zeros(1, 3), torch.ones(1, 3), torch.full((1, 1), 0.3))
    torch.testing.assert_close(still[0, :3, :3], torch.eye(3))
    torch.testing.assert_close(still[0, :3, 3], torch.full((3,), 0.3))


def test_a_screw_is_the_exponential_of_its_twist():
    axis, moment, angle = random(20, 3), random(20, 3, seed=1), random(20, 1, seed=2)
    x, y, z = (axis / axis.norm(dim=-1, keepdim=True)).unbind(-1)
    generator = torch.zeros(20, 4, 4, dtype=torch.float64)
    generator[:, 0, 1], generator[:, 0, 2], generator[:, 1, 2] = -z, y, -x
    generator[:, 1, 0], generator[:, 2, 0], generator[:, 2, 1] = z, -y, x
    generator[:, :3, 3] = moment
    expected = torch.linalg.matrix_exp(generator * angle[..., None])
    torch.testing.assert_close(screw_exp(axis, moment, angle), expected, atol=1e-8, rtol=1e-7)


def test_latent_cameras_start_nearly_where_the_camera_is_and_the_middle_exactly_there():
    exposure = LatentPathExposureConfig().setup(num_views=2, num_frames=5)
    instants = exposure.instants(*arguments(make_views()), mode="train")
    cameras = instants.camera_T_world.reshape(2, 9, 4, 4)
    given = make_views().camera_T_world
    torch.testing.assert_close(cameras, given[:, None].expand(2, 9, 4, 4), atol=1e-3, rtol=0)
    stir(exposure, 0.05)
    cameras = exposure.instants(*arguments(make_views()), mode="train").camera_T_world.reshape(2, 9, 4, 4)
    assert torch.equal(cameras[:, 4], given)
    assert float((cameras[:, 3] - given).abs().max()) > 1e-4


@pytest.mark.parametrize("count", [1, 3, 9, 41])
def test_any_number_of_latent_cameras_starts_near_the_given_one(count):
    for seed in range(4):
        torch.manual_seed(seed)
        exposure = LatentPathExposureConfig(num_instants=count).setup(num_views=2, num_frames=5)
        cameras = exposure.instants(*arguments(make_views()), mode="train").camera_T_world.reshape(2, count, 4, 4)
        expected = make_views().camera_T_world[:, None].expand(2, count, 4, 4)
        torch.testing.assert_close(cameras, expected, atol=0.02, rtol=0)


def test_codes_flow_through_the_networks_one_step_after_the_other():
    latents = LatentCameras(num_views=3, count=4).double()
    stir(latents, 0.1)
    view = torch.tensor([2, 0])
    start, blur = random(2, 1, 2 * HALF), random(2, 1, EMBEDDING, seed=1)
    expected: list[list[torch.Tensor]] = []
    for network, code in zip((latents.turning, latents.moving), start.split(HALF, dim=-1), strict=True):
        expected.append([code])
        for k in range(3):
            inputs = torch.cat([code, latents.time_embedding[view, k : k + 1], blur], dim=-1)
            code = code + network(view, inputs)
            expected[-1].append(code)
    for found, codes in zip(latents.flow(view, start, blur), expected, strict=True):
        torch.testing.assert_close(found, torch.cat(codes, dim=1))


def test_networks_are_each_views_own():
    exposure = LatentPathExposureConfig().setup(num_views=2, num_frames=5)
    stir(exposure, 0.1)
    views = make_views((0, 0))
    cameras = exposure.instants(*arguments(views), mode="train").camera_T_world
    cameras[:9].sum().backward()
    for name, parameter in exposure.latents.named_parameters():
        assert not parameter.grad[1].any(), name
    assert list(exposure.param_groups()) == ["exposure_latents"]


def test_the_blur_score_is_one_for_a_plain_image_and_falls_with_noise():
    plain = torch.full((48, 64, 3), 0.4)
    assert blur_score(plain) == pytest.approx(1.0)
    noise = torch.randn(48, 64, 3, generator=torch.Generator().manual_seed(0))
    scores = [blur_score(plain + amount * noise) for amount in (0.01, 0.1, 1.0)]
    assert 1.0 > scores[0] > scores[1] > scores[2] > 0.0
    assert blur_score(torch.rand(8, 8, 3)) == pytest.approx(1.0)  # smaller than the square of low frequencies


def test_the_paper_sets_nine_cameras_and_a_half_exposure_of_two_fifths():
    exposure = LatentPathExposureConfig().setup(num_views=3, num_frames=3)
    assert exposure.config.num_instants == 9
    torch.testing.assert_close(exposure.shutter.tau, torch.full((3,), 0.4))
    assert "shutter.tau" in exposure.state_dict()  # a buffer: estimated, not trained
    assert "shutter.tau" not in dict(exposure.named_parameters())
