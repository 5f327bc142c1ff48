"""``marbles-data``: Gaussian Marbles' repack of NVIDIA, DyCheck and real-world scenes in Nerfies' manner.

::

    ROOT/rgb/1x/C_XXXXX.png            camera C at time XXXXX
    ROOT/camera/C_XXXXX.json           Nerfies' cameras
    ROOT/splits/{train,val}.json       ids (or frame_names): the whole split is said here
    ROOT/depth/1x/C_XXXXX.npy          z-depth in the units of the cameras, 0 = unknown; training frames only
    ROOT/segmentation/1x/C_XXXXX.npy   labels: 0 background, 1 ... instances
    ROOT/tracks/1x/track_XXXXX.npy     (frames, points, 3): x, y, visibility of the points of frame XXXXX
    ROOT/covisible/2x/val/*.png, scene.json, dataset.json                                      (optional)

Images are used at half size; what is not there at that size is made once, in rgb/2x, depth/2x and so on. In NVIDIA's
scenes one camera that stands still trains (4) and its neighbours test (3, 5, 6): far harder than 12 cameras in turn,
and never to be compared with it. The authors' mode without poses is not a protocol here. A leaf module.

Source: Stearns et al., "Dynamic Gaussian Marbles for Novel View Synthesis of Casual Monocular Videos" (2024).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import check_maps, common_image_size, companions, image_files, image_size
from dataparsers.clip import Clip, Frame, clip_views
from dataparsers.nerfies_files import capture_frame, capture_images, scene_json_frame
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.resized import reduced_size, resized
from dataparsers.resized_maps import label_images, reduced_depths
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.marbles_tracks import MarblesTrackFiles, check_marbles_tracks
from dyngs_plugins.priors.views import Priors

_SOURCE = "Dynamic Gaussian Marbles (Stearns et al. 2024), code"
_COVISIBLE = "those of covisible/"
PROTOCOLS = (
    Protocol(
        name="splits",
        trains="what splits/train.json names",
        tests="what splits/val.json names",
        source=_SOURCE,
        resolution="1/2",
        mask=f"{_COVISIBLE} where there are such masks, else all",
    ),
    Protocol(
        name="nvidia-fixed",
        trains="one camera that stands still (4), as splits/train.json says",
        tests="its neighbours (3, 5, 6), as splits/val.json says",
        source=f"{_SOURCE}, NVIDIA",
        resolution="1/2",
    ),
    Protocol(
        name="dycheck",
        trains="the camera in the hand, as splits/train.json says",
        tests="the still cameras, as splits/val.json says",
        source=f"{_SOURCE}, DyCheck iPhone with poses",
        resolution="1/2 (360x480)",
        mask=_COVISIBLE,
    ),
)


@dataclass
class MarblesDataParserConfig(ClipDataParserConfig):
    """Gaussian Marbles' repack: images, Nerfies' cameras, depth, instances, tracks."""

    _target: type = field(default_factory=lambda: MarblesDataParser)
    downscale_factor: int | None = None
    """Train and test at 1/n. None: 2, as published."""
    scene_json_frame: bool = False
    """Use the frame of scene.json, (p - center) * scale, in which the authors' thresholds hold (median depth of 4 to
    5), in place of one that is upright and about one unit large."""


@dataclass(frozen=True)
class Shots:
    """The frames of a split file, as parallel lists."""

    names: tuple[str, ...]
    cameras: tuple[int, ...]
    times: tuple[int, ...]


class MarblesDataParser(ClipDataParser):
    """Reads the two split files and finds the files of each frame."""

    config: MarblesDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the camera files.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        factor = 2 if config.downscale_factor is None else config.downscale_factor
        train, val = read_shots(root, "train"), read_shots(root, "val")
        shared = sorted(set(train.names) & set(val.names))
        if shared:
            raise ValueError(
                f"{root / 'splits' / 'val.json'}: {len(shared)} frames are in train.json too; the first is "
                f"{shared[0]!r}. Numbers on them would mean nothing. Remove them from one of the two."
            )
        first = min(train.times + val.times)
        num_frames = max(train.times + val.times) - first + 1
        images = _images(root, train.names + val.names, factor)
        size, full = common_image_size(list(images.values())), _full_size(root, images, factor)

        def frames(shots: Shots) -> list[Frame]:
            listed = zip(shots.names, shots.times, shots.cameras, strict=True)
            return [capture_frame(root, images[n], size, factor, time - first, camera) for n, time, camera in listed]

        train_frames, val_frames = frames(train), frames(val)
        if protocol.name == "nvidia-fixed":
            _require_still(root, train_frames)
        covisible = _covisible(root, val_frames, size, required=protocol.name == "dycheck")
        if factor != 2:
            protocol = replace(protocol, resolution=f"1/{factor}, where the protocol says 1/2")
        return Clip(
            train=clip_views(train_frames, size, num_frames, _priors(root, train, train_frames, size, full, factor)),
            evaluation=clip_views(val_frames, size, num_frames, Priors(covisible_files=covisible)),
            protocol=protocol,
            stored_frame=scene_json_frame(root, required=True) if config.scene_json_frame else None,
        )


def read_shots(root: Path, split: str) -> Shots:
    """Read ``splits/{split}.json``. Camera and time are those of the names, unless lists beside them say others.

    Raises:
        FileNotFoundError, ValueError: missing, no names, names of another form or twice, or lists of other lengths.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a scene in Marbles' layout; pass it with --data.")
    path = root / "splits" / f"{split}.json"
    content = read_json(path, "split")
    names = content.get("ids", content.get("frame_names"))
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path}: found no frames; expected a list ids (or frame_names) of at least one. It has "
                         f"{sorted(content)}.")  # fmt: skip
    matches = [_NAME.match(name) if isinstance(name, str) else None for name in names]
    for name, match in zip(names, matches, strict=True):
        if match is None:
            raise ValueError(f"{path}: {name!r} is not CAMERA_TIME. Expected names like 4_00012, as in rgb/1x.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: {twice!r} is listed more than once. Expected every frame once.")
    numbers = [(int(match[1]), int(match[2])) for match in matches if match]
    lists = []
    for place, key in enumerate(("camera_ids", "time_ids")):
        values = content.get(key)
        if values is not None and not (
            isinstance(values, list) and len(values) == len(names) and all(type(v) is int for v in values)
        ):
            raise ValueError(f"{path}: {key} is not a list of {len(names)} whole numbers, one per frame. Correct it, or "
                             "remove it: the names say camera and time.")  # fmt: skip
        lists.append(tuple(values or (pair[place] for pair in numbers)))
    if len(set(zip(*lists, strict=True))) < len(names):
        raise ValueError(f"{path}: two frames are the same camera at the same time. Expected every pair once.")
    return Shots(tuple(names), *lists)


