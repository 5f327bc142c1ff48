"""``dycheck-iphone-data``: DyCheck's iPhone captures as they are released, LiDAR depth and co-visibility included.

::

    ROOT/rgb/{s}x/NAME.png, camera/NAME.json        images (alpha says which pixels count) and cameras
    ROOT/splits/{train,val}.json                    frame_names, camera_ids, time_ids; for HyperNeRF's captures, which
                                                    DyCheck splits anew, {train_mono,train_intl,val_common}.json
    ROOT/scene.json, extra.json, points.npy         centre and scale; fps; points       (optional)
    ROOT/depth/{s}x/NAME.npy                        z-depth in the cameras' units, 0 = unknown
    ROOT/covisible/{s}x/val/NAME.png                pixels that enough training frames see
    ROOT/keypoint/2x/train/NAME.json                points that people marked

Names are ``CAMERA_FRAME``: camera 0 is held in the hand and trains, the others stand still and validate. With Shape of
Motion's preprocessing beside it, the same capture opens with ``som-data``. The host's ``dycheck-data`` reads such
captures too, for rays, without masks or protocols. Source: Gao et al., "Monocular Dynamic View Synthesis: A Reality
Check" (2022), whose depth is that of the z axis: its own loader turns it into distances along rays, which is not done.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import check_maps, check_masks, common_image_size, companions
from dataparsers.clip import Clip, Frame, clip_views, hold_out
from dataparsers.nerfies_files import capture_frame, capture_images, pick_rate, scene_json_frame
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.seed_points import npy_points
from dataparsers.som_iphone import SplitFrames, read_keypoints, read_split
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.files import optional_file, whole
from dyngs_plugins.priors.views import Priors

COVISIBLE = "those that at least max(5, a tenth of) the training frames see (covisible/)"
_SOURCE = "DyCheck (Gao et al. 2022), code"

PROTOCOLS = (
    Protocol(
        name="dycheck",
        trains="camera 0 (in the hand)",
        tests="cameras 1 and 2 (still) at times that train; held-out frames where a capture has no such cameras",
        source=_SOURCE,
        resolution="2x (360x480)",
        mask=COVISIBLE,
    ),
    Protocol(
        name="held-out-frames",
        trains="camera 0 but for the held-out frames",
        tests="every 8th frame of camera 0, never the first or last",
        source="ours, for the captures with a single camera",
        resolution="2x (360x480)",
    ),
    Protocol(
        name="hypernerf-mono",
        trains="train_mono.json: one camera of a HyperNeRF capture",
        tests="val_common.json, shared with hypernerf-intl",
        source=_SOURCE,
        resolution="as extra.json says",
        mask=COVISIBLE,
    ),
    Protocol(
        name="hypernerf-intl",
        trains="train_intl.json: cameras of a HyperNeRF capture in turn, which teleports",
        tests="val_common.json, shared with hypernerf-mono",
        source=_SOURCE,
        resolution="as extra.json says",
        mask=COVISIBLE,
    ),
)
_SPLITS = {
    "dycheck": ("train", "val"),
    "held-out-frames": ("train", "val"),
    "hypernerf-mono": ("train_mono", "val_common"),
    "hypernerf-intl": ("train_intl", "val_common"),
}
"""Files in splits/ by protocol."""


@dataclass
class DycheckDataParserConfig(ClipDataParserConfig):
    """DyCheck's iPhone captures without any preprocessing."""

    _target: type = field(default_factory=lambda: DycheckDataParser)
    downscale_factor: int | None = None
    """Read the images of rgb/{n}x. None: the factor of extra.json (2x, as published), or the nearest that is there, with
    a warning."""
    eval_interval: int = 8
    """Hold out every n-th frame where no camera validates."""
    scene_json_frame: bool = False
    """Use the frame of scene.json, (p - center) * scale, in place of one that is upright and about one unit large."""


class DycheckDataParser(ClipDataParser):
    """Reads the splits of a capture and finds the files of each frame."""

    config: DycheckDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the files.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        files = _SPLITS[protocol.name]
        train, val = read_splits(root, *files)
        if protocol.name == "held-out-frames":
            val = SplitFrames((), (), ())
        record = _record(root)
        wanted = 2 if files[0] == "train" else int(record.get("factor") or 2)
        factor = pick_rate(root, config.downscale_factor, wanted)
        if factor != wanted:
            protocol = replace(protocol, resolution=f"{factor}x, where the protocol says {wanted}x")
        names = train.names + val.names
        images = capture_images(root / "rgb" / f"{factor}x", names, "splits/")
        size = common_image_size(list(images.values()))
        first, count = _clock(train, val)

        def frames(split: SplitFrames) -> list[Frame]:
            listed = zip(split.names, split.time_ids, split.camera_ids, strict=True)
            return [capture_frame(root, images[n], size, factor, t - first, camera) for n, t, camera in listed]

        train_frames, test_frames = frames(train), frames(val)
        seen = _covisible(root / "covisible" / f"{factor}x" / files[1], test_frames, size) if test_frames else None
        if not test_frames:
            train_frames, test_frames, protocol = self._held_out(train_frames, protocol)
        if seen is None:
            protocol = replace(protocol, mask=None)
        points = npy_points(root / "points.npy") if optional_file(root / "points.npy", "point cloud") else None
        return Clip(
            train=clip_views(train_frames, size, count, _priors(root, factor, train_frames, size, required=True)),
            evaluation=clip_views(
                test_frames, size, count,
                replace(_priors(root, factor, test_frames, size, required=False), covisible_files=seen),
            ),
            protocol=protocol,
            points=points,
            stored_frame=scene_json_frame(root, required=True) if config.scene_json_frame else None,
            fps=record.get("fps"),
            extra={"keypoints": read_keypoints(root, train_frames, factor)},
        )  # fmt: skip

    def _held_out(self, frames: list[Frame], protocol: Protocol) -> tuple[list[Frame], list[Frame], Protocol]:
        """Camera 0 with some of its frames held out."""
        steps = sorted({frame.frame for frame in frames})
        held, words = hold_out(len(steps), self.config.eval_interval, None)
        if not held:
            raise ValueError(
                f"{Path(self.config.data) / 'splits'}: there are no validation cameras, and with eval_interval "
                f"{self.config.eval_interval} none of {len(steps)} training frames can be held out. Expected val.json, "
                "or at least 3 frames and an interval of at least 2."
            )
        chosen = {steps[i] for i in held}
        protocol = replace(protocol, trains="camera 0 but for the held-out frames", tests=words, mask=None)
        return [f for f in frames if f.frame not in chosen], [f for f in frames if f.frame in chosen], protocol


