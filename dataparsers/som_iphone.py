"""DyCheck's iPhone captures with Shape of Motion's preprocessing beside them.

::

    ROOT/rgb/{f}x/NAME.png                       RGBA; alpha says which pixels count
    ROOT/splits/{train,val}.json  extra.json     frame_names, time_ids; fps
    ROOT/camera/NAME.json                        cameras as captured           (camera_type original)
    ROOT/flow3d_preprocessed/colmap/sparse/      cameras refined by COLMAP     (camera_type refined)
    ROOT/flow3d_preprocessed/track_anything/{f}x/NAME.png, 2d_tracks/{f}x/{Q}_{T}.npy, covisible/{f}x/val/NAME.png
    ROOT/flow3d_preprocessed/aligned_{depth_type}/{f}x/NAME.npy, or ROOT/depth/{f}x/NAME.npy for lidar
    ROOT/keypoint/2x/train/0_{TIME}.json

Frames are ``CAMERA_FRAME``: camera 0 is held in the hand and trains, the others stand still and validate.
Source: Gao et al., "Monocular Dynamic View Synthesis: A Reality Check" (2022), and Shape of Motion's loader.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dataparsers.checks import check_maps, check_masks, check_tracks, common_image_size, companions, either_case
from dataparsers.clip import Clip, Frame, clip_views, hold_out
from dataparsers.colmap_model import read_colmap_cameras
from dataparsers.nerfies_cameras import read_original_camera
from dyngs_plugins.priors.clip_files import Keypoints, read_json
from dyngs_plugins.priors.files import existing, inside, load_npy, optional_file
from dyngs_plugins.priors.tracks import SomTrackFiles
from dyngs_plugins.priors.views import Priors

DISPARITY_FLOOR = 1e-3
"""Nothing is taken to be farther than 1000 units."""


@dataclass(frozen=True)
class IphoneOptions:
    """What to read of a capture."""

    camera_type: Literal["refined", "original"] = "refined"
    depth_type: str = "depth_anything_colmap"
    """Folder ``aligned_{depth_type}``, or ``lidar``."""
    factor: int = 1
    """Images and priors of the folders ``{factor}x``."""
    start: int = 0
    end: int | None = None
    eval_interval: int = 8
    """Only for captures without validation cameras."""
    eval_offset: int | None = None
    required: tuple[str, ...] = ("depth", "masks", "tracks")


@dataclass(frozen=True)
class SplitFrames:
    """One of a capture's split files."""

    names: tuple[str, ...]
    time_ids: tuple[int, ...]
    camera_ids: tuple[int, ...]


def load_iphone(root: Path, options: IphoneOptions) -> Clip:
    """Read everything but pixels: cameras, splits, and the names of all files, checked.

    Raises:
        FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
    """
    train_split = read_split(root, "train")
    val_split = (
        read_split(root, "val") if optional_file(root / "splits" / "val.json", "split") else SplitFrames((), (), ())
    )
    if not train_split.names:
        raise ValueError(f"{root / 'splits' / 'train.json'}: found 0 frames, expected at least one.")
    times = train_split.time_ids + val_split.time_ids
    kept = range(min(times), max(times) + 1)[options.start : options.end]
    train = _frames(root, train_split, options, kept)
    val = _frames(root, val_split, options, kept)
    if not train:
        raise ValueError(f"start {options.start} and end {options.end} leave 0 of {len(train_split.names)} frames.")
    size = common_image_size([frame.image for frame in [*train, *val]])
    protocol = f"validation cameras of DyCheck ({len(val)} views at {options.factor}x, {options.camera_type} cameras)"
    if val:
        eval_views = clip_views(val, size, len(kept), _validation_priors(root, val, size, options.factor))
    else:
        held, protocol = hold_out(len(kept), options.eval_interval, options.eval_offset)
        eval_frames = [frame for frame in train if frame.frame in held] or train
        train = [frame for frame in train if frame.frame not in held]
        eval_views = clip_views(
            eval_frames, size, len(kept), _validation_priors(root, eval_frames, size, options.factor)
        )
    return Clip(
        train=clip_views(train, size, len(kept), _training_priors(root, train, size, options)),
        evaluation=eval_views,
        protocol=protocol,
        fps=read_json(root / "extra.json", "capture record").get("fps") if (root / "extra.json").is_file() else None,
        extra=_evaluation_extras(root, train, options.factor),
    )


