"""Shape of Motion's field: the sheet's facts 1 to 5, continuous time, gradients."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_cuda import SimulatedCuda

from dyngs_plugins.motion import rotations
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.motion.bases_init import FittedBases, fit_bases
from dyngs_plugins.motion.rigid_clusters import weighted_procrustes
from dyngs_plugins.motion.static import StaticMotion, StaticMotionConfig
from dyngs_plugins.priors.lifting import Tracks3D
from dyngs_plugins.types import Gaussians

T, K, N = 7, 3, 11


def rotation_matrices(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))
    q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[:, None]
    return q * torch.det(q)[:, None, None].sign()


def make_field(seed: int = 0) -> tuple[MotionBases, Gaussians]:
    generator = torch.Generator().manual_seed(seed)
    field = MotionBases(MotionBasesConfig(num_bases=K), num_frames=T)
    field.rots.data = torch.randn(K, T, 6, generator=generator)
    field.transls.data = torch.randn(K, T, 3, generator=generator)
    gaussians = Gaussians(
        means=torch.randn(N, 3, generator=generator),
        quats=torch.randn(N, 4, generator=generator),
        scales=torch.rand(N, 3, generator=generator),
        opacities=torch.rand(N, generator=generator),
        colors=torch.rand(N, 3, generator=generator),
        columns={"motion_coefs": torch.randn(N, K, generator=generator)},
    )
    return field, gaussians


def matrices(field: MotionBases, gaussians: Gaussians, times: torch.Tensor) -> torch.Tensor:
    return rotations.matrix_from_6d(field.blend(gaussians, times)[..., :6].transpose(0, 1))


def test_blended_transforms_are_rotations():
    field, gaussians = make_field()
    rotation = matrices(field, gaussians, torch.rand(5))
    identity = torch.eye(3).expand_as(rotation)
    torch.testing.assert_close(rotation.transpose(-1, -2) @ rotation, identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.det(rotation), torch.ones(rotation.shape[:2]), atol=1e-5, rtol=0)


def test_equal_bases_blend_to_themselves_for_any_coefficients():
    field, gaussians = make_field()
    field.rots.data = field.rots.data[:1].expand(K, T, 6).clone()
    field.transls.data = field.transls.data[:1].expand(K, T, 3).clone()
    times = torch.linspace(0, 1, T)
    expected = rotations.matrix_from_6d(field.rots.data[0])
    torch.testing.assert_close(
        matrices(field, gaussians, times), expected[:, None].expand(T, N, 3, 3), atol=1e-5, rtol=1e-5
    )
    moved = field.at(gaussians, times).means
    by_hand = torch.einsum("tij,nj->tni", expected, gaussians.means) + field.transls.data[0][:, None]
    torch.testing.assert_close(moved, by_hand, atol=1e-5, rtol=1e-5)


def test_orientation_follows_the_rotation():
    field, gaussians = make_field()
    times = torch.tensor([0.3])
    moved = field.at(gaussians, times)
    before, after = quat_matrix(gaussians.quats), quat_matrix(moved.quats[0])
    torch.testing.assert_close(after, matrices(field, gaussians, times)[0] @ before, atol=1e-5, rtol=1e-5)


def quat_matrix(quats: torch.Tensor) -> torch.Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_quaternion_of_matrix_is_the_same_rotation(seed):
    rotation = rotation_matrices(4, seed)
    quats = rotations.shepperd(rotation.permute(2, 1, 0)).T
    torch.testing.assert_close(quat_matrix(quats), rotation, atol=2e-5, rtol=0)


def test_constant_velocity_between_frames_and_at_them():
    field, gaussians = make_field()
    field.rots.data[:] = torch.tensor([1.0, 0, 0, 0, 1, 0])
    velocity = torch.tensor([0.3, -0.2, 0.5])
    field.transls.data[:] = torch.linspace(0, 1, T)[None, :, None] * velocity
    times = torch.tensor([0.0, 0.123, 0.5, 0.77, 1.0])
    expected = gaussians.means + times[:, None, None] * velocity
    torch.testing.assert_close(field.at(gaussians, times).means, expected, atol=1e-6, rtol=1e-5)


def test_gradient_in_time_matches_finite_differences():
    field, gaussians = make_field()
    field, gaussians = (
        field.double(),
        gaussians.replace(
            means=gaussians.means.double(),
            quats=gaussians.quats.double(),
            columns={name: column.double() for name, column in gaussians.columns.items()},
        ),
    )
    times = torch.tensor([0.21, 0.55], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: field.at(gaussians, t).means, (times,))
    assert torch.autograd.gradcheck(lambda t: field.at(gaussians, t).quats, (times,))


def test_positions_equals_at_means():
    field, gaussians = make_field()
    times = torch.rand(4)
    torch.testing.assert_close(field.positions(gaussians, times), field.at(gaussians, times).means)


def test_one_frame_clip_does_not_crash():
    field = MotionBases(MotionBasesConfig(num_bases=K), num_frames=1)
    _, gaussians = make_field()
    torch.testing.assert_close(field.at(gaussians, torch.tensor([0.0, 1.0])).means[1], gaussians.means)


def test_static_motion_is_the_identity_at_every_time():
    _, gaussians = make_field()
    moved = StaticMotion(StaticMotionConfig(), num_frames=T).at(gaussians, torch.rand(3))
    torch.testing.assert_close(moved.means, gaussians.means.expand(3, -1, -1))


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_procrustes_recovers_a_rigid_motion(seed):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(20, 3, generator=generator)
    rotation, shift = rotation_matrices(1, seed)[0], torch.randn(3, generator=generator)
    target = source @ rotation.T + shift
    r, t = weighted_procrustes(source, target, torch.rand(20, generator=generator) + 0.1)
    torch.testing.assert_close(r, rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(t, shift, atol=1e-5, rtol=0)


def test_procrustes_never_reflects():
    source = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    r, _ = weighted_procrustes(source, source * torch.tensor([1.0, 1.0, -1.0]), torch.ones(20))
    assert float(torch.det(r)) == pytest.approx(1.0, abs=1e-5)


def moving_tracks(n: int = 60, t: int = 8, seed: int = 0) -> tuple[Tracks3D, torch.Tensor]:
    """Two bodies with their own rotations and translations; some frames hidden."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    rest = torch.randn(n, 3, generator=generator) * 0.2 + labels[:, None] * torch.tensor([3.0, 0, 0])
    points = torch.zeros(n, t, 3)
    for f in range(t):
        for body in range(2):
            angle = torch.tensor(0.15 * f * (1 if body else -1))
            c, s = torch.cos(angle), torch.sin(angle)
            turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
            shift = torch.tensor([0.1 * f, (-0.2 if body else 0.3) * f, 0.05 * f])
            rows = labels == body
            points[rows, f] = rest[rows] @ turn.T + shift
    visible = torch.rand(n, t, generator=generator) > 0.2
    visible[:, 3] = True
    tracks = Tracks3D(
        points=points,
        visible=visible,
        invisible=~visible,
        confidence=torch.ones(n, t),
        colors=torch.rand(n, 3, generator=generator),
        query_frame=torch.zeros(n, dtype=torch.long),
    )
    return tracks, labels


