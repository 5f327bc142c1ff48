"""Positional encodings in closed form."""

import math

import pytest
import torch

from dyngs_plugins.encodings import frequency_encoding


@pytest.mark.parametrize(
    ("size", "frequencies", "width"), [(3, 10, 63), (1, 10, 21), (1, 6, 13), (6, 5, 66), (3, 0, 3)]
)
def test_sizes(size, frequencies, width):
    assert frequency_encoding(torch.zeros(2, size), frequencies).shape == (2, width)


@pytest.mark.parametrize("base", [1.0, math.pi])
def test_values_then_sines_then_cosines_of_doubling_angles(base):
    found = frequency_encoding(torch.tensor([[0.3]]), 2, base)[0]
    angles = base * torch.tensor([0.3, 0.6])
    torch.testing.assert_close(found, torch.cat([torch.tensor([0.3]), angles.sin(), angles.cos()]))


def test_without_a_base_there_is_no_factor_pi():
    x = torch.rand(2, 3)
    assert torch.equal(frequency_encoding(x, 1)[:, 3:6], torch.sin(x))
