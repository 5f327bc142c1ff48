"""What Python sees of tensors on the simulated device: where they say they are, and how they are made and moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from simulated_cuda.launches import LaunchCounter
from simulated_cuda.places import CPU, CUDA, EITHER, KERNEL, Place, Places, device_of, tensors_in

_NO_NUMPY = (
    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
)


class Functions(TorchFunctionMode):
    """Sees every function and attribute of torch that Python uses."""

    def __init__(self, places: Places, launches: LaunchCounter):
        super().__init__()
        self.places = places
        self.launches = launches
        self.active = True
        self._own: dict[Any, Callable[..., Any]] = _own_functions()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if not self.active or self.places.ambient is KERNEL:
            return func(*args, **kwargs)
        own = self._own.get(func)
        if own is not None:
            return own(self, func, *args, **kwargs)
        return self.call(func, args, kwargs)

    def call(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A function as it is, except that a device it is asked for is a simulated one."""
        kwargs = {
            name: value for name, value in kwargs.items() if name != "pin_memory"
        }  # of a driver that is not there
        wanted = device_of(kwargs["device"]) if kwargs.get("device") is not None else None
        if wanted is None:
            with self.places.inside(self.common(args, kwargs)):
                return func(*args, **kwargs)
        rest = {name: value for name, value in kwargs.items() if name != "device"}
        with self.places.inside(wanted):
            result = func(*args, **rest)
        for tensor in tensors_in(result):
            self.places.put(tensor, wanted)
        return result

    def common(self, args: Any, kwargs: Any) -> Place:
        """The device, where any argument is there."""
        places = [self.places.of(tensor) for tensor in tensors_in(kwargs, tensors_in(args))]
        if CUDA in places:
            return CUDA
        return EITHER if EITHER in places else CPU

    def where(self, tensor: Tensor) -> torch.device:
        """What a tensor says where it is. Gradients that the engine made belong to tensors of the device, mostly."""
        return self.places.of(tensor) or CUDA

    def moved(self, tensor: Tensor, place: torch.device, copy: bool = False) -> Tensor:
        """The tensor itself where it is there already, or a copy that gradients flow back from."""
        if self.where(tensor) == place and not copy:
            self.places.put(tensor, place)
            return tensor
        return _Move.apply(tensor, self, place)  # type: ignore[return-value]


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, functions: Functions, place: torch.device) -> Tensor:
        ctx.functions, ctx.back = functions, functions.where(tensor)
        return _copied(tensor, functions, place)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _copied(gradient, ctx.functions, ctx.back), None, None


def _copied(tensor: Tensor, functions: Functions, place: torch.device) -> Tensor:
    functions.launches.copy(place, "copied")
    with torch._C.DisableTorchFunction():
        copy = functions.launches.leaving_out(torch.Tensor.clone)(tensor.detach())
        functions.places.put(copy, place)
        return copy


# The functions that are not themselves on the device ------------------------------------------------------------------


