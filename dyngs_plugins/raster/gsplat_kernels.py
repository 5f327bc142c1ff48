"""gsplat's CUDA kernels, made ready before training starts: what compiles them, and what to do where nothing can.

gsplat ships its kernels as source and compiles them when they are first used, with whatever ``nvcc`` comes first on
PATH. Where that is missing, or of another CUDA than PyTorch's, it fails deep inside the first step. Here a toolkit that
fits is looked for wherever one may be, NVIDIA's own packages from pip included, and its absence is said in one sentence.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dyngs_plugins.folders import torch_extensions_folder

_BACKEND = "gsplat.cuda._backend"
ON_THE_CPU = "or use the CPU: write CUDA_VISIBLE_DEVICES= before the command"
"""All commands of the host understand it; ``--machine.device-type`` is one of ns-train's alone."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit: its folder, and its version as (major, minor)."""

    home: Path
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"CUDA {self.version[0]}.{self.version[1]} in {self.home}"


def load_gsplat_kernels() -> None:
    """Import gsplat's kernels; where they have never been compiled, compile them, which takes minutes, once.

    Raises:
        ImportError: when they cannot be had, with the reason and what to try.
    """
    loaded = sys.modules.get(_BACKEND)
    if loaded is not None and loaded._C is not None:
        return
    problem = kernels_problem()
    if problem is not None:
        raise ImportError(problem)
    sys.modules.pop(_BACKEND, None)  # of an import that found no toolkit
    toolkit = None if find_spec("gsplat.csrc") else find_toolkit()
    try:
        with _in_sight(toolkit):
            backend = importlib.import_module(_BACKEND)
    except (ImportError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        raise ImportError(
            _nowhere_to_keep(error)
            or f"gsplat's CUDA kernels did not compile with {toolkit}: {_end(str(error))}\n"
            f"Try another toolkit of the same CUDA as torch's ({torch.version.cuda}) in CUDA_HOME, or a g++ that it "
            f"supports in CXX, {ON_THE_CPU}"
        ) from error
    if backend._C is None:
        raise ImportError(f"gsplat found no kernels and compiled none, though there is {toolkit}")


def kernels_problem() -> str | None:
    """Why gsplat's kernels cannot be compiled here, with what to try, or None if nothing speaks against it."""
    if find_spec("gsplat") is None:
        return "gsplat is not installed: pip install gsplat"
    if find_spec("gsplat.csrc") is not None:
        return None  # installed with its kernels compiled
    cuda = torch.version.cuda
    if cuda is None:
        return f"gsplat's kernels need CUDA, and torch {torch.__version__} is built without it: install another torch, {ON_THE_CPU}"
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        return f"gsplat compiles its CUDA kernels, and there is no C++ compiler: sudo apt-get install g++, {ON_THE_CPU}"
    if find_toolkit() is not None:
        return None
    others = ", ".join(str(toolkit) for toolkit in _toolkits()) or "none"
    return (
        f"gsplat compiles its CUDA kernels, and needs for it a CUDA toolkit (nvcc) of torch's major version ({cuda}). "
        f"Found: {others}. Try: {_how_to_get(cuda)}, {ON_THE_CPU}"
    )


def _how_to_get(cuda: str) -> str:
    """From CUDA 13 on pip has all of the compiler; before, it has parts of it."""
    on_cluster = f"on a cluster module load cuda/{cuda}, with the toolkit elsewhere set CUDA_HOME"
    if int(cuda.split(".")[0]) < 13:
        return f"install the toolkit (conda install -c nvidia cuda-toolkit={cuda}), {on_cluster}"
    return f"pip install {' '.join(pip_requirements(cuda))}, {on_cluster}"


def pip_requirements(cuda: str) -> list[str]:
    """The packages that hold the compiler of a CUDA from 13 on; the headers of its libraries come with torch."""
    version = ".".join(cuda.split(".")[:2])
    return [f"'nvidia-{part}=={version}.*'" for part in ("cuda-nvcc", "cuda-crt", "nvvm", "cuda-cccl")]


def find_toolkit() -> Toolkit | None:
    """The first toolkit of the major version that torch is built for, or None."""
    major = int((torch.version.cuda or "0").split(".")[0])
    return next((toolkit for toolkit in _toolkits() if toolkit.version[0] == major), None)


def _toolkits() -> Iterator[Toolkit]:
    """Every toolkit in sight, those first that the user named."""
    seen = set()
    for home in _homes():
        if home in seen:
            continue
        seen.add(home)
        version = _version(home / "bin" / "nvcc")
        # An nvcc on PATH may be a script that calls one elsewhere: its neighbours are not the toolkit's files.
        if version is not None and _headers(home) is not None:
            yield Toolkit(home, version)


def _headers(home: Path) -> Path | None:
    """Where a toolkit keeps its headers; conda's keep them with the target that they are for."""
    found = [
        path.parent for pattern in ("include", "targets/*/include") for path in home.glob(f"{pattern}/cuda_runtime.h")
    ]
    return found[0] if found else None


def _homes() -> Iterator[Path]:
    yield from (Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name))
    on_path = shutil.which("nvcc")
    if on_path:
        yield Path(on_path).parent.parent
        yield Path(on_path).resolve().parent.parent
    yield from (Path(prefix) for prefix in (os.environ.get("CONDA_PREFIX"), sys.prefix) if prefix)
    yield Path("/usr/local/cuda")
    yield from sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    yield Path("/opt/cuda")
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        yield from sorted(Path(folder).glob("cu[0-9]*"), reverse=True)


