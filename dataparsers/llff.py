"""``llff-data``: images with ``poses_bounds.npy``; the order of the names is the time.

::

    ROOT/images/                  full size; or images_{n}/ alone
    ROOT/images_{n}/              reduced copies, made if they are not there
    ROOT/poses_bounds.npy         one row per image in the order of the sorted names
    ROOT/sparse/0/                the COLMAP model that it was made from: seed points; optional

Pixel coordinates are nerfstudio's (centres at +0.5, principal point at half the size); nerf-pytorch's rays lie half a
pixel up and left of them. A leaf module: it imports nothing of nerfstudio's but dataparsers, cameras and utilities.

Source: Mildenhall et al., "Local Light Field Fusion" (2019); nerf-pytorch's loader.
"""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import Layout
from dataparsers.bounded import BoundedDataParser, BoundedDataParserConfig
from dataparsers.checks import common_image_size, require_images
from dataparsers.clip import Clip, Frame, SeedPoints, clip_views, hold_out
from dataparsers.colmap_model import model_points, registered
from dataparsers.image_folders import reduced_images
from dataparsers.nvidia_files import recognise as is_nvidia_pack
from dataparsers.protocols import ALL_IMAGES, COLMAP_POSES, EVERY_8TH, MIDDLE, Protocol, pick_protocol
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.lifting import unproject
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds
from dyngs_plugins.priors.normalise import IDENTITY, SceneNormalisation, scene_normalisation
from dyngs_plugins.priors.views import Priors

PROTOCOLS = (
    MIDDLE,
    EVERY_8TH,
    ALL_IMAGES,
    Protocol(
        name="stereo",
        trains="even rows: the left camera",
        tests="odd rows: the right camera at the same times",
        source="D2RF (Luo et al. 2024), DyBluRF (Sun et al. 2024): rows alternate left and right",
        poses=COLMAP_POSES,
    ),
)


@dataclass
class LlffDataParserConfig(BoundedDataParserConfig):
    """A video or capture as LLFF lays it out: ``images/`` and ``poses_bounds.npy``."""

    _target: type = field(default_factory=lambda: LlffDataParser)
    downscale_factor: int | None = None
    """Train on images at 1/n: those of images_n/, which is made if it is not there. None reads images/."""
    images: str = "images"
    """Folder of the full-size images."""
    eval_interval: int = 8
    """Hold out every n-th frame; 0 holds out none."""
    eval_offset: int | None = None
    """First held-out frame. None starts half an interval in and never holds out the clip's ends (protocol middle), or
    at 0 (protocol llff)."""
    load_points: bool = True
    """Start from the points of sparse/0 where it is there."""
    fps: float | None = None
    """Frames per second of the video, if known."""


