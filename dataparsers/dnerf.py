"""``dyn-dnerf-data``: D-NeRF's synthetic scenes, Blender transforms with a time for every image.

::

    ROOT/transforms_{train,val,test}.json    camera_angle_x; frames: file_path without suffix, time, transform_matrix
    ROOT/{train,val,test}/r_000.png ...      RGBA, straight alpha
    ROOT/{train,val,test}_{n}/               our copies at 1/n

``transform_matrix`` is camera-to-world with OpenGL axes. The host's own ``dnerf-data`` reads the same files without
protocols, and is left as it is. A leaf module: it imports nothing of nerfstudio's but dataparsers and utilities.

Source: Pumarola et al., "D-NeRF: Neural Radiance Fields for Dynamic Scenes" (2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import common_image_size
from dataparsers.clip import Clip, Frame, clip_views
from dataparsers.dnerf_files import Entry, has_split, read_split, require_layout
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.resized import reduced_size, resized
from dyngs_plugins.priors.views import ClipViews, Priors

_LEGO = "lego's test images show another motion than its training images; use it with a protocol that ends in -val"

PROTOCOLS = (
    Protocol(
        name="4dgs",
        trains="transforms_train.json",
        tests=f"transforms_test.json ({_LEGO})",
        source="4D Gaussian Splatting (Wu et al. 2024), code; Deformable 3D Gaussians, code",
        resolution="800x800",
        background="white",
        lpips="vgg",
    ),
    Protocol(
        name="4dgs-val",
        trains="transforms_train.json",
        tests="transforms_val.json (what is fair for lego)",
        source="Deformable 3D Gaussians (Yang et al. 2024), README on lego",
        resolution="800x800",
        background="white",
        lpips="vgg",
    ),
    Protocol(
        name="black-800",
        trains="transforms_train.json",
        tests=f"transforms_test.json ({_LEGO})",
        source="third-party benchmarks at full size on black",
        resolution="800x800",
        background="black",
        lpips="vgg",
    ),
    Protocol(
        name="half-black",
        trains="transforms_train.json",
        tests=f"transforms_test.json ({_LEGO})",
        source="Real-time 4D Gaussian Splatting (Yang et al. 2024), code; SC-GS (Huang et al. 2024)",
        resolution="400x400 (areas averaged)",
        background="black",
        lpips="vgg",
    ),
    Protocol(
        name="half-black-val",
        trains="transforms_train.json",
        tests="transforms_val.json (what RT-4DGS does for lego)",
        source="Real-time 4D Gaussian Splatting (Yang et al. 2024), code",
        resolution="400x400 (areas averaged)",
        background="black",
        lpips="vgg",
    ),
    Protocol(
        name="half-white",
        trains="transforms_train.json",
        tests=f"transforms_test.json ({_LEGO})",
        source="D-NeRF (Pumarola et al. 2021), half_res and white_bkgd",
        resolution="400x400 (areas averaged)",
        background="white",
        lpips="alex",
    ),
)


@dataclass
class DynDNerfDataParserConfig(ClipDataParserConfig):
    """D-NeRF's synthetic scenes: Blender transforms with times."""

    _target: type = field(default_factory=lambda: DynDNerfDataParser)
    downscale_factor: int | None = None
    """Train on images at 1/n, made once in train_n/ and so on. None: 2 for the protocols of half size, else 1."""
    background: Literal["white", "black"] | None = None
    """What alpha is composited over. None: the protocol's."""
    scene_normalisation: bool = False
    """Off, unlike in other layouts: the object is at the origin in units that every method's settings for these
    scenes assume (random points in a cube of half-width 1.3, near 2, far 6), so nothing is turned, centred or
    scaled."""


