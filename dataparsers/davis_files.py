"""The files of a video with masks: where images, masks and cameras lie, in DAVIS's folders or in plain ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dataparsers.checks import image_files, image_size
from dataparsers.clip import SeedPoints
from dataparsers.colmap_model import model_points, posed_images, registered, warn_of_lost
from dataparsers.layouts import DAVIS, SEQUENCE_FLAG, find_sequences, median_side
from dataparsers.llff import frame_of_bounds
from dataparsers.resized import resized, sister
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.files import check_size
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.normalise import IDENTITY, SceneNormalisation
from dyngs_plugins.priors.som_files import read_cameras

Kind = Literal["droid", "llff", "colmap", "still"]
_CAMERAS_FLAG = "davis-data --cameras"


@dataclass(frozen=True)
class Footage:
    """One video."""

    root: Path
    name: str
    images: list[Path]
    masks: Path | None
    alone: bool
    """Whether the root holds no other video, so that cameras may lie in it."""
    level: int
    """Which folder, from the last, gets another name for reduced copies: a new last one would be a new sequence."""
    depth: Path | None = None
    tracks: Path | None = None

    def median(self, size: tuple[int, int]) -> int:
        """Side of the median filter on depth for images of (width, height)."""
        return median_side(size)


@dataclass(frozen=True)
class SolvedCameras:
    """One camera per image, OpenCV axes, in the world of its files."""

    kind: Kind
    world_T_camera: Sequence[Float[Tensor, "4 4"]]
    K: Sequence[Float[Tensor, "3 3"]]
    distortion: Sequence[Float[Tensor, "6"] | None]
    keyframes: Sequence[int] = ()
    points: SeedPoints | None = None
    frame: SceneNormalisation | None = None


def find_footage(root: Path, res: str, sequence: str | None) -> Footage:
    """The video in a folder.

    Raises:
        FileNotFoundError, ValueError: none, or several and none was asked for; says what there is.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected JPEGImages/ or images/; pass its parent by --data.")
    if (root / "JPEGImages").is_dir():
        return _davis_footage(root, res, sequence)
    loose = image_files(root / "images") if (root / "images").is_dir() else []
    if loose:
        if sequence not in (None, root.name):
            raise ValueError(f"{root / 'images'}: one video lies here, without sequences. Leave out {SEQUENCE_FLAG}.")
        masks = next((root / kind for kind in ("masks", "motion_masks", "Annotations") if (root / kind).is_dir()), None)
        return Footage(root, root.name, loose, masks, alone=True, level=0)
    above = next((p for p in list(root.resolve().parents)[:3] if (p / "JPEGImages").is_dir()), None)
    below = sorted(p.name for p in root.iterdir() if (p / "JPEGImages").is_dir())
    near = f" Too deep? Pass --data {above}." if above else ""
    near = f" One level too high? Pass --data {root / below[0]}." if below else near
    raise FileNotFoundError(
        f"{root}: no video. Expected JPEGImages/{res}/SEQ/ and Annotations/{res}/SEQ/, or images/ and masks/.{near}"
    )


def _davis_footage(root: Path, res: str, sequence: str | None) -> Footage:
    layout = replace(DAVIS, res=res)
    present = sorted(p.name for p in (root / "JPEGImages").iterdir() if p.is_dir())
    if res not in present:
        raise FileNotFoundError(
            f"{root / 'JPEGImages' / res}: no such folder; found {', '.join(present) or 'none'}. Pick one with "
            "davis-data --res."
        )
    info = find_sequences(root, layout, sequence)
    if len(info.sequences) > 1:
        raise ValueError(f"{root / 'clip.json'}: it joins {len(info.sequences)} cameras to one clip, which som-data "
                         f"reads. Pick one with {SEQUENCE_FLAG} {info.sequences[0]}, or use som-data.")  # fmt: skip
    name = next(iter(info.sequences))

    def first(kinds: Sequence[str]) -> Path | None:
        return next((f for f in (layout.folder(root, kind, name) for kind in kinds) if f.is_dir()), None)

    images = image_files(layout.folder(root, layout.image_type, name))
    siblings = [p for p in layout.folder(root, layout.image_type).iterdir() if p.is_dir()]
    return Footage(
        root=root,
        name=name,
        images=images,
        masks=first((layout.mask_type,)),
        alone=len(siblings) == 1,
        level=1,
        depth=first(layout.depth_types),
        tracks=first(layout.track_types),
    )


