r"""``colmap-time-data``: a plain COLMAP model and its images, with time from timestamps, from names or from their order.

::

    ROOT/images/NAME.png  or  ROOT/images/CAMERA/NAME.png     one folder per camera
    ROOT/images_{n}/                                          reduced copies, made if they are not there
    ROOT/sparse/0/{cameras,images,points3D}.{bin,txt}         (or sparse/, colmap/sparse/0)
    ROOT/timestamps.{csv,json,txt}                            name and seconds; optional

The cameras' lenses are kept per image. A leaf module: it imports nothing of nerfstudio's but dataparsers and utilities.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.capture_times import Instants, instants_of_order, instants_of_values, pattern_values, read_timestamps
from dataparsers.checks import IMAGE_SUFFIXES, common_image_size, image_files
from dataparsers.clip import Clip, Frame, clip_views, hold_out
from dataparsers.colmap_model import model_folder, model_points, posed_images, registered, warn_of_lost
from dataparsers.image_folders import reduced_images
from dataparsers.protocols import ALL_IMAGES, COLMAP_POSES, EVERY_8TH, MIDDLE, Protocol, pick_protocol
from dyngs_plugins.priors.colmap_files import ColmapImage, ColmapModel, find_model, read_model
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.views import Priors

PROTOCOLS = (
    replace(
        MIDDLE,
        trains="all other time steps, all cameras",
        tests="every 8th time step (`hold`) from half an interval in, never the clip's ends",
    ),
    replace(
        EVERY_8TH,
        trains="all other time steps, all cameras",
        tests="every 8th time step (`hold`) from the first on",
        resolution="as stored",
        lpips="alex",
    ),
    Protocol(
        name="first-camera",
        trains="all other cameras, all times",
        tests="the first camera, all times",
        source="the rule of Neu3D (Li et al. 2022) for rigs",
        poses=COLMAP_POSES,
    ),
    ALL_IMAGES,
)


@dataclass
class ColmapTimeDataParserConfig(ClipDataParserConfig):
    """A COLMAP model with time."""

    _target: type = field(default_factory=lambda: ColmapTimeDataParser)
    images: str = "images"
    """Folder of the images, or of one folder per camera."""
    sparse: Path | None = None
    """Folder of the model, from --data on. None looks in sparse/0, sparse, colmap/sparse/0 and colmap/sparse."""
    downscale_factor: int | None = None
    """Train on images at 1/n, made once in images_n/. None reads them as they are."""
    hold: int = 8
    """Hold out every n-th time step, where the protocol holds out time steps; 0 holds out none."""
    timestamps: Path | None = None
    """File of names and seconds, from --data on. None looks for timestamps.csv, .json and .txt."""
    time_pattern: str = ""
    r"""Regular expression whose group (or group 'time') is the time in a name, e.g. 'frame_(\d+)'."""


@dataclass(frozen=True)
class _Picture:
    """One registered image file."""

    file: Path
    name: str
    """Relative to the image folder."""
    camera: int
    image: ColmapImage


class ColmapTimeDataParser(ClipDataParser):
    """Reads the model once; time comes from timestamps, else from the pattern, else from the order of the names."""

    config: ColmapTimeDataParserConfig

    def read(self) -> Clip:
        """All registered images in the model's world, its lenses, and its points as seeds.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        cameras = camera_folders(root / config.images)
        folder = model_folder(root, config.sparse)
        model = read_model(folder)
        files = [(path, camera) for camera, paths in enumerate(cameras) for path in paths]
        names = [path.relative_to(root / config.images).as_posix() for path, _ in files]
        known = registered(folder, model, names)
        _check_registered(folder, model, names, known)
        pictures = [
            _Picture(path, name, camera, known[name])
            for (path, camera), name in zip(files, names, strict=True)
            if name in known
        ]
        instants = self._instants(root, files, pictures)
        frames = self._frames(root, folder, model, pictures, instants)
        train, test, protocol = split_frames(frames, protocol, config.hold, instants.num_frames)
        size = common_image_size([frame.image for frame in frames])
        training = {id(frame) for frame in train}
        observers = [p.image for p, frame in zip(pictures, frames, strict=True) if id(frame) in training]
        return Clip(
            clip_views(train, size, instants.num_frames, Priors()),
            clip_views(test, size, instants.num_frames, Priors()),
            protocol,
            points=model_points(folder, model, observers),
            fps=instants.fps,
        )

    def _instants(self, root: Path, files: Sequence[tuple[Path, int]], pictures: Sequence[_Picture]) -> Instants:
        config, names = self.config, [picture.name for picture in pictures]
        if config.timestamps and config.time_pattern:
            raise ValueError("timestamps and time_pattern are both given; expected one of them.")
        if config.time_pattern:
            return instants_of_values("time_pattern", pattern_values(config.time_pattern, names), seconds=False)
        beside = (root / f"timestamps{suffix}" for suffix in (".csv", ".json", ".txt"))
        path = (
            root / config.timestamps
            if config.timestamps
            else next((p for p in beside if optional_file(p, "file of timestamps")), None)
        )
        if path is not None:
            return instants_of_values(str(path), read_timestamps(path, names), seconds=True)
        # Images that COLMAP could not place leave a gap in time.
        steps = dict(zip(files, instants_of_order(files), strict=True))
        kept = [steps[picture.file, picture.camera] for picture in pictures]
        return Instants(tuple(step - min(kept) for step in kept), None, None)

    def _frames(
        self, root: Path, folder: Path, model: ColmapModel, pictures: Sequence[_Picture], instants: Instants
    ) -> list[Frame]:
        factor, place = int(self.config.downscale_factor or 1), {}
        for below in sorted({PurePosixPath(picture.name).parent for picture in pictures}):
            full = [picture.file for picture in pictures if PurePosixPath(picture.name).parent == below]
            small = reduced_images(full, root / f"{self.config.images}_{factor}" / below, factor)
            place.update(zip(full, small, strict=True))
        images = [place[picture.file] for picture in pictures]
        posed = posed_images(folder, model, [picture.name for picture in pictures], common_image_size(images))
        return [
            Frame(
                images[i],
                camera.world_T_camera,
                camera.K,
                instants.steps[i],
                pictures[i].camera,
                time=instants.times[i] if instants.times else None,
                distortion=camera.distortion,
            )
            for i, camera in enumerate(posed)
        ]


