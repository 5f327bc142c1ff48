"""``neu3d-data``: Neu3D (DyNeRF, Plenoptic Video): films of 18 to 21 fixed cameras with ``poses_bounds.npy``.

::

    ROOT/cam00.mp4 ...                       or ROOT/cam00/images/0000.png ... (or without images/)
    ROOT/poses_bounds.npy                    row k belongs to the k-th camera in the order of names; numbers have gaps
    ROOT/points3D_downsample2.ply            4DGS's dense cloud of the first frame, in the same world   (optional)
    ROOT/frames_2/cam00/00000.png ...        what is extracted once from the films

Source: Li et al., "Neural 3D Video Synthesis from Multi-view Video" (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import image_size
from dataparsers.clip import Clip, SeedPoints
from dataparsers.flow_folders import rig_flow
from dataparsers.llff import frame_of_bounds
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.rig import Rig, RigOptions, find_cameras, first_image, pick_cameras, read_rig, rig_views
from dataparsers.seed_points import frustum_points, ply_points, require_in_sight
from dataparsers.video_frames import VIDEO_SUFFIXES, video_size
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds

_SOURCE = "Neural 3D Video Synthesis (Li et al. 2022)"
_CLOUDS = ("points3D_downsample2.ply", "points3D_downsample.ply", "points3D.ply")

PROTOCOLS = (
    Protocol(
        name="neu3d",
        trains="every camera but the first, 300 frames",
        tests="the first camera (cam00), 300 frames",
        source=f"{_SOURCE}; 4D Gaussian Splatting (Wu et al. 2024), code",
        resolution="1352x1014 (half of the films)",
        lpips="alex",
    ),
    Protocol(
        name="without-cam13",
        trains="every camera but the first and cam13, 300 frames",
        tests="the first camera (cam00), 300 frames",
        source="MixVoxels and K-Planes on coffee_martini, whose cam13 is not synchronised",
        resolution="1352x1014 (half of the films)",
        lpips="alex",
    ),
)


@dataclass
class Neu3dDataParserConfig(ClipDataParserConfig):
    """Neu3D (DyNeRF): films of a fixed rig with poses_bounds.npy."""

    _target: type = field(default_factory=lambda: Neu3dDataParser)
    downscale_factor: int = 2
    """Size of the images, as a fraction 1/n of the size in poses_bounds.npy; 2 is published."""
    frames: int | None = 300
    """How many frames from the start on; the benchmark is the first 300 (10 seconds). None takes all."""
    start: int = 0
    """First frame of the films to use."""
    end: int | None = None
    """Frame of the films to stop before, where that is earlier."""
    test_cameras: tuple[str, ...] = ()
    """Cameras that test, by name; empty takes the first."""
    skip_cameras: tuple[str, ...] = ()
    """Cameras to leave out, by name, beside those that the protocol leaves out."""
    frames_folder: Path | None = None
    """Where the films' frames are kept, some 10 GB a scene; None: in the scene's folder."""


class Neu3dDataParser(ClipDataParser):
    """Extracts the frames of the films once, and reads them with their poses."""

    config: Neu3dDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the files.

        Raises:
            FileNotFoundError, ValueError, OSError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        sources = find_cameras(root, "cam*")
        cameras = rig_poses(root / "poses_bounds.npy", list(sources))
        skip = tuple(config.skip_cameras)
        if protocol.name == "without-cam13":
            skip = tuple(dict.fromkeys((*skip, *(name for name in sources if name.lower() == "cam13"))))
        factor = remaining_factor(root, sources, cameras, config.downscale_factor)
        rig = read_rig(root, sources, RigOptions(factor, *self._range(), 1, config.frames_folder, skip))
        train, test = pick_cameras(rig, config.test_cameras or (rig.names[0],), skip)
        poses = torch.from_numpy(cameras.world_T_camera)
        K = torch.from_numpy(cameras.K(*rig.size))
        train_views = rig_views(rig, train, poses, K, priors=rig_flow(sources, rig.names, rig.size))
        clouds = [root / name for name in _CLOUDS if optional_file(root / name, "point cloud")]
        rows = [rig.names.index(name) for name in train]
        points = ply_points(clouds[0]) if clouds else seeds_of_bounds(cameras, rig, rows)
        if clouds:
            require_in_sight(clouds[0], points, torch.linalg.inv(poses), K, rig.size)
        return Clip(
            train_views,
            rig_views(rig, test, poses, K),
            as_followed(protocol, rig, train, test),
            points=points,
            stored_frame=None if clouds else frame_of_bounds(cameras, rig.size, rows),
            fps=rig.fps or 30.0,
        )

    def _range(self) -> tuple[int, int | None]:
        """First frame and the one to stop before."""
        start, ends = self.config.start, [self.config.end]
        if self.config.frames is not None:
            ends.append(start + self.config.frames)
        known = [end for end in ends if end is not None]
        if start < 0 or (known and min(known) - start < 2):
            raise ValueError(f"start {start}, end {self.config.end} and frames {self.config.frames} leave fewer than 2 "
                             "frames. Expected 0 <= start and an end at least 2 later.")  # fmt: skip
        return start, min(known) if known else None


def rig_poses(path: Path, names: Sequence[str]) -> LlffCameras:
    """Poses of a rig, row k for the k-th name; all cameras get the first row's height, width and focal length.

    Every reference does so; this dataset stores one focal length per scene.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or another number of rows than cameras.
    """
    cameras = read_poses_bounds(path)
    if len(cameras.hwf) != len(names):
        raise ValueError(
            f"{path}: {len(cameras.hwf)} rows, expected {len(names)}, one per camera in the order of names "
            f"({names[0]} to {names[-1]}). Is a film missing? Leave cameras out with skip_cameras, not by deleting them."
        )
    if np.abs(cameras.hwf / cameras.hwf[0] - 1.0).max() > 0.01:
        raise ValueError(f"{path}: heights, widths or focal lengths differ between cameras by more than 1 %. Expected "
                         "one for all, as in Neu3D; another rig opens with multiview-video-data.")  # fmt: skip
    bounds = cameras.bounds
    if not (np.isfinite(bounds).all() and (bounds[:, 0] > 0).all() and (bounds[:, 1] > bounds[:, 0]).all()):
        row = int(np.flatnonzero(~((bounds[:, 0] > 0) & (bounds[:, 1] > bounds[:, 0]) & (bounds[:, 1] < np.inf)))[0])
        raise ValueError(f"{path}: bounds are not 0 < near < far; row {row} has {bounds[row].tolist()}. Expected finite "
                         "numbers. Write the file again.")  # fmt: skip
    return replace(cameras, hwf=np.tile(cameras.hwf[:1], (len(names), 1)))


def remaining_factor(root: Path, sources: dict[str, Path], cameras: LlffCameras, factor: int) -> int:
    """What is left to reduce: frames in folders may have been extracted at half size already, as 4DGS does.

    Raises:
        ValueError: the images are no whole fraction of the size in ``poses_bounds.npy``, or smaller than wanted.
    """
    first = first_image(next(iter(sources.values())))
    height, width = cameras.hwf[0, :2]
    size = video_size(first) if first.suffix.lower() in VIDEO_SUFFIXES else image_size(first)
    ratio = width / size[0]
    if abs(height / size[1] / ratio - 1.0) > 0.01 or factor / ratio < 0.99 or abs(factor / ratio % 1.0 - 0.5) < 0.49:
        raise ValueError(
            f"{first}: the images are {size[0]}x{size[1]} (width x height); poses_bounds.npy is for {width:.0f}x"
            f"{height:.0f} and downscale_factor is {factor}. Expected images of {width / factor:.0f}x"
            f"{height / factor:.0f}, or a whole multiple of that."
        )
    return round(factor / ratio)


def seeds_of_bounds(cameras: LlffCameras, rig: Rig, rows: Sequence[int]) -> SeedPoints:
    """Random points in the frusta of some cameras, for scenes without a cloud."""
    chosen = list(rows)
    return frustum_points(
        torch.from_numpy(cameras.world_T_camera[chosen]),
        torch.from_numpy(cameras.K(*rig.size)[chosen]),
        rig.size,
        torch.from_numpy(cameras.bounds[chosen]),
    )


def as_followed(protocol: Protocol, rig: Rig, train: Sequence[str], test: Sequence[str]) -> Protocol:
    """The protocol with the cameras, frames and size that are really used."""
    out = [name for name in rig.names if name not in train and name not in test]
    without = f" without {', '.join(out)}" if out else ""
    return replace(
        protocol,
        trains=f"{len(train)} cameras{without}, {rig.num_frames} frames",
        tests=f"{', '.join(test)}, {rig.num_frames} frames",
        resolution=f"{rig.size[0]}x{rig.size[1]}",
    )


def _recognise(root: Path) -> str | None:
    if not (root / "poses_bounds.npy").is_file():
        return None
    try:
        sources = find_cameras(root, "cam*")
    except (OSError, ValueError):
        return None
    return f"poses_bounds.npy and {len(sources)} cameras {next(iter(sources))} ..."


LAYOUT = Layout(
    command="neu3d-data",
    title="Neu3D (DyNeRF)",
    expects="cam*.mp4 (or folders of frames cam*/), poses_bounds.npy; points3D_downsample2.ply if there",
    get_it="the release of Neural 3D Video Synthesis (six scenes; flame_salmon's first 300 frames)",
    config=Neu3dDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

neu3d_data = DataParserSpecification(
    config=Neu3dDataParserConfig(),
    description="Neu3D (DyNeRF): films of a fixed rig with poses_bounds.npy; the first camera tests.",
)
