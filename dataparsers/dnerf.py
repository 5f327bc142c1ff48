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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import IMAGE_SUFFIXES, common_image_size
from dataparsers.clip import Clip, Frame, clip_views
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.resized import reduced_size, resized
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.files import check_poses, inside, optional_file
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
        _require_layout(root)
        splits = {"train": _read_split(root, "train"), tests: _read_split(root, tests)}
        for other in ("val", "test"):
            if other not in splits and _has_split(root, other):
                splits[other] = _read_split(root, other)
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


@dataclass(frozen=True)
class Entry:
    """One frame of a transforms file."""

    image: Path
    time: float
    world_T_camera: np.ndarray
    """4x4, OpenCV axes."""
    angle: float
    """Horizontal field of view in radians."""


def _require_layout(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a D-NeRF scene; pass its folder with --data.")
    if (root / "transforms_train.json").is_file():
        return
    below = sorted(p.parent.name for p in root.glob("*/transforms_train.json"))
    near = f"One level too high? Pass --data {root / below[0]}." if below else ""
    raise FileNotFoundError(
        f"{root / 'transforms_train.json'}: no such file. Expected transforms_train.json, transforms_test.json and "
        f"their images. {near}"
    )


def _has_split(root: Path, split: str) -> bool:
    """Whether a split that the protocol does not need is there. Its times count, so it must not get lost unseen."""
    path = root / f"transforms_{split}.json"
    if optional_file(path, "Blender transforms file"):
        return True
    if (root / split).is_dir():
        raise FileNotFoundError(f"{path}: no such file, but there is a folder {split}/ of its images. Expected both, for "
                                "times are counted over all splits. Restore the file, or remove the folder.")  # fmt: skip
    return False


def _read_split(root: Path, split: str) -> list[Entry]:
    path = root / f"transforms_{split}.json"
    content = read_json(path, "Blender transforms file")
    angle, listed = content.get("camera_angle_x"), content.get("frames")
    if isinstance(angle, bool) or not isinstance(angle, int | float) or not 0 < angle < math.pi:
        raise ValueError(
            f"{path}: camera_angle_x is {angle!r}; expected the horizontal field of view, 0 to pi radians."
        )
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: found no frames; expected a list 'frames' of at least one. Download it again.")
    entries = [_read_entry(root, path, i, frame, float(angle)) for i, frame in enumerate(listed)]
    twice = [image for image, count in Counter(entry.image for entry in entries).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} images are listed more than once; the first is {min(twice)}. Expected "
                         "every image once: remove the repeated frames.")  # fmt: skip
    check_poses(path, np.stack([entry.world_T_camera for entry in entries]), "frames")
    return entries


def _read_entry(root: Path, path: Path, index: int, frame: Any, angle: float) -> Entry:
    if not isinstance(frame, dict):
        raise ValueError(f"{path}: frame {index} is {frame!r}; expected an object with file_path, time and matrix.")
    time = frame.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < math.inf:
        raise ValueError(
            f"{path}: the time of frame {index} is {time!r}; expected a finite number. A static Blender scene has no "
            "times and is not this layout."
        )
    try:
        matrix = np.array(frame.get("transform_matrix"), np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4):
        raise ValueError(f"{path}: transform_matrix of frame {index} has shape {matrix.shape}; expected 4x4 numbers.")
    matrix[:, 1:3] *= -1.0  # OpenGL to OpenCV: y down, z forward
    return Entry(_image(root, path, index, frame.get("file_path")), float(time), matrix, angle)


def _image(root: Path, path: Path, index: int, name: Any) -> Path:
    """The file of ``./train/r_000``: the suffix is left out in the release, and present in files of some exporters."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path}: file_path of frame {index} is {name!r}; expected a name like ./train/r_000.")
    bare = inside(root, name, path)
    folder = bare.parent
    if bare.suffix.lower() in IMAGE_SUFFIXES and bare.is_file():
        return bare
    suffixes = [s for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
    found = [folder / f"{bare.name}{suffix}" for suffix in suffixes if (folder / f"{bare.name}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"{path}: frame {index} names {name!r}, which is {len(found)} files "
                         f"({', '.join(p.name for p in found)}). Expected one: remove the others.")  # fmt: skip
    if found:
        return found[0]
    holds = f"{folder} holds {len(list(folder.iterdir()))} files" if folder.is_dir() else f"there is no folder {folder}"
    raise FileNotFoundError(
        f"{folder / (bare.name + '.png')}: no such image, but frame {index} of {path.name} names it; {holds}. "
        "Download the scene again, or remove the frame."
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
