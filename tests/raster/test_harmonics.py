from __future__ import annotations

import pytest
import torch

from dyngs_plugins.raster.harmonics import sh_basis, sh_colors


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_equals_gsplat(degree):
    torch_impl = pytest.importorskip("gsplat.cuda._torch_impl")
    generator = torch.Generator().manual_seed(degree)
    directions = torch.randn(2, 30, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    coefficients = torch.randn(30, 16, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = torch_impl._spherical_harmonics(degree, directions, coefficients.expand(2, -1, -1, -1))
    expected = torch.clamp_min(expected + 0.5, 0.0)
    found = sh_colors(degree, directions, coefficients)
    torch.testing.assert_close(found, expected)
    leaves = [directions, coefficients]
    ours, theirs = (
        torch.autograd.grad(colors.square().sum(), leaves, allow_unused=True, materialize_grads=True)
        for colors in (found, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_basis_is_orthonormal():
    """The mean of Y_i Y_j over the sphere is delta_ij / 4 pi (Fibonacci points: quasi-uniform)."""
    n = 20000
    i = torch.arange(n, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * i / n, torch.pi * (1 + 5**0.5) * i
    points = torch.stack([torch.cos(turn) * (1 - z * z).sqrt(), torch.sin(turn) * (1 - z * z).sqrt(), z], -1)
    basis = sh_basis(3, points)
    torch.testing.assert_close(4 * torch.pi * basis.T @ basis / n, torch.eye(16).double(), atol=1e-5, rtol=0)


def test_zero_direction_is_finite():
    directions = torch.zeros(1, 1, 3, requires_grad=True)
    sh_colors(3, directions, torch.ones(1, 16, 3)).sum().backward()
    assert torch.isfinite(directions.grad).all()


def test_messages():
    with pytest.raises(ValueError, match="expected 0 to 3"):
        sh_basis(4, torch.ones(1, 3))
    with pytest.raises(ValueError, match="needs 9 coefficients per Gaussian, colors has 4"):
        sh_colors(2, torch.ones(1, 1, 3), torch.ones(1, 4, 3))
