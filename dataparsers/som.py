"""``som-data``: Shape of Motion's ``custom``, ``davis`` and ``iphone`` layouts.

A leaf module: nerfstudio finds it while its own datamanagers are half imported, so it may import nothing of
nerfstudio's but dataparsers, cameras and utilities.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import image_files
from dataparsers.clip import Clip
from dataparsers.layouts import CUSTOM, DAVIS, CasualLayout, detect_layout
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.som_casual import CasualOptions, load_casual
from dataparsers.som_iphone import IphoneOptions, load_iphone
from dyngs_plugins.priors.normalise import IDENTITY, SceneNormalisation, normalise_clip

PROTOCOLS = (
    Protocol(
        name="own-views",
        trains="all views that are not held out",
        tests="the clip's own held-out views (eval/, or DyCheck's validation cameras); without any, every 8th time step "
        "from half an interval in, never the clip's ends",
        source="DyCheck (Gao et al. 2022) and Shape of Motion (Wang et al. 2024) for iPhone captures; else ours",
        mask="all, and the moving pixels on their own; on iPhone captures those that training views see",
        poses="given (for casual video solved on all frames)",
    ),
)


@dataclass
class SomDataParserConfig(ClipDataParserConfig):
    """A clip with cameras, depth, masks and tracks in one of Shape of Motion's layouts."""

    _target: type = field(default_factory=lambda: SomDataParser)
    data: Path = Path()
    """The clip's folder: the one that holds images/, JPEGImages/ or rgb/."""
    layout: Literal["auto", "custom", "davis", "iphone"] = "auto"
    """How the folder is laid out; auto looks which folders there are."""
    sequence: str | None = None
    """Which sequence to train on; needed only where there are several and no clip.json joins them."""
    image_type: str | None = None
    """Folder of the images (default: images, davis JPEGImages)."""
    mask_type: str | None = None
    """Folder of the masks (default: masks, davis Annotations)."""
    depth_type: str | None = None
    """Folder of the disparities (default: aligned_depth_anything, then its v2, then unidepth_disp). For iphone what
    follows "aligned_" in its name, or lidar (default: depth_anything_colmap)."""
    camera_type: Literal["refined", "original"] = "refined"
    """iphone: cameras refined by COLMAP, or as captured."""
    track_type: str | None = None
    """Folder of the tracks (default: tracks, then bootstapir, then tapir)."""
    res: str | None = None
    """Folder level between kind and sequence (default: none, davis 480p)."""
    mask_erosion: int | None = None
    """Side in pixels of the box that erodes masks to both sides (default: 7, davis 3)."""
    depth_median: int | None = None
    """Side in pixels of the median filter on depth; 1 turns it off (default: 11, less for images below 480 pixels)."""
    start: int = 0
    """First time step to use."""
    end: int | None = None
    """Time step to stop before; negative counts from the end. None uses all."""
    eval_interval: int = 8
    """Hold out every n-th time step where the clip has no evaluation views of its own; 0 holds out none."""
    eval_offset: int | None = None
    """First held-out time step; None starts half an interval in and never holds out the clip's ends."""
    required_priors: tuple[str, ...] = ("depth", "masks", "tracks")
    """Kinds of priors without which the clip is refused, out of depth, masks, tracks."""
    scene_normalisation: bool = True
    """Turn up onto +z, centre on what moves and scale it to about one unit; False keeps the files' frame."""
    num_normalisation_tracks: int = 5000
    """How many tracks to lift for that."""
    seed: int = 42
    """Picks those tracks."""
    downscale_factor: int | None = None
    """iphone: read the images at 1/n (the folders named nx). The casual layouts have one size only."""


class SomDataParser(ClipDataParser):
    """Reads a clip once, from its training views alone, and gives both splits the same scene frame."""

    config: SomDataParserConfig

    def read(self) -> Clip:
        """Both splits in the world of the camera files.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        config, root = self.config, Path(self.config.data)
        pick_protocol(PROTOCOLS, config.protocol)
        layout = detect_layout(root) if config.layout == "auto" else config.layout
        shared = {name: getattr(config, name) for name in ("start", "end", "eval_interval", "eval_offset")}
        shared["required"] = tuple(config.required_priors)
        factor = int(config.downscale_factor or 1)
        if layout == "iphone":
            depth_type = config.depth_type or IphoneOptions.depth_type
            return load_iphone(root, IphoneOptions(config.camera_type, depth_type, factor, **shared))
        if factor != 1:
            raise ValueError(
                f"downscale_factor is {factor}, but a {layout} clip has one size. Make a smaller one with `dyngs "
                "process`, or leave the factor at 1."
            )
        folders = self._casual_layout(DAVIS if layout == "davis" else CUSTOM)
        return load_casual(root, folders, CasualOptions(config.sequence, **shared))

    def _casual_layout(self, layout: CasualLayout) -> CasualLayout:
        """The layout with the folder names that the user gave."""
        config = self.config
        given = {name: getattr(config, name) for name in _CASUAL_OPTIONS}
        given["depth_types"] = None if config.depth_type is None else (config.depth_type,)
        given["track_types"] = None if config.track_type is None else (config.track_type,)
        return replace(layout, **{name: value for name, value in given.items() if value is not None})

    def scene_frame(self, clip: Clip) -> SceneNormalisation:
        """That of Shape of Motion's own preprocessing, else by ``num_normalisation_tracks`` tracks."""
        if not self.config.scene_normalisation:
            return IDENTITY
        if clip.stored_frame is not None:
            return clip.stored_frame
        return normalise_clip(clip.train, self.config.num_normalisation_tracks, self.config.seed)


_CASUAL_OPTIONS = ("image_type", "mask_type", "res", "mask_erosion", "depth_median")


def _recognise(root: Path) -> str | None:
    """By the priors: without them DAVIS's videos are davis-data's, and iPhone captures dycheck-iphone-data's."""
    try:
        tracks = [name for name in CUSTOM.track_types if (root / name).is_dir()]
        if (root / "JPEGImages").is_dir():
            return f"JPEGImages/ with Shape of Motion's tracks ({tracks[0]}/)" if tracks else None
        if (root / "rgb").is_dir() and ((root / "camera").is_dir() or (root / "splits").is_dir()):
            made = (root / "flow3d_preprocessed").is_dir()
            return "rgb/ and camera/ with Shape of Motion's flow3d_preprocessed/" if made else None
        if not (root / "images").is_dir() or image_files(root / "images"):
            return None
        if not any(child.is_dir() for child in (root / "images").iterdir()):
            return None
        made = [name for name in ("clip.json", "droid_recon", *CUSTOM.depth_types) if (root / name).exists()]
    except OSError:
        return None
    return f"images/SEQ/ with {', '.join([*made, *tracks])}" if made or tracks else None


LAYOUT = Layout(
    command="som-data",
    title="Shape of Motion",
    expects="images/SEQ, masks/SEQ, aligned_depth_anything/SEQ, bootstapir/SEQ, droid_recon/SEQ.npy; flow, "
    "normals if any (custom; the same under JPEGImages/480p, Annotations/480p for davis); rgb/, camera/, "
    "flow3d_preprocessed/ (iphone)",
    get_it="`dyngs process` and `dyngs sample` make it; Shape of Motion's release of DyCheck's iPhone captures",
    config=SomDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

som_data = DataParserSpecification(
    config=SomDataParserConfig(),
    description="Shape of Motion clips (custom, davis, iphone layouts): images, cameras, depth, masks, tracks.",
)
