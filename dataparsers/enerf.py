"""``enerf-outdoor-data``: ENeRF-Outdoor, 18 cameras on an arc around actors, with clean plates and visual hulls.

::

    ROOT/images/00/000000.jpg ...      1920x1080, a folder per camera
    ROOT/intri.yml, extri.yml          see :mod:`dataparsers.easyvolcap_files`; strong lenses
    ROOT/bkgd/00.jpg ...               the scene without actors              (optional)
    ROOT/vhull/000000.npy ...          corners of the actors' box, 2x3       (optional)
    ROOT/background.ply                a cloud of the scene without actors   (optional)

ENeRF undistorts, reduces to 3/4 and crops. Here images are reduced and cropped on disk and undistorted when they are
read, with K and lens of the crop: the same picture but for a rim whose source lies outside of the crop.

Source: Lin et al., "Efficient Neural Radiance Fields for Interactive Free-viewpoint Video" (2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from torch import Tensor

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import image_files, image_size
from dataparsers.clip import Clip, SeedPoints
from dataparsers.easyvolcap_files import read_easy_cameras
from dataparsers.neu3d import as_followed
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.rig import Rig, RigOptions, find_cameras, pick_cameras, read_rig, rig_views
from dataparsers.seed_points import ply_points, require_in_sight
from dataparsers.video_frames import FOLDER_FLAG
from dyngs_plugins.priors.files import atomic_file, check_size, existing, load_npy, optional_file
from dyngs_plugins.priors.pixels import UNREADABLE, opened, require_8_bits

Size = tuple[int, int]
"""Width and height."""
HULL_POINTS = 10_000
"""Random points in the actors' box at the first time, where there is one."""


@dataclass(frozen=True)
class _Footage:
    """What a protocol uses of a sequence."""

    frames: tuple[int, int, int]
    """First, one to stop before, step."""
    test: int
    """Camera, in the order of names."""
    scale: float
    crop: bool


_FOOTAGE = {"st4dgs": _Footage((0, 100, 1), 8, 0.5, False), "enerf": _Footage((0, 1000, 400), 0, 0.75, True)}

PROTOCOLS = (
    Protocol(
        name="st4dgs",
        trains="every camera but the ninth, the first 100 frames",
        tests="the ninth camera in the order of names (index 8), the first 100 frames",
        source="ST-4DGS (2024), code; it reads images as they were prepared and does not say their size: half is used",
        resolution="960x540",
    ),
    Protocol(
        name="enerf",
        trains="every camera but the first, frames 0, 400, 800 (ENeRF itself sees all cameras at test time)",
        tests="the first camera, frames 0, 400, 800",
        source="ENeRF (Lin et al. 2022), code",
        resolution="1024x768, cropped from 1440x810",
    ),
)


@dataclass
class EnerfDataParserConfig(ClipDataParserConfig):
    """ENeRF-Outdoor and other captures with intri.yml and extri.yml."""

    _target: type = field(default_factory=lambda: EnerfDataParser)
    start: int | None = None
    """First frame; None takes the protocol's, as for the next two."""
    end: int | None = None
    """Frame to stop before."""
    step: int | None = None
    """Use every n-th frame."""
    crop_size: tuple[int, int] = (1024, 768)
    """Width and height of the crop, for the protocol that crops."""
    test_cameras: tuple[str, ...] = ()
    """Cameras that test, by name; empty takes the protocol's."""
    skip_cameras: tuple[str, ...] = ()
    """Cameras to leave out, by name."""
    frames_folder: Path | None = None
    """Where reduced copies are kept; None: in the scene's folder."""


