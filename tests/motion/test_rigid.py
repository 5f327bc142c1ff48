"""Blended rigid motion: derivatives in closed form against finite differences, compiled code against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_cuda import SimulatedCuda
from torch import Tensor

from dyngs_plugins.motion import rigid, rotations
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.motion.rigid import move_rigidly, move_rigidly_reference
from dyngs_plugins.types import Gaussians


def inputs(n: int, times: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n, times, 9), (n, 3), (n, 4))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def values_and_gradients(function, tensors: list[Tensor], with_quats: bool) -> list[Tensor]:
    blend, means, quats = tensors
    moved, turned = function(blend, means, quats if with_quats else None)
    loss = (moved * torch.cos(torch.arange(moved.numel())).view(moved.shape)).sum()
    wanted = [blend, means]
    if with_quats:
        loss = loss + (turned * torch.sin(torch.arange(turned.numel())).view(turned.shape)).sum()
        wanted.append(quats)
    results = [moved, *([turned] if with_quats else []), *torch.autograd.grad(loss, wanted)]
    return [result.detach().double() for result in results]


def test_derivatives_agree_with_finite_differences():
    blend, means, quats = inputs(3, 2)
    assert torch.autograd.gradcheck(move_rigidly_reference, (blend, means, quats))


@pytest.mark.parametrize("diagonal", [(1.0, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, 1)])
def test_derivatives_at_half_turns_and_at_none(diagonal: tuple[float, float, float]):
    """Where one or three of the quaternion's numbers are 0, and their roots have no derivative."""
    blend, means, quats = inputs(1, 1)
    with torch.no_grad():
        blend[..., :6] = rotations.matrix_to_6d(torch.diag(torch.tensor(diagonal, dtype=torch.float64)))
    assert torch.autograd.gradcheck(move_rigidly_reference, (blend, means, quats))


def test_vectors_without_a_direction_give_finite_numbers():
    blend, means, quats = inputs(2, 1)
    with torch.no_grad():
        blend[0, :, :6] = 0.0
        blend[1, :, 3:6] = 2 * blend[1, :, :3]
    results = values_and_gradients(move_rigidly_reference, [blend, means, quats], True)
    assert all(torch.isfinite(result).all() for result in results)


def test_gram_schmidt_of_any_two_vectors_is_a_rotation():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 6, generator=generator)
    vectors[:100, 3:] = vectors[:100, :3] + 1e-3 * vectors[:100, 3:]  # nearly parallel
    rotation = rotations.matrix_from_6d(vectors)
    identity = torch.eye(3).expand_as(rotation)
    torch.testing.assert_close(rotation.mT @ rotation, identity, atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.det(rotation), torch.ones(500), atol=2e-6, rtol=0)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the kernels are not used in float32."""
    pytest.importorskip("numba")

    def refuse(blend, means, quats):
        raise AssertionError("move_rigidly() should have used its kernels")

    monkeypatch.setattr(rigid, "move_rigidly_reference", refuse)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("with_quats", [True, False])
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 200), times=st.integers(1, 5), seed=st.integers(0, 1000))
def test_compiled_agrees_with_float64(with_quats: bool, n: int, times: int, seed: int):
    exact = values_and_gradients(move_rigidly_reference, inputs(n, times, seed), with_quats)
    found = values_and_gradients(move_rigidly, inputs(n, times, seed, torch.float32), with_quats)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= 2e-5 * theirs.norm()


@pytest.mark.usefixtures("compiled")
def test_the_same_bits_for_any_number_of_threads():
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(values_and_gradients(move_rigidly, inputs(333, 4, dtype=torch.float32), True))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_gpu_is_asked_for_few_launches_and_gives_the_same_numbers():
    """Component by component it was 300 launches for each of these."""
    field, gaussians, times = bases_and_gaussians()
    expected = field.at(gaussians, times)
    with SimulatedCuda() as device:
        there = bases_and_gaussians("cuda")
        for move, most in ((MotionBases.at, 90), (MotionBases.positions, 65)):
            with device.launches.counting() as launches:
                found = move(*there)
                means = found if isinstance(found, Tensor) else found.means + found.quats[..., 1:]
                means.sum().backward()
            assert launches.kernels <= most
            assert (launches.copies, launches.waits) == (0, 0)
        moved = MotionBases.at(*there)
        torch.testing.assert_close(moved.means.cpu(), expected.means, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(moved.quats.cpu(), expected.quats, atol=1e-5, rtol=1e-5)


def bases_and_gaussians(device: str = "cpu") -> tuple[MotionBases, Gaussians, Tensor]:
    generator = torch.Generator().manual_seed(0)
    field = MotionBases(MotionBasesConfig(num_bases=3), num_frames=5)
    field.rots.data = torch.randn(3, 5, 6, generator=generator)
    field.transls.data = torch.randn(3, 5, 3, generator=generator)
    means, quats, coefs = (torch.randn(40, width, generator=generator) for width in (3, 4, 3))
    leaves = [tensor.to(device).requires_grad_() for tensor in (means, quats, coefs)]
    ones = torch.ones(40, 3, device=device)
    gaussians = Gaussians(leaves[0], leaves[1], ones, ones[:, 0], ones, {"motion_coefs": leaves[2]})
    return field.to(device), gaussians, torch.tensor([0.0, 0.3, 1.0], device=device)


def test_no_gaussians():
    blend, means, quats = inputs(0, 2, dtype=torch.float32)
    moved, turned = move_rigidly(blend, means, quats)
    assert moved.shape == (2, 0, 3)
    assert turned is not None
    assert turned.shape == (2, 0, 4)
    (moved.sum() + turned.sum()).backward()
    assert blend.grad is not None
