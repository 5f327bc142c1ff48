"""Several cameras that film at the same time: videos, or a folder of frames per camera.

::

    ROOT/NAME.mp4 ...                        extracted once, see :mod:`dataparsers.video_frames`
    ROOT/NAME/FRAME.png ..., or ROOT/NAME/images/FRAME.png ...

Cameras are in the order of their names. A frame's number is the last one in its name, and the same number is the same
time for all cameras.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from dataparsers.checks import common_image_size, image_files, image_size
from dataparsers.clip import Frame, clip_views
from dataparsers.resized import reduced_size, resized
from dataparsers.video_frames import VIDEO_SUFFIXES, extract_frames
from dyngs_plugins.priors.files import existing
from dyngs_plugins.priors.views import ClipViews, Priors


@dataclass(frozen=True)
class RigCamera:
    """What one camera filmed."""

    name: str
    images: Mapping[int, Path]
    """By time step; empty for a camera that is left out."""


@dataclass(frozen=True)
class Rig:
    """Cameras in the order of their names, all with the same time steps, and images of one size."""

    cameras: tuple[RigCamera, ...]
    num_frames: int
    """Time steps, from the first to the last that is there."""
    size: tuple[int, int]
    """Width and height of the images."""
    fps: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of all cameras, those that are left out included."""
        return tuple(camera.name for camera in self.cameras)


@dataclass(frozen=True)
class RigOptions:
    """What to read of a rig."""

    factor: int = 1
    start: int = 0
    stop: int | None = None
    """Time steps of the footage, counted from its first frame."""
    step: int = 1
    frames_folder: Path | None = None
    """Where to keep the frames of videos and reduced copies; None: in the scene's folder."""
    skip: tuple[str, ...] = ()
    """Cameras to leave out."""


def find_cameras(root: Path, pattern: str = "*") -> dict[str, Path]:
    """Videos by their stems, or else folders with images by their names; ``pattern`` is matched without regard to case.

    Raises:
        FileNotFoundError, ValueError: fewer than two, two of one name, or names whose order is ambiguous.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected the films of several cameras; pass it with --data.")
    match = re.compile(pattern.replace("*", ".*"), re.IGNORECASE).fullmatch
    files = sorted(p for p in root.iterdir() if p.is_file() and not p.name.startswith("."))
    for path in sorted(root.iterdir()):  # a film that is linked from a disk which is not there must not get lost unseen
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and match(path.stem):
            existing(path, "film", "Restore it, or leave its camera out with skip_cameras.")
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES and match(p.stem)]
    folders = (
        [p for p in sorted(root.iterdir()) if p.is_dir() and match(p.name) and _frames_of(p)] if not videos else []
    )
    _require_frames(root, folders, match)
    found = videos or folders
    names = [p.stem if videos else p.name for p in found]
    if len(names) < 2:
        raise FileNotFoundError(
            f"{root}: found {len(names)} cameras ({', '.join(names) or 'none'}), expected at least two: films "
            f"{pattern}{'|'.join(VIDEO_SUFFIXES)}, or folders of frames {pattern}/, one per camera."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{root}: more than one film is called {twice!r}. Expected one per camera: remove the others.")
    if names != sorted(names, key=_natural):
        raise ValueError(
            f"{root}: sorted as text the cameras are {', '.join(names[:4])} ..., but counted they are "
            f"{', '.join(sorted(names, key=_natural)[:4])} ... Which row of the camera file belongs to which is "
            "ambiguous. Pad the numbers with zeros (cam02, cam10)."
        )
    return dict(zip(names, found, strict=True))


def _require_frames(root: Path, folders: Sequence[Path], match: Callable) -> None:
    """A camera's folder without its frames is no camera less: what else lies in it says that it is one."""
    for folder in sorted(root.iterdir()) if folders else ():
        if folder in folders or not folder.is_dir() or not match(folder.name):
            continue
        if os.path.lexists(folder / "images") or (folder / "flow").is_dir():
            raise FileNotFoundError(
                f"{folder / 'images'}: no images there. Expected the frames of camera {folder.name}. Restore them, or "
                "remove its folder to do without this camera."
            )


