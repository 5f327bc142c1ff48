"""What must hold for any scene."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyngs_plugins.raster import rasterize

WIDTH, HEIGHT = 27, 18
ROWS = ("means", "quats", "scales", "opacities", "colors")
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCENES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 60),
        "seed": st.integers(0, 2**16),
        "opacity": st.floats(0.02, 0.98),
        "lost": st.floats(0, 0.5),
        "channels": st.integers(1, 5),
    }
)
MODES = st.sampled_from(["classic", "antialiased"])


def draw(backend, scene, mode="classic", **options):
    scene = {name: tensor.float() for name, tensor in scene.items()}
    return rasterize(**scene, width=WIDTH, height=HEIGHT, backend=backend, rasterize_mode=mode, **options)


@FEW
@given(what=SCENES, mode=MODES)
def test_the_order_of_the_gaussians_does_not_matter(backend, random_scene, what, mode):
    scene = random_scene(width=WIDTH, height=HEIGHT, **what)
    order = torch.randperm(what["n"], generator=torch.Generator().manual_seed(what["seed"]))
    shuffled = {name: tensor[order] if name in ROWS else tensor for name, tensor in scene.items()}
    image, alpha, _ = draw(backend, scene, mode)
    other_image, other_alpha, _ = draw(backend, shuffled, mode)
    torch.testing.assert_close(image, other_image, atol=1e-6, rtol=0)
    torch.testing.assert_close(alpha, other_alpha, atol=1e-6, rtol=0)


@FEW
@given(what=SCENES, mode=MODES)
def test_one_color_everywhere_gives_that_color(backend, random_scene, what, mode):
    scene = random_scene(width=WIDTH, height=HEIGHT, **what)
    scene["colors"] = torch.full_like(scene["colors"], 0.7)
    scene["backgrounds"] = torch.full_like(scene["backgrounds"], 0.7)
    image, _, _ = draw(backend, scene, mode)
    torch.testing.assert_close(image, torch.full_like(image, 0.7), atol=2e-6, rtol=0)


@FEW
@given(what=SCENES, mode=MODES)
def test_alpha_is_a_share_and_colors_mix(backend, random_scene, what, mode):
    scene = random_scene(width=WIDTH, height=HEIGHT, **what)
    image, alpha, _ = draw(backend, scene, mode)
    assert ((alpha >= 0) & (alpha < 1)).all()
    values = torch.cat([scene["colors"], scene["backgrounds"]]).float()
    assert (image >= values.amin(0) - 1e-5).all()
    assert (image <= values.amax(0) + 1e-5).all()


@FEW
@given(seed=st.integers(0, 2**16), opacity=st.floats(0.2, 0.95), factor=st.floats(0.3, 1.0))
def test_alone_a_gaussian_is_as_visible_as_its_opacity(backend, random_scene, seed, opacity, factor):
    scene = random_scene(1, WIDTH, HEIGHT, seed=seed, opacity=opacity)
    fainter = {**scene, "opacities": scene["opacities"] * factor}
    alpha, faint = draw(backend, scene)[1], draw(backend, fainter)[1]
    clear = (faint > 1.01 / 255) & (alpha < 0.998)
    torch.testing.assert_close(faint[clear], factor * alpha[clear], atol=2e-6, rtol=1e-5)


@FEW
@given(what=SCENES, mode=MODES)
def test_channels_do_not_see_each_other(backend, random_scene, what, mode):
    scene = random_scene(width=WIDTH, height=HEIGHT, **{**what, "channels": 5})
    image, _, _ = draw(backend, scene, mode)
    last = {**scene, "colors": scene["colors"][:, 3:], "backgrounds": scene["backgrounds"][:, 3:]}
    torch.testing.assert_close(image[..., 3:], draw(backend, last, mode)[0], atol=1e-6, rtol=0)


@FEW
@given(what=SCENES, mode=MODES)
def test_repeats_are_bitwise_equal(backend, random_scene, what, mode):
    def once():
        scene = {name: tensor.float() for name, tensor in random_scene(width=WIDTH, height=HEIGHT, **what).items()}
        leaves = {name: tensor.requires_grad_(name != "Ks") for name, tensor in scene.items()}
        image, alpha, _ = rasterize(**leaves, width=WIDTH, height=HEIGHT, backend=backend, rasterize_mode=mode)
        (image.square().sum() + alpha.sum()).backward()
        return [image.detach(), alpha.detach(), *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)]

    assert all(torch.equal(a, b) for a, b in zip(once(), once(), strict=True))