@pytest.mark.parametrize("hidden", ["hold", "carry"])
@pytest.mark.parametrize("canonical", [3, 6])
def test_fitted_bases_are_the_identity_at_the_canonical_frame(canonical, hidden):
    tracks, _ = moving_tracks()
    fitted = fit_bases(tracks, canonical, 2, 5, torch.Generator().manual_seed(0), hidden)
    rotation = rotations.matrix_from_6d(fitted.rots[:, canonical])
    torch.testing.assert_close(rotation, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    assert fitted.transls[:, canonical].abs().max() < 1e-5


def test_fitted_bases_follow_the_bodies():
    tracks, labels = moving_tracks()
    fitted = fit_bases(tracks, 3, num_bases=2, min_cluster_size=5, generator=torch.Generator().manual_seed(0))
    assert fitted.rots.shape[0] == 2
    field = MotionBases(MotionBasesConfig(num_bases=2), num_frames=8)
    field.rots.data, field.transls.data = fitted.rots, fitted.transls
    gaussians = Gaussians(
        means=tracks.points[:, 3],
        quats=torch.ones(60, 4),
        scales=torch.ones(60, 3),
        opacities=torch.ones(60),
        colors=tracks.colors,
        columns={"motion_coefs": 10 * fitted.coefs},
    )
    moved = field.at(gaussians, torch.linspace(0, 1, 8)).means.transpose(0, 1)
    # 0.05 where the bodies are 0.4 wide: frames are solved from partly interpolated tracks.
    assert (moved - tracks.points).norm(dim=-1)[tracks.visible].median() < 0.05


def farthest_off(fitted: FittedBases, tracks: Tracks3D, frames: slice = slice(None)) -> torch.Tensor:
    """The largest distance of each track, over some frames, from the motion that fits it best."""
    path = torch.einsum("ktij,nj->nkti", rotations.matrix_from_6d(fitted.rots), fitted.canonical)
    off = (path + fitted.transls - tracks.points[:, None]).norm(dim=-1)
    return off[..., frames].amax(dim=-1).amin(dim=-1)


def test_sides_that_are_only_seen_early_or_late_stay_with_their_body():
    """A third of each body's tracks are seen before the middle, another after it, as sides of a thing that turns are."""
    tracks, labels = moving_tracks(n=120)
    third = torch.arange(120) // 2 % 3
    tracks.visible[third == 0, 5:] = False
    tracks.visible[third == 1, :5] = False
    fitted = {
        hidden: fit_bases(tracks, 3, 2, 5, generator=torch.Generator().manual_seed(0), hidden=hidden)
        for hidden in ("hold", "carry")
    }
    torch.testing.assert_close(fitted["carry"].canonical, tracks.points[:, 3], atol=0.05, rtol=0)
    assert float(farthest_off(fitted["carry"], tracks).max()) < 0.1
    assert float(farthest_off(fitted["hold"], tracks)[third == 1].median()) > 0.3


def test_a_body_that_the_canonical_frame_does_not_show_moves_all_the_same():
    tracks, labels = moving_tracks()
    tracks.visible[labels == 1, :2] = False
    fitted = fit_bases(tracks, 0, 2, 5, torch.Generator().manual_seed(0), hidden="carry")
    assert float(farthest_off(fitted, tracks, slice(2, None)).max()) < 0.1


@pytest.mark.parametrize("hidden", ["hold", "carry"])
def test_tracks_of_a_gpu_or_in_double_precision_are_fitted_alike(hidden):
    def fitted(change: Callable[[torch.Tensor], torch.Tensor]) -> FittedBases:
        there = Tracks3D(**{name: change(value) for name, value in vars(tracks).items()})
        return fit_bases(there, 3, 2, 5, torch.Generator().manual_seed(0), hidden)

    tracks, _ = moving_tracks()
    expected = vars(fitted(lambda value: value))
    with SimulatedCuda():
        for name, found in vars(fitted(lambda value: value.to("cuda"))).items():
            assert found.is_cuda
            torch.testing.assert_close(found.cpu(), expected[name])
    for name, found in vars(fitted(lambda value: value.double() if value.is_floating_point() else value)).items():
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), expected[name], atol=1e-4, rtol=1e-4)


def test_no_tracks_is_a_clear_error():
    tracks, _ = moving_tracks()
    empty = Tracks3D(**{name: value[:0] for name, value in vars(tracks).items()})
    with pytest.raises(ValueError, match="found 0 tracks of moving points"):
        fit_bases(empty, 0, 2, 5, torch.Generator())


def test_coefficients_are_a_partition_of_unity():
    tracks, _ = moving_tracks()
    fitted = fit_bases(tracks, 3, num_bases=2, min_cluster_size=5, generator=torch.Generator().manual_seed(0))
    weights = torch.softmax(fitted.coefs, -1)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(60))
