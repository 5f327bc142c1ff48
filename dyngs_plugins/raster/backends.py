"""Who rasterizes: a dictionary from names to functions, and the choice when no name is given.

Other packages add backends with the hook `dyngs_rasterizers` (see `dyngs_plugins.hooks`), a script with
:func:`register_backend`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dyngs_plugins.hooks import find, hookimpl
from dyngs_plugins.raster.gsplat_kernels import ON_THE_CPU
from dyngs_plugins.raster.inputs import RasterInputs

RasterFunction = Callable[[RasterInputs], tuple[Tensor, Tensor, dict[str, Any]]]
"""Checked inputs to image [c, h, w, d], alpha [c, h, w, 1] and gsplat's info."""


def register_backend(name: str, function: RasterFunction) -> None:
    """Make a backend available under a name, for ``rasterize(..., backend=name)``.

    Raises:
        ValueError: when the name is taken.
    """
    if name in _BACKENDS:
        raise ValueError(f"a rasterizer backend named {name!r} is already registered: choose another name")
    _BACKENDS[name] = function


def backend_names() -> list[str]:
    """Names of all backends, those of plugins among them."""
    return sorted(_all_backends())


def find_backend(name: str | None, inputs: RasterInputs) -> RasterFunction:
    """The backend of that name; for None the fastest one that can run these inputs.

    Raises:
        ValueError: when there is no backend of that name.
    """
    return _named(name or _automatic(inputs))


def _named(name: str) -> RasterFunction:
    # Plugins are loaded for a name of theirs only; that happens once in a process.
    return _BACKENDS[name] if name in _BACKENDS else find(_all_backends(), name, "rasterizer backend")


def _all_backends() -> Mapping[str, RasterFunction]:
    from dyngs_plugins.hooks import registry

    return {**registry().rasterizers, **_BACKENDS}


def _automatic(inputs: RasterInputs) -> str:
    if inputs.means.is_cuda:
        return "gsplat"
    if inputs.means.dtype == torch.float64:
        return "torch"  # the kernels are float32; float64 is for checking gradients
    problem = _numba_problem()
    if problem is None:
        return "numba"
    _warn_slow(problem)
    return "torch"


@cache
def _numba_problem() -> str | None:
    """Why the numba kernels cannot be used, or None if they can."""
    try:
        with _untraced():
            import dyngs_plugins.raster.numba_backend  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


@contextmanager
def _untraced() -> Iterator[None]:
    """Without this thread's trace function, by which nerfstudio's viewer interrupts renders.

    An exception raised in the middle of numba's import, or of a compilation, would leave it broken for good.
    """
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def prepare_backend(name: str | None = None, device: str | torch.device = "cpu") -> None:
    """Find, import and compile now what the first render on a device would.

    The viewer may interrupt a render at any call, and who trains wants to know at once whether it can start.

    Raises:
        ValueError: when there is no backend of that name, or it cannot render on that device.
        ImportError: when gsplat is to render and its kernels cannot be had, with what to try.
    """
    if name is not None:
        _named(name)
    on_cuda = torch.device(device).type == "cuda"
    if name == "gsplat" or (name is None and on_cuda):
        from dyngs_plugins.raster.gsplat_kernels import load_gsplat_kernels

        load_gsplat_kernels()
    elif name in (None, "numba"):
        _require_cpu(torch.device(device))
        _numba_problem()


def _require_cpu(device: torch.device) -> None:
    if device.type != "cpu":
        raise ValueError(
            f"the numba rasterizer works on the CPU only, the scene is on {device}: leave the backend out, which takes "
            f"gsplat there, {ON_THE_CPU}"
        )


@cache
def _warn_slow(problem: str) -> None:
    warnings.warn(
        f"The fast CPU rasterizer cannot be used ({problem}). Falling back to plain PyTorch, which is about 25 to 40 "
        "times slower. Try: pip install dyngs-plugins[cpu]",
        stacklevel=4,
    )


def _gsplat(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from dyngs_plugins.raster.gsplat_backend import rasterize_with_gsplat

    return rasterize_with_gsplat(inputs)


def _numba(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from dyngs_plugins.raster.seam import rasterize_in_stages

    _require_cpu(inputs.means.device)
    problem = _numba_problem()
    if problem is not None:
        raise ImportError(f"the numba rasterizer cannot be used: {problem}. Try: pip install dyngs-plugins[cpu]")
    from dyngs_plugins.raster.numba_backend import NumbaBackend

    with _untraced():
        return rasterize_in_stages(NumbaBackend(), inputs)


def _torch(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from dyngs_plugins.raster.seam import rasterize_in_stages
    from dyngs_plugins.raster.tiles import TorchBackend

    return rasterize_in_stages(TorchBackend(), inputs)


def _dense(inputs: RasterInputs) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from dyngs_plugins.raster.dense import DenseBackend
    from dyngs_plugins.raster.seam import rasterize_in_stages

    return rasterize_in_stages(DenseBackend(), inputs)


_BACKENDS: dict[str, RasterFunction] = {"gsplat": _gsplat, "numba": _numba, "torch": _torch, "dense": _dense}


@hookimpl
def dyngs_rasterizers() -> dict[str, RasterFunction]:
    """The built-in rasterizers."""
    return dict(_BACKENDS)
