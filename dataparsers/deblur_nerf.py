"""``deblur-nerf-data``: still scenes in blurred photographs, as Deblur-NeRF, BAD-NeRF and BAD-Gaussians lay them out.

::

    ROOT/images/             blurred photographs, every hold-th a sharp view of its own (or images_1/, BAD-NeRF's)
    ROOT/images_{n}/         reduced copies, made if they are not there
    ROOT/images_test/        sharp pictures of the blurred ones, in their order; optional
    ROOT/sparse/0/           COLMAP's cameras; or
    ROOT/poses_bounds.npy    LLFF's, of all images or (BAD-NeRF) of the blurred ones alone
    ROOT/hold=7              an empty file whose name says which images are held out; optional

A leaf module: it imports nothing of nerfstudio's but dataparsers and utilities.

Source: Ma et al., "Deblur-NeRF" (2022); Wang et al., "BAD-NeRF" (2023); Zhao et al., "BAD-Gaussians" (2024), code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import Layout
from dataparsers.bounded import BoundedDataParser, BoundedDataParserConfig
from dataparsers.checks import common_image_size, image_size, require_images
from dataparsers.clip import Clip, Frame, SeedPoints, clip_views
from dataparsers.colmap_model import PosedImage, model_folder, model_points, posed_images, registered
from dataparsers.image_folders import reduced_images
from dataparsers.llff import frame_of_bounds, points_beside
from dataparsers.protocols import Protocol, pick_protocol
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.files import check_size
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.normalise import SceneNormalisation
from dyngs_plugins.priors.views import Priors

_POSES = "given (solved over blurred and sharp images); methods refine those of training images"

PROTOCOLS = (
    Protocol(
        name="novel-view",
        trains="the blurred images",
        tests="the sharp images that stand among them: every hold-th from the first on",
        source="Deblur-NeRF (Ma et al. 2022), code; BAD-Gaussians (Zhao et al. 2024), code",
        resolution="synthetic 600x400, real 1/4",
        poses=_POSES,
    ),
    Protocol(
        name="deblurring",
        trains="the blurred images",
        tests="sharp pictures (images_test) at the middle of the training images' exposures: no novel views",
        source="BAD-NeRF (Wang et al. 2023), code; BAD-Gaussians (Zhao et al. 2024), code",
        resolution="synthetic 600x400",
        poses="the training images' own, refined in training",
    ),
    Protocol(
        name="all",
        trains="all images",
        tests="the training images: no sharp truth",
        source="BAD-Gaussians (Zhao et al. 2024), code: hold below 1",
        poses=_POSES,
    ),
)


@dataclass
class DeblurNerfDataParserConfig(BoundedDataParserConfig):
    """Blurred photographs of a still scene. An empty protocol is deblurring where images_test/ is there, else
    novel-view."""

    _target: type = field(default_factory=lambda: DeblurNerfDataParser)
    downscale_factor: int | None = None
    """Train on images at 1/n, made once in images_n/ (and images_test_n/). None reads them as they are."""
    hold: int | None = None
    """Every n-th image is a sharp one for the test; below 1 none. None: what a file named hold=n says, else 8."""
    cameras: Literal["auto", "colmap", "llff"] = "auto"
    """COLMAP's model or poses_bounds.npy; auto takes COLMAP's where it is there, with its lens and its points."""


class DeblurNerfDataParser(BoundedDataParser):
    """Reads either kind of cameras; sharp test pictures take the cameras of their blurred ones."""

    config: DeblurNerfDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the camera files.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        self.check_frame_options()
        chosen = config.protocol or ("deblurring" if (root / "images_test").is_dir() else "novel-view")
        protocol = pick_protocol(PROTOCOLS, chosen)
        full = require_images(image_folder(root), "deblur-nerf-data reads images/ (or images_1/) of --data.")
        factor = int(config.downscale_factor or 1)
        images = reduced_images(full, root / f"images_{factor}", factor)
        hold = 0 if protocol.name == "all" else read_hold(root, config.hold)
        held = set(range(0, len(full), hold)) if hold > 0 else set()
        if len(held) == len(full):
            raise ValueError(f"{root}: hold is {hold}, so all {len(full)} images are held out. Expected at least 2.")
        train = [i for i in range(len(full)) if i not in held]
        size = common_image_size(images)
        posed, points, frame = self._cameras(root, full, images, train, size)
        frames = {i: Frame(images[i], p.world_T_camera, p.K, i, distortion=p.distortion) for i, p in posed.items()}
        test, protocol = self._test(root, protocol, frames, train, sorted(held), hold, factor, full)
        _check_test_size(test, size)
        num_frames, first = _extent([*(frames[i] for i in train), *test])
        shift = [replace(f, frame=f.frame - first) for f in (*(frames[i] for i in train), *test)]
        return Clip(
            clip_views(shift[: len(train)], size, num_frames, Priors()),
            clip_views(shift[len(train) :], size, num_frames, Priors()),
            protocol,
            points=points,
            stored_frame=frame,
        )

    def _cameras(
        self, root: Path, full: Sequence[Path], images: Sequence[Path], train: Sequence[int], size: tuple[int, int]
    ) -> tuple[dict[int, PosedImage], SeedPoints | None, SceneNormalisation | None]:
        """The camera of each image by its place (of the blurred ones alone in BAD-NeRF's files), points and frame."""
        kind, names = self._kind(root), [path.name for path in full]
        if kind == "colmap":
            if self.config.llff_frame:
                raise ValueError(f"{root}: llff_frame is on, but the cameras are COLMAP's, without bounds. Take those "
                                 "of poses_bounds.npy: cameras llff.")  # fmt: skip
            folder = model_folder(root)
            model = read_model(folder)
            known = registered(folder, model, names)
            if len(known) < len(model.images):
                lost = next(i.name for i in model.images.values() if i.id not in {k.id for k in known.values()})
                raise ValueError(f"{folder}: {len(model.images) - len(known)} of {len(model.images)} images of the COLMAP "
                                 f"model have no file; one is {lost}. Expected all of them, for which image is sharp "
                                 "goes by its place. Restore them.")  # fmt: skip
            placed = [i for i, name in enumerate(names) if name in known]
            if not set(train) <= set(placed):
                placed = list(range(len(names)))  # the error below names the missing ones
            cameras = posed_images(folder, model, [names[i] for i in placed], size)
            points = model_points(folder, model, [known[names[i]] for i in train])
            return dict(zip(placed, cameras, strict=True)), points, None
        rows = read_poses_bounds(root / "poses_bounds.npy", None)
        if len(rows.hwf) not in (len(full), len(train)):
            read_poses_bounds(root / "poses_bounds.npy", len(full))  # says what it expects
        placed = list(range(len(full))) if len(rows.hwf) == len(full) else list(train)
        poses, K = torch.from_numpy(rows.world_T_camera), torch.from_numpy(rows.K(*size))
        posed = {i: PosedImage(poses[row], K[row], None) for row, i in enumerate(placed)}
        training = [placed.index(i) for i in train]
        frame = self.know_bounds(rows, {images[i]: row for row, i in enumerate(placed)}, size, training)
        points = points_beside(root, [names[i] for i in placed], rows, training)
        return posed, points, frame or frame_of_bounds(rows, size, training)

    def _kind(self, root: Path) -> str:
        kind = self.config.cameras
        if kind != "auto":
            return kind
        if (root / "poses_bounds.npy").is_file() and (self.config.llff_frame or not _has_model(root)):
            return "llff"
        return "colmap"

    def _test(
        self,
        root: Path,
        protocol: Protocol,
        frames: dict[int, Frame],
        train: Sequence[int],
        held: Sequence[int],
        hold: int,
        factor: int,
        full: Sequence[Path],
    ) -> tuple[list[Frame], Protocol]:
        if protocol.name == "deblurring":
            sharp = sharp_pictures(root, [full[i] for i in train], factor)
            test = [replace(frames[i], image=path) for i, path in zip(train, sharp, strict=True)]
            self._share_bounds(frames, train, test)
            return test, replace(protocol, trains=f"{len(train)} blurred images")
        if not held:
            return [frames[i] for i in train], replace(protocol, tests="the training images (nothing is held out)")
        missing = [i for i in held if i not in frames]
        if missing:
            raise ValueError(
                f"{root}: protocol novel-view tests {full[missing[0]].name}, but {len(missing)} of {len(held)} held-out "
                "images have no camera (BAD-NeRF's poses_bounds.npy is of the blurred images alone). Solve them too, "
                "choose protocol deblurring, or say with `hold` which images are held out."
            )
        tests = f"the sharp images among them: every {hold}th from the first on, {len(held)} of {len(full)}"
        return [frames[i] for i in held], replace(protocol, tests=tests)

    def _share_bounds(self, frames: dict[int, Frame], train: Sequence[int], test: Sequence[Frame]) -> None:
        if self._bounds is not None:
            mine = {frame.image: self._bounds[frames[i].image] for i, frame in zip(train, test, strict=True)}
            self._bounds = {**self._bounds, **mine}


def image_folder(root: Path) -> Path:
    """``images_1/`` where it is there (BAD-NeRF's, with the novel views among the blurred ones), else ``images/``."""
    return root / "images_1" if (root / "images_1").is_dir() else root / "images"


def read_hold(root: Path, given: int | None) -> int:
    """Which images are held out: as asked for, as the marker file says, or every 8th.

    Raises:
        ValueError: a marker without a number, or two of them.
    """
    if given is not None:
        return given
    markers = sorted(path.name for path in root.glob("hold=*"))
    if not markers:
        return 8
    number = re.fullmatch(r"hold=(-?\d+)", markers[0])
    if len(markers) > 1 or number is None:
        raise ValueError(
            f"{root}: found {', '.join(markers)}. Expected one file named like hold=8. Remove the others, or say "
            "which by deblur-nerf-data --hold."
        )
    return int(number[1])


def sharp_pictures(root: Path, blurred: Sequence[Path], factor: int) -> list[Path]:
    """The sharp picture of each blurred image: of its name if they share names, else in order of the names.

    Raises:
        FileNotFoundError, ValueError: none, or another number of them.
    """
    found = require_images(root / "images_test", "They are the sharp pictures of the blurred training images.")
    by_stem = {path.stem: path for path in found}
    if all(path.stem in by_stem for path in blurred):
        found = [by_stem[path.stem] for path in blurred]
    if len(found) != len(blurred):
        raise ValueError(
            f"{root / 'images_test'}: found {len(found)} sharp pictures. Expected {len(blurred)}, one per blurred "
            f"training image from {blurred[0].name} to {blurred[-1].name} in this order. Is `hold` right?"
        )
    return reduced_images(found, root / f"images_test_{factor}", factor)


def _check_test_size(test: Sequence[Frame], size: tuple[int, int]) -> None:
    for frame in test:
        width, height = image_size(frame.image)
        check_size(frame.image, "test picture", (height, width), (size[1], size[0]))


def _extent(frames: Sequence[Frame]) -> tuple[int, int]:
    """Number of time steps, and the first one: images without a camera at the ends do not count."""
    steps = [frame.frame for frame in frames]
    return max(steps) - min(steps) + 1, min(steps)


def _has_model(root: Path) -> bool:
    return any(find_model(root / name) for name in ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse"))


def _recognise(root: Path) -> str | None:
    try:
        if any((root / name).exists() for name in ("flow3d_preprocessed", "images_bokeh", "inference_images", "dense")):
            return None
        cameras = (root / "poses_bounds.npy").is_file() or _has_model(root)
        if not cameras or not image_folder(root).is_dir():
            return None
        if any(root.glob("hold=*")):
            return "a file named hold=n beside images and cameras"
        return "images_test/ beside images and cameras" if (root / "images_test").is_dir() else None
    except OSError:
        return None


LAYOUT = Layout(
    command="deblur-nerf-data",
    title="Deblur-NeRF, BAD-NeRF, BAD-Gaussians",
    expects="images/ (or images_1/), sparse/0 or poses_bounds.npy; images_test/ or hold=n",
    get_it="the archives of the Deblur-NeRF, BAD-NeRF and BAD-Gaussians projects",
    config=DeblurNerfDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

deblur_nerf_data = DataParserSpecification(
    config=DeblurNerfDataParserConfig(),
    description="Blurred photographs of a still scene with sharp test views: Deblur-NeRF, BAD-NeRF, BAD-Gaussians.",
)
