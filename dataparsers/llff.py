"""``llff-data``: images in time order with ``poses_bounds.npy``, and nothing else.

A leaf module: nerfstudio finds it while its own datamanagers are half imported, so it may import nothing of
nerfstudio's but dataparsers, cameras and utilities.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image

from dataparsers.checks import common_image_size, image_files, require_images
from dataparsers.clip import Clip, Frame, clip_views, dataparser_outputs, hold_out
from dyngs_plugins.priors.lifting import unproject
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds
from dyngs_plugins.priors.normalise import IDENTITY, SceneNormalisation, scene_normalisation
from dyngs_plugins.priors.som_files import write_image
from dyngs_plugins.priors.views import Priors


@dataclass
class LlffDataParserConfig(DataParserConfig):
    """A video as LLFF lays it out: ``images/`` and ``poses_bounds.npy``. The order of the names is the time."""

    _target: type = field(default_factory=lambda: LlffDataParser)
    data: Path = Path()
    """The folder that holds images/ and poses_bounds.npy."""
    downscale_factor: int | None = None
    """Train on images at 1/n: those of images_n/, which is made if it is not there. None reads images/."""
    eval_interval: int = 8
    """Hold out every n-th frame; 0 holds out none."""
    eval_offset: int | None = None
    """First held-out frame. None starts half an interval in and never holds out the clip's ends; 0 is LLFF's rule."""
    scene_normalisation: bool = True
    """Turn up onto +z, centre on what the cameras look at and scale it to about one unit; False keeps the files'
    frame."""
    fps: float | None = None
    """Frames per second of the video, if known."""


@dataclass
class LlffDataParser(DataParser):
    """Reads a folder once and gives both splits the same scene frame."""

    config: LlffDataParserConfig
    includes_time: bool = True

    def __init__(self, config: LlffDataParserConfig):
        super().__init__(config=config)
        self._parsed: tuple[Clip, SceneNormalisation] | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        if self._parsed is None:
            self._parsed = self._read()
        return dataparser_outputs(*self._parsed, split)

    def _read(self) -> tuple[Clip, SceneNormalisation]:
        root, config = Path(self.config.data), self.config
        full = require_images(root / "images", "llff-data reads images/ and poses_bounds.npy of the folder in --data.")
        cameras = read_poses_bounds(root / "poses_bounds.npy", len(full))
        images = reduced_images(root, full, int(config.downscale_factor or 1))
        size = common_image_size(images)
        poses, K = torch.from_numpy(cameras.world_T_camera), torch.from_numpy(cameras.K(*size))
        frames = [Frame(image, poses[i], K[i], i) for i, image in enumerate(images)]
        held, protocol = hold_out(len(frames), config.eval_interval, config.eval_offset)
        train = clip_views([f for f in frames if f.frame not in held], size, len(frames), Priors())
        evaluation = clip_views([f for f in frames if f.frame in held] or frames, size, len(frames), Priors())
        if not config.scene_normalisation:
            return Clip(train, evaluation, protocol, fps=config.fps), IDENTITY
        kept = [i for i in range(len(frames)) if i not in held]
        frame = frame_of_bounds(cameras, size, kept)
        return Clip(train, evaluation, protocol, fps=config.fps), frame


def reduced_images(root: Path, full: list[Path], factor: int) -> list[Path]:
    """The images of ``images_{factor}/``; those that are missing are made by averaging areas, none is overwritten.

    Raises:
        ValueError, OSError: the factor makes no sense, the folder holds other images, or cannot be written.
    """
    if factor == 1:
        return full
    if factor < 1:
        raise ValueError(f"downscale_factor is {factor}; expected a whole number of at least 1.")
    folder = root / f"images_{factor}"
    present = {path.stem: path for path in image_files(folder)} if folder.is_dir() else {}
    unknown = sorted(set(present) - {path.stem for path in full})
    if unknown:
        raise ValueError(
            f"{folder}: {len(unknown)} images have no counterpart in images/; the first is {unknown[0]!r}. Remove "
            "them, or delete the folder to have it made anew."
        )
    missing = [path for path in full if path.stem not in present]
    if missing:
        CONSOLE.print(f"Making {len(missing)} images at 1/{factor} in {folder}")
    for path in missing:
        with Image.open(path) as image:
            size = max(1, round(image.width / factor)), max(1, round(image.height / factor))
            small = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))
        present[path.stem] = folder / f"{path.stem}.png"
        try:
            write_image(present[path.stem], small)
        except OSError as error:
            raise OSError(f"{folder}: cannot be written ({error}). Copy the clip to a folder of your own, or leave out "
                          "--pipeline.datamanager.dataparser.downscale-factor.") from error  # fmt: skip
    return [present[path.stem] for path in full]


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


llff_data = DataParserSpecification(
    config=LlffDataParserConfig(),
    description="Images in time order with LLFF's poses_bounds.npy; every 8th frame held out.",
)
