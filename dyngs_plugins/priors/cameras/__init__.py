"""Cameras from point tracks: tracking, telling still from moving points, structure from motion, bundle adjustment.

Pure functions on numpy arrays; the providers that use them are in `dyngs_plugins.priors.providers.cameras_*`.
Axes are OpenCV's (x right, y down, z forward); pixel centres are at +0.5, as the intrinsics K want them.
"""