class DynDNerfDataParser(ClipDataParser):
    """Reads the three transform files; one map of time for all of them."""

    config: DynDNerfDataParserConfig

    def read(self) -> Clip:
        """Every split in the files' frame. There is no point cloud: methods start from random points.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        tests = "val" if protocol.name.endswith("-val") else "test"
        require_layout(root)
        splits = {"train": read_split(root, "train"), tests: read_split(root, tests)}
        for other in ("val", "test"):
            if other not in splits and has_split(root, other):
                splits[other] = read_split(root, other)
        times, num_frames = _times(splits)
        _require_disjoint(root, splits)
        factor = config.downscale_factor or (2 if protocol.name.startswith("half") else 1)
        background = config.background or protocol.background
        views = {
            name: _views(root, name, entries, times, num_frames, factor, background) for name, entries in splits.items()
        }
        return Clip(
            views["train"], views[tests], protocol, validation=views[tests] if tests == "val" else views.get("val")
        )


def _times(splits: Mapping[str, Sequence[Entry]]) -> tuple[dict[float, tuple[int, float]], int]:
    """For every time of the files its integer step and its place in [0, 1], over all splits together.

    Times that differ by less than a millionth of their range are one time: writers round to different digits.
    """
    values = sorted({entry.time for entries in splits.values() for entry in entries})
    first, span = values[0], values[-1] - values[0]
    if span <= 0:
        raise ValueError(
            f"All {sum(map(len, splits.values()))} images of transforms_*.json have the time {first:g}; expected times "
            "that run from 0 to 1. This is a static scene, or its times were lost when the files were written."
        )
    table: dict[float, tuple[int, float]] = {}
    step, start = -1, -math.inf
    for value in values:
        if value - start > 1e-6 * span:
            step, start = step + 1, value
        table[value] = step, (start - first) / span
    return table, step + 1


def _require_disjoint(root: Path, splits: Mapping[str, Sequence[Entry]]) -> None:
    train = {entry.image.resolve() for entry in splits["train"]}
    for name, entries in splits.items():
        shared = train & {entry.image.resolve() for entry in entries} if name != "train" else set()
        if shared:
            raise ValueError(
                f"{root / f'transforms_{name}.json'}: {len(shared)} of its images are training images; the first is "
                f"{min(shared)}. Numbers on them would mean nothing. Correct the file_path entries."
            )


def _views(
    root: Path,
    split: str,
    entries: Sequence[Entry],
    times: Mapping[float, tuple[int, float]],
    num_frames: int,
    factor: int,
    background: Literal["white", "black"] | None,
) -> ClipViews:
    files: Sequence[Path] = [entry.image for entry in entries]
    size = common_image_size(files)
    if factor != 1:
        small = reduced_size(size, factor)
        files, size = resized(files, root / f"{split}_{factor}", small), small
    frames = []
    for file, entry in zip(files, entries, strict=True):
        focal = 0.5 * size[0] / math.tan(0.5 * entry.angle)
        K = torch.tensor([[focal, 0.0, size[0] / 2], [0.0, focal, size[1] / 2], [0.0, 0.0, 1.0]])
        step, time = times[entry.time]
        frames.append(Frame(file, torch.from_numpy(entry.world_T_camera), K, step, time=time))
    return clip_views(frames, size, num_frames, Priors(), background=background)


def _recognise(root: Path) -> str | None:
    if not (root / "transforms_train.json").is_file() or not (root / "transforms_test.json").is_file():
        return None
    try:
        with open(root / "transforms_train.json", encoding="utf-8") as file:
            start = file.read(4096)
    except (OSError, UnicodeDecodeError):
        return None
    return "transforms_train.json whose frames have a time" if '"time"' in start else None


LAYOUT = Layout(
    command="dyn-dnerf-data",
    title="D-NeRF",
    expects="transforms_{train,val,test}.json with a time per frame, RGBA images",
    get_it="the D-NeRF project's data archive (eight synthetic scenes)",
    config=DynDNerfDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

dyn_dnerf_data = DataParserSpecification(
    config=DynDNerfDataParserConfig(),
    description="D-NeRF's synthetic scenes: Blender transforms with times, RGBA images, published protocols.",
)