def camera_folders(folder: Path) -> list[list[Path]]:
    """The images of each camera: of the folder itself, or of every folder in it.

    Raises:
        FileNotFoundError, ValueError: no images, or some beside folders of others.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Expected the images of the COLMAP model.")
    flat = image_files(folder)
    below = {child: image_files(child) for child in sorted(folder.iterdir()) if child.is_dir()}
    below = {child: files for child, files in below.items() if files}
    if flat and below:
        raise ValueError(
            f"{folder}: found {len(flat)} images beside {len(below)} folders of images ({next(iter(below)).name}, "
            "...). Expected either images of one camera, or one folder per camera. Move them."
        )
    if not flat and not below:
        raise ValueError(f"{folder}: found 0 images. Expected some of {', '.join(IMAGE_SUFFIXES)}, or folders of them.")
    return [flat] if flat else list(below.values())


def split_frames(
    frames: Sequence[Frame], protocol: Protocol, hold: int, num_frames: int
) -> tuple[list[Frame], list[Frame], Protocol]:
    """Training and test frames, and the protocol with what it really tests.

    Raises:
        ValueError: nothing is left to train on.
    """
    if protocol.name == "first-camera":
        train, test = [f for f in frames if f.camera != 0], [f for f in frames if f.camera == 0]
        if not train:
            raise ValueError("protocol first-camera tests the first camera, but there is one camera only. Expected "
                             "several folders of images: choose another protocol.")  # fmt: skip
        return train, test, protocol
    held, tests = hold_out(num_frames, 0 if protocol.name == "all" else hold, {"llff": 0}.get(protocol.name))
    train, test = [f for f in frames if f.frame not in held], [f for f in frames if f.frame in held]
    if not train:
        raise ValueError(f"hold is {hold}: all {len(frames)} images are held out. Expected a larger number.")
    return train, test or list(frames), replace(protocol, tests=tests if test else "the training views")


def _check_registered(folder: Path, model: ColmapModel, names: Sequence[str], known: Mapping[str, ColmapImage]) -> None:
    lacking = [name for name in names if name not in known]
    if 2 * len(known) < len(names):
        raise ValueError(
            f"{folder}: the COLMAP model has {len(known)} of {len(names)} images; the first that it lacks is "
            f"{lacking[0]}, and it names {next(iter(model.images.values())).name}. Is it the model of other images?"
        )
    if lacking:
        warnings.warn(f"{folder}: {len(lacking)} of {len(names)} images are not in the COLMAP model and are left out; "
                      f"the first is {lacking[0]}.", stacklevel=2)  # fmt: skip
    warn_of_lost(folder, model, known)


def _recognise(root: Path) -> str | None:
    try:
        others = (
            "poses_bounds.npy",
            "dataset.json",
            "transforms.json",
            "transforms_train.json",
            "images_test",
            "dense",
        )
        others += ("images_bokeh", "flow3d_preprocessed", "splits", "scene.json", "clip.json", "droid_recon")
        if any((root / name).exists() for name in others) or any(root.glob("hold=*")):
            return None
        if not (root / "images").is_dir() or not find_model(model_folder(root)):
            return None
    except OSError:
        return None
    return "images/ and a COLMAP model, without files of another layout"


LAYOUT = Layout(
    command="colmap-time-data",
    title="COLMAP with time",
    expects="images/ (or images/CAMERA/), sparse/0; timestamps.csv, .json or .txt if known",
    get_it="your own video's frames, solved with COLMAP",
    config=ColmapTimeDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

colmap_time_data = DataParserSpecification(
    config=ColmapTimeDataParserConfig(),
    description="A COLMAP model and its images; time from timestamps, names or their order; one or several cameras.",
)
