"""``multiview-video-data``: films of several cameras that stand still, with cameras from whatever solved them.

::

    ROOT/NAME.mp4 ...                       or ROOT/camNN/frame_00001.jpg ... (with or without images/ between)
    cameras, the first of these that is there:
      ROOT/transforms.json                  nerfstudio's, an entry per camera
      ROOT/sparse_/, sparse/0, colmap/sparse/0 ...    COLMAP's model of the first frame, an image per camera
      ROOT/poses_bounds_multipleview.npy, poses_bounds.npy      rows in the order of names
    ROOT/points3D_multipleview.ply          a cloud in the cameras' world                  (optional)
    ROOT/camNN/flow/K.npy                   flow from the frame before to frame K of that camera (ST-4DGS; optional)

That is the layout of 4D Gaussian Splatting's code for own scenes ("multipleview") and of ST-4DGS, among others. The
former tests on frames of its training cameras; here cameras are held out, and none of their images trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers import neu3d
from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.clip import Clip, SeedPoints
from dataparsers.flow_folders import rig_flow
from dataparsers.llff import frame_of_bounds
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.rig import Rig, RigOptions, find_cameras, pick_cameras, read_rig, rig_views
from dataparsers.rig_cameras import RigCameras, colmap_rig, poses_bounds_rig, transforms_rig
from dataparsers.seed_points import ply_points, require_in_sight
from dyngs_plugins.priors.colmap_files import find_model
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.views import Priors

MODELS = ("sparse_", "sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse")
ROWS = ("poses_bounds_multipleview.npy", "poses_bounds.npy")
CLOUD = "points3D_multipleview.ply"

PROTOCOLS = (
    Protocol(
        name="first-camera",
        trains="every camera but the first, all frames",
        tests="the first camera in the order of names, all frames",
        source="ours; ST-4DGS (2024), code, on DyNeRF. 4D Gaussian Splatting's own test views are training cameras",
    ),
    Protocol(
        name="fourth-camera",
        trains="every camera but the fourth, all frames",
        tests="the fourth camera in the order of names (index 3), all frames",
        source="ST-4DGS (2024), code, on NVIDIA Dynamic Scenes with all 12 cameras",
    ),
)
_HELD = {"first-camera": 0, "fourth-camera": 3}


@dataclass
class MultiviewVideoDataParserConfig(ClipDataParserConfig):
    """Films of several cameras that stand still."""

    _target: type = field(default_factory=lambda: MultiviewVideoDataParser)
    cameras: Literal["auto", "transforms", "colmap", "poses_bounds"] = "auto"
    """Where poses come from; auto takes the first that is there, in this order."""
    downscale_factor: int = 1
    """Train on images at 1/n of the films."""
    start: int = 0
    """First frame to use."""
    end: int | None = None
    """Frame to stop before; None uses all."""
    test_cameras: tuple[str, ...] = ()
    """Cameras that test, by name; empty takes the protocol's."""
    skip_cameras: tuple[str, ...] = ()
    """Cameras to leave out, by name."""
    frames_folder: Path | None = None
    """Where the films' frames are kept; None: in the scene's folder."""