class EnerfDataParser(ClipDataParser):
    """Makes the images of the protocol's size once, and reads them with their cameras and lenses."""

    config: EnerfDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the files.

        Raises:
            FileNotFoundError, ValueError, OSError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        footage = _FOOTAGE[protocol.name]
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder. Expected a sequence; pass its folder with --data.")
        cameras = read_easy_cameras(root)
        sources = find_cameras(root / "images")
        _require_same(root, list(sources), list(cameras))
        given = (config.start, config.end, config.step)
        start, stop, step = (p if g is None else g for g, p in zip(given, footage.frames, strict=True))
        if start < 0 or step < 1 or stop - start <= step:
            raise ValueError(f"start {start}, end {stop} and step {step} leave fewer than 2 frames. Expected 0 <= start, "
                             "step >= 1 and an end more than a step later.")  # fmt: skip
        full = read_rig(root, sources, RigOptions(1, start, stop, step, skip=tuple(config.skip_cameras)))
        names = list(full.names)
        held = config.test_cameras or tuple(names[footage.test :][:1])
        train, test = pick_cameras(full, held, config.skip_cameras)
        frame = Reduction.of(full.size, footage.scale, config.crop_size if footage.crop else None)
        copies = (config.frames_folder or root) / frame.folder
        rig = replace(
            full,
            size=frame.size,
            cameras=tuple(
                replace(c, images={n: frame.copy(p, copies / c.name) for n, p in c.images.items()})
                for c in full.cameras
            ),
        )
        listed = [cameras[name] for name in names]
        poses = torch.stack([camera.world_T_camera for camera in listed])
        K = torch.stack([frame.K(camera.K) for camera in listed])
        lenses = torch.stack([camera.distortion for camera in listed])
        return Clip(
            rig_views(rig, train, poses, K, lenses),
            rig_views(rig, test, poses, K, lenses),
            as_followed(protocol, rig, train, test),
            points=_seed_points(root, rig, full, poses, K),
            extra={"background_plates": _plates(root, names, train, frame, copies, full.size)},
        )


