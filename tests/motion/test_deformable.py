"""Deformable 3D Gaussians: the sheet's facts (section 9)."""

import pytest
import torch

from dyngs_plugins.encodings import frequency_encoding
from dyngs_plugins.motion.deformable import Deformable, DeformableConfig
from dyngs_plugins.types import Gaussians
from method_configs.deformable import full

REAL = {}
SYNTHETIC = {"time_frequencies": 6, "time_network": 30, "noise": 0.0}


def make(n: int = 5, **changes) -> tuple[Deformable, Gaussians]:
    torch.manual_seed(0)
    field = Deformable(DeformableConfig(**changes), num_frames=11)
    return field, Gaussians(
        means=torch.randn(n, 3, requires_grad=True),
        quats=torch.randn(n, 4),
        scales=torch.rand(n, 3),
        opacities=torch.rand(n),
        colors=torch.rand(n, 3),
    )


@pytest.mark.parametrize(("settings", "inputs", "parameters"), [(REAL, 84, 506_378), (SYNTHETIC, 93, 522_280)])
def test_sizes_of_the_network(settings, inputs, parameters):
    network = make(**settings)[0].network
    assert network.input_size == inputs
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_split_products_are_those_of_one_network():
    """Against the plain network: all inputs side by side, the inputs once more after layer 4."""
    field, _ = make(**SYNTHETIC)
    network, c = field.network, field.config
    places, times = torch.randn(4, 3), torch.rand(2, 1)
    time = frequency_encoding(times, c.time_frequencies)
    time = network.time_layers[1](torch.relu(network.time_layers[0](time)))
    inputs = torch.cat(
        [frequency_encoding(places, 10).expand(2, 4, 63), time[:, None].expand(2, 4, 30)],
        dim=-1,
    )
    hidden = inputs
    for i, layer in enumerate(network.layers):
        hidden = torch.relu(layer(hidden))
        if i == 4:
            hidden = torch.cat([inputs, hidden], dim=-1)
    torch.testing.assert_close(network(places, times), network.head(hidden), atol=1e-5, rtol=1e-4)


def test_noise_falls_linearly_and_is_for_training_alone():
    field, gaussians = make(zero_start=False)
    assert [field.noise_strength(step) for step in (0, 10_000, 20_000, 30_000)] == [0.1, 0.05, 0.0, 0.0]
    assert make(**SYNTHETIC)[0].noise_strength(0) == 0.0
    times = torch.tensor([0.5])
    field.eval()
    sharp = field.positions(gaussians, times)
    draws = []
    for step in range(200):
        field.begin_step("train", step)
        draws.append(field.noise)
    assert torch.tensor(draws).std() == pytest.approx(0.1 * field.frame, rel=0.15)
    assert torch.equal(field.positions(gaussians, times), sharp)
    field.train()
    assert not torch.equal(field.positions(gaussians, times), sharp)
    field.begin_step("train", 7)
    again = field.noise
    field.begin_step("train", 7)
    assert field.noise == again != 0.0


def test_the_centre_has_no_gradient_through_the_network():
    field, gaussians = make()
    field.offsets(gaussians.means, torch.tensor([0.3]))[0].sum().backward()
    assert gaussians.means.grad is None
    field.positions(gaussians, torch.tensor([0.3])).sum().backward()
    torch.testing.assert_close(gaussians.means.grad, torch.ones(5, 3))


def test_scales_change_after_the_exponential_and_quats_after_normalising():
    field, gaussians = make()
    moved = field.at(gaussians, torch.tensor([0.3]))
    _, turned, grown = field.offsets(gaussians.means, torch.tensor([0.3]))
    torch.testing.assert_close(moved.scales, (gaussians.scales + grown).abs())
    torch.testing.assert_close(moved.quats, torch.nn.functional.normalize(gaussians.quats, dim=-1) + turned)
    assert moved.opacities is gaussians.opacities


def test_what_moves_does_not_depend_on_the_scene_s_scale_and_place():
    field, gaussians = make()
    times, means = torch.tensor([0.3]), gaussians.means.detach()
    field.start_from_points(means, torch.zeros(5), torch.Generator())
    moved = field.offsets(means, times)[0]
    field.start_from_points(10 * means + 3, torch.zeros(5), torch.Generator())
    torch.testing.assert_close(field.offsets(10 * means + 3, times)[0], 10 * moved, atol=1e-4, rtol=1e-3)


def test_the_method_s_schedule():
    config = full()
    model = config.pipeline.model
    control = model.density["dynamic"]
    assert (control.grad_threshold, control.absolute_gradients) == (7e-4, True)
    assert (control.start, control.stop, control.every, control.prune_opacity) == (500, 15_000, 100, 0.005)
    (stage,) = [stage for stage in model.stages(10, 1) if stage.steps > 0]
    assert (stage.steps, stage.moves_from) == (40_000, 3000)
    rate = config.optimizers["dynamic_means"]["optimizer"].lr * stage.decays["dynamic_means"].at(15_000)
    assert rate == pytest.approx(8e-5)
    assert stage.decays["motion_network"].at(40_000) * 8e-4 == pytest.approx(1.6e-6)
