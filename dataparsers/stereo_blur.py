"""``stereo-blur-data``: Stereo-Blur's clips, whose left camera is blurred and trains, as three projects lay them out.

::

    ROOT/dense/ (or ROOT)                          DyBluRF and MoBGS
        images/, images_512x288/NAME.png           left, blurred; the smaller one is taken where it is there
        inference_images/NAME.png                  right, sharp: what tests, in order of the names
        sharp_images/NAME.png                      left, sharp: optional
        poses_bounds.npy                           two rows per step: left, right
        disp/NAME.npy                              MiDaS' disparity, without a scale (DyBluRF)
        align_uni_depth_noclip/NAME.npy            depth in the cameras' units (MoBGS)
        motion_masks/, motion_masks_manual/        DyBluRF's, MoBGS'
        flow_i1/NAME_{fwd,bwd}.npz                 between the left images (DyBluRF)
        uni_normal/NAME.npy                        normals in the cameras' frames (MoBGS)
    ROOT/x1/ (or ROOT)                             Deblur4DGS
        images/NAME.png                            left, right, left, ... blurred
        images_test/NAME.png                       the same, sharp
        flow3d_preprocessed/{colmap/sparse, masks, aligned_depth_anything_colmap, 2d_tracks}/

A leaf module: it imports nothing of nerfstudio's but dataparsers and utilities.

Source: Sun et al., "DyBluRF" (2024); Bui et al., "MoBGS" (2026); Wu et al., "Deblur4DGS" (2026), code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import Layout
from dataparsers.bounded import BoundedDataParser, BoundedDataParserConfig
from dataparsers.checks import check_maps, check_tracks, common_image_size, companions, require_images
from dataparsers.clip import Clip, Frame, clip_views
from dataparsers.colmap_model import model_points, posed_images, registered
from dataparsers.flow_folders import FlowTable, archives
from dataparsers.image_folders import reduced_images
from dataparsers.layouts import median_side
from dataparsers.llff import frame_of_bounds
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.resized import resized, sister
from dataparsers.shipped_priors import aligned_disparity, masks_beside
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds
from dyngs_plugins.priors.normal_files import check_normals
from dyngs_plugins.priors.tracks import SomTrackFiles
from dyngs_plugins.priors.views import Priors

_PUBLISHED = {
    "dyblurf": ("given; test views take the left camera's learned correction", "DyBluRF (Sun et al. 2024), code"),
    "mobgs": ("test views optimised on their own images, 100 steps", "MoBGS (Bui et al. 2026), code"),
    "deblur4dgs": ("test views optimised on their own images, 500 steps", "Deblur4DGS (Wu et al. 2026), code"),
}
PROTOCOLS = (
    Protocol(
        name="left-right",
        trains="the left camera's blurred images",
        tests="the right camera's sharp images at the same times",
        source="this project: the projects' images, with the poses of the files and no optimisation on a test image",
        resolution="512x288 where it is there, else as stored",
        poses="given",
    ),
    *(
        Protocol(
            name=name,
            trains="the left camera's blurred images",
            tests="the right camera's sharp images at the same times",
            source=source,
            resolution="512x288 (Deblur4DGS: also 1280x720)",
            poses=poses,
        )
        for name, (poses, source) in _PUBLISHED.items()
    ),
    Protocol(
        name="deblurring",
        trains="the left camera's blurred images",
        tests="the left camera's sharp images at the same times: no novel views",
        source="Deblur4DGS (Wu et al. 2026): its deblurring task",
        poses="the training images' own",
    ),
)


@dataclass
class StereoBlurDataParserConfig(BoundedDataParserConfig):
    """A clip of Stereo-Blur. Protocols that optimise test poses have the same images; methods do what they say."""

    _target: type = field(default_factory=lambda: StereoBlurDataParser)
    downscale_factor: int | None = None
    """Train and test at 1/n of the images that are there."""
    bd_factor: float | None = 0.9
    bounds_percentile: float = 5.0


class StereoBlurDataParser(BoundedDataParser):
    """Reads either kind of folder; priors are those of the left images."""

    config: StereoBlurDataParserConfig

    def read(self) -> Clip:
        """Both cameras in the world of the camera files.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root = Path(self.config.data)
        self.check_frame_options()
        protocol = pick_protocol(PROTOCOLS, self.config.protocol)
        preprocessed = _deblur4dgs_folder(root)
        if preprocessed is not None:
            return self._read_deblur4dgs(preprocessed, protocol)
        return self._read_dense(root / "dense" if (root / "dense").is_dir() else root, protocol)

    def _read_dense(self, root: Path, protocol: Protocol) -> Clip:
        factor = int(self.config.downscale_factor or 1)
        stored = require_images(_small_folder(root), "stereo-blur-data reads dense/images/ of --data.")
        images = reduced_images(stored, stored[0].parent.with_name(f"{stored[0].parent.name}_{factor}"), factor)
        size = common_image_size(images)
        folder = "sharp_images" if protocol.name == "deblurring" else "inference_images"
        sharp = require_images(root / folder, "They are the sharp images that test.")
        if len(sharp) != len(images):
            raise ValueError(f"{root / folder}: found {len(sharp)} sharp images. Expected {len(images)}, one per "
                             f"image of {stored[0].parent}.")  # fmt: skip
        tested = resized(sharp, sister(root / folder, size), size)
        rows = read_poses_bounds(root / "poses_bounds.npy", 2 * len(images))
        poses, K = torch.from_numpy(rows.world_T_camera), torch.from_numpy(rows.K(*size))
        right = int(protocol.name != "deblurring")
        train = [Frame(image, poses[2 * i], K[2 * i], i, 0) for i, image in enumerate(images)]
        test = [Frame(image, poses[2 * i + right], K[2 * i + right], i, right) for i, image in enumerate(tested)]
        left = list(range(0, 2 * len(images), 2))
        places = {f.image: 2 * f.frame + f.camera for f in (*train, *test)}
        frame = self.know_bounds(rows, places, size, left)
        priors = _with_maps(root, self._dense_priors(root, images, rows, left, size), stored, size)
        return Clip(
            clip_views(train, size, len(images), priors),
            clip_views(test, size, len(images), Priors()),
            protocol,
            stored_frame=frame or frame_of_bounds(rows, size, left),
        )

    def _dense_priors(
        self, root: Path, images: Sequence[Path], rows: LlffCameras, left: list[int], size: tuple[int, int]
    ) -> Priors:
        masks = masks_beside(images, root / "motion_masks_manual", size)
        masks = masks or masks_beside(images, root / "motion_masks", size)
        median = median_side(size)
        if (root / "align_uni_depth_noclip").is_dir():
            depths = companions(images, root / "align_uni_depth_noclip", ".npy", "depth map")
            check_maps(depths, size, "depth")
            return Priors(depths, masks, "depth", depth_median=median, providers={"depth": "UniDepth, aligned"})
        if (root / "disp").is_dir():
            depths = aligned_disparity(
                images, root / "disp", size, rows.bounds[left], None, {}, root / "poses_bounds.npy"
            )
            return Priors(depths, masks, depth_median=median, providers={"depth": "MiDaS, brought to scale by bounds"})
        return Priors(mask_files=masks)

    def _read_deblur4dgs(self, root: Path, protocol: Protocol) -> Clip:
        if self.config.llff_frame:
            raise ValueError(f"{root}: llff_frame is on, but Deblur4DGS's cameras are COLMAP's, without bounds. Expected "
                             "poses_bounds.npy: leave llff_frame off.")  # fmt: skip
        if int(self.config.downscale_factor or 1) != 1:
            raise ValueError(f"{root}: downscale_factor is {self.config.downscale_factor}, but its depths and tracks "
                             "are of one size. Pass the folder of another size instead, x4/ or the low data set.")  # fmt: skip
        images = require_images(root / "images", "Deblur4DGS's left and right images alternate there.")
        sharp = require_images(root / "images_test", "They are the sharp images that test.")
        if len(images) % 2 or [p.stem for p in images] != [p.stem for p in sharp]:
            raise ValueError(
                f"{root}: found {len(images)} images and {len(sharp)} sharp ones in images_test/. Expected the same "
                "names in both, left and right in turn, an even number. Copy the folders again."
            )
        side = 0 if protocol.name == "deblurring" else 1
        train_images, test_images = images[::2], sharp[side::2]
        size = common_image_size([*train_images, *test_images])
        made = root / "flow3d_preprocessed"
        folder = next((f for f in (made / "colmap/sparse", made / "colmap/sparse/0") if find_model(f)), None)
        folder = folder or made / "colmap" / "sparse"
        model = read_model(folder)
        posed = posed_images(folder, model, [path.name for path in images], size)
        cameras = {path.stem: camera for path, camera in zip(images, posed, strict=True)}

        def frames(files: Sequence[Path], camera: int) -> list[Frame]:
            mine = [cameras[path.stem] for path in files]
            return [
                Frame(path, c.world_T_camera, c.K, i, camera, distortion=c.distortion)
                for i, (path, c) in enumerate(zip(files, mine, strict=True))
            ]

        known = registered(folder, model, [path.name for path in train_images])
        return Clip(
            clip_views(frames(train_images, 0), size, len(train_images), _som_priors(made, train_images, size)),
            clip_views(frames(test_images, side), size, len(train_images), Priors()),
            protocol,
            points=model_points(folder, model, list(known.values())),
        )


