from __future__ import annotations

import math

import pytest
import torch

from dyngs_plugins.raster.mcmc import MAX_COPIES, add_noise, relocate, relocated_opacities_and_scales, sample_add


def literal(opacity: float, copies: int) -> tuple[float, float]:
    """Equation 9 as printed, with both sums."""
    new = 1 - (1 - opacity) ** (1 / copies)
    total = 0.0
    for i in range(1, copies + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
    return new, opacity / total


@pytest.mark.parametrize("copies", [1, 2, 3, 5, 10, 30, MAX_COPIES])
@pytest.mark.parametrize("opacity", [0.006, 0.1, 0.5, 0.9, 0.99])
def test_equation_9(opacity, copies):
    new, factor = literal(opacity, copies)
    opacities, scales = relocated_opacities_and_scales(
        torch.tensor([opacity]), torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([copies])
    )
    assert opacities.item() == pytest.approx(new, rel=1e-5)
    torch.testing.assert_close(scales, factor * torch.tensor([[1.0, 2.0, 3.0]]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("copies", [1, 2, 5, 20])
def test_the_copies_look_like_the_original(copies):
    """What equation 9 solves: equal opacity at the centre, and an equal integral over a line through it."""
    opacities, scales = relocated_opacities_and_scales(
        torch.tensor([0.8]).double(), torch.ones(1, 3).double(), torch.tensor([copies])
    )
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    together = 1 - (1 - opacities * torch.exp(-((x / scales[0, 0]) ** 2) / 2)) ** copies
    alone = 0.8 * torch.exp(-(x**2) / 2)
    assert together.max().item() == pytest.approx(0.8, rel=1e-6)
    assert torch.trapezoid(together, x).item() == pytest.approx(torch.trapezoid(alone, x).item(), rel=1e-5)


def test_extremes_are_finite():
    opacities = torch.tensor([1.0, 0.9999999, 1e-6])
    new, scales = relocated_opacities_and_scales(opacities, torch.ones(3, 3), torch.tensor([200, MAX_COPIES, 200]))
    assert torch.isfinite(new).all()
    assert torch.isfinite(scales).all()
    assert (scales > 0).all()


def gaussians(opacities, column=False):
    n = len(opacities)
    logits = torch.logit(torch.tensor(opacities))
    values = {
        "means": torch.arange(3.0 * n).reshape(n, 3),
        "quats": torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        "scales": torch.arange(1.0, n + 1)[:, None].repeat(1, 3),
        "opacities": logits[:, None] if column else logits,
        "motion": torch.arange(float(n)),
    }
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in values.items()})
    optimizers = {name: torch.optim.Adam([params[name]]) for name in params}
    sum(p.square().sum() for p in params.values()).backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return params, optimizers


@pytest.mark.parametrize("column", [False, True], ids=["opacities [n]", "opacities [n, 1]"])
def test_relocate(column):
    params, optimizers = gaussians([0.001, 0.9, 0.002, 1e-12], column)
    before = {name: p.detach().clone() for name, p in params.items()}
    moments = optimizers["means"].state[params["means"]]["exp_avg"].clone()
    dead = torch.tensor([True, False, True, True])
    relocate(params, optimizers, dead, 0.005)
    opacity, scale = literal(torch.sigmoid(before["opacities"][1]).item(), 4)
    for row in range(4):
        assert torch.equal(params["means"][row], before["means"][1])
        assert params["motion"][row] == before["motion"][1]
        assert torch.sigmoid(params["opacities"][row]).item() == pytest.approx(opacity, rel=1e-4)
        torch.testing.assert_close(params["scales"][row], before["scales"][1] + math.log(scale))
    state = optimizers["means"].state[params["means"]]
    assert (state["exp_avg"][1] == 0).all()
    assert torch.equal(state["exp_avg"][[0, 2, 3]], moments[[0, 2, 3]])
    assert optimizers["means"].param_groups[0]["params"][0] is params["means"]


def test_sample_add():
    torch.manual_seed(0)
    params, optimizers = gaussians([1e-12, 0.9, 1e-12])
    before = {name: p.detach().clone() for name, p in params.items()}
    sample_add(params, optimizers, 2, 0.005)
    assert all(len(p) == 5 for p in params.values())
    opacity, _ = literal(torch.sigmoid(before["opacities"][1]).item(), 3)
    assert torch.sigmoid(params["opacities"][[1, 3, 4]]).tolist() == pytest.approx([opacity] * 3, rel=1e-4)
    assert torch.equal(params["means"][3:], before["means"][[1, 1]])
    state = optimizers["motion"].state[params["motion"]]
    assert state["exp_avg"].shape == (5,)
    assert (state["exp_avg"][3:] == 0).all()


def test_noise_follows_the_shape_and_spares_the_visible():
    torch.manual_seed(0)
    n = 4000
    params = {
        "means": torch.nn.Parameter(torch.zeros(2 * n, 3)),
        "quats": torch.nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(2 * n, 1)),
        "scales": torch.nn.Parameter(torch.log(torch.tensor([1.0, 2.0, 0.1])).repeat(2 * n, 1)),
        "opacities": torch.nn.Parameter(torch.logit(torch.tensor([1e-6, 0.5])).repeat_interleave(n)),
    }
    add_noise(params, 0.5)
    faintness = 1 / (1 + math.exp(-100 * 0.005))
    spread = params["means"][:n].std(dim=0)
    torch.testing.assert_close(spread, 0.5 * faintness * torch.tensor([1.0, 4.0, 0.01]), rtol=0.05, atol=0)
    assert params["means"][n:].abs().max() < 1e-15
