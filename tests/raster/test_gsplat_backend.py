"""The gsplat backend with a stand-in for gsplat: its calling convention, and what is put together around it."""

from __future__ import annotations

import gc
import inspect
import weakref

import pytest
import torch

from dyngs_plugins.raster import gsplat_backend, rasterize
from dyngs_plugins.raster.inputs import RasterInputs
from dyngs_plugins.raster.seam import rasterize_in_stages
from dyngs_plugins.raster.semantics import semantics_of
from dyngs_plugins.raster.tiles import TorchBackend

gsplat = pytest.importorskip("gsplat")
WIDTH, HEIGHT, N, C = 35, 19, 40, 3


class StandIn:
    """Takes and gives what gsplat 1.4 (or 1.5) takes and gives, and remembers how often it was called."""

    def __init__(self, pair_radii: bool):
        self.calls = 0
        self.pair_radii = pair_radii

    def rasterization(self, *, packed, **arguments):
        inspect.signature(gsplat.rasterization).bind(packed=packed, **arguments)
        self.calls += 1
        assert packed is False
        n, c = len(arguments["means"]), len(arguments["viewmats"])
        assert arguments["means"].shape == (n, 3)
        assert arguments["opacities"].shape == (n,)
        if arguments["covars"] is None:
            assert arguments["quats"].shape == (n, 4)
            assert arguments["scales"].shape == (n, 3)
        else:
            assert arguments["covars"].shape == (n, 3, 3)
        assert arguments["Ks"].shape == (c, 3, 3)
        image, alpha, info = rasterize_in_stages(TorchBackend(), RasterInputs(**arguments).check())
        if self.pair_radii:
            info["radii"] = torch.stack([info["radii"], (info["radii"] - 1).clamp(min=0)], dim=-1)
        info["isect_ids"] = torch.zeros(5)
        return image, alpha, info

    def rasterize_without_faint(self, inputs: RasterInputs):
        return self.rasterization(packed=False, **vars(inputs))


@pytest.fixture(params=[False, True], ids=["1.4", "1.5"])
def stand_in(request, monkeypatch):
    stand_in = StandIn(request.param)
    monkeypatch.setattr(gsplat, "rasterization", stand_in.rasterization)
    monkeypatch.setattr(
        gsplat_backend, "installed_semantics", lambda: semantics_of("1.5.0" if request.param else "1.4.0")
    )
    monkeypatch.setattr(gsplat_backend, "rasterize_without_faint", stand_in.rasterize_without_faint)
    monkeypatch.setattr(gsplat_backend, "_require_cuda", lambda means: None)
    return stand_in


def run(scene, backend, on_means2d=0.0, **options):
    leaves = {name: tensor.float().requires_grad_(name != "Ks") for name, tensor in scene.items()}
    arguments = {"quats": None, "scales": None, **leaves}
    image, alpha, info = rasterize(**arguments, width=WIDTH, height=HEIGHT, backend=backend, absgrad=True, **options)
    info["means2d"].retain_grad()
    loss = image.square().sum() + alpha.sum() + on_means2d * info["means2d"].square().mean()
    loss.backward()
    return image, alpha, info, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def assert_same(found, expected):
    """Equal up to the float32 rounding of summing in another order."""

    def close(a, b, name):
        assert (a - b).norm() <= 1e-4 * b.norm(), name

    for name, tensor in expected[3].items():
        close(found[3][name], tensor, name)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)
    for name in ("depths", "conics", "opacities", "means2d"):
        torch.testing.assert_close(found[2][name], expected[2][name], rtol=1e-4, atol=1e-4)
    close(found[2]["means2d"].grad, expected[2]["means2d"].grad, "means2d")
    close(found[2]["means2d"].absgrad, expected[2]["means2d"].absgrad, "absgrad")
    for name in ("width", "height", "n_cameras", "gaussian_ids", "camera_ids", "tile_size", "tile_width"):
        assert found[2][name] == expected[2][name]
    assert found[2]["radii"].shape == expected[2]["radii"].shape
    assert found[2]["radii"].dtype == torch.int32


