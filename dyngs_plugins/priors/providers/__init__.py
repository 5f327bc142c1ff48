"""Prior providers: frames in, one kind of prior out. The built-in ones need no downloaded weights."""

from __future__ import annotations

import importlib
import warnings

from dyngs_plugins.hooks import hookimpl
from dyngs_plugins.priors.providers.base import PriorProvider

BUILT_IN = (
    # without weights
    ("flow_dis", "DISFlow"),
    ("masks_epipolar", "EpipolarMasks"),
    ("depth_multiview", "MultiViewDepth"),
    ("tracks_chained", "ChainedTracks"),
    ("tracks_klt", "KLTTracks"),
    ("cameras_tracks", "TrackCameras"),
    # with a package or weights that are fetched by hand
    ("depth_transformers", "DepthAnything"),
    ("depth_transformers", "DepthPro"),
    ("flow_raft", "RaftFlow"),
    ("masks_sam", "SamMasks"),
    ("tracks_tapir", "TapirTracks"),
    ("cameras_colmap", "ColmapCameras"),
    # files as given
    ("cameras_files", "CameraFiles"),
    ("flow_files", "FlowFiles"),
    ("masks_files", "MaskFiles"),
    ("depth_files", "DepthFiles"),
    ("tracks_files", "TrackFiles"),
)
"""Module in this folder, and class. Each module is imported on its own: a broken one takes no other with it."""


@hookimpl
def dyngs_prior_providers() -> list[type[PriorProvider]]:
    """The providers of this package that import; a warning names each one that does not."""
    found: list[type[PriorProvider]] = []
    for module, name in BUILT_IN:
        try:
            found.append(getattr(importlib.import_module(f"{__name__}.{module}"), name))
        except Exception as error:  # a dependency may raise anything when it is imported
            warnings.warn(
                f"dyngs-plugins: the built-in provider {name} ({__name__}.{module}) is skipped: "
                f"{type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return found