def read_split(root: Path, split: str) -> SplitFrames:
    """Read ``splits/{split}.json``.

    Raises:
        FileNotFoundError, ValueError: missing, its lists differ in length, are not names and whole numbers, or have a
            frame twice.
    """
    path = root / "splits" / f"{split}.json"
    expected = 'lists of one length: frame_names ("0_00012"), camera_ids and time_ids (whole numbers)'
    content = read_json(path, "split")
    names, times, cameras = (content.get(key) for key in ("frame_names", "time_ids", "camera_ids"))
    if not isinstance(names, list) or not isinstance(times, list) or len(names) != len(times):
        raise ValueError(f"{path}: expected lists 'frame_names' and 'time_ids' of one length, found {sorted(content)}. "
                         f"Expected {expected}.")  # fmt: skip
    # Without camera_ids the camera is the number before the underscore.
    if not all(isinstance(n, str) and n and (n.split("_")[0].isdigit() or bool(cameras)) for n in names):
        raise ValueError(
            f'{path}: frame_names are not all like "0_00012"; the first are {names[:3]}. Expected {expected}.'
        )
    for name in names:
        inside(root, name, path)
    for key in ("camera_ids", "time_ids"):
        numbers = content.get(key) or []
        if not isinstance(numbers, list) or not all(type(n) is int and abs(n) < 1 << 31 for n in numbers):
            raise ValueError(f"{path}: {key} holds more than whole numbers. Expected {expected}.")
    cameras = cameras or [int(name.split("_")[0]) for name in names]
    if len(cameras) != len(names):
        raise ValueError(f"{path}: {len(names)} frame_names and {len(cameras)} camera_ids. Expected {expected}.")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"{path}: {twice!r} is listed more than once. Expected every frame once.")
    return SplitFrames(tuple(names), tuple(times), tuple(cameras))


def _frames(root: Path, split: SplitFrames, options: IphoneOptions, kept: range) -> list[Frame]:
    chosen = [i for i, time in enumerate(split.time_ids) if time in kept]
    names = [split.names[i] for i in chosen]
    folder = root / "rgb" / f"{options.factor}x"
    hint = "Expected an image of every frame of splits/; som-data --downscale-factor picks the folder."
    images = [existing(either_case(folder / f"{name}.png"), "image", hint) for name in names]
    if options.camera_type == "refined" and names:
        size = common_image_size(images)
        cameras = read_colmap_cameras(_colmap_folder(root), [image.name for image in images], size)
    else:
        cameras = [read_original_camera(root / "camera" / f"{name}.json", options.factor) for name in names]
    preprocessed = root / "flow3d_preprocessed"
    masks = preprocessed / "track_anything" / f"{options.factor}x"
    return [
        Frame(
            image=image,
            world_T_camera=pose,
            K=K,
            frame=split.time_ids[i] - kept.start,
            camera=split.camera_ids[i],
            mask=either_case(masks / f"{image.stem}.png"),
            depth=either_case(_depth_folder(root, options) / f"{image.stem}.npy"),
        )
        for i, image, (pose, K) in zip(chosen, images, cameras, strict=True)
    ]


def _colmap_folder(root: Path) -> Path:
    folder = root / "flow3d_preprocessed" / "colmap" / "sparse"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder. Expected the refined cameras of Shape of Motion's preprocessing. Train with "
            "the captured cameras instead: som-data --camera-type original."
        )
    return folder if any(folder.glob("images.*")) else folder / "0"


def _depth_folder(root: Path, options: IphoneOptions) -> Path:
    if options.depth_type == "lidar":
        return root / "depth" / f"{options.factor}x"
    return root / "flow3d_preprocessed" / f"aligned_{options.depth_type}" / f"{options.factor}x"


