"""Generator states as tensors, so that a checkpoint carries them through ``torch.load(weights_only=True)``; and draws
that need no state, because the step itself is their seed.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor


def capture() -> dict[str, Tensor]:
    """The states of the global generators of torch, CUDA, numpy and python."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    if name != "MT19937":
        raise RuntimeError(f"numpy's global generator is '{name}', expected 'MT19937'. Do not replace it.")
    states = {
        "torch": torch.get_rng_state(),
        "numpy_keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def generator(seed: int | None) -> torch.Generator:
    """A generator of its own on the CPU. None, which a training replaces by the machine's seed, is the host's default."""
    return torch.Generator().manual_seed(42 if seed is None else seed)


def draw_of_step(step: int) -> float:
    """A number from the normal distribution that belongs to a training step: the same again after a resume."""
    return float(torch.randn((), generator=torch.Generator().manual_seed(step)))


def restore(states: dict[str, Tensor]) -> None:
    """Put the global generators back to captured states (CUDA's only where there is a device and a state)."""
    torch.set_rng_state(states["torch"].cpu().to(torch.uint8))
    position, has_gauss, cached = states["numpy_rest"].tolist()
    keys = states["numpy_keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
    version, *words = states["python"].tolist()
    gauss = states["python_gauss"].item()
    random.setstate((version, tuple(words), None if gauss != gauss else gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu().to(torch.uint8))
