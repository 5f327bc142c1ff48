"""``dyngs kernels``: compile gsplat's CUDA kernels before several trainings start at once."""

import os


def kernels() -> None:
    """Compile gsplat's CUDA kernels, if they are not yet: minutes, once for each user and kind of GPU.

    The first training would do it as well. Several that start together would not: each removes what the others have
    begun. They are kept in TORCH_EXTENSIONS_DIR, by default ~/.cache/torch_extensions.
    """
    import torch

    from dyngs_plugins.raster.gsplat_kernels import load_gsplat_kernels

    if torch.version.cuda and not torch.cuda.is_available() and not os.environ.get("TORCH_CUDA_ARCH_LIST"):
        raise ValueError(
            "No GPU is in sight, and what to compile for depends on it. Run this in a job that has one (srun --gpus=1 "
            "dyngs kernels), or name its compute capability: TORCH_CUDA_ARCH_LIST=9.0 for an H100, 8.0 for an A100."
        )
    load_gsplat_kernels()
    print("gsplat's kernels are compiled and load.")
