"""What loaders of ``poses_bounds.npy`` share: the LLFF frame as an option, and bounds in the metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from dataparsers.base import ClipDataParser, ClipDataParserConfig
from dataparsers.clip import pick_split
from dataparsers.llff_frame import faces_forward, llff_frame
from dyngs_plugins.priors.llff_files import LlffCameras
from dyngs_plugins.priors.normalise import SceneNormalisation


@dataclass
class BoundedDataParserConfig(ClipDataParserConfig):
    """Options of layouts whose files give near and far bounds."""

    _target: type = field(default_factory=lambda: BoundedDataParser)
    llff_frame: bool = False
    """Take nerf-pytorch's scene frame instead of this package's: what the next four options say."""
    bd_factor: float | None = 0.75
    """In the LLFF frame: the nearest bound lies at 1 / this; None leaves the units."""
    recenter: bool = True
    """In the LLFF frame: the average camera at the origin."""
    spherify: bool = False
    """In the LLFF frame, for captures around an object: its centre at the origin, cameras at RMS distance 1."""
    bounds_percentile: float = 0.0
    """In the LLFF frame: which percentile of the near bounds counts as the nearest."""


class BoundedDataParser(ClipDataParser):
    """A loader whose :meth:`read` tells :meth:`know_bounds` what ``poses_bounds.npy`` says."""

    config: BoundedDataParserConfig
    _bounds: Mapping[Path, np.ndarray] | None = None
    _nearest: np.ndarray | None = None
    _forward: bool = False

    def check_frame_options(self) -> None:
        """Raise for options that contradict each other."""
        config = self.config
        if config.spherify and not config.llff_frame:
            raise ValueError("spherify is on, but llff_frame is off; expected both: spherify is a part of that frame.")
        if config.llff_frame and not config.scene_normalisation:
            raise ValueError(
                "llff_frame is on, but scene_normalisation is off, which keeps the files' frame. Choose one."
            )

    def know_bounds(
        self, cameras: LlffCameras, images: Mapping[Path, int], size: tuple[int, int], train: Sequence[int]
    ) -> SceneNormalisation | None:
        """Remember the bounds, and give the scene frame if the options ask for LLFF's.

        Args:
            images: the row of every image.
            train: the rows that train.

        Raises:
            ValueError: images of another shape than the cameras', or cameras without an LLFF frame.
        """
        config = self.config
        self._bounds = {image: cameras.bounds[row] for image, row in images.items()}
        # The LLFF frame is made from all rows, as published; this package's from those that train.
        self._nearest = cameras.bounds if config.llff_frame else cameras.bounds[list(train)]
        if not config.llff_frame:
            return None
        frame = llff_frame(cameras, config.bd_factor, config.recenter, config.spherify, config.bounds_percentile)
        if not config.spherify and config.recenter and config.bd_factor is not None:
            poses = frame.normalised_T_world.double().numpy() @ cameras.world_T_camera
            poses[:, :3, 3] /= frame.scale
            opengl = poses @ np.diag([1.0, -1.0, -1.0, 1.0])
            self._forward = faces_forward(opengl, cameras.K(*size), size, cameras.bounds[:, 0] / frame.scale)
        return frame

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        """Adds to the metadata, all in scene units: ``bounds`` [n, 2] of the split's images, ``near`` and ``far`` of
        the scene, and ``ndc_scale`` (2 fx / width, 2 fy / height) where rays may be taken to device coordinates."""
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        clip, frame = self.parsed()
        if self._bounds is None or self._nearest is None:
            return outputs
        views = pick_split(clip, split)
        stored = np.stack([self._bounds[path] for path in views.image_files])
        outputs.metadata["bounds"] = torch.from_numpy(stored).float() / frame.scale
        if bool((np.isfinite(self._nearest) & (self._nearest > 0)).all()):
            outputs.metadata["near"] = 0.9 * float(self._nearest.min()) / frame.scale
            outputs.metadata["far"] = float(self._nearest.max()) / frame.scale
        if self._forward:
            K, width, height = clip.train.K[0], clip.train.width, clip.train.height
            outputs.metadata["ndc_scale"] = (2.0 * float(K[0, 0]) / width, 2.0 * float(K[1, 1]) / height)
        return outputs
