"""Projection of every CPU backend against gsplat's own (pure PyTorch) projection and tile intersection."""

from __future__ import annotations

import pytest
import torch

from dyngs_plugins.raster.ewa import quats_to_rotations
from dyngs_plugins.raster.semantics import installed_semantics
from dyngs_plugins.raster.tiles import TorchBackend, tile_bounds, tile_lists

torch_impl = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat's PyTorch projection is the reference here")
OLD_RADIUS = installed_semantics().radius_rule == "three-sigma"


def gsplat_projection(scene, width, height, antialiased):
    covars, _ = torch_impl._quat_scale_to_covar_preci(scene["quats"], scene["scales"], True, False)
    return torch_impl._fully_fused_projection(
        scene["means"], covars, scene["viewmats"], scene["Ks"], width, height, calc_compensations=antialiased
    )


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_values(backend, random_scene, render, mode):
    scene = random_scene(300, 45, 37, cameras=2, lost=0.4)
    radii, means2d, depths, conics, compensations = gsplat_projection(scene, 45, 37, mode == "antialiased")
    info = render(backend, scene, 45, 37, dtype=torch.float32, rasterize_mode=mode).info
    seen = info["radii"] > 0
    assert 100 < seen.sum() < 500
    if OLD_RADIUS:
        assert (info["radii"] != radii).double().mean() < 0.01, "radii may differ by rounding only"
        assert (info["radii"] - radii).abs()[seen & (radii > 0)].max() <= 1
    for name, expected in (("means2d", means2d), ("depths", depths), ("conics", conics)):
        torch.testing.assert_close(info[name][seen].double(), expected[seen], rtol=2e-4, atol=1e-4)
    factor = compensations if compensations is not None else torch.ones_like(depths)
    torch.testing.assert_close(
        info["opacities"][seen].double(), (scene["opacities"] * factor)[seen], rtol=1e-4, atol=1e-6
    )


def test_jacobian_far_outside_the_image(backend, random_scene, render, check_against_dense):
    """Large Gaussians beyond each side of the image, where the Jacobian is taken at the margin instead."""
    scene = random_scene(4, 40, 30)
    scene["viewmats"] = torch.eye(4, dtype=torch.float64)[None]
    scene["means"] = torch.tensor([[-4, 0, 3.0], [4, 0, 3.5], [0, -4, 4.0], [0, 4, 4.5]], dtype=torch.float64)
    scene["scales"] = scene["scales"] * 0 + torch.tensor([1.5, 1.75, 2.0])
    scene["opacities"] = scene["opacities"] * 0 + 0.875
    found = check_against_dense(backend, scene, 40, 30)
    assert (found.info["radii"] > 0).all()
    _, means2d, _, conics, _ = gsplat_projection(scene, 40, 30, False)
    torch.testing.assert_close(found.info["means2d"].detach().double(), means2d, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.info["conics"].detach().double(), conics, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_in_float64(random_scene, antialiased):
    """gsplat writes the same formulas differently, so float64 gradients agree to rounding."""
    scene = random_scene(100, 45, 37, cameras=2, lost=0.2)
    names = ("means", "quats", "scales", "viewmats")
    generator = torch.Generator().manual_seed(0)

    def gradients(outputs, leaves, seen):
        loss = sum(
            (o * torch.randn(o.shape, generator=generator.manual_seed(0), dtype=o.dtype))[seen].sum() for o in outputs
        )
        return torch.autograd.grad(loss, [leaves[name] for name in names])

    leaves = {name: tensor.clone().requires_grad_(name in names) for name, tensor in scene.items()}
    radii, *ours = TorchBackend().project(
        leaves["means"], leaves["quats"], leaves["scales"], None, leaves["opacities"], leaves["viewmats"], leaves["Ks"],
        45, 37, 0.3, 0.01, 1e10, 0.0, antialiased,
    )  # fmt: skip
    seen = radii > 0
    found = gradients([o for o in ours if o is not None], leaves, seen)
    theirs = gsplat_projection(leaves, 45, 37, antialiased)[1:]
    expected = gradients([o for o in theirs if o is not None], leaves, seen)
    for name, a, b in zip(names, found, expected, strict=True):
        assert (a - b).norm() < 1e-9 * b.norm(), name


def test_behind_the_camera_and_off_screen_is_not_drawn(backend, random_scene, render):
    scene = random_scene(4, 32, 32)
    scene["viewmats"] = torch.eye(4, dtype=torch.float64)[None]
    scene["means"] = torch.tensor([[0, 0, 3.0], [0, 0, -3.0], [90.0, 0, 3.0], [0, -90.0, 3.0]], dtype=torch.float64)
    found = render(backend, scene, 32, 32, dtype=torch.float32)
    assert (found.info["radii"][0] > 0).tolist() == [True, False, False, False]
    assert found.info["radii"].dtype == torch.int32
    alone = {n: t[:1] if n in ("means", "quats", "scales", "opacities", "colors") else t for n, t in scene.items()}
    assert torch.equal(found.image, render(backend, alone, 32, 32, dtype=torch.float32).image)


@pytest.mark.skipif(not OLD_RADIUS, reason="the installed gsplat has no square radii")
def test_radius_of_a_round_gaussian_has_a_floor(backend, random_scene, render):
    """gsplat 1.4 takes at least 0.1 for sqrt(b^2 - det): a variance of 3.98 pixels squared gives ceil(6.06)."""
    scene = random_scene(1, 32, 32)
    scene["viewmats"] = torch.eye(4, dtype=torch.float64)[None]
    scene["Ks"] = torch.tensor([[[20.0, 0, 16], [0, 20.0, 16], [0, 0, 1]]], dtype=torch.float64)
    scene["means"] = torch.tensor([[0, 0, 2.0]], dtype=torch.float64)
    scene["scales"] = torch.full((1, 3), 0.0368, dtype=torch.float64).sqrt()
    assert render(backend, scene, 32, 32, dtype=torch.float32).info["radii"].item() == 7


@pytest.mark.skipif(not OLD_RADIUS, reason="the installed gsplat has no square radii")
def test_tile_lists_are_gsplats(random_scene, render):
    width, height, size = 70, 45, 16
    columns, rows = -(-width // size), -(-height // size)
    info = render("torch", random_scene(120, width, height, lost=0.2, radius=(3, 30)), width, height).info
    arguments = (info["means2d"].detach(), info["radii"], info["depths"].detach())
    # gsplat packs the depth into 32 bits.
    per_gaussian, _, flat = torch_impl._isect_tiles(
        arguments[0], arguments[1], arguments[2].float(), size, columns, rows
    )
    order, counts = tile_lists(*(a[0] for a in arguments), columns, rows, size)
    assert order.tolist() == flat.tolist()
    first, last = tile_bounds(arguments[0][0], arguments[1][0], columns, rows, size)
    assert ((last - first).prod(-1) * (arguments[1][0] > 0)).tolist() == per_gaussian[0].tolist()
    assert sum(counts) == len(flat)


def test_rotations_are_gsplats_and_zero_is_safe():
    quats = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(quats_to_rotations(quats), torch_impl._quat_to_rotmat(quats))
    zero = torch.zeros(1, 4, requires_grad=True)
    rotation = quats_to_rotations(zero)
    assert torch.equal(rotation[0], torch.eye(3))
    rotation.sum().backward()
    assert torch.equal(zero.grad, torch.zeros(1, 4))