def test_shared_gaussians_go_through_one_call(random_scene, stand_in):
    scene = random_scene(N, WIDTH, HEIGHT, cameras=C, lost=0.2)
    found = run(scene, "gsplat")
    assert stand_in.calls == 1
    assert_same(found, run(scene, "torch"))
    assert "isect_ids" in found[2]
    if not stand_in.pair_radii:
        assert torch.equal(found[2]["radii"], run(scene, "torch")[2]["radii"])


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("own", [("means",), ("means", "quats"), ("scales",), ("opacities",), ("means", "colors")])
def test_gaussians_that_differ_between_cameras_are_merged(random_scene, stand_in, own, mode):
    scene = random_scene(N, WIDTH, HEIGHT, cameras=C)
    for name in own:
        scene[name] = scene[name] * torch.linspace(0.95, 1.0, C).reshape(C, *[1] * scene[name].ndim)
    found = run(scene, "gsplat", rasterize_mode=mode, render_mode="RGB+ED")
    assert stand_in.calls == C
    assert_same(found, run(scene, "torch", rasterize_mode=mode, render_mode="RGB+ED"))
    assert not found[2]["means2d"].is_leaf
    assert "isect_ids" not in found[2], "an intersection list of one camera must not pass for that of all"


def test_harmonics_and_covariances_of_each_camera(random_scene, stand_in):
    scene = random_scene(N, WIDTH, HEIGHT, cameras=C)
    variance = scene.pop("scales").square().mean(-1)
    del scene["quats"]
    scene["covars"] = torch.diag_embed(torch.stack([variance, 2 * variance, variance], -1)) * torch.ones(C, 1, 1, 1)
    scene["colors"] = torch.randn(C, N, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    assert_same(run(scene, "gsplat", sh_degree=1), run(scene, "torch", sh_degree=1))


def test_a_loss_on_the_merged_means_counts_once(random_scene, stand_in):
    scene = random_scene(N, WIDTH, HEIGHT, cameras=C)
    scene["means"] = scene["means"].expand(C, -1, -1)
    assert_same(run(scene, "gsplat", on_means2d=0.1), run(scene, "torch", on_means2d=0.1))


def test_strategy_reads_the_merged_gradient(random_scene, stand_in):
    scene = random_scene(N, WIDTH, HEIGHT, cameras=C)
    scene["means"] = scene["means"].expand(C, -1, -1)
    strategy = gsplat.DefaultStrategy()
    sums = {}
    for backend in ("gsplat", "torch"):
        state = strategy.initialize_state()
        strategy._update_state({"means": torch.zeros(N, 3)}, state, run(scene, backend)[2])
        sums[backend] = state["grad2d"]
    torch.testing.assert_close(sums["gsplat"], sums["torch"], rtol=1e-4, atol=1e-5)


def test_without_gradients(random_scene, stand_in):
    scene = {name: tensor.float() for name, tensor in random_scene(N, WIDTH, HEIGHT, cameras=C).items()}
    scene["means"] = scene["means"].expand(C, -1, -1)
    _, _, info = rasterize(**scene, width=WIDTH, height=HEIGHT, backend="gsplat")
    assert info["means2d"].shape == (C, N, 2)


def test_nothing_is_kept_alive(random_scene, stand_in):
    """The hooks that fill the merged gradient must not hold on to a step's tensors, or each step would leak them."""
    scene = random_scene(N, WIDTH, HEIGHT, cameras=C)
    scene["means"] = scene["means"].expand(C, -1, -1)
    gc.collect()
    gc.disable()
    try:
        image, _, info, _ = run(scene, "gsplat")
        watched = [weakref.ref(info["means2d"]), *(weakref.ref(part) for part in info["means2d_parts"])]
        del image, _, info
        assert [ref() is None for ref in watched] == [True] * (C + 1)
    finally:
        gc.enable()


def test_double_precision_is_refused(random_scene, stand_in):
    scene = random_scene(N, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="float32 only"):
        rasterize(**scene, width=WIDTH, height=HEIGHT, backend="gsplat")


def test_cpu_tensors_are_refused(random_scene):
    scene = {name: tensor.float() for name, tensor in random_scene(N, WIDTH, HEIGHT).items()}
    with pytest.raises(ValueError, match="on CUDA only, means is on cpu: use backend='numba'"):
        rasterize(**scene, width=WIDTH, height=HEIGHT, backend="gsplat")


def test_cuda_tensors_choose_gsplat(random_scene, stand_in, monkeypatch):
    scene = {name: tensor.float() for name, tensor in random_scene(N, WIDTH, HEIGHT).items()}
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    rasterize(**scene, width=WIDTH, height=HEIGHT)
    assert stand_in.calls == 1
