"""gsplat's `DefaultStrategy`, unchanged, on our `info`; and the portable MCMC strategy in the same training loop."""

from __future__ import annotations

import pytest
import torch

from dyngs_plugins.raster import rasterize
from dyngs_plugins.raster.mcmc import PortableMCMCStrategy

gsplat = pytest.importorskip("gsplat")
SIZE = 32


def start(n: int = 60):
    """Parameters and optimizers of a small scene that has too few Gaussians for what it is to show."""
    generator = torch.Generator().manual_seed(0)
    xy = (torch.rand(n, 2, generator=generator) - 0.5) * 2
    values = {
        "means": torch.cat([xy, 2.0 + 0.5 * torch.rand(n, 1, generator=generator)], dim=1),
        "quats": torch.randn(n, 4, generator=generator),
        "scales": torch.full((n, 3), -3.0) + torch.randn(n, 1, generator=generator),
        "opacities": torch.linspace(-6.0, 2.0, n),
        "colors": torch.rand(n, 3, generator=generator),
    }
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in values.items()})
    optimizers = {name: torch.optim.Adam([params[name]], lr=0.05) for name in params}
    return params, optimizers


def target():
    x, y = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="xy")
    stripes = (torch.sin(20 * x) > 0).float()
    return torch.stack([stripes, y, 1 - stripes * y], dim=-1)[None].expand(2, -1, -1, -1)


def cameras():
    views = torch.eye(4).repeat(2, 1, 1)
    views[1, 0, 3] = 0.05
    K = torch.tensor([[30.0, 0, SIZE / 2], [0, 30.0, SIZE / 2], [0, 0, 1]])
    return views, K.expand(2, 3, 3)


def fit(strategy, backend, steps, check=lambda step, params, info: None, **options):
    params, optimizers = start()
    strategy.check_sanity(params, optimizers)
    state = strategy.initialize_state()
    views, Ks = cameras()
    losses, sizes = [], []
    for step in range(steps):
        image, _, info = rasterize(
            params["means"],
            params["quats"],
            torch.exp(params["scales"]),
            torch.sigmoid(params["opacities"]),
            params["colors"],
            views,
            Ks,
            SIZE,
            SIZE,
            backend=backend,
            absgrad=options.get("absgrad", False),
        )
        loss = (image - target()).square().mean()
        strategy.step_pre_backward(params, optimizers, state, step, info)
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        strategy.step_post_backward(params, optimizers, state, step, info, **options.get("post", {}))
        check(step, params, info)
        losses.append(loss.item())
        sizes.append(len(params["means"]))
    for name, optimizer in optimizers.items():
        assert optimizer.param_groups[0]["params"][0] is params[name]
        assert optimizer.state[params[name]]["exp_avg"].shape == params[name].shape
    return losses, sizes, state


@pytest.mark.parametrize("absgrad", [False, True])
def test_default_strategy_duplicates_splits_and_prunes(backend, absgrad, capsys):
    strategy = gsplat.DefaultStrategy(
        refine_start_iter=5,
        refine_every=10,
        reset_every=35,
        grow_grad2d=2e-4,
        grow_scale3d=0.05,
        prune_opa=0.02,
        refine_scale2d_stop_iter=25,
        absgrad=absgrad,
        verbose=True,
    )
    losses, sizes, state = fit(strategy, backend, 35, absgrad=absgrad)
    said = capsys.readouterr().out
    counts = [[int(word) for word in line.split() if word.isdigit()] for line in said.splitlines()]
    assert sum(c[0] for c in counts if len(c) == 3) > 0, "duplicated"
    assert sum(c[1] for c in counts if len(c) == 3) > 0, "split"
    assert sum(c[0] for c in counts if len(c) == 2) > 0, "pruned"
    assert len(set(sizes)) > 2
    assert state["grad2d"].shape == (sizes[-1],)
    # Step 0 is a multiple of everything, so all opacities start from twice the pruning threshold.
    assert losses[-1] < 0.8 * losses[1]


def test_default_strategy_counts_views_and_scales_gradients(backend):
    """`grad2d` is the gradient in units of half the image, summed over the views that see a Gaussian."""
    strategy = gsplat.DefaultStrategy(refine_start_iter=100, reset_every=1000)
    seen = {}

    def remember(step, params, info):
        half = torch.tensor([info["width"] / 2, info["height"] / 2])
        visible = info["radii"] > 0
        norms = (info["means2d"].grad * half * info["n_cameras"]).norm(dim=-1)
        seen["grad2d"] = (norms * visible).sum(0)
        seen["count"] = visible.sum(0).float()

    _, _, state = fit(strategy, backend, 1, remember)
    torch.testing.assert_close(state["grad2d"], seen["grad2d"])
    torch.testing.assert_close(state["count"], seen["count"])


def test_mcmc_strategy_moves_and_adds(backend):
    torch.manual_seed(0)
    strategy = PortableMCMCStrategy(refine_start_iter=5, refine_every=10, cap_max=66, min_opacity=0.01, noise_lr=1e3)
    faintest = []

    def check(step, params, info):
        faintest.append(torch.sigmoid(params["opacities"]).min().item())

    losses, sizes, _ = fit(strategy, backend, 41, check, post={"lr": 1e-4})
    assert sizes[0] == 60
    assert sizes[-1] == 66, "5 % more per refinement, up to the cap"
    assert faintest[9] < 0.01 <= faintest[10], "the dead have moved"
    assert losses[-1] < 0.5 * losses[0]
