"""``gsplat.rasterization`` without its CUDA kernels, on the simulated device: this package's own kernels do the work."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import gsplat
import torch
from simulated_cuda import SimulatedCuda
from torch import Tensor

from dyngs_plugins.raster import gsplat_backend, numba_backend
from dyngs_plugins.raster.inputs import RasterInputs
from dyngs_plugins.raster.seam import rasterize_in_stages

_SIGNATURE = inspect.signature(gsplat.rasterization)


def rasterization(*, packed: bool, **arguments: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Takes and gives what gsplat takes and gives.

    Raises:
        ValueError: where gsplat's kernels would not take the tensors.
    """
    _SIGNATURE.bind(packed=packed, **arguments)
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    off = [name for name, value in tensors.items() if not value.is_cuda or value.dtype != torch.float32]
    if off or packed:
        raise ValueError(f"gsplat takes float32 of CUDA, found others: {', '.join(off)}; packed is {packed}")
    image, alpha, info = rasterize_in_stages(numba_backend.NumbaBackend(), RasterInputs(**arguments).check())
    info["isect_ids"] = torch.zeros(5, dtype=torch.int64, device=image.device)
    return image, alpha, info


@contextmanager
def gsplat_on(device: SimulatedCuda) -> Iterator[None]:
    """While it runs, the gsplat backend works on that device."""
    kernels = ModuleType("gsplat.cuda._backend")
    kernels._C = SimpleNamespace()  # pyright: ignore[reportAttributeAccessIssue]  (never called, but not missing)
    before = sys.modules.get(kernels.__name__)
    with ExitStack() as stack:
        sys.modules[kernels.__name__] = kernels
        stack.callback(_put_back, kernels.__name__, before)
        stands_for_kernels = device.launches.leaving_out(rasterization)
        draw = lambda inputs: stands_for_kernels(packed=False, **vars(inputs))  # noqa: E731
        stack.enter_context(mock.patch.object(gsplat_backend, "_draw", draw))
        for function in (numba_backend._Project, numba_backend._Composite):
            for name in ("forward", "backward"):
                kernel = staticmethod(device.kernel(getattr(function, name)))
                stack.enter_context(mock.patch.object(function, name, kernel))
        yield


def _put_back(name: str, module: ModuleType | None) -> None:
    sys.modules.pop(name, None)
    if module is not None:
        sys.modules[name] = module
