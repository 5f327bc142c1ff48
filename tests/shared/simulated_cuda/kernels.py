"""Every operation of torch, with the rules that CUDA has about where its tensors are and of which type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from simulated_cuda.generators import generators_in, place_of
from simulated_cuda.launches import LaunchCounter
from simulated_cuda.places import CPU, CUDA, EITHER, KERNEL, Place, Places, storage_of, tensors_in

_INDEXING = {
    "aten::index",
    "aten::_unsafe_index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index_put",
}
"""Take indices of the CPU where the tensor is on the device, and single values of the CPU."""
_TAKE_NUMBERS = {"aten::masked_fill", "aten::masked_fill_", "aten::fill", "aten::fill_"}
"""Take a number that is a tensor without axes of the CPU, as pointwise operations do."""
_NO_INTEGERS = {f"aten::{name}" for name in ("mm", "bmm", "mv", "dot", "addmm", "addmm_", "baddbmm", "addmv", "vdot")}
"""Have no kernel for integers on CUDA."""
_NO_KERNEL = {"aten::histogram", "aten::histogramdd", "aten::_histogramdd_bin_edges", "aten::geqrf.a"}
"""Have no kernel on CUDA."""


class Kernels(TorchDispatchMode):
    """Sees every operation below autograd, also those of a backward pass."""

    def __init__(self, places: Places, random: torch.Generator, launches: LaunchCounter):
        super().__init__()
        self.places = places
        self.random = random
        """The device's own generator of random numbers."""
        self.launches = launches
        self.active = True
        self.operations = 0
        """How many operations have run on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if not self.active:
                return func(*args, **kwargs)
            if self.places.ambient is KERNEL:
                return self._inside_kernel(func(*args, **kwargs))
            inputs = tensors_in(kwargs, tensors_in(args))
            place = self._place(func, args, inputs)
            _check_generator(place, [*args, *kwargs.values()])
            if place == CUDA:
                self.operations += 1
                self.launches.operation(func, args)
                _check_kernel(func, inputs, kwargs)
            draws = place == CUDA and torch.Tag.nondeterministic_seeded in func.tags
            result = self._drawn(func, args, kwargs) if draws else func(*args, **kwargs)
            if place != CPU:
                self._put_new(result, inputs, place)
            return result

    def _inside_kernel(self, result: Any) -> Any:
        for tensor in tensors_in(result):
            self.places.put(tensor, CUDA)
        return result

    def _place(self, func: Any, args: tuple, inputs: list[Tensor]) -> Place:
        """Where an operation runs, and so where what it makes will be.

        Raises:
            RuntimeError: when its tensors are on two devices, as CUDA does.
        """
        places = [self.places.of(tensor) for tensor in inputs]
        if not inputs:
            return self.places.ambient
        if all(place == CPU for place in places) or all(place == CUDA for place in places):
            return places[0]
        name = func._schema.name
        if name in ("aten::copy_", "aten::_copy_from"):
            if {CPU, CUDA} == set(places):
                self.launches.copy(places[0], "copied")
            return CUDA if places[0] is EITHER else places[0]
        places = self._decide(inputs, places)
        if len(set(places)) == 1:
            return places[0]
        if name in _INDEXING and places[0] == CUDA:
            values = [args[2]] if len(args) > 2 and isinstance(args[2], Tensor) else []
            if all(value.ndim == 0 or self.places.of(value) == CUDA for value in values):
                return CUDA
        if torch.Tag.pointwise in func.tags or name in _TAKE_NUMBERS or name.startswith("aten::_foreach"):
            rest = {place for tensor, place in zip(inputs, places, strict=True) if place == CUDA or tensor.ndim > 0}
            written = func._schema.is_mutable and places[0] == CPU
            if rest == {CUDA} and not written:
                return CUDA
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"(simulated: {name} of {_told(inputs, places)})"
        )

    def _decide(self, inputs: list[Tensor], places: list[Place]) -> list[Place]:
        """What may be on either device is where the others are, from now on."""
        if EITHER not in places:
            return places
        sure = {place for tensor, place in zip(inputs, places, strict=True) if place is not EITHER and tensor.ndim > 0}
        sure = sure or {place for place in places if place is not EITHER}
        if len(sure) != 1:
            return [CUDA if place is EITHER else place for place in places] if sure else places
        (decided,) = sure
        for tensor, place in zip(inputs, places, strict=True):
            if place is EITHER:
                self.places.put(tensor, decided)
        return [decided if place is EITHER else place for place in places]

    def _put_new(self, result: Any, inputs: list[Tensor], place: Place) -> None:
        outputs = tensors_in(result)
        if not outputs:
            return
        old = {storage._cdata for storage in map(storage_of, inputs) if storage is not None}
        for tensor in outputs:
            storage = storage_of(tensor)
            if storage is not None and storage._cdata not in old:
                self.places.put_storage(storage, place)

    def _drawn(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """With the random numbers of the device, which has its own stream."""
        if generators_in([*args, *kwargs.values()]):
            return func(*args, **kwargs)
        kept = torch.default_generator.get_state()
        torch.default_generator.set_state(self.random.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            self.random.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(kept)


def _check_generator(place: Place, values: list[Any]) -> None:
    for generator in generators_in(values):
        found = place_of(generator)
        if place is not None and found.type != place.type:
            raise RuntimeError(
                f"Expected a '{place.type}' device type for generator but found '{found.type}' (simulated)"
            )


def _check_kernel(func: Any, inputs: list[Tensor], kwargs: dict[str, Any]) -> None:
    name = func._schema.name
    if name in _NO_INTEGERS and any(not (t.is_floating_point() or t.is_complex()) for t in inputs):
        raise RuntimeError(f'"{name}" not implemented for integers on CUDA (simulated)')
    if name in _NO_KERNEL:
        raise NotImplementedError(f"Could not run '{name}' with arguments from the 'CUDA' backend (simulated)")
    if name == "aten::linalg_lstsq" and kwargs.get("driver") not in (None, "gels"):
        raise RuntimeError("torch.linalg.lstsq: parameter `driver` should be one of (gels) on CUDA (simulated)")


def _told(inputs: list[Tensor], places: list[Place]) -> str:
    return ", ".join(f"{tuple(t.shape)} on {place or 'either'}" for t, place in zip(inputs, places, strict=True))
