"""Compiled kernels of the CPU rasterizer."""
