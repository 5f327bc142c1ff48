"""``davis-data``: videos with masks of what moves, in DAVIS's folders or plain ones, with cameras beside them.

::

    ROOT/JPEGImages/480p/SEQ/00000.jpg      ROOT/Annotations/480p/SEQ/00000.png       DAVIS
    ROOT/images/00000.jpg                   ROOT/masks/00000.png (or motion_masks/)   repacks of RoDynRF, SplineGS, Cutie

Masks are palette images or grey ones: what is above 0 moves. DAVIS has no cameras; solve them and put them into one of

::

    ROOT/droid_recon/SEQ.npy                                    Shape of Motion's, as DROID-SLAM left them
    ROOT/cameras/SEQ/poses_bounds.npy, ROOT/poses_bounds.npy    LLFF's, one row per image
    ROOT/cameras/SEQ/sparse/0, ROOT/sparse/0                    a COLMAP model (its points are started from)

(without SEQ where there is one sequence; SEQ of plain folders is the name of ROOT), or say that the camera stood still
(``--cameras still``). With the first, disparities and
tracks of Shape of Motion's ``davis`` layout are used where there are any; ``som-data`` demands all of them. There is no
truth from new viewpoints: held-out frames are tested. A leaf module, see :mod:`dataparsers.base`.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import IMAGE_SUFFIXES, check_maps, check_tracks, common_image_size, companions
from dataparsers.clip import Clip, Frame, clip_views, hold_out, nearest_views
from dataparsers.davis_files import Footage, SolvedCameras, find_cameras, find_footage, mask_files
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.resized import reduced_size, resized, sister
from dyngs_plugins.priors.track_windows import open_tracks
from dyngs_plugins.priors.views import Priors

PROTOCOLS = (
    Protocol(
        name="held-out-frames",
        trains="all frames but the held-out ones",
        tests="every 8th frame from the fourth on, never the first or last",
        source="ours: DAVIS has no images from new viewpoints, and papers show videos only",
        resolution="480p",
        mask="all, and the moving pixels on their own",
        poses="solved on all frames, with whatever tool made them",
    ),
)


@dataclass
class DavisDataParserConfig(ClipDataParserConfig):
    """DAVIS's videos, or plain folders of images and masks, with cameras."""

    _target: type = field(default_factory=lambda: DavisDataParser)
    sequence: str | None = None
    """Which sequence to train on; needed only where there are several."""
    res: str = "480p"
    """Folder level between kind and sequence."""
    cameras: Literal["auto", "droid", "llff", "colmap", "still"] = "auto"
    """Which cameras to read; auto takes the first kind that is there, in this order. still: none, for a camera that
    never moved; the focal length is a guess (:func:`dataparsers.davis_files.guessed_focal`)."""
    downscale_factor: int | None = None
    """Train on images at 1/n, made once. Disparities and tracks belong to the full size and are then left out."""
    eval_interval: int = 8
    """Hold out every n-th frame; 0 holds out none and tests on training views."""
    eval_offset: int | None = None
    """First held-out frame. None starts half an interval in and never holds out the clip's ends."""
    fps: float | None = 24.0
    """Frames per second; DAVIS's videos have 24."""


class DavisDataParser(ClipDataParser):
    """Finds images, masks and cameras of one sequence."""

    config: DavisDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the cameras.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        config = self.config
        protocol = pick_protocol(PROTOCOLS, config.protocol)
        footage = find_footage(Path(config.data), config.res, config.sequence)
        factor = 1 if config.downscale_factor is None else config.downscale_factor
        full = common_image_size(footage.images)
        size = reduced_size(full, factor)
        masks = mask_files(footage, full, size)
        images: Sequence[Path] = footage.images
        if factor != 1:
            images = resized(images, sister(images[0].parent, size, footage.level), size)
        held, words = hold_out(len(images), config.eval_interval, config.eval_offset)
        kept = [i for i in range(len(images)) if i not in held]
        cameras = find_cameras(footage, config.cameras, size, kept)
        frames = [
            Frame(image, pose, K, i, mask=masks[i] if masks else None, distortion=lens)
            for i, (image, pose, K, lens) in enumerate(
                zip(images, cameras.world_T_camera, cameras.K, cameras.distortion, strict=True)
            )
        ]
        train = [frames[i] for i in kept]
        test = [frame for frame in frames if frame.frame in held] or frames
        keyframes = nearest_views([(0, k) for k in cameras.keyframes], train)
        priors = _training_priors(footage, cameras, train, full, size)
        protocol = replace(protocol, tests=words, resolution=f"{size[0]}x{size[1]}")
        if cameras.kind == "still":
            protocol = replace(protocol, poses="none: a camera that stands still, of guessed focal length")
        return Clip(
            train=clip_views(train, size, len(frames), priors, keyframes or None),
            evaluation=clip_views(test, size, len(frames), _masks_of(test)),
            protocol=protocol if held else replace(protocol, trains="all frames"),
            points=cameras.points,
            stored_frame=cameras.frame,
            fps=config.fps,
        )


def _masks_of(frames: Sequence[Frame]) -> Priors:
    masks = tuple(frame.mask for frame in frames)
    return Priors(mask_files=masks if any(masks) else None, mask_erosion=3)


def _training_priors(
    footage: Footage, cameras: SolvedCameras, train: Sequence[Frame], full: tuple[int, int], size: tuple[int, int]
) -> Priors:
    """Masks, and what Shape of Motion's preprocessing left, where it belongs to these cameras and this size."""
    priors, images = _masks_of(train), [frame.image for frame in train]
    if size != full:
        return priors
    if footage.depth is not None and cameras.kind == "droid":
        files = companions(images, footage.depth, ".npy", "disparity map")
        check_maps(files, size, "disparity")
        priors = replace(priors, depth_files=files, depth_kind="disparity", depth_median=footage.median(size))
    if footage.tracks is not None:
        check_tracks(footage.tracks, [image.stem for image in images])
        store = open_tracks((footage.tracks,) * len(images), tuple(image.stem for image in images))
        priors = replace(priors, tracks=store)
    return priors


def _recognise(root: Path) -> str | None:
    try:
        if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
            made = [name for name in ("tracks", "bootstapir", "tapir") if (root / name).is_dir()]
            return None if made else "JPEGImages/ and Annotations/ without Shape of Motion's tracks"
        cameras = [
            name
            for name in ("poses_bounds.npy", "sparse", "colmap", "clip.json", "images_test")
            if (root / name).exists()
        ]
        masks = [name for name in ("masks", "motion_masks") if (root / name).is_dir()]
        if masks and not cameras and (root / "images").is_dir():
            loose = any(p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() for p in (root / "images").iterdir())
            return f"images/ and {masks[0]}/ with files of one video" if loose else None
    except OSError:
        return None
    return None


LAYOUT = Layout(
    command="davis-data",
    title="DAVIS",
    expects="JPEGImages/480p/SEQ and Annotations/480p/SEQ (or images/ and masks/), with cameras beside them",
    get_it="the DAVIS challenge's download page; cameras from COLMAP, DROID-SLAM or MegaSaM",
    config=DavisDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
    without_cameras={"cameras": "still"},
)

davis_data = DataParserSpecification(
    config=DavisDataParserConfig(),
    description="DAVIS's videos with masks of what moves, and cameras of DROID-SLAM, LLFF or COLMAP beside them.",
)
