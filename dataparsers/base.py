"""What all dataparsers of clips share, and how a layout describes itself.

Leaf modules: nerfstudio finds dataparsers while its own datamanagers are half imported, so they may import nothing of
nerfstudio's but dataparsers, cameras and utilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs

from dataparsers.clip import Clip, dataparser_outputs
from dataparsers.protocols import Protocol, pick_protocol
from dyngs_plugins.config import GrowingConfig
from dyngs_plugins.priors.normalise import IDENTITY, SceneNormalisation, normalise_clip, scene_normalisation


@dataclass
class ClipDataParserConfig(GrowingConfig, DataParserConfig):
    """Options that every layout has."""

    _target: type = field(default_factory=lambda: ClipDataParser)
    data: Path = Path()
    """The scene's folder."""
    protocol: str = ""
    """Name of the split and evaluation protocol; empty takes the layout's first. A wrong name lists them all."""
    scene_normalisation: bool = True
    """Turn up onto +z, centre on the subject and scale it to about one unit; False keeps the files' frame."""


class ClipDataParser(DataParser):
    """Reads a clip once and gives every split the same scene frame. A layout implements :meth:`read`."""

    config: ClipDataParserConfig
    includes_time: bool = True

    def __init__(self, config: ClipDataParserConfig):
        super().__init__(config=config)
        self._parsed: tuple[Clip, SceneNormalisation] | None = None

    def read(self) -> Clip:
        """Every split of the clip in the world of its files."""
        raise NotImplementedError

    def scene_frame(self, clip: Clip) -> SceneNormalisation:
        """The scene frame, from training views and the files alone: stored, from points, or from known depth."""
        if not self.config.scene_normalisation:
            return IDENTITY
        if clip.stored_frame is not None:
            return clip.stored_frame
        if clip.points is not None and len(clip.points.xyz) > 0:
            return scene_normalisation(clip.points.xyz, clip.train.camera_T_world)
        return normalise_clip(clip.train, num_tracks=5000, seed=42)

    def parsed(self) -> tuple[Clip, SceneNormalisation]:
        """The clip in the world of its files, and its scene frame; read once."""
        if self._parsed is None:
            clip = self.read()
            self._parsed = clip, self.scene_frame(clip)
        return self._parsed

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        return dataparser_outputs(*self.parsed(), split)


@dataclass(frozen=True)
class Layout:
    """One on-disk layout, as data: how it is recognised, what it expects, and its protocols."""

    command: str
    """Name of its dataparser, e.g. ``d2rf-data``."""
    title: str
    """The dataset's name."""
    expects: str
    """The files that make up the layout, in one line."""
    get_it: str
    """Where people get such data, in words."""
    config: type[ClipDataParserConfig]
    protocols: tuple[Protocol, ...]
    """The first one is the default."""
    recognise: Callable[[Path], str | None]
    """Why a folder has this layout, in words, or None. Looks at names and small files only and never raises."""
    without_cameras: Mapping[str, Any] = field(default_factory=dict)
    """Options by which its loader opens a folder that lacks cameras, with made-up ones: to look at the rest."""

    def protocol(self, name: str) -> Protocol:
        """See :func:`pick_protocol`."""
        return pick_protocol(self.protocols, name)
