"""What the counter of launches counts: kernels, not views; waits, whatever asks for them; what stands for kernels, not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from simulated_cuda import SimulatedCuda
from simulated_cuda.launches import Launches


@pytest.fixture
def device():
    with SimulatedCuda() as device:
        yield device


def counts(device: SimulatedCuda, work: Callable[[torch.Tensor], object], sites: bool = False) -> Launches:
    """What some work on a leaf ``[4, 3]`` of the device asks for."""
    leaf = torch.ones(4, 3, device="cuda", requires_grad=True)
    with device.launches.counting(sites=sites) as launches:
        work(leaf)
    torch.ones(4, device="cuda").add(1)  # nobody counts any more
    return launches


def test_one_operation_is_one_launch_and_its_derivative_is_backward(device):
    launches = counts(device, lambda x: (x * 3).backward(torch.ones(4, 3, device="cuda")))
    assert (launches.forward, launches.backward) == (2, 1)  # forward: the product, and the ones
    assert (launches.kernels, launches.copies, launches.waits) == (3, 0, 0)


def test_views_and_empty_memory_launch_nothing(device):
    views = (
        lambda x: x.detach()[1:].T.unsqueeze(0).expand(2, 3, 3).permute(2, 1, 0).unbind(0),
        lambda x: x.reshape(-1).view(3, 4).split(1),
        lambda x: (torch.empty_like(x), x.new_empty(5)),
    )
    assert [counts(device, view).kernels for view in views] == [0, 0, 0]


@pytest.mark.parametrize(
    "work",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x[x.sum(dim=1) > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.detach().cpu(),
        lambda x: torch.unique(x.detach()),
    ],
)
def test_what_the_processor_waits_for(device, work):
    assert counts(device, work).waits == 1


def test_copies_both_ways(device):
    assert counts(device, lambda x: torch.zeros(3).to(x.device)).copies == 1
    assert counts(device, lambda x: torch.tensor([1.0, 2.0], device=x.device)).copies == 1
    there_and_back = counts(device, lambda x: x.detach().cpu())
    assert (there_and_back.copies, there_and_back.kernels) == (1, 0)
    written = counts(device, lambda x: torch.zeros(4, 3).copy_(x.detach()))
    assert (written.copies, written.waits) == (1, 1)


def test_what_stands_for_kernels_is_left_out_with_its_backward_pass(device):
    stand_in = device.launches.leaving_out(lambda x: (x * 2 + 1).exp())
    launches = counts(device, lambda x: stand_in(x).sum().backward())
    assert (launches.forward, launches.backward) == (2, 0)  # the sum, and the one that the backward pass starts from


def test_sites_name_the_line_of_the_package(device):
    from dyngs_plugins.losses.robust import masked_l1

    launches = counts(device, lambda x: masked_l1(x, torch.zeros_like(x)).backward(), sites=True)
    kinds = {site.split()[0] for site in launches.sites if "dyngs_plugins/losses/robust.py:" in site}
    assert kinds == {"forward", "backward"}
