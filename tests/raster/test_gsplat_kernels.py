"""Which CUDA toolkit compiles gsplat's kernels, and what is said where none can. Toolkits are folders with a script."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.utils import cpp_extension

from dyngs_plugins.raster import backends, gsplat_kernels
from dyngs_plugins.raster.gsplat_kernels import Toolkit, find_toolkit, kernels_problem, load_gsplat_kernels
from dyngs_plugins.user_errors import is_mistake_of_user

BACKEND = "gsplat.cuda._backend"


def toolkit(home: Path, version: str, headers: str = "include") -> Path:
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.88'\n")
    nvcc.chmod(0o755)
    if headers:
        (home / headers).mkdir(parents=True)
        (home / headers / "cuda_runtime.h").touch()
    return home


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """A machine whose torch is built for CUDA 13.0, with a C++ compiler and without any toolkit."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name in ("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "LIBRARY_PATH", "CPATH"):
        monkeypatch.delenv(name, raising=False)
    tools = tmp_path / "usr" / "bin"
    tools.mkdir(parents=True)
    (tools / "c++").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("CXX", raising=False)
    homes = gsplat_kernels._homes
    monkeypatch.setattr(gsplat_kernels, "_homes", lambda: (h for h in homes() if h.is_relative_to(tmp_path)))
    return tmp_path


def test_no_toolkit_is_said_with_what_to_install(machine):
    problem = kernels_problem()
    assert "needs for it a CUDA toolkit (nvcc) of torch's major version (13.0). Found: none." in problem
    assert "pip install 'nvidia-cuda-nvcc==13.0.*'" in problem
    assert "CUDA_VISIBLE_DEVICES= before the command" in problem


def test_before_cuda_13_pip_has_no_compiler(machine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    problem = kernels_problem()
    assert "pip install" not in problem
    assert "cuda-toolkit=12.4" in problem


def test_a_toolkit_of_another_version_is_named(machine, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit(machine / "old", "11.8")))
    assert f"Found: CUDA 11.8 in {machine / 'old'}." in kernels_problem()


def test_one_that_fits_is_found_behind_one_that_does_not(machine, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit(machine / "old", "12.8")))
    monkeypatch.setenv("CONDA_PREFIX", str(toolkit(machine / "conda", "13.2", "targets/x86_64-linux/include")))
    assert find_toolkit() == Toolkit(machine / "conda", (13, 2))
    assert kernels_problem() is None