class LlffDataParser(BoundedDataParser):
    """Reads a folder once and gives all splits the same scene frame."""

    config: LlffDataParserConfig

    def read(self) -> Clip:
        """All splits in the world of ``poses_bounds.npy``.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        self.check_frame_options()
        full, images = self._images(root)
        cameras = read_poses_bounds(root / "poses_bounds.npy", len(images))
        size = common_image_size(images)
        poses, K = torch.from_numpy(cameras.world_T_camera), torch.from_numpy(cameras.K(*size))
        frames = [Frame(image, poses[i], K[i], i) for i, image in enumerate(images)]
        train, test, frames, protocol = self._split(frames)
        num_frames = max(frame.frame for frame in frames) + 1
        of_row = {frame.image: i for i, frame in enumerate(frames)}
        kept = [of_row[frame.image] for frame in train]
        frame = self.know_bounds(cameras, of_row, size, kept)
        if frame is None:
            frame = frame_of_bounds(cameras, size, kept) if config.scene_normalisation else IDENTITY
        return Clip(
            clip_views(train, size, num_frames, Priors()),
            clip_views(test, size, num_frames, Priors()),
            protocol,
            points=points_beside(root, [path.name for path in full], cameras, kept) if config.load_points else None,
            stored_frame=frame,
            fps=config.fps,
        )

    def _images(self, root: Path) -> tuple[list[Path], list[Path]]:
        """Images by their full-size names, and those in use."""
        factor, name = int(self.config.downscale_factor or 1), self.config.images
        reduced = root / f"{name}_{factor}"
        if factor > 1 and not (root / name).is_dir() and reduced.is_dir():
            images = require_images(reduced)
            return images, images
        full = require_images(root / name, "llff-data reads images/ and poses_bounds.npy of the folder in --data.")
        return full, reduced_images(full, reduced, factor)

    def _split(self, frames: list[Frame]) -> tuple[list[Frame], list[Frame], list[Frame], str | Protocol]:
        """Training and test frames, all frames (as stereo pairs where they are), and the protocol."""
        config, protocol = self.config, pick_protocol(PROTOCOLS, self.config.protocol)
        if protocol.name == "stereo":
            if len(frames) % 2 or len(frames) < 2:
                raise ValueError(f"protocol stereo takes rows in pairs of left and right, but {config.data} has "
                                 f"{len(frames)} images. Expected an even number.")  # fmt: skip
            frames = [replace(frame, frame=i // 2, camera=i % 2) for i, frame in enumerate(frames)]
            return frames[::2], frames[1::2], frames, protocol
        offset = 0 if protocol.name == "llff" and config.eval_offset is None else config.eval_offset
        held, tests = hold_out(len(frames), 0 if protocol.name == "all" else config.eval_interval, offset)
        train, test = [f for f in frames if f.frame not in held], [f for f in frames if f.frame in held]
        # Without a name it is called what it always was, which scores of earlier runs have beside them.
        named = replace(protocol, tests=tests)
        return train, test or frames, frames, named


def points_beside(root: Path, names: list[str], cameras: LlffCameras, train: list[int]) -> SeedPoints | None:
    """The points of ``sparse/0`` that training images see, if it is the model that the cameras are from.

    Args:
        names: the images as the model may name them, one per camera.
        train: which of them train.
    """
    folder = next((f for f in (root / "sparse" / "0", root / "sparse") if find_model(f)), None)
    if folder is None:
        return None
    model = read_model(folder)
    images = registered(folder, model, names)
    if len(images) < len(names):
        warnings.warn(f"{folder}: its points are left out, because {len(names) - len(images)} of {len(names)} "
                      "images are not in its model.", stacklevel=2)  # fmt: skip
        return None
    mine = cameras.world_T_camera[:, :3, 3]
    theirs = np.stack([images[name].world_T_camera[:3, 3] for name in names])
    extent = max(float(np.ptp(mine, axis=0).max()), 1e-6)
    if np.abs(mine - theirs).max() > 0.02 * extent:
        warnings.warn(
            f"{folder}: its points are left out, because its cameras stand elsewhere than those of "
            f"poses_bounds.npy (up to {np.abs(mine - theirs).max():.3g} apart). Make both from one model.",
            stacklevel=2,
        )
        return None
    return model_points(folder, model, [images[names[i]] for i in train])


def frame_of_bounds(cameras: LlffCameras, size: tuple[int, int], views: list[int]) -> SceneNormalisation:
    """A scene frame without priors: what fills the images at a depth between near and far.

    Centre and corners of each view are put at the harmonic mean of its bounds, which lies near the near one, where
    the subject is.
    """
    bounds = cameras.bounds[views]
    usable = np.isfinite(bounds).all(axis=1) & (bounds > 0).all(axis=1)
    if not usable.any():
        warnings.warn(
            "The scene is left in the frame of poses_bounds.npy: none of its bounds is positive.", stacklevel=2
        )
        return IDENTITY
    width, height = size
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height], [width / 2, height / 2]]) - 0.5
    depths = torch.from_numpy(2.0 / (1.0 / bounds).sum(axis=1)).float()
    poses, K = torch.from_numpy(cameras.world_T_camera[views]), torch.from_numpy(cameras.K(width, height)[views])
    points = [
        unproject(corners, depths[i].expand(5), K[i]) @ poses[i, :3, :3].T + poses[i, :3, 3]
        for i in np.flatnonzero(usable)
    ]
    return scene_normalisation(torch.cat(points), torch.linalg.inv(poses))


def _recognise(root: Path) -> str | None:
    try:
        others = (
            "images_bokeh",
            "inference_images",
            "images_test",
            "videos",
            "cam00.mp4",
            "background_mask",
        )
        if not (root / "poses_bounds.npy").is_file() or any((root / name).exists() for name in others):
            return None
        if any(root.glob("hold=*")) or any(root.glob("*.mp4")) or is_nvidia_pack(root):
            return None
        folders = [f.name for f in root.glob("images*") if f.is_dir()]
    except OSError:
        return None
    return "poses_bounds.npy beside images/" if folders else None


LAYOUT = Layout(
    command="llff-data",
    title="LLFF",
    expects="images/ (or images_n/), poses_bounds.npy; sparse/0 if there is one",
    get_it="the NeRF authors' LLFF archive, or LLFF's imgs2poses on your own images",
    config=LlffDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

llff_data = DataParserSpecification(
    config=LlffDataParserConfig(),
    description="Images in time order with LLFF's poses_bounds.npy; every 8th frame held out, or stereo pairs.",
)