def _training_priors(root: Path, frames: Sequence[Frame], size: tuple[int, int], options: IphoneOptions) -> Priors:
    """Check every file that training will read, and name them. Masks are used as they are, without a band."""
    images = [frame.image for frame in frames]
    tracks = root / "flow3d_preprocessed" / "2d_tracks" / f"{options.factor}x"
    depth, masks = _depth_folder(root, options), root / "flow3d_preprocessed" / "track_anything" / f"{options.factor}x"
    folders = {"depth": depth, "masks": masks, "tracks": tracks}
    absent = [name for name, folder in folders.items() if not folder.is_dir()]
    for name in absent:
        if name in options.required:
            raise FileNotFoundError(
                f"{folders[name]}: no such folder. Expected the capture's {name}, from Shape of Motion's preprocessing "
                "of DyCheck. Get it, or leave it out of som-data --required-priors."
            )
    kind: Literal["disparity", "depth"] = "depth" if options.depth_type == "lidar" else "disparity"
    depth_max = float("inf")
    if "depth" not in absent:
        deepest = check_maps(companions(images, depth, ".npy", f"{kind} map"), size, kind)
        deepest = np.minimum(deepest, 1.0 / DISPARITY_FLOOR) if kind == "disparity" else deepest
        depth_max = 2.5 * float(np.median(deepest))
    if "masks" not in absent:
        check_masks(companions(images, masks, ".png", "mask"), size)
    if "tracks" not in absent:
        check_tracks(tracks, [image.stem for image in images])
    return Priors(
        depth_files=None if "depth" in absent else tuple(frame.depth for frame in frames),
        mask_files=None if "masks" in absent else tuple(frame.mask for frame in frames),
        depth_kind=kind,
        depth_median=1,
        disparity_floor=DISPARITY_FLOOR,
        depth_max=depth_max,
        mask_erosion=1,
        valid_files=tuple(images),
        tracks=None if "tracks" in absent else SomTrackFiles((tracks,) * len(images), tuple(f.name for f in frames)),
        providers={"depth": options.depth_type},
    )


def _validation_priors(root: Path, frames: Sequence[Frame], size: tuple[int, int], factor: int) -> Priors:
    """What evaluation masks by (alpha, co-visibility, moving mask), and LiDAR depth, where there is any of it."""
    covisible = [
        root / "flow3d_preprocessed" / "covisible" / f"{factor}x" / "val",
        root / "covisible" / f"{factor}x" / "val",
    ]

    def present(candidates: Sequence[Path | None]) -> Path | None:
        return next((path for path in candidates if path and path.is_file()), None)

    seen = tuple(present([either_case(folder / f"{frame.name}.png") for folder in covisible]) for frame in frames)
    masks = tuple(present([frame.mask]) for frame in frames)
    depths = tuple(present([root / "depth" / f"{factor}x" / f"{frame.name}.npy"]) for frame in frames)
    check_masks([path for path in (*seen, *masks) if path], size)
    check_maps([path for path in depths if path], size, "depth")
    return Priors(
        depth_files=depths if any(depths) else None,
        mask_files=masks if any(masks) else None,
        depth_kind="depth",
        depth_median=1,
        mask_erosion=1,
        valid_files=tuple(frame.image for frame in frames),
        covisible_files=seen if any(seen) else None,
    )


def _evaluation_extras(root: Path, train: Sequence[Frame], factor: int) -> dict[str, Any]:
    extras: dict[str, Any] = {"keypoints": read_keypoints(root, train, factor)}
    scale = root / "flow3d_preprocessed" / "colmap" / "scale.npy"
    if optional_file(scale, "metric scale"):
        values = load_npy(scale, "metric scale").reshape(-1)
        if len(values) != 1 or not 0 < values[0] < np.inf:
            raise ValueError(
                f"{scale}: found {values[:4].tolist()}. Expected one positive number. Remove it to do without."
            )
        extras["metric_scale"] = float(values[0])
    return extras


def read_keypoints(root: Path, frames: Sequence[Frame], factor: int) -> Keypoints | None:
    """Marked points of the training frames that have any. Annotated at half size, so multiplied by ``2 / factor``."""
    folder = root / "keypoint" / "2x" / "train"
    files = [(frame.frame, folder / f"{frame.name}.json") for frame in frames]
    rows = [(step, _keypoint_rows(path)) for step, path in files if path.is_file()]
    if not rows:
        return None
    if len({len(values) for _, values in rows}) > 1:
        raise ValueError(f"{folder}: the files list {sorted({len(v) for _, v in rows})} points; expected one number.")
    table = torch.from_numpy(np.stack([values for _, values in rows])).float()
    steps = torch.tensor([step for step, _ in rows])
    return Keypoints(steps, table[..., :2] * (2.0 / factor), table[..., 2] > 0)


def _keypoint_rows(path: Path) -> np.ndarray:
    try:
        return np.asarray(json.loads(path.read_text(encoding="utf-8-sig")), np.float64).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path}: cannot be read as key-points ({error}). Expected a list of [x, y, visible]."
        ) from error