def _to(mode: Functions, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``to(device)``, ``to(dtype)``, ``to(device, dtype)`` and ``to(other)``, each with non_blocking and copy."""
    place, dtype, flags = None, kwargs.get("dtype"), []
    wanted = [*args, kwargs.get("device"), kwargs.get("other")]
    for value in wanted:
        if isinstance(value, bool):
            flags.append(value)
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, Tensor):
            place, dtype = mode.where(value), value.dtype
        elif value is not None:
            place = device_of(value)
    copy, form = kwargs.get("copy", flags[1:] == [True]), kwargs.get("memory_format")
    came = tensor
    if place is not None:
        tensor = mode.moved(tensor, place, copy)
    options = {} if form is None else {"memory_format": form}
    with mode.places.inside(mode.places.of(tensor)):
        return torch.Tensor.to(tensor, dtype or tensor.dtype, copy=copy and tensor is came, **options)


def _cuda(mode: Functions, func: Any, tensor: Tensor, device: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    return mode.moved(tensor, CUDA if device is None else device_of(device))


def _cpu(mode: Functions, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return mode.moved(tensor, CPU)


def _to_numpy(mode: Functions, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    if mode.places.of(tensor) == CUDA and not kwargs.get("force"):
        raise TypeError(_NO_NUMPY)
    return func(tensor, *args, **kwargs)


def _type_as(mode: Functions, func: Any, tensor: Tensor, other: Tensor) -> Tensor:
    return _to(mode, func, tensor, other)


def _as_tensor(mode: Functions, func: Any, data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
    """``torch.as_tensor`` and ``torch.asarray``: the tensor itself where it can be."""
    wanted = None if device is None else device_of(device)
    if isinstance(data, Tensor):
        made = data if wanted is None else mode.moved(data, wanted)
        return mode.call(func, (made, *args), kwargs)
    made = _tensor(mode, func, data, *args, **kwargs)
    return made if wanted is None else mode.moved(made, wanted)


def _tensor(mode: Functions, func: Any, data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
    """``torch.tensor``: on the device of its data where that is a tensor, not where it is a list of them."""
    place = mode.where(data) if isinstance(data, Tensor) else CPU
    place = place if device is None else device_of(device)
    kwargs.pop("pin_memory", None)
    if place == CUDA and not isinstance(data, Tensor):
        mode.launches.copy(place, "made of numbers")
    with mode.places.inside(place):
        made = func(data.detach() if isinstance(data, Tensor) else data, *args, **kwargs)
    with torch._C.DisableTorchFunction():
        mode.places.put(made, place)
    return made


def _new_tensor(mode: Functions, func: Any, tensor: Tensor, data: Any, *args: Any, **kwargs: Any) -> Tensor:
    kwargs["device"] = mode.where(tensor) if kwargs.get("device") is None else kwargs["device"]
    return _tensor(mode, torch.tensor, data, *args, **{"dtype": tensor.dtype, **kwargs})


def _deepcopy(mode: Functions, func: Any, tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    place = mode.where(tensor)
    with mode.places.inside(place):
        made = func(tensor, memo)
    mode.places.put(made, place)
    if made.grad is not None:
        mode.places.put(made.grad, place)
    return made


def _set_grad(mode: Functions, func: Any, tensor: Tensor, gradient: Tensor | None) -> Any:
    if gradient is not None:
        if mode.places.of(gradient) is EITHER:
            mode.places.put(gradient, mode.where(tensor))
        if mode.where(gradient) != mode.where(tensor):
            raise RuntimeError(
                "assigned grad has data located on a different device (simulated: "
                f"{mode.where(gradient)} for a tensor on {mode.where(tensor)})"
            )
    return func(tensor, gradient)


def _get_grad(mode: Functions, func: Any, tensor: Tensor) -> Tensor | None:
    gradient = func(tensor)
    if gradient is not None and mode.places.of(gradient) is EITHER:
        mode.places.put(gradient, mode.where(tensor))
    return gradient


def _pin_memory(mode: Functions, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if mode.where(tensor) == CUDA:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned (simulated)")
    return tensor.clone()


def _array_interface(mode: Functions, func: Any, tensor: Tensor) -> Any:
    raise AttributeError("simulated tensors have no address on a device")


def _getter(name: str) -> Any:
    """How a function mode is told that an attribute is read."""
    return getattr(Tensor, name).__get__


def _setter(name: str) -> Any:
    return getattr(Tensor, name).__set__


def _own_functions() -> dict[Any, Callable[..., Any]]:
    def where(mode: Functions, func: Any, tensor: Tensor) -> torch.device:
        return mode.where(tensor)

    def on(kind: str) -> Callable[..., bool]:
        return lambda mode, func, tensor: mode.where(tensor).type == kind

    def number(mode: Functions, func: Any, tensor: Tensor) -> int:
        return 0 if mode.where(tensor) == CUDA else -1

    return {
        _getter("device"): where,
        _getter("is_cuda"): on("cuda"),
        _getter("is_cpu"): on("cpu"),
        Tensor.get_device: number,
        torch.get_device: number,
        Tensor.to: _to,
        Tensor.cuda: _cuda,
        Tensor.cpu: _cpu,
        Tensor.numpy: _to_numpy,
        Tensor.__array__: _to_numpy,
        Tensor.__dlpack__: _to_numpy,
        Tensor.new_tensor: _new_tensor,
        Tensor.type_as: _type_as,
        _getter("grad"): _get_grad,
        _setter("grad"): _set_grad,
        Tensor.__deepcopy__: _deepcopy,
        Tensor.pin_memory: _pin_memory,
        _getter("__cuda_array_interface__"): _array_interface,
        torch.as_tensor: _as_tensor,
        torch.asarray: _as_tensor,
        torch.tensor: _tensor,
    }