@dataclass(frozen=True)
class Reduction:
    """From images on disk to those in use: area-averaged, then cut out."""

    full: Size
    reduced: Size
    offset: tuple[int, int]
    """Left and top of the crop in the reduced image."""
    size: Size

    @classmethod
    def of(cls, full: Size, scale: float, crop: Size | None) -> Reduction:
        """The published reduction; ``crop`` is its width and height.

        Raises:
            ValueError: the crop is larger than the reduced image.
        """
        reduced = round(full[0] * scale), round(full[1] * scale)
        if crop is None:
            return cls(full, reduced, (0, 0), reduced)
        if crop[0] > reduced[0] or crop[1] > reduced[1] or min(crop) < 1:
            raise ValueError(
                f"crop_size is {crop[0]}x{crop[1]}, but images of {full[0]}x{full[1]} at {scale} are {reduced[0]}x"
                f"{reduced[1]}. Expected a smaller crop, or choose a protocol that does not crop."
            )
        return cls(full, reduced, crop_offset(reduced, crop), crop)

    @property
    def folder(self) -> str:
        """The copies' folder; its name says what they are."""
        cut = "" if self.size == self.reduced else f"_of_{self.reduced[0]}x{self.reduced[1]}"
        return f"frames_{self.size[0]}x{self.size[1]}{cut}"

    def K(self, full: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
        """Intrinsics of the image in use; a lens' coefficients stay."""
        K = torch.diag(torch.tensor([self.reduced[0] / self.full[0], self.reduced[1] / self.full[1], 1.0])) @ full
        K[0, 2] -= self.offset[0]
        K[1, 2] -= self.offset[1]
        return K

    def copy(self, path: Path, folder: Path) -> Path:
        """The reduced copy of an image, made if it is not there.

        Raises:
            ValueError: the image cannot be read, or a copy that is there has another size.
            OSError: the folder cannot be written.
        """
        if self.size == self.full:
            return path
        copy = folder / f"{path.stem}.png"
        if copy.is_file():
            width, height = image_size(copy)
            check_size(copy, "reduced image", (height, width), (self.size[1], self.size[0]))
            return copy
        if not folder.is_dir():
            CONSOLE.print(f"Making images of {self.size[0]}x{self.size[1]} in {folder}")
        left, top = self.offset
        try:
            with opened(path) as image:
                require_8_bits(image)
                small = image.convert("RGB").resize(self.reduced, Image.Resampling.BOX)
        except UNREADABLE as error:
            raise ValueError(f"{path}: cannot be read as an image ({error}). Write this image again.") from error
        try:
            with atomic_file(copy) as file:
                small.crop((left, top, left + self.size[0], top + self.size[1])).save(file, "PNG", compress_level=1)
        except OSError as error:
            raise OSError(f"{folder}: cannot be written ({error}). Reduced copies are made once and kept; give them a "
                          f"folder with enough space: {FOLDER_FLAG} PATH.") from error  # fmt: skip
        return copy


def crop_offset(reduced: Size, crop: Size) -> tuple[int, int]:
    """Left and top of ENeRF's crop: centred sideways, 65 % of what is cut vertically from the top."""
    return (reduced[0] - crop[0]) // 2, int(0.65 * (reduced[1] - crop[1]))


def _require_same(root: Path, folders: Sequence[str], names: Sequence[str]) -> None:
    odd = sorted(set(folders) ^ set(names))
    if odd:
        where = "images/" if odd[0] in folders else "intri.yml"
        raise ValueError(
            f"{root}: {len(odd)} cameras are in only one of images/ and intri.yml; the first is {odd[0]!r}, in {where}. "
            "Expected a folder of frames for every camera. Complete the download; leave cameras out with skip_cameras."
        )


def _plates(
    root: Path, names: Sequence[str], train: Sequence[str], frame: Reduction, copies: Path, full: Size
) -> Mapping[int, Path]:
    """The clean plates of training cameras, reduced as their images, by place of the camera."""
    folder = root / "bkgd"
    if not folder.is_dir():
        return {}
    present = {path.stem: path for path in image_files(folder)}
    plates: dict[int, Path] = {}
    for name in train:
        path = existing(present.get(name, folder / f"{name}.jpg"), "clean plate", "Expected one for every camera. "
                        "Remove bkgd/ to do without.")  # fmt: skip
        width, height = image_size(path)
        check_size(path, "clean plate", (height, width), (full[1], full[0]))
        plates[names.index(name)] = frame.copy(path, copies / "bkgd")
    return plates


def _seed_points(root: Path, rig: Rig, full: Rig, poses: Tensor, K: Tensor) -> SeedPoints | None:
    """``background.ply``, and random points in the actors' box at the first time."""
    first = next(camera.images[0] for camera in full.cameras if camera.images)
    hull = root / "vhull" / f"{first.stem}.npy"
    parts: list[SeedPoints] = []
    if optional_file(root / "background.ply", "point cloud"):
        path = root / "background.ply"
        parts.append(require_in_sight(path, ply_points(path), torch.linalg.inv(poses), K, rig.size))
    if hull.parent.is_dir():
        bounds = load_npy(existing(hull, "visual hull", "Remove vhull/ to do without."), "visual hull")
        if bounds.shape != (2, 3) or not np.isfinite(bounds).all() or (bounds[0] >= bounds[1]).any():
            raise ValueError(f"{hull}: {bounds.tolist() if bounds.size < 9 else bounds.shape}. Expected 2x3 numbers, the "
                             "lower and the upper corner of a box. Remove vhull/ to do without.")  # fmt: skip
        low, high = torch.from_numpy(bounds)
        share = torch.rand(HULL_POINTS, 3, generator=torch.Generator().manual_seed(0))
        parts.append(SeedPoints(low + share * (high - low), None, f"{HULL_POINTS} random points in the actors' box"))
    if not parts:
        return None
    grey = [p.rgb if p.rgb is not None else torch.full((len(p.xyz), 3), 128, dtype=torch.uint8) for p in parts]
    return SeedPoints(torch.cat([p.xyz for p in parts]), torch.cat(grey), " and ".join(p.source for p in parts))


def _recognise(root: Path) -> str | None:
    if (root / "intri.yml").is_file() and (root / "extri.yml").is_file() and (root / "images").is_dir():
        return "intri.yml, extri.yml and images/"
    return None


LAYOUT = Layout(
    command="enerf-outdoor-data",
    title="ENeRF-Outdoor",
    expects="images/NN/*.jpg, intri.yml, extri.yml; bkgd/, vhull/ and background.ply if there",
    get_it="the authors of ENeRF, by a signed agreement",
    config=EnerfDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

enerf_outdoor_data = DataParserSpecification(
    config=EnerfDataParserConfig(),
    description="ENeRF-Outdoor: a calibrated rig with lenses (intri.yml, extri.yml), clean plates and visual hulls.",
)