def read_rig(cache: Path, sources: Mapping[str, Path], options: RigOptions) -> Rig:
    """Read the frames of all cameras; those of videos are extracted once.

    Args:
        cache: where frames of videos and reduced copies go by default, in ``frames_{factor}/CAMERA``.

    Raises:
        FileNotFoundError, ValueError, OSError: with the file, what was expected, what was found and what to try.
    """
    unknown = sorted(set(options.skip) - set(sources))
    if unknown:
        raise ValueError(f"skip_cameras names {', '.join(unknown)}; there are {', '.join(sources)}.")
    folder = (options.frames_folder or cache) / f"frames_{options.factor}"
    read: dict[str, dict[int, Path]] = {}
    fps: set[float] = set()
    for name, source in sources.items():
        if name in options.skip:
            continue
        if source.is_file():
            video = extract_frames(source, folder / name, options.factor, options.start, options.stop)
            read[name] = {n: path for n, path in video.images.items() if (n - options.start) % options.step == 0}
            fps |= {round(video.fps, 3)} if video.fps else set()
        else:
            read[name] = _numbered(source, options)
    if len(fps) > 1:
        raise ValueError(f"{cache}: the films run at {sorted(fps)} frames per second; expected one rate, for the same "
                         "number must be the same time. Convert them to one rate.")  # fmt: skip
    _require_synchronous(sources, read)
    first = next(iter(read))
    if not sources[first].is_file() and options.factor != 1:
        common_image_size([path for images in read.values() for path in images.values()])
        size = reduced_size(image_size(next(iter(read[first].values()))), options.factor)
        for name, images in read.items():
            read[name] = dict(zip(images, resized(list(images.values()), folder / name, size), strict=True))
    size = common_image_size([path for images in read.values() for path in images.values()])
    low, high = min(read[first]), max(read[first])
    cameras = [RigCamera(name, {n - low: path for n, path in read.get(name, {}).items()}) for name in sources]
    return Rig(tuple(cameras), high - low + 1, size, fps.pop() if fps else None)


def rig_views(
    rig: Rig,
    names: Collection[str],
    world_T_camera: Float[Tensor, "c 4 4"],
    K: Float[Tensor, "c 3 3"],
    distortion: Float[Tensor, "c 6"] | None = None,
    priors: Callable[[Sequence[Frame]], Priors] = lambda frames: Priors(),
) -> ClipViews:
    """Views of some cameras at all times, camera by camera. Poses and intrinsics are parallel to ``rig.cameras``."""
    frames = [
        Frame(path, world_T_camera[i], K[i], step, i, distortion=None if distortion is None else distortion[i])
        for i, camera in enumerate(rig.cameras)
        if camera.name in names
        for step, path in camera.images.items()
    ]
    return clip_views(frames, rig.size, rig.num_frames, priors(frames))


def pick_cameras(rig: Rig, test: Sequence[str], skip: Collection[str]) -> tuple[list[str], list[str]]:
    """Names of the cameras that train and of those that test.

    Raises:
        ValueError: unknown names, a camera that is both tested and left out, or none left to train.
    """
    unknown = [name for name in test if name not in rig.names]
    if unknown:
        raise ValueError(f"test_cameras names {', '.join(unknown)}; there are {', '.join(rig.names)}.")
    both = [name for name in test if name in skip]
    if both:
        raise ValueError(f"{', '.join(both)} is in test_cameras and in skip_cameras. Expected it in one of the two.")
    train = [name for name in rig.names if name not in test and name not in skip]
    if not train or not test:
        raise ValueError(f"{len(train)} cameras train and {len(test)} test, of {', '.join(rig.names)}. Expected at "
                         "least one of each: correct test_cameras and skip_cameras.")  # fmt: skip
    return train, list(test)


def _frames_of(folder: Path) -> list[Path]:
    inner = folder / "images"
    return image_files(inner if inner.is_dir() else folder)


def first_image(source: Path) -> Path:
    """Some image of a folder of frames; a video itself."""
    return source if source.is_file() else _frames_of(source)[0]


def _numbered(folder: Path, options: RigOptions) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for path in _frames_of(folder):
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise ValueError(f"{path}: the name has no number. Expected frame_00012 or the like: numbers are times.")
        if int(digits[-1]) in files:
            raise ValueError(f"{path}: {files[int(digits[-1])].name} has the number {int(digits[-1])} too. Expected "
                             "every number once; remove one of the two.")  # fmt: skip
        files[int(digits[-1])] = path
    first = min(files)
    stop = options.stop if options.stop is not None else max(files) + 1 - first
    kept = {n: files[n] for n in sorted(files) if n - first in range(options.start, stop, options.step)}
    if not kept:
        raise ValueError(f"{folder}: frames {options.start} to {stop} were asked for; there are {len(files)}, numbered "
                         f"{first} to {max(files)}, and none of them is left.")  # fmt: skip
    return kept


def _require_synchronous(sources: Mapping[str, Path], read: Mapping[str, Mapping[int, Path]]) -> None:
    names = list(read)
    most = max(read, key=lambda name: len(read[name]))
    for name in names:
        missing = sorted(set(read[most]) - set(read[name])) or sorted(set(read[name]) - set(read[most]))
        if missing:
            raise ValueError(
                f"{sources[name]}: {len(read[name])} frames, expected {len(read[most])} like {most}; the first that "
                f"only one of them has is number {missing[0]}. Cameras of a rig must have the same frames: complete "
                f"the films, leave the camera out (skip_cameras), or use the first {min(map(len, read.values()))} "
                "(--end)."
            )
    steps = len(read[most])
    if steps < 2:
        raise ValueError(f"{sources[most]}: {steps} frame; expected at least two, for a scene that moves.")


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A key by which cam2 comes before cam10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]