def test_a_script_that_calls_another_nvcc_is_no_toolkit(machine, monkeypatch):
    """Its folder holds no headers, and what torch compiles with it fails."""
    toolkit(machine / "local", "13.0", headers="")
    monkeypatch.setenv("PATH", f"{machine / 'local' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert find_toolkit() is None


def test_the_toolkit_of_a_linked_nvcc_is_found(machine, monkeypatch):
    toolkit(machine / "cuda-13.0", "13.0")
    (machine / "usr" / "bin" / "nvcc").symlink_to(machine / "cuda-13.0" / "bin" / "nvcc")
    assert find_toolkit() == Toolkit(machine / "cuda-13.0", (13, 0))


def test_pip_has_a_toolkit(machine, monkeypatch):
    """NVIDIA's packages share the folder `nvidia/cu13` with the libraries that torch brings."""
    toolkit(machine / "nvidia" / "cu13", "13.0")
    found = SimpleNamespace(submodule_search_locations=[str(machine / "nvidia")])
    find_spec = gsplat_kernels.find_spec
    monkeypatch.setattr(gsplat_kernels, "find_spec", lambda name: found if name == "nvidia" else find_spec(name))
    assert find_toolkit() == Toolkit(machine / "nvidia" / "cu13", (13, 0))


def test_no_compiler(machine):
    (machine / "usr" / "bin" / "c++").unlink()
    assert "no C++ compiler: sudo apt-get install g++" in kernels_problem()


def test_torch_without_cuda(machine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without it" in kernels_problem()


@pytest.fixture
def importing(machine, monkeypatch):
    """What the import of gsplat's kernels sees of its surroundings; `answer` says how it ends."""
    monkeypatch.setenv("CUDA_HOME", str(toolkit(machine / "cuda", "13.0")))
    (machine / "cuda" / "lib").mkdir()
    (machine / "cuda" / "lib" / "libcudart.so.13").touch()
    monkeypatch.delitem(sys.modules, BACKEND, raising=False)
    import gsplat.cuda

    monkeypatch.delattr(gsplat.cuda, "_backend", raising=False)
    seen = SimpleNamespace(answer=object(), times=0)

    class Finder:
        def find_spec(self, name, path=None, target=None):
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, self) if name == BACKEND else None

        def create_module(self, spec):
            return ModuleType(BACKEND)

        def exec_module(self, module):
            seen.times += 1
            seen.environment, seen.home = dict(os.environ), cpp_extension.CUDA_HOME
            seen.links = [sorted(Path(p).glob("libcudart*")) for p in os.environ["LIBRARY_PATH"].split(os.pathsep)]
            if isinstance(seen.answer, Exception):
                raise seen.answer
            module._C = seen.answer  # pyright: ignore[reportAttributeAccessIssue]

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    yield seen
    sys.modules.pop(BACKEND, None)


def test_gsplat_finds_the_toolkit_ninja_and_the_runtime(importing, machine):
    before, home = dict(os.environ), cpp_extension.CUDA_HOME
    load_gsplat_kernels()
    path = importing.environment["PATH"].split(os.pathsep)
    assert path[:2] == [str(machine / "cuda" / "bin"), str(Path(sys.executable).parent)]
    assert importing.environment["CUDA_HOME"] == importing.home == str(machine / "cuda")
    assert [[link.name for link in links] for links in importing.links] == [["libcudart.so"]]
    assert (dict(os.environ), cpp_extension.CUDA_HOME) == (before, home)
    load_gsplat_kernels()
    assert importing.times == 1


@pytest.mark.parametrize("error", [RuntimeError("x" * 5000 + "ninja: build stopped"), OSError("lock")])
def test_a_failed_compilation_is_one_message(importing, error):
    importing.answer = error
    with pytest.raises(ImportError, match="did not compile with CUDA 13.0 in .*(build stopped|lock)\nTry ") as raised:
        load_gsplat_kernels()
    assert len(str(raised.value)) < 2500
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_cannot_be_written_is_one_sentence(machine, monkeypatch, named):
    """gsplat's own import, up to where it makes the folder. A file is in the way: not even root makes folders in it."""
    monkeypatch.setenv("CUDA_HOME", str(toolkit(machine / "cuda", "13.0")))
    monkeypatch.delitem(sys.modules, BACKEND, raising=False)
    (machine / "file").touch()
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR" if named else "XDG_CACHE_HOME", str(machine / "file" / "here"))
    with pytest.raises(
        ImportError, match=r"cannot be written \(Not a directory\)\. Set TORCH_EXTENSIONS_DIR"
    ) as raised:
        load_gsplat_kernels()
    assert str(machine / "file") in str(raised.value)
    assert "Try another toolkit" not in str(raised.value)
    assert is_mistake_of_user(raised.value)


def test_another_file_that_is_missing_is_no_matter_of_the_folder(importing):
    importing.answer = FileNotFoundError(2, "No such file or directory", "/opt/nvcc")
    with pytest.raises(ImportError, match="did not compile with CUDA 13.0 in .*/opt/nvcc"):
        load_gsplat_kernels()


def test_an_import_without_kernels_is_tried_again(importing, monkeypatch):
    """As after a first try without a toolkit, in a notebook."""
    import gsplat.cuda

    failed = SimpleNamespace(_C=None)
    monkeypatch.setitem(sys.modules, BACKEND, failed)
    monkeypatch.setattr(gsplat.cuda, "_backend", failed, raising=False)
    load_gsplat_kernels()
    assert importing.times == 1


def test_kernels_are_made_ready_for_cuda_alone(importing):
    backends.prepare_backend(None, "cpu")
    backends.prepare_backend("torch", "cuda")
    assert importing.times == 0
    backends.prepare_backend(None, "cuda:0")
    assert importing.times == 1