def _version(nvcc: Path) -> tuple[int, int] | None:
    if not nvcc.exists():
        return None
    try:
        said = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"release (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


@contextmanager
def _in_sight(toolkit: Toolkit | None) -> Iterator[None]:
    """While this lasts, gsplat and torch find the toolkit, and ninja, which is installed beside this Python."""
    from torch.utils import cpp_extension

    if toolkit is None:
        yield
        return
    with TemporaryDirectory() as links:
        extended = {
            "PATH": [toolkit.home / "bin", Path(sys.executable).parent],
            "CPATH": [_headers(toolkit.home)],
            "LIBRARY_PATH": [_link_runtime(toolkit, Path(links))],
        }
        names = {"CUDA_HOME": str(toolkit.home)}
        for name, folders in extended.items():
            names[name] = os.pathsep.join([*(str(folder) for folder in folders if folder), *_present(name)])
        before, known = dict(os.environ), cpp_extension.CUDA_HOME
        try:
            os.environ.update(names)
            cpp_extension.CUDA_HOME = str(toolkit.home)
            yield
        finally:
            cpp_extension.CUDA_HOME = known
            os.environ.clear()
            os.environ.update(before)


def _present(name: str) -> list[str]:
    value = os.environ.get(name)
    return [value] if value else []


def _link_runtime(toolkit: Toolkit, links: Path) -> Path | None:
    """A folder where the linker finds ``libcudart.so``, if it would not: pip's packages have it with its version alone."""
    folders = [toolkit.home / "lib64", toolkit.home / "lib"]
    if any((folder / "libcudart.so").exists() for folder in folders):
        return None
    versioned = next((path for folder in folders for path in sorted(folder.glob("libcudart.so.*"))), None)
    if versioned is None:
        return None
    (links / "libcudart.so").symlink_to(versioned)
    return links


def _nowhere_to_keep(error: Exception) -> str | None:
    """What to do where the error is about the folder of compiled kernels, one in it or one around it; else None."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return None
    folder, where = torch_extensions_folder().resolve(), Path(error.filename).resolve()
    if not (where.is_relative_to(folder) or folder.is_relative_to(where)):
        return None
    return (
        f"gsplat compiles its CUDA kernels, and {where}, where torch would keep them, cannot be written "
        f"({error.strerror}). Set TORCH_EXTENSIONS_DIR to a folder of yours, {ON_THE_CPU}"
    )


def _end(text: str, characters: int = 1500) -> str:
    """The end of a compiler's output, where its error is."""
    return text if len(text) <= characters else f"... {text[-characters:]}"