def _images(root: Path, names: Sequence[str], factor: int) -> dict[str, Path]:
    """The image of every name at 1/factor: of the folder rgb/{factor}x, or made from rgb/1x."""
    stored, full = root / "rgb" / f"{factor}x", root / "rgb" / "1x"
    present = {path.stem for path in image_files(stored)} if stored.is_dir() else set()
    if stored.is_dir() and (set(names) <= present or not full.is_dir()):
        return capture_images(stored, names, "splits/")
    if not full.is_dir():
        raise FileNotFoundError(f"{full}: no such folder. Expected the images C_XXXXX.png of the splits there.")
    originals = list(capture_images(full, names, "splits/").values())
    size = reduced_size(common_image_size(originals), factor)
    return dict(zip(names, resized(originals, stored, size), strict=True))


def _full_size(root: Path, images: dict[str, Path], factor: int) -> tuple[float, float]:
    """Width and height at 1x, in which tracks count their pixels."""
    name, image = next(iter(images.items()))
    full = root / "rgb" / "1x"
    if full.is_dir():
        return image_size(next(iter(capture_images(full, [name], "splits/").values())))
    width, height = image_size(image)
    return width * factor, height * factor


def _require_still(root: Path, frames: Sequence[Frame]) -> None:
    poses = torch.stack([frame.world_T_camera for frame in frames])
    moved = (poses - poses[0]).abs().amax(dim=(1, 2))
    cameras = sorted({frame.camera for frame in frames})
    if len(cameras) > 1 or float(moved.max()) > 1e-3:
        raise ValueError(
            f"{root / 'splits' / 'train.json'}: the protocol nvidia-fixed trains on one camera that stands still; found "
            f"the cameras {cameras}, of which {frames[int(moved.argmax())].name} is moved by {float(moved.max()):.3g}. "
            "Choose --protocol splits or dycheck."
        )


