"""gsplat's own CUDA kernels, compiled for the CPU, so that they can be compared with ours where there is no GPU.

The installed gsplat ships its kernels as source. Their launches (``<<<...>>>``) are rewritten into calls of
`cuda_on_cpu.h`, and a C++ compiler builds the result. gsplat's Python code runs on top as it is. What this cannot show: the arithmetic of a real GPU (fused multiply-add, the fast exponential),
its order of atomic additions, and speed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import BuiltinFunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch.utils.cpp_extension import include_paths, library_paths

_NAME = "dyngs_gsplat_on_cpu"
_HERE = Path(__file__).parent
_KERNELS = (
    "compute_sh_fwd",
    "compute_sh_bwd",
    "quat_scale_to_covar_preci_fwd",
    "quat_scale_to_covar_preci_bwd",
    "fully_fused_projection_fwd",
    "fully_fused_projection_bwd",
    "isect_tiles",
    "rasterize_to_pixels_fwd",
    "rasterize_to_pixels_bwd",
    "compute_relocation",
)
"""What ``gsplat.rasterization(packed=False)`` and gsplat's strategies call."""

_CUDA_HEADERS = (
    "cuda.h",
    "cuda_runtime.h",
    "cuda_fp16.h",
    "cooperative_groups.h",
    "cooperative_groups/reduce.h",
    "cub/cub.cuh",
    "c10/cuda/CUDAGuard.h",
    "ATen/cuda/Atomic.cuh",
)
_LAUNCH = re.compile(r"([A-Za-z_]\w*(?:<[\w, ]+>)?)\s*<<<(.*?)>>>\s*\(", re.DOTALL)


def problem() -> str | None:
    """Why the kernels cannot be built here, or None if they can."""
    if find_spec("gsplat") is None:
        return "gsplat is not installed"
    missing = [] if shutil.which("c++") else ["c++"]
    header = Path(sysconfig.get_path("include"), "Python.h")
    missing += [] if header.exists() else [str(header)]
    return f"{', '.join(missing)} not found" if missing else None


def for_cpu(source: str) -> str:
    """A kernel's source with CUDA's syntax replaced by plain C++.

    Raises:
        ValueError: when some of CUDA's syntax is left.
    """
    launched = _LAUNCH.sub(r"cuda_on_cpu::launch([](auto... a) { \1(a...); }, \2)(", source)
    shared = re.sub(r"extern __shared__ int (\w+)\[\];", r"int *\1 = cuda_on_cpu::shared_memory();", launched)
    plain = shared.replace("x.is_cuda()", "x.is_cpu()")
    if left := re.search(r".*(<<<|__shared__|__shfl|__ballot).*", plain):
        raise ValueError(f"cannot be compiled for the CPU: {left[0].strip()}")
    return plain


@functools.cache
def build() -> ModuleType:
    """The compiled kernels, in place of gsplat's extension.

    They are compiled when first asked for, which takes a minute, and kept with the user's caches under a name that
    changes with every source and with PyTorch.

    Raises:
        RuntimeError: when the compiler fails, with what it said.
    """
    sources = _sources()
    digest = hashlib.sha256(repr((sorted(sources.items()), torch.__version__, sys.version)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dyngs-plugins", f"gsplat-on-cpu-{digest}")
    library = cache / f"{_NAME}.so"
    if not library.exists():
        _compile(sources, cache, library)
    loader = ExtensionFileLoader(_NAME, str(library))
    spec = spec_from_file_location(_NAME, library, loader=loader)
    if spec is None:
        raise ImportError(f"{library} cannot be loaded: delete it, and it is compiled again")
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _compile(sources: dict[str, str], cache: Path, library: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        for path, text in sources.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        includes = [folder / "include", folder, _gsplat_sources() / "third_party" / "glm", *include_paths()]
        command = ["c++", "-std=c++20", "-O1", "-w", "-fPIC", "-shared", f"-DTORCH_EXTENSION_NAME={_NAME}"]
        command += [f"-I{path}" for path in (*includes, sysconfig.get_path("include"))]
        command += [str(folder / "main.cpp"), "-o", str(folder / library.name)]
        command += [f"-L{path}" for path in library_paths()]
        command += ["-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"gsplat's kernels did not compile for the CPU:\n{done.stderr[-4000:]}")
        (folder / library.name).replace(library)


def _as_they_are(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@contextmanager
def installed(wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = _as_they_are) -> Iterator[None]:
    """While this lasts, gsplat's Python code finds the kernels compiled for the CPU where it looks for its own.

    Args:
        wrap: made of each function before gsplat gets it, such as `SimulatedCuda.kernel`.
    """
    name = "gsplat.cuda._backend"
    before = sys.modules.get(name)
    kernels = {key: value for key, value in vars(build()).items() if not key.startswith("_")}
    backend = ModuleType(name)
    backend._C = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        **{key: wrap(value) if isinstance(value, BuiltinFunctionType) else value for key, value in kernels.items()}
    )
    sys.modules[name] = backend
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def _gsplat_sources() -> Path:
    spec = find_spec("gsplat")
    if spec is None or spec.origin is None:
        raise ImportError("gsplat is not installed: pip install gsplat")
    return Path(spec.origin).parent / "cuda" / "csrc"


def _sources() -> dict[str, str]:
    """The text of every file to compile or include, by its path."""
    kernels = _gsplat_sources()
    sources = {f"include/{name}": '#include "runtime_on_cpu.h"\n' for name in _CUDA_HEADERS}
    sources |= {path.name: path.read_text() for path in sorted(_HERE.glob("*.h"))}
    for path in [*kernels.glob("*.h"), *kernels.glob("*.cuh"), *(kernels / f"{name}.cu" for name in _KERNELS)]:
        sources[path.name] = for_cpu(path.read_text())
    sources["main.cpp"] = _main((kernels / "ext.cpp").read_text())
    return sources


def _main(bindings: str) -> str:
    """One file with all kernels, so that PyTorch's headers are read once, and the bindings of gsplat that they serve."""
    names = re.findall(r"m\.def\(\s*\"(\w+)\",\s*&gsplat::\1_tensor\s*\);", bindings)
    models = "".join(f'.value("{name}", gsplat::CameraModelType::{name})' for name in ("PINHOLE", "ORTHO", "FISHEYE"))
    lines = ['#include "runtime_on_cpu.h"']
    # Two files define a macro of the same name, each for itself.
    lines += [f'#include "{name}.cu"\n#undef __GS__CALL_' for name in _KERNELS]
    lines += ["PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {"]
    lines += [f'py::enum_<gsplat::CameraModelType>(m, "CameraModelType"){models}.export_values();']
    lines += [
        f'm.def("{name}", &gsplat::{name}_tensor);' for name in names if name in (*_KERNELS, "isect_offset_encode")
    ]
    return "\n".join([*lines, "}", ""])
