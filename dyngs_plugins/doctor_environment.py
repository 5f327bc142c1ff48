"""The doctor's checks of what surrounds us: Python, packages, GPU, system libraries, disk."""

from __future__ import annotations

import ctypes.util
import functools
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dyngs_plugins.doctor import Finding
from dyngs_plugins.doctor_probe import Answer, run_jobs
from dyngs_plugins.folders import torch_extensions_folder

OLDEST, TOO_NEW = (3, 10), (3, 13)
REQUIRED = {"torch": "torch", "nerfstudio": "nerfstudio", "gsplat": "gsplat", "numpy": "numpy", "tyro": "tyro",
            "viser": "viser", "pluggy": "pluggy", "cv2": "opencv-python-headless", "av": "av", "scipy": "scipy"}  # fmt: skip
"""Module and the package that brings it."""
OPTIONAL = {
    "numba": ("the fast rasterizer without CUDA", "pip install 'dyngs-plugins[cpu]'"),
    "torchvision": ("RAFT; nerfstudio imports it too", "pip install torchvision"),
    "open3d": ("ns-export's meshes and point clouds", "pip install open3d"),
    "transformers": ("Depth Anything, Depth Pro, SAM 2 and SAM 3", "pip install 'dyngs-plugins[learned]'"),
    "pycolmap": ("cameras by COLMAP", "pip install pycolmap"),
    "tapnet": ("TAPIR and BootsTAPIR", "pip install 'tapnet[torch] @ git+https://github.com/google-deepmind/tapnet'"),
}
"""Module, what it is for, and how to get it."""
LIBRARIES = {
    "usb-1.0": ("open3d (ns-export, ns-process-data)", "sudo apt-get install libusb-1.0-0"),
    "GL": ("open3d and pymeshlab", "sudo apt-get install libgl1"),
    "EGL": ("open3d", "sudo apt-get install libegl1"),
    "gomp": ("open3d and scikit-learn", "sudo apt-get install libgomp1"),
}
LOW_DISK_GB = 5.0


def check_python() -> Iterator[Finding]:
    """Python's version and where it runs."""
    version = ".".join(map(str, sys.version_info[:3]))
    inside = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    fits = OLDEST <= sys.version_info[:2] < TOO_NEW
    yield Finding(
        "python", "python", "ok" if fits else "problem",
        f"{version} at {sys.executable} ({inside}), {platform.platform()}",
        "" if fits else "Use Python 3.10, 3.11 or 3.12: nerfstudio's dependencies have no wheels for others.",
    )  # fmt: skip


@functools.cache
def import_answers() -> dict[str, Answer]:
    """What importing each package gives, in another process."""
    modules = [*REQUIRED, *OPTIONAL]
    answers = run_jobs([{"do": "import", "module": module} for module in modules])
    return dict(zip(modules, answers, strict=True))


def check_packages() -> Iterator[Finding]:
    """Versions of what we need and of what we can use, and whether they import."""
    for module, answer in import_answers().items():
        if answer["ok"]:
            yield Finding("packages", module, "ok", _version(module, answer["version"]))
        elif module in REQUIRED:
            fix = f"pip install --force-reinstall --no-deps {REQUIRED[module]}" if _installed(module) else f"pip install {REQUIRED[module]}"  # fmt: skip
            yield Finding("packages", module, "problem", f"cannot be imported: {answer['error']}", fix)
        elif _installed(module):
            yield Finding(
                "packages", module, "problem", f"is installed but broken: {answer['error']}", OPTIONAL[module][1]
            )
        else:
            yield Finding(
                "packages", module, "note", f"not installed; it is for {OPTIONAL[module][0]}", OPTIONAL[module][1]
            )
    yield from _requirements()


def _requirements() -> Iterator[Finding]:
    """Versions that our own metadata asks for and does not get."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires("dyngs-plugins") or []
    except importlib.metadata.PackageNotFoundError:
        return  # `check_origins` says so
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # its import has been reported
        if not requirement.specifier.contains(version, prereleases=True):
            text = f"version {version}, but {requirement.specifier} is needed"
            yield Finding("packages", requirement.name, "problem", text, f"pip install '{requirement}'")


def check_gpu() -> Iterator[Finding]:
    """What torch finds."""
    (answer,) = run_jobs([{"do": "torch"}])
    if not answer["ok"]:
        fix = "Install the torch that fits your driver: https://pytorch.org/get-started/locally"
        yield Finding("gpu", "torch", "problem", answer["error"], fix)
        return
    build = f"torch {answer['version']}, built for " + (f"CUDA {answer['cuda']}" if answer["cuda"] else "CPU only")
    if answer["available"]:
        yield Finding("gpu", "torch", "ok", f"{build}; {'; '.join(answer['devices'])}")
        return
    card = shutil.which("nvidia-smi") is not None
    fix = ("Install a torch built for CUDA, or a driver that is new enough for this one: "
           "https://pytorch.org/get-started/locally") if card else ""  # fmt: skip
    where = "though nvidia-smi is there" if card else "training runs on the CPU, with small settings"
    yield Finding("gpu", "torch", "note", f"{build}; finds no GPU, {where}", fix)
    yield Finding("gpu", "processor", "ok", f"{os.cpu_count()} threads")


def check_system() -> Iterator[Finding]:
    """Programs and libraries that come from the system."""
    path = shutil.which("ffmpeg")
    if path:
        yield Finding("system", "ffmpeg", "ok", path)
    else:
        text = "not found; ns-render and ns-process-data video need it (dyngs process does not)"
        yield Finding("system", "ffmpeg", "note", text, "sudo apt-get install ffmpeg")
    for name, (purpose, fix) in LIBRARIES.items():
        found = ctypes.util.find_library(name)
        if found:
            yield Finding("system", f"lib{name}", "ok", found)
        else:
            yield Finding("system", f"lib{name}", "note", f"not found; {purpose} may not start", fix)


def check_disk() -> Iterator[Finding]:
    """Free space where things are written, and what names another place where nothing can be."""
    places = {
        "here": (Path.cwd(), "Train elsewhere, or with --output-dir."),
        "cache": (Path.home(), "Set HOME to a folder of yours."),
        "temporary files": (Path(tempfile.gettempdir()), "Set TMPDIR to a folder of yours."),
        "compiled kernels": (_kernels_folder(), "Set TORCH_EXTENSIONS_DIR to a folder of yours."),
    }
    for name, (place, otherwise) in places.items():
        try:
            free = shutil.disk_usage(place).free / 1e9
            writable = os.access(place, os.W_OK)
        except OSError as error:
            yield Finding("disk", name, "problem", f"{place}: cannot be looked at ({error})")
            continue
        low = free < LOW_DISK_GB
        text = f"{place}: {free:.0f} GB free" + ("" if writable else ", not writable")
        fix = "Free some space." if low else "" if writable else otherwise
        yield Finding("disk", name, "note" if low or not writable else "ok", text, fix)


def _kernels_folder() -> Path:
    """Where torch compiles gsplat's kernels; the nearest folder around it while there is none."""
    folder = torch_extensions_folder()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _version(module: str, from_module: str) -> str:
    packages = _packages_of(module)
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return from_module or "version unknown"


def _installed(module: str) -> bool:
    return bool(_packages_of(module))


@functools.cache
def _all_packages() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _packages_of(module: str) -> list[str]:
    try:
        return _all_packages().get(module, [])
    except Exception:  # damaged metadata of any package; `check_duplicates` reports it
        return []