def read_splits(root: Path, train_file: str = "train", val_file: str = "val") -> tuple[SplitFrames, SplitFrames]:
    """Two of the files of ``splits/``; the second is empty where there is no ``val.json``.

    Raises:
        FileNotFoundError, ValueError: missing, lists of different length, names twice or in both splits, no training
            frame, or not names and whole numbers.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a DyCheck capture; pass its folder with --data.")
    train = read_split(root, train_file)
    optional = val_file == "val" and not optional_file(root / "splits" / "val.json", "split")
    val = SplitFrames((), (), ()) if optional else read_split(root, val_file)
    if not train.names:
        raise ValueError(f"{root / 'splits' / f'{train_file}.json'}: found 0 frames, expected at least one.")
    shared = sorted(set(train.names) & set(val.names))
    if shared:
        raise ValueError(
            f"{root / 'splits' / f'{val_file}.json'}: {len(shared)} frames are in {train_file}.json too; the first is "
            f"{shared[0]!r}. "
            "Numbers on them would mean nothing. Remove them from one of the two."
        )
    return train, val


def _clock(*splits: SplitFrames) -> tuple[int, int]:
    """The first time and the number of time steps over some splits."""
    times = [time for split in splits for time in split.time_ids]
    return min(times), max(times) - min(times) + 1


def _priors(root: Path, factor: int, frames: Sequence[Frame], size: tuple[int, int], required: bool) -> Priors:
    """LiDAR depth and alpha.

    Args:
        required: every frame must have a depth map if there is any folder of them. Of validation frames few have one.
    """
    folder = root / "depth" / f"{factor}x"
    images = [frame.image for frame in frames]
    files: tuple[Path | None, ...] | None = None
    if folder.is_dir() and required:
        files = companions(images, folder, ".npy", "LiDAR depth map")
    elif folder.is_dir():
        candidates = [folder / f"{frame.name}.npy" for frame in frames]
        files = tuple(path if path.is_file() else None for path in candidates)
    check_maps([path for path in files or () if path], size, "depth")
    return Priors(
        depth_files=files if files and any(files) else None,
        depth_kind="depth",
        depth_median=1,
        valid_files=tuple(images),
        providers={"depth": "LiDAR"} if files and any(files) else {},
    )


def _covisible(folder: Path, frames: Sequence[Frame], size: tuple[int, int]) -> tuple[Path, ...] | None:
    """The masks that published numbers are taken within; None, with a warning, where there are none."""
    if not folder.is_dir():
        warnings.warn(f"{folder}: no such folder. Validation counts all pixels, and its numbers do not compare with "
                      "published ones, which count co-visible pixels only.", stacklevel=2)  # fmt: skip
        return None
    files = companions([frame.image for frame in frames], folder, ".png", "co-visibility mask")
    check_masks(files, size)
    return files


def _record(root: Path) -> dict[str, Any]:
    """``extra.json``: fps and factor."""
    path = root / "extra.json"
    record = read_json(path, "capture record") if optional_file(path, "capture record") else {}
    fps, factor = record.get("fps"), record.get("factor")
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf):
        raise ValueError(f"{path}: fps is {fps!r}; expected a positive number of frames per second, or none.")
    if factor is not None and not whole(factor, least=1):
        raise ValueError(f"{path}: factor is {factor!r}; expected a positive whole number, or none.")
    return {"fps": None if fps is None else float(fps), "factor": factor}


def _recognise(root: Path) -> str | None:
    splits = [name for name in ("train", "train_mono", "train_intl") if (root / "splits" / f"{name}.json").is_file()]
    if not (splits and (root / "camera").is_dir() and (root / "rgb").is_dir()):
        return None
    if any((root / name).is_dir() for name in ("flow3d_preprocessed", "segmentation", "tracks")):
        return None  # Shape of Motion's preprocessing, or Gaussian Marbles' repack
    return f"splits/{splits[0]}.json, camera/ and rgb/ without preprocessing"


LAYOUT = Layout(
    command="dycheck-iphone-data",
    title="DyCheck iPhone",
    expects="rgb/{n}x, camera/*.json, splits/*.json; depth/, covisible/, keypoint/, extra.json if there",
    get_it="the DyCheck project's release (14 captures, 7 of them with validation cameras)",
    config=DycheckDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

dycheck_iphone_data = DataParserSpecification(
    config=DycheckDataParserConfig(),
    description="DyCheck's iPhone captures as released: LiDAR depth, co-visible masks, validation cameras, key-points.",
)