def _priors(
    root: Path, shots: Shots, frames: Sequence[Frame], size: tuple[int, int], full: tuple[float, float], factor: int
) -> Priors:
    """What the repack has for training frames, at the size in use. A kind without a folder does not exist."""
    images, where = [frame.image for frame in frames], f"{factor}x"
    depths = masks = tracks = None
    exact = (root / "rgb" / "1x").is_dir()
    folder = root / "depth" / "1x" if (root / "depth" / "1x").is_dir() else root / "depth" / where
    if folder.is_dir():
        files = companions(images, folder, ".npy", "depth map")
        depths = reduced_depths(files, root / "depth" / where, size, full, exact)
        check_maps(depths, size, "depth")
    folder = root / "segmentation" / "1x"
    if folder.is_dir():
        labels = companions(images, folder, ".npy", "label map")
        masks = label_images(labels, root / "segmentation" / f"{where}_png", size, full, exact)
    folder = root / "tracks" / "1x"
    if folder.is_dir():
        files = [folder / f"track_{_time_of(name)}.npy" for name in shots.names]
        scale = size[0] / full[0], size[1] / full[1]
        tracks = MarblesTrackFiles(files, check_marbles_tracks(files, shots.times), scale)
    return Priors(
        depth_files=depths, mask_files=masks, depth_kind="depth", depth_median=1, mask_erosion=3, tracks=tracks
    )


def _covisible(
    root: Path, frames: Sequence[Frame], size: tuple[int, int], required: bool
) -> tuple[Path | None, ...] | None:
    """The masks of validation frames, at the size in use."""
    folder = root / "covisible" / "2x" / "val"
    if not folder.is_dir():
        if required:
            raise FileNotFoundError(f"{folder}: no such folder. Expected the co-visibility masks of DyCheck, within "
                                    "which the protocol dycheck counts pixels. Choose --protocol splits.")  # fmt: skip
        return None
    files = companions([frame.image for frame in frames], folder, ".png", "co-visibility mask")
    common_image_size(files)
    return resized(files, root / "covisible" / f"{size[0]}x{size[1]}" / "val", size, "mask")


_NAME = re.compile(r"^(\d+)_(\d+)$")


def _time_of(name: str) -> str:
    return name.split("_")[1]


def _recognise(root: Path) -> str | None:
    if not ((root / "splits" / "train.json").is_file() and (root / "camera").is_dir() and (root / "rgb").is_dir()):
        return None
    if (root / "flow3d_preprocessed").is_dir():
        return None
    kinds = [kind for kind in ("segmentation", "tracks") if (root / kind / "1x").is_dir()]
    return f"splits/train.json, camera/, rgb/ and {'/, '.join(kinds)}/: Gaussian Marbles' repack" if kinds else None


LAYOUT = Layout(
    command="marbles-data",
    title="Gaussian Marbles",
    expects="rgb/1x, camera/*.json, splits/*.json; depth/1x, segmentation/1x, tracks/1x, covisible/2x/val if there",
    get_it="the Dynamic Gaussian Marbles project (NVIDIA with one still camera, DyCheck, real-world clips)",
    config=MarblesDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

marbles_data = DataParserSpecification(
    config=MarblesDataParserConfig(),
    description="Gaussian Marbles' repack: a still or hand-held camera, Nerfies' cameras, depth, instances, tracks.",
)
