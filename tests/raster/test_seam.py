"""The public function: what it accepts, refuses, chooses and reports."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

from dyngs_plugins.raster import backend_names, backends, rasterize, register_backend

N, WIDTH, HEIGHT = 30, 35, 19


@pytest.fixture
def arguments(random_scene):
    return {**random_scene(N, WIDTH, HEIGHT, cameras=2), "width": WIDTH, "height": HEIGHT, "backend": "torch"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(N, 2)}, r"means has shape \[30, 2\]: expected \[30, 3\], or \[2, 30, 3\]"),
        ({"means": torch.zeros(3)}, r"means has shape \[3\]"),
        ({"quats": torch.zeros(3, N, 4)}, r"quats has shape \[3, 30, 4\]: expected \[30, 4\], or \[2, 30, 4\]"),
        ({"quats": None}, "quats and scales are needed unless covars is given"),
        ({"covars": torch.zeros(N, 6)}, r"covars has shape \[30, 6\]"),
        ({"opacities": torch.zeros(N, 1)}, r"opacities has shape \[30, 1\]"),
        ({"colors": torch.zeros(N)}, r"colors has shape \[30\].*also pass sh_degree"),
        ({"colors": torch.zeros(N, 4, 3)}, r"colors has shape \[30, 4, 3\]"),
        ({"colors": torch.zeros(N, 3), "sh_degree": 0}, r"with sh_degree expected \[30, k, 3\]"),
        ({"colors": torch.zeros(N, 1, 3).double(), "sh_degree": 1}, "needs 4 coefficients per Gaussian, colors has 1"),
        ({"viewmats": torch.eye(4)}, r"viewmat\[None\]"),
        ({"Ks": torch.eye(3)[None]}, r"Ks has shape \[1, 3, 3\]: expected \[2, 3, 3\]"),
        ({"backgrounds": torch.zeros(3)}, r"backgrounds has shape \[3\]: expected \[2, 3\]"),
        ({"backgrounds": torch.zeros(2, 3)}, "backgrounds is torch.float32 on cpu but means is torch.float64"),
        ({"width": 0}, "the image is 0x19"),
        ({"render_mode": "depth"}, "render_mode is 'depth': expected one of RGB, D, ED"),
        ({"rasterize_mode": "smooth"}, "rasterize_mode is 'smooth': expected one of classic, antialiased"),
        ({"backend": "numbra"}, "Did you mean 'numba'"),
        ({"backend": "numbra"}, "There are: dense, gsplat, numba, torch"),
        ({"viewmats": torch.full((2, 4, 4), torch.nan).double()}, "viewmats or Ks has a NaN"),
    ],
)
def test_refuses_with_a_hint(arguments, change, message):
    with pytest.raises(ValueError, match=message):
        rasterize(**{**arguments, **change})


def test_info_is_gsplats(arguments, backend):
    arguments = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()} | {
        "backend": backend
    }
    arguments["means"].requires_grad_()
    image, alpha, info = rasterize(**arguments, rasterize_mode="antialiased")
    assert image.shape == (2, HEIGHT, WIDTH, 3)
    assert alpha.shape == (2, HEIGHT, WIDTH, 1)
    assert (info["width"], info["height"], info["n_cameras"]) == (WIDTH, HEIGHT, 2)
    assert (info["tile_size"], info["tile_width"], info["tile_height"]) == (16, 3, 2)
    assert info["gaussian_ids"] is None
    assert info["camera_ids"] is None
    shapes = {name: tuple(info[name].shape) for name in ("radii", "means2d", "depths", "conics", "opacities")}
    rows = (2, N)
    assert shapes == {"radii": rows, "means2d": (*rows, 2), "depths": rows, "conics": (*rows, 3), "opacities": rows}
    assert not info["means2d"].is_leaf
    info["means2d"].retain_grad()
    image.sum().backward()
    assert info["means2d"].grad.abs().sum() > 0


def test_a_loss_on_the_projected_means_reaches_the_gaussians(arguments, backend):
    arguments = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()} | {
        "backend": backend
    }
    arguments["means"].requires_grad_()
    _, _, info = rasterize(**arguments)
    (info["means2d"].sum() + info["depths"].sum() + info["conics"].sum()).backward()
    assert arguments["means"].grad.abs().sum() > 0


@pytest.mark.parametrize("mode", ["D", "ED", "RGB+D", "RGB+ED"])
def test_render_modes_are_the_depths_composited(arguments, mode):
    """Depth is a colour channel that happens to hold each Gaussian's depth, with nothing behind it."""
    image, alpha, info = rasterize(**arguments, render_mode=mode)
    as_color = {**arguments, "colors": info["depths"][..., None], "backgrounds": None}
    depth, _, _ = rasterize(**as_color)
    if "ED" in mode:
        depth = depth / alpha.clamp(min=1e-10)
    torch.testing.assert_close(image[..., -1:], depth)
    if mode.startswith("RGB"):
        # Not to the last bit: PyTorch's matrix products may add up in another order for another number of channels.
        torch.testing.assert_close(image[..., :3], rasterize(**arguments)[0], atol=1e-13, rtol=1e-13)
    else:
        assert image.shape[-1] == 1


