"""Installs the CUDA compiler that gsplat's kernels need, in the environment whose Python runs this.

gsplat compiles its kernels on the machine where they run. A machine with a GPU has NVIDIA's driver, and often no CUDA
toolkit, or one of another version than torch's. From CUDA 13 on the toolkit's compiler can be installed with pip, where
`dyngs_plugins.raster.gsplat_kernels` finds it. Nothing is changed where a toolkit that fits is there already.
"""

import shlex
import subprocess
import sys

import torch

from dyngs_plugins.raster.gsplat_kernels import find_toolkit, kernels_problem, pip_requirements


def main() -> None:
    if not torch.cuda.is_available():
        print("setup: NVIDIA's driver is here, but torch finds no GPU: training will use the CPU. See dyngs doctor")
        return
    cuda = torch.version.cuda
    if cuda and find_toolkit() is None and int(cuda.split(".")[0]) >= 13:
        wanted = [shlex.split(requirement)[0] for requirement in pip_requirements(cuda)]
        print(
            f"setup: there is a GPU and no CUDA {cuda} compiler for gsplat's kernels; installing it (100 MB)",
            flush=True,
        )
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", *wanted], check=False
        )
    problem = kernels_problem()
    if problem is not None:
        print(f"setup: training on the GPU cannot start yet. {problem}")


if __name__ == "__main__":
    main()
