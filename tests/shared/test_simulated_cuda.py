"""The simulated device itself: what would fail on CUDA fails on it, what would not does not, and numbers stay the CPU's."""

from __future__ import annotations

import copy
import io
import threading

import numpy as np
import pytest
import torch
from simulated_cuda import CUDA, SimulatedCuda
from torch import nn


@pytest.fixture
def device():
    with SimulatedCuda() as device:
        yield device


def here(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, device="cuda")


def there(*shape: int) -> torch.Tensor:
    return torch.ones(*shape)


def mark(values: torch.Tensor) -> torch.Tensor:
    values[there(3) > 0] = there(3)
    return values


MISTAKES = {
    "sum": lambda: here(3) + there(3),
    "product of matrices": lambda: here(3, 3) @ there(3),
    "joined": lambda: torch.cat([here(3), there(3)]),
    "stacked": lambda: torch.stack([here(3), there(3)]),
    "chosen": lambda: torch.where(here(3) > 0, here(3), there(3)),
    "masked": lambda: here(3).masked_fill(there(3) > 0, 1.0),
    "gathered": lambda: here(3).gather(0, torch.zeros(1, dtype=torch.long)),
    "index of the device into the CPU": lambda: there(3)[torch.zeros(1, dtype=torch.long, device="cuda")],
    "values of the CPU at places of the device": lambda: mark(here(3)),
    "written to the CPU in place": lambda: there(3).add_(here(3)),
    "layer on the CPU": lambda: nn.Linear(3, 2)(here(3)),
    "image and grid": lambda: nn.functional.grid_sample(here(1, 1, 4, 4), there(1, 2, 2, 2)),
    "compared": lambda: torch.equal(here(3), there(3)),
    "generator of the CPU": lambda: torch.randn(3, generator=torch.Generator(), device="cuda"),
    "generator of the device": lambda: torch.randn(3, generator=torch.Generator("cuda")),
    "drawn in place": lambda: here(3).normal_(generator=torch.Generator()),
    "other device": lambda: torch.zeros(3, device="cuda:1"),
    "whole numbers multiplied as matrices": lambda: here(3, 3).long() @ here(3, 3).long(),
    "pinned": lambda: here(3).pin_memory(),
    "gradient": lambda: setattr(here(3), "grad", there(3)),
    "step of Adam elsewhere": lambda: step_elsewhere(),
    "backward of a function": lambda: Careless.apply(here(3).requires_grad_()).sum().backward(),
    "hook": lambda: hooked(lambda gradient: gradient * there(3)),
    "least squares with a driver": lambda: torch.linalg.lstsq(here(4, 2), here(4, 1), driver="gelsd"),
}


class Careless(torch.autograd.Function):
    """Right forward, wrong backward."""

    @staticmethod
    def forward(ctx, values):
        return values * 2

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[override]
        return gradient * torch.full((3,), 2.0)


def hooked(hook) -> None:
    values = here(3).requires_grad_()
    doubled = values * 2
    doubled.register_hook(hook)
    doubled.sum().backward()


def step_elsewhere() -> None:
    parameter = nn.Parameter(here(3))
    adam = torch.optim.Adam([parameter], fused=True)
    parameter.sum().backward()
    adam.step()
    adam.state[parameter]["exp_avg"] = there(3)
    adam.step()


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused(device, name):
    with pytest.raises(RuntimeError, match="simulated"):
        MISTAKES[name]()


@pytest.mark.parametrize("read", [lambda t: t.numpy(), np.asarray, lambda t: np.stack([t, t]), lambda t: np.array(t)])
def test_numpy_does_not_read_from_the_device(device, read):
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        read(here(3))
    assert read(here(3).cpu()).shape[-1] == 3


ALLOWED = {
    "number without axes": lambda: here(3) * torch.tensor(2.0),
    "python number": lambda: 2.0 - here(3),
    "index of the CPU": lambda: here(3)[torch.tensor([0, 2])],
    "mask of the CPU": lambda: here(3)[there(3) > 0],
    "one value at places": lambda: here(3).index_put((torch.tensor([0]),), torch.tensor(5.0)),
    "view": lambda: here(4, 3)[1:, None].transpose(0, 1),
    "like": lambda: torch.zeros_like(here(3)),
    "new": lambda: here(3).new_tensor([1.0, 2.0]) + here(3).new_zeros(2),
    "one hot": lambda: nn.functional.one_hot(torch.tensor([1, 2], device="cuda")),
    "tensor of a tensor": lambda: torch.as_tensor(here(3)),
    "like another": lambda: there(3).to(here(1)).type_as(here(2)),
    "generator of the device": lambda: torch.randn(3, generator=torch.Generator("cuda").manual_seed(0), device="cuda"),
    "copy": lambda: copy.deepcopy(here(3)),
    "interpolated": lambda: nn.functional.interpolate(here(1, 1, 4, 4), scale_factor=2.0, mode="bilinear"),
    "gradient of a gradient": lambda: second_derivative(here(3).requires_grad_()),
}