def test_harmonics_are_seen_from_the_camera(arguments):
    """A colour that varies with direction, against what gsplat's formula gives for each camera's own directions."""
    torch_impl = pytest.importorskip("gsplat.cuda._torch_impl")
    coefficients = torch.randn(N, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centres = torch.linalg.inv(arguments["viewmats"])[:, None, :3, 3]
    colors = torch_impl._spherical_harmonics(2, arguments["means"] - centres, coefficients.expand(2, -1, -1, -1)) + 0.5
    expected, _, _ = rasterize(**{**arguments, "colors": colors.clamp(min=0)})
    found, _, _ = rasterize(**{**arguments, "colors": coefficients}, sh_degree=2)
    torch.testing.assert_close(found, expected)


def test_no_gaussians_leave_the_background(arguments, backend):
    for name in ("means", "quats", "scales", "opacities", "colors"):
        arguments[name] = arguments[name][:0]
    arguments = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()} | {
        "backend": backend
    }
    arguments["means"].requires_grad_()
    image, alpha, info = rasterize(**arguments, render_mode="RGB+ED")
    assert torch.equal(image[..., :3], arguments["backgrounds"][:, None, None].expand(2, HEIGHT, WIDTH, 3))
    assert (image[..., 3] == 0).all()
    assert (alpha == 0).all()
    assert info["means2d"].shape == (2, 0, 2)


def test_automatic_choice(arguments, monkeypatch):
    chosen = []
    for name in ("torch", "numba"):
        monkeypatch.setitem(backends._BACKENDS, name, lambda inputs, name=name: chosen.append(name))
    monkeypatch.setattr(backends, "_numba_problem", lambda: None)
    rasterize(**arguments | {"backend": None})
    single = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    rasterize(**single | {"backend": None})
    assert chosen == ["torch", "numba"], "float64 is for checks, float32 goes to the kernels"


def test_without_numba_one_warning_names_the_remedy(arguments, monkeypatch):
    single = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()} | {"backend": None}
    monkeypatch.setitem(sys.modules, "dyngs_plugins.raster.numba_backend", None)
    backends._numba_problem.cache_clear()
    backends._warn_slow.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"25 to 40 times slower. Try: pip install dyngs-plugins\[cpu\]"):
            rasterize(**single)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rasterize(**single)
        with pytest.raises(ImportError, match=r"pip install dyngs-plugins\[cpu\]"):
            rasterize(**single | {"backend": "numba"})
    finally:
        backends._numba_problem.cache_clear()
        backends._warn_slow.cache_clear()


def test_registered_backend_is_called(arguments, monkeypatch):
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    register_backend("mine", lambda inputs: (inputs.means, inputs.means, {"n": inputs.num_gaussians}))
    assert "mine" in backend_names()
    assert rasterize(**arguments | {"backend": "mine"})[2] == {"n": N}
    with pytest.raises(ValueError, match="already registered"):
        register_backend("mine", lambda inputs: (inputs.means, inputs.means, {}))
