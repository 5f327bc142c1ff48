"""What is converted: a clip in the world of its files, opened without a change to its folder."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataparsers.base import Layout
from dataparsers.clip import Clip
from dataparsers.registry import claims, named_layout, recognise
from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.footage_hints import is_film
from dyngs_plugins.priors.views import ClipViews

PASSING_BYTES = 256 << 20
"""Memory for what is read once."""


@dataclass(frozen=True)
class Source:
    """A folder that was opened."""

    root: Path
    layout: Layout
    why: str
    """Why it is taken for this layout."""
    clip: Clip
    """In the world of its files; depths and masks as stored, without a loader's median or band."""
    bounds: dict[Path, tuple[float, float]]
    """Near and far of the images for which the files say them, in the world's units."""
    notes: tuple[str, ...]
    """What its loader warned of."""
    shadow: Path
    """Where the files were read: links to those of ``root``, and what the loader made of them."""

    def name(self, path: Path) -> str:
        """A file of the source relative to its folder."""
        for root in (self.shadow, self.root):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return str(path)

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return getattr(self.clip.protocol, "name", str(self.clip.protocol))


@dataclass(frozen=True)
class Picture:
    """One image of a clip with its camera."""

    views: ClipViews
    index: int
    splits: tuple[str, ...]
    """Those that it is in, out of train, test and val; several where a protocol tests on training images."""

    @property
    def file(self) -> Path:
        """The image as it lies in the source."""
        return self.views.image_files[self.index]

    @property
    def camera(self) -> int:
        """Which physical camera."""
        return int(self.views.camera_index[self.index])

    @property
    def step(self) -> int:
        """Time step, out of those of the clip."""
        return int(self.views.frame_index[self.index])

    @property
    def time(self) -> float:
        """In [0, 1] over all splits."""
        if self.views.time_values is not None:
            return float(self.views.time_values[self.index])
        return self.step / max(self.views.num_frames - 1, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.views.height, self.views.width

    @property
    def world_T_camera(self) -> Float[np.ndarray, "4 4"]:
        """OpenCV axes, exactly rigid."""
        camera_T_world = self.views.camera_T_world[self.index].double().numpy()
        left, _, right = np.linalg.svd(camera_T_world[:3, :3])  # float32 leaves 1e-7 of a shear
        pose, world_R_camera = np.eye(4), np.transpose(left @ right)
        pose[:3, :3], pose[:3, 3] = world_R_camera, np.negative(world_R_camera @ camera_T_world[:3, 3])
        return pose

    @property
    def K(self) -> Float[Tensor, "3 3"]:
        """Pixel centres at +0.5."""
        return self.views.K[self.index].double()

    @property
    def lens(self) -> Float[Tensor, "6"]:
        """k1, k2, k3, k4, p1, p2; zeros for a pinhole."""
        lenses = self.views.distortion
        return torch.zeros(6, dtype=torch.float64) if lenses is None else lenses[self.index].double()


def pictures(clip: Clip) -> list[Picture]:
    """Every image of the clip once: training views, then test views, then validation views."""
    splits = {"train": clip.train, "test": clip.evaluation}
    if clip.validation is not None:
        splits["val"] = clip.validation
    found: dict[Path, Picture] = {}
    for split, views in splits.items():
        for i, path in enumerate(views.image_files):
            known = found.get(path)
            if known is None:
                found[path] = Picture(views, i, (split,))
            elif split not in known.splits:
                found[path] = replace(known, splits=(*known.splits, split))
    return list(found.values())


def split_pictures(every: Sequence[Picture], split: str) -> list[Picture]:
    """The images of a split."""
    return [picture for picture in every if split in picture.splits]


@contextmanager
def opened(
    root: Path, beside: Path, layout: str = "", protocol: str = "", downscale_factor: int | None = None
) -> Iterator[Source]:
    """Open a folder; errors within the context name its files, not the links through which they are read.

    Some loaders keep what they make (reduced images, frames of films) beside their files. They are given links in a
    temporary folder, so that nothing is written into the source.

    Args:
        beside: a path on a disk with room for that.
        layout: command of its loader; empty recognises it.

    Raises:
        FileNotFoundError, ValueError: no such folder, no layout or several, or files that cannot be read.
    """
    root = root.resolve()
    if root.is_file():
        raise ValueError(_file_for_a_folder(root))
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a folder of images and cameras to convert.")
    chosen, why = _layout(root, layout)
    holder = Path(tempfile.mkdtemp(prefix=f".{beside.name}.source-", dir=beside.parent)).resolve()
    shadow = holder / root.name
    try:
        _link(root, shadow, ())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clip, bounds = _read(chosen, shadow, protocol, downscale_factor)
        said = (str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
        notes = tuple(note.replace(str(shadow), str(root)) for note in dict.fromkeys(said))
        yield Source(root, chosen, why, clip, bounds, notes, shadow)
    except (ValueError, FileNotFoundError) as error:
        if str(shadow) not in str(error) or getattr(error, "errno", None) is not None:
            raise
        raise type(error)(str(error).replace(str(shadow), str(root))) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _file_for_a_folder(path: Path) -> str:
    if not is_film(path):
        return f"{path}: this is a file, expected a folder of images with cameras. Give the folder of a scene."
    return (
        f"{path}: this is a film, expected a folder of images with cameras. "
        f"`dyngs process {shlex.quote(str(path))} --out CLIP` makes one; convert CLIP then."
    )


def _layout(root: Path, name: str) -> tuple[Layout, str]:
    if name:
        return named_layout(name), "as told"
    found = claims(root)
    if len(found) > 1:
        listed = "; ".join(f"{f.layout.command} ({f.why})" for f in found)
        raise ValueError(f"{root}: {len(found)} layouts claim this folder: {listed}. Choose one with --layout.")
    one = recognise(root)
    return one.layout, one.why


def _link(folder: Path, shadow: Path, above: tuple[Path, ...]) -> None:
    """A folder of the same name for every folder, a link for every file."""
    shadow.mkdir()
    for entry in os.scandir(folder):
        if not entry.is_dir():
            (shadow / entry.name).symlink_to(Path(entry.path).resolve())
        elif (real := Path(entry.path).resolve()) not in above:  # a link to a folder above would never end
            _link(real, shadow / entry.name, (*above, real))


def _read(
    layout: Layout, root: Path, protocol: str, downscale_factor: int | None
) -> tuple[Clip, dict[Path, tuple[float, float]]]:
    """The clip, and the bounds of its images where its files have some."""
    config: Any = layout.config()
    # In the files' frame, so that bounds are in their units; priors are taken along, but nothing here needs them.
    given: dict[str, Any] = {"data": root, "scene_normalisation": False, "required_priors": ()}
    options = {"protocol": protocol or None, "downscale_factor": downscale_factor}
    given.update({name: value for name, value in options.items() if value is not None})
    known = {field.name for field in fields(config)}
    unknown = [name for name in options if name in given and name not in known]
    if unknown:
        raise ValueError(f"--{unknown[0].replace('_', '-')} is {given[unknown[0]]!r}, but {layout.command} has no such "
                         "option. Leave it out.")  # fmt: skip
    parser = replace(config, **{name: value for name, value in given.items() if name in known}).setup()
    clip, frame = parser.parsed()
    bounds: dict[Path, tuple[float, float]] = {}
    for split in ("train", "test", "val"):
        outputs = parser.get_dataparser_outputs(split)
        stored = outputs.metadata.get("bounds")
        if stored is not None:
            for path, (near, far) in zip(outputs.image_filenames, (stored * frame.scale).tolist(), strict=True):
                bounds[Path(path)] = near, far
    return as_stored(clip), bounds


def as_stored(clip: Clip) -> Clip:
    """Depths and masks as they are stored, and a cache that holds little."""

    def plain(views: ClipViews) -> ClipViews:
        priors = replace(views.priors, depth_median=1, mask_erosion=1)
        return replace(views, priors=priors).cached_in(MemoryCache(PASSING_BYTES))

    validation = None if clip.validation is None else plain(clip.validation)
    return replace(clip, train=plain(clip.train), evaluation=plain(clip.evaluation), validation=validation)