class MultiviewVideoDataParser(ClipDataParser):
    """Extracts the frames of the films once, and finds their cameras by name."""

    config: MultiviewVideoDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the files.

        Raises:
            FileNotFoundError, ValueError, OSError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        if config.start < 0 or (config.end is not None and config.end - config.start < 2):
            raise ValueError(f"start {config.start} and end {config.end} leave fewer than 2 frames. Expected 0 <= start "
                             "and an end at least 2 later.")  # fmt: skip
        sources = find_sources(root)
        names = list(sources)
        held = config.test_cameras or tuple(names[_HELD[protocol.name] :][:1])
        options = RigOptions(
            config.downscale_factor, config.start, config.end, 1, config.frames_folder, tuple(config.skip_cameras)
        )
        find = self._camera_source(root)
        rig = read_rig(root, sources, options)
        train, test = pick_cameras(rig, held, config.skip_cameras)
        cameras = find(names, rig.size)
        points = _cloud(root, cameras, rig, train)
        kinds = (rig_flow(sources, rig.names, rig.size), lambda frames: Priors())
        views = [
            rig_views(rig, part, cameras.world_T_camera, cameras.K, cameras.distortion, priors)
            for part, priors in zip((train, test), kinds, strict=True)
        ]
        stored = None
        if points is None and cameras.llff is not None:
            rows = [names.index(name) for name in train]
            points = neu3d.seeds_of_bounds(cameras.llff, rig, rows)
            stored = frame_of_bounds(cameras.llff, rig.size, rows)
        protocol = replace(neu3d.as_followed(protocol, rig, train, test), poses=f"of {cameras.source}")
        return Clip(views[0], views[1], protocol, points=points, stored_frame=stored, fps=rig.fps)

    def _camera_source(self, root: Path):
        """How to read the cameras of some names for images of some size."""
        kind = self.config.cameras
        model = next((root / name for name in MODELS if find_model(root / name)), None)
        rows = next((root / name for name in ROWS if optional_file(root / name, "camera file")), None)
        there = {
            "transforms": optional_file(root / "transforms.json", "camera file"),
            "colmap": model,
            "poses_bounds": rows,
        }
        if kind == "auto":
            kind = next((name for name, found in there.items() if found), "none")
        if kind == "transforms" and there["transforms"]:
            return lambda names, size: transforms_rig(root / "transforms.json", names, size)
        if kind == "colmap" and model is not None:
            return lambda names, size: colmap_rig(model, names, size)
        if kind == "poses_bounds" and rows is not None:
            return lambda names, size: poses_bounds_rig(rows, names, size)
        found = ", ".join(name for name, found in there.items() if found) or "none"
        raise FileNotFoundError(
            f"{root}: no cameras ({self.config.cameras} was asked for; found {found}). Expected transforms.json, "
            f"COLMAP's model in one of {', '.join(MODELS)}, or {' or '.join(ROWS)}. Solve the first frames of all "
            "films with COLMAP, an image per camera, named after it."
        )


def find_sources(root: Path) -> dict[str, Path]:
    """Films of any name, or else folders camNN of frames.

    Raises:
        FileNotFoundError, ValueError: see :func:`dataparsers.rig.find_cameras`.
    """
    try:
        sources = find_cameras(root)
    except FileNotFoundError:
        return find_cameras(root, "cam*")
    return sources if next(iter(sources.values())).is_file() else find_cameras(root, "cam*")


def _cloud(root: Path, cameras: RigCameras, rig: Rig, train: Sequence[str]) -> SeedPoints | None:
    path = root / CLOUD
    if not optional_file(path, "point cloud"):
        return cameras.points(train)
    inverse = torch.linalg.inv(cameras.world_T_camera)
    return require_in_sight(path, ply_points(path), inverse, cameras.K, rig.size)


def _recognise(root: Path) -> str | None:
    if neu3d.LAYOUT.recognise(root) is not None:
        return None
    try:
        sources = find_sources(root)
        solved = [*(name for name in ("transforms.json", *ROWS) if (root / name).is_file())]
        solved += [name for name in MODELS if find_model(root / name)]
    except (OSError, ValueError):
        return None
    return f"{len(sources)} films or folders of frames ({next(iter(sources))} ...) and {solved[0]}" if solved else None


LAYOUT = Layout(
    command="multiview-video-data",
    title="Multi-view video",
    expects="*.mp4 or folders camNN/ of frames (camNN/flow if any); transforms.json, a COLMAP model of the first frame, "
    "or poses_bounds",
    get_it="your own cameras; scenes prepared for 4D Gaussian Splatting (multipleview) or ST-4DGS",
    config=MultiviewVideoDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

multiview_video_data = DataParserSpecification(
    config=MultiviewVideoDataParserConfig(),
    description="Films of several cameras that stand still; cameras from COLMAP, transforms.json or poses_bounds.",
)