def _with_maps(root: Path, priors: Priors, left: Sequence[Path], size: tuple[int, int]) -> Priors:
    """The priors with flow between the left images and with normals, where there are some."""
    if (root / "flow_i1").is_dir():
        table = FlowTable(len(left), size)
        table.add(range(len(left)), archives(root / "flow_i1", [path.stem for path in left]))
        priors = table.onto(priors)
    if (root / "uni_normal").is_dir():
        normals = companions(left, root / "uni_normal", ".npy", "normal map")
        for path in normals:
            check_normals(path, size)
        priors = replace(priors, normal_files=normals)
    return priors


def _som_priors(made: Path, images: Sequence[Path], size: tuple[int, int]) -> Priors:
    """Masks, aligned disparities and tracks of Shape of Motion's preprocessing; each may be absent."""
    masks = masks_beside(images, made / "masks", size)
    depths, tracks, deepest = None, None, float("inf")
    if (made / "aligned_depth_anything_colmap").is_dir():
        depths = companions(images, made / "aligned_depth_anything_colmap", ".npy", "disparity map")
        deepest = 2.5 * float(sorted(check_maps(depths, size, "disparity"))[len(depths) // 2])
    if (made / "2d_tracks").is_dir():
        check_tracks(made / "2d_tracks", [image.stem for image in images])
        tracks = SomTrackFiles((made / "2d_tracks",) * len(images), tuple(image.stem for image in images))
    return Priors(
        depths,
        masks,
        depth_median=median_side(size),
        disparity_floor=1e-3,
        depth_max=deepest,
        mask_erosion=3,
        tracks=tracks,
    )


def _small_folder(root: Path) -> Path:
    """``images_512x288`` and the like, the smallest that is there, else ``images``."""
    sized = [p for p in root.glob("images_*x*") if p.is_dir() and re.fullmatch(r"images_\d+x\d+", p.name)]
    return min(sized, key=lambda p: int(p.name.rpartition("x")[2])) if sized else root / "images"


def _deblur4dgs_folder(root: Path) -> Path | None:
    return next((f for f in (root, root / "x1") if (f / "flow3d_preprocessed").is_dir()), None)


def _recognise(root: Path) -> str | None:
    try:
        made = _deblur4dgs_folder(root)
        if made is not None and (made / "images_test").is_dir():
            return "images_test/ beside flow3d_preprocessed/ (Deblur4DGS)"
        for folder in (root / "dense", root):
            if (folder / "inference_images").is_dir() and (folder / "poses_bounds.npy").is_file():
                return "inference_images/ beside poses_bounds.npy (DyBluRF, MoBGS)"
    except OSError:
        return None
    return None


LAYOUT = Layout(
    command="stereo-blur-data",
    title="Stereo-Blur (DyBluRF, MoBGS, Deblur4DGS)",
    expects="dense/ with images, inference_images and poses_bounds.npy (masks, depth, flow_i1, uni_normal if any); or "
    "x1/ with images, images_test and flow3d_preprocessed",
    get_it="the DyBluRF, MoBGS or Deblur4DGS projects' archives (clips of the Stereo Blur data set)",
    config=StereoBlurDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

stereo_blur_data = DataParserSpecification(
    config=StereoBlurDataParserConfig(),
    description="Stereo-Blur's clips: the left camera's blurred images train, the right one's sharp images test.",
)
