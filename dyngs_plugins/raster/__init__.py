"""Gaussians to images: one function, gsplat on CUDA and our own kernels on the CPU."""

from dyngs_plugins.raster.backends import backend_names, register_backend
from dyngs_plugins.raster.seam import rasterize

__all__ = ["backend_names", "rasterize", "register_backend"]
