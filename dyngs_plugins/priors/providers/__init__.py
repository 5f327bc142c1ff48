"""Prior providers: frames in, one kind of prior out. The built-in ones need no downloaded weights."""

from __future__ import annotations

from dyngs_plugins.hooks import hookimpl
from dyngs_plugins.priors.providers.base import PriorProvider


@hookimpl
def dyngs_prior_providers() -> list[type[PriorProvider]]:
    """The providers of this package."""
    from dyngs_plugins.priors.providers.cameras_colmap import ColmapCameras
    from dyngs_plugins.priors.providers.cameras_files import CameraFiles
    from dyngs_plugins.priors.providers.cameras_tracks import TrackCameras
    from dyngs_plugins.priors.providers.depth_files import DepthFiles
    from dyngs_plugins.priors.providers.depth_multiview import MultiViewDepth
    from dyngs_plugins.priors.providers.depth_transformers import DepthAnything, DepthPro
    from dyngs_plugins.priors.providers.flow_dis import DISFlow
    from dyngs_plugins.priors.providers.flow_files import FlowFiles
    from dyngs_plugins.priors.providers.flow_raft import RaftFlow
    from dyngs_plugins.priors.providers.masks_epipolar import EpipolarMasks
    from dyngs_plugins.priors.providers.masks_files import MaskFiles
    from dyngs_plugins.priors.providers.masks_sam import SamMasks
    from dyngs_plugins.priors.providers.tracks_chained import ChainedTracks
    from dyngs_plugins.priors.providers.tracks_files import TrackFiles
    from dyngs_plugins.priors.providers.tracks_klt import KLTTracks
    from dyngs_plugins.priors.providers.tracks_tapir import TapirTracks

    weight_free = [DISFlow, EpipolarMasks, MultiViewDepth, ChainedTracks, KLTTracks, TrackCameras]
    learned = [DepthAnything, DepthPro, RaftFlow, SamMasks, TapirTracks, ColmapCameras]
    given = [CameraFiles, FlowFiles, MaskFiles, DepthFiles, TrackFiles]
    return [*weight_free, *learned, *given]