def mask_files(footage: Footage, full: tuple[int, int], size: tuple[int, int]) -> list[Path | None] | None:
    """The mask of every image at the ``size`` in use; None for images without one, None altogether without any.

    Masks that are a pixel or two off (some annotations were made on a resized video) are stretched, with a warning.

    Raises:
        ValueError: masks of other images, unreadable ones, or of another size.
    """
    if footage.masks is None:
        return None
    by_stem = {path.stem: path for path in image_files(footage.masks)}
    found = [by_stem.get(image.stem) for image in footage.images]
    present = [path for path in found if path]
    if not present:
        raise ValueError(
            f"{footage.masks}: found {len(by_stem)} masks, none named like an image; the first image is "
            f"{footage.images[0].name}. Expected masks of the same names, or no such folder."
        )
    if len(present) < len(found):
        warnings.warn(f"{footage.masks}: {len(present)} of {len(found)} images have a mask; what moves in the others is "
                      "unknown. `dyngs process` can make masks for all.", stacklevel=2)  # fmt: skip
    odd = [path for path in present if image_size(path) != full]
    for path in odd:
        width, height = image_size(path)
        if abs(width - full[0]) > 2 or abs(height - full[1]) > 2:
            check_size(path, "mask", (height, width), (full[1], full[0]))
    if odd:
        warnings.warn(f"{odd[0]}: {len(odd)} masks are a pixel or two smaller or larger than their {full[0]}x{full[1]} "
                      "images and are stretched.", stacklevel=2)  # fmt: skip
    copies = dict(zip(present, resized(present, sister(footage.masks, size, footage.level), size, "mask"), strict=True))
    return [copies[path] if path else None for path in found]


def find_cameras(
    footage: Footage, wanted: Kind | Literal["auto"], size: tuple[int, int], train: Sequence[int]
) -> SolvedCameras:
    """The cameras of a video, for images of ``size`` (width, height).

    Args:
        wanted: which kind; auto takes the first that is there.
        train: places of the images that train: points and scene frame come from these alone.

    Raises:
        FileNotFoundError, ValueError: none are there (says where they may lie and how to make them), or damaged ones.
    """
    if wanted == "still":
        return _still(footage, size)
    root, name = footage.root, footage.name
    folders = [root / "cameras" / name, *([root] if footage.alone else [])]
    places: dict[Kind, list[Path]] = {
        "droid": [root / "droid_recon" / f"{name}.npy"],
        "llff": [folder / "poses_bounds.npy" for folder in folders],
        "colmap": [folder / "sparse" / number for folder in folders for number in ("0", "")],
    }
    readers = {"droid": _droid, "llff": _llff, "colmap": _colmap}
    for kind, candidates in places.items():
        if wanted in ("auto", kind):
            for place in candidates:
                if find_model(place) if kind == "colmap" else place.is_file():
                    return readers[kind](footage, place, size, train)
    looked = [place for kind, candidates in places.items() if wanted in ("auto", kind) for place in candidates]
    raise FileNotFoundError(
        f"{looked[0]}: no cameras for {name}, nor in "
        f"{', '.join(str(p.relative_to(root)) for p in looked[1:]) or 'another place'}. Expected them in one of these places; DAVIS has none: solve them with "
        "COLMAP (with what moves masked out), DROID-SLAM or MegaSaM, and put them there. A folder of images/ and "
        "poses_bounds.npy becomes a clip with depth and tracks by `dyngs process FOLDER --out CLIP`. If the camera stood "
        f"still: {_CAMERAS_FLAG} still."
        + ("" if wanted == "auto" else f" Other cameras may be there: {_CAMERAS_FLAG} auto.")
    )


def guessed_focal(width: int, height: int) -> float:
    """``sqrt(3) / 2`` of the longer side, 60 degrees of view: what RoDynRF and SplineGS start from on DAVIS."""
    return 3**0.5 / 2 * max(width, height)


def _still(footage: Footage, size: tuple[int, int]) -> SolvedCameras:
    """One camera at the origin for all images. Nothing says how large the scene is, so its frame is left alone."""
    warnings.warn(
        f"{footage.root}: the camera of {footage.name} is taken to stand still, with a guessed focal length. If it "
        "moved, everything static will seem to move, and no new viewpoint will be right.",
        stacklevel=2,
    )
    count, focal = len(footage.images), guessed_focal(*size)
    K = torch.tensor([[focal, 0.0, size[0] / 2], [0.0, focal, size[1] / 2], [0.0, 0.0, 1.0]])
    return SolvedCameras("still", [torch.eye(4)] * count, [K] * count, [None] * count, frame=IDENTITY)


def _droid(footage: Footage, path: Path, size: tuple[int, int], train: Sequence[int]) -> SolvedCameras:
    solved = read_cameras(path, len(footage.images))
    count = len(footage.images)
    K = torch.from_numpy(solved.K(*size))
    return SolvedCameras(
        "droid", list(torch.from_numpy(solved.world_T_camera)), [K] * count, [None] * count, solved.keyframes
    )


def _llff(footage: Footage, path: Path, size: tuple[int, int], train: Sequence[int]) -> SolvedCameras:
    solved = read_poses_bounds(path, len(footage.images))
    frame = frame_of_bounds(solved, size, list(train))
    poses, K = torch.from_numpy(solved.world_T_camera), torch.from_numpy(solved.K(*size))
    return SolvedCameras("llff", list(poses), list(K), [None] * len(poses), frame=frame)


def _colmap(footage: Footage, folder: Path, size: tuple[int, int], train: Sequence[int]) -> SolvedCameras:
    model, names = read_model(folder), [image.name for image in footage.images]
    posed = posed_images(folder, model, names, size, "Solve them too, or remove them.")
    known = registered(folder, model, names)
    warn_of_lost(folder, model, known)
    return SolvedCameras(
        "colmap",
        [camera.world_T_camera for camera in posed],
        [camera.K for camera in posed],
        [camera.distortion for camera in posed],
        points=model_points(folder, model, [known[names[i]] for i in train]),
    )
