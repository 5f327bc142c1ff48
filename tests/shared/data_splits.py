"""Splits of a few images, and the datamanager of one, without any layout's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from dataparsers.clip import Clip, Frame, clip_views, dataparser_outputs
from dyngs_plugins.data import DynamicDataManager, DynamicDataManagerConfig
from dyngs_plugins.priors.normalise import IDENTITY
from dyngs_plugins.priors.views import Priors

WIDTH, HEIGHT = 40, 30
IMAGE_BYTES = WIDTH * HEIGHT * 3
"""Of one image, decoded."""


def outputs_of(files: list[Path], distortion=None, background=None, points=None, cameras=1) -> DataparserOutputs:
    """A split of these images as a layout with nothing but cameras gives it."""
    K = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40.0, HEIGHT / 2], [0, 0, 1]])
    frames = []
    for i, file in enumerate(files):
        pose = torch.eye(4)
        pose[0, 3] = 0.05 * i
        frames.append(Frame(file, pose, K, i // cameras, i % cameras, distortion=distortion))
    views = clip_views(frames, (WIDTH, HEIGHT), -(-len(files) // cameras), Priors(), background=background)
    return dataparser_outputs(Clip(views, views, "all", points=points), IDENTITY, "train")


def write_images(root: Path, count: int) -> list[Path]:
    generator = np.random.default_rng(0)
    files = [root / f"{i:03d}.png" for i in range(count)]
    for file in files:
        Image.fromarray(generator.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(file)
    return files


class Parser:
    """The dataparser of a split that is there already."""

    includes_time = True

    def __init__(self, outputs: DataparserOutputs):
        self.outputs = outputs

    def get_dataparser_outputs(self, split: str = "train") -> DataparserOutputs:
        return self.outputs


class ParserConfig:
    def __init__(self, outputs: DataparserOutputs):
        self.outputs, self.data = outputs, Path()

    def setup(self) -> Parser:
        return Parser(self.outputs)


def manager_of(outputs: DataparserOutputs, device: str = "cpu", **options) -> DynamicDataManager:
    config = DynamicDataManagerConfig(dataparser=ParserConfig(outputs), **options)  # type: ignore[arg-type]
    return DynamicDataManager(config, device=device)