def second_derivative(values: torch.Tensor) -> torch.Tensor:
    (first,) = torch.autograd.grad(values.pow(3).sum(), values, create_graph=True)
    return torch.autograd.grad(first.sum(), values)[0]


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_allows_stays_on_the_device(device, name):
    made = ALLOWED[name]()
    assert made.device == CUDA
    assert made.is_cuda
    assert not made.is_cpu
    assert made.get_device() == 0
    assert made.cpu().device.type == "cpu"
    assert not made.cpu().is_cuda


def test_copies_go_from_device_to_device_and_nothing_moves_by_itself(device):
    values = here(3)
    values[:2] = there(2) * 5
    values.copy_(there(3) * 7)
    assert values.tolist() == [7, 7, 7]
    assert values.to("cuda") is values
    assert values.to("cuda", torch.float64).dtype == torch.float64
    assert torch.tensor([values[0], values[1]]).device.type == "cpu"
    assert (there(3) + there(3)).device.type == "cpu"
    assert float(values.sum()) == 21


def test_gradients_come_back_to_where_their_tensors_are(device):
    on_cpu, on_cuda = there(3).requires_grad_(), here(3).requires_grad_()
    (on_cpu.to("cuda") * on_cuda * 3).sum().backward()
    assert on_cpu.grad is not None
    assert on_cuda.grad is not None
    assert on_cpu.grad.device.type == "cpu"
    assert on_cuda.grad.device == CUDA
    assert on_cpu.grad.tolist() == on_cuda.grad.tolist() == [3, 3, 3]


def test_a_backward_pass_of_the_cpu_stays_there(device):
    """Also what the engine itself makes in it, such as the zeros for an output that nothing depends on."""

    class Halves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values / 2, values * 2

        @staticmethod
        def backward(ctx, gradient, unused):  # type: ignore[override]
            return torch.from_numpy(gradient.numpy() / 2 + unused.numpy())

    values = there(3).requires_grad_()
    Halves.apply(values)[0].sum().backward()
    assert values.grad is not None
    assert values.grad.device.type == "cpu"
    assert values.grad.tolist() == [0.5, 0.5, 0.5]


def test_a_network_trains_as_on_the_cpu(device):
    """The same numbers, to the bit: the kernels are the CPU's."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    second = copy.deepcopy(first).to("cuda")
    inputs = torch.randn(16, 4)
    for network, values in ((first, inputs), (second, inputs.cuda())):
        adam = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
        for _ in range(5):
            adam.zero_grad()
            network(values).square().mean().backward()
            adam.step()
        assert all(t.device == values.device for state in adam.state.values() for t in state.values())
    assert isinstance(second[0].weight, nn.Parameter)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs.cpu())


def test_the_device_draws_from_its_own_stream_of_random_numbers(device):
    torch.manual_seed(3)
    state, cuda_state = torch.get_rng_state(), torch.cuda.get_rng_state()
    drawn = torch.rand(4, device="cuda")
    assert torch.equal(torch.get_rng_state(), state)
    torch.cuda.set_rng_state(cuda_state)
    assert torch.equal(torch.rand(4, device="cuda"), drawn)
    assert not torch.equal(torch.rand(4, device="cuda"), drawn)


def test_checkpoints_know_their_device(device):
    file = io.BytesIO()
    torch.save({"here": here(3), "there": there(3)}, file)
    for where, expected in ((None, "cuda"), ("cpu", "cpu"), ("cuda", "cuda")):
        file.seek(0)
        read = torch.load(file, map_location=where)
        assert read["here"].device.type == expected
    file.seek(0)
    assert torch.load(file)["there"].device.type == "cpu"


def test_threads_see_the_device_and_nobody_does_afterwards():
    found = []
    with SimulatedCuda() as device:
        values = here(3)
        thread = threading.Thread(target=lambda: found.append(values.device == here(1).device == CUDA))
        thread.start()
        thread.join()
        assert device.operations > 0
        assert torch.cuda.is_available()
    assert found == [True]
    assert values.device.type == "cpu"
    assert not torch.cuda.is_available()
    assert type(torch.Generator()).__module__.startswith("torch")
    assert (values + torch.ones(3)).tolist() == [2, 2, 2]


def test_a_stand_in_for_a_kernel_does_what_it_likes_and_takes_one_device(device):
    @device.kernel
    def squares(values: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(values.numpy() ** 2) + torch.zeros(3) + more

    assert squares(here(3), here(3)).device == CUDA
    assert squares(there(3), there(3)).device.type == "cpu"
    with pytest.raises(RuntimeError, match="was given tensors of cuda:0 and of the CPU"):
        squares(here(3), there(3))
