"""Cameras from COLMAP (Schoenberger and Frahm, CVPR 2016) through pycolmap, with what moves masked out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.cameras.locate import locate_frames
from dyngs_plugins.priors.cameras.moving import motion_masks, still_tracks
from dyngs_plugins.priors.cameras.rotation import interpolate_missing
from dyngs_plugins.priors.cameras.tracking import TrackingSettings, track_points
from dyngs_plugins.priors.providers.camera_base import CameraProvider, SolvedCameras
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.learned import missing_package

_OTHER = "Try --cameras tracks, which is made for little parallax."


@dataclasses.dataclass
class ColmapCameras(CameraProvider):
    """COLMAP's incremental mapper on features of what stands still; needs `pip install pycolmap`."""

    name: ClassVar[str] = "colmap"

    #: Each image is matched with this many that follow.
    overlap: int = 12
    #: Features per image.
    features: int = 4096
    #: Leave out features on moving objects, found by epipolar errors of tracks.
    mask_moving: bool = True
    #: Images that must be placed, as a share.
    min_placed: float = 0.5

    def unavailable(self) -> str | None:
        """See :meth:`PriorProvider.unavailable`."""
        return missing_package("pycolmap", "pip install pycolmap")

    def solve(self, inputs: PriorInputs, focal: float | None) -> SolvedCameras:
        """See :meth:`CameraProvider.solve`."""
        pycolmap = _pycolmap()
        with tempfile.TemporaryDirectory(prefix="dyngs_colmap_") as folder:
            root = Path(folder)
            self._write_images(inputs, root)
            model = self._map(pycolmap, root, inputs.frames.size, focal)
            return self._cameras(model, inputs, focal)

    def locate(self, inputs: PriorInputs, solved: SolvedCameras, frames: Sequence[int]) -> Float[np.ndarray, "n 4 4"]:
        """See :meth:`CameraProvider.locate`: against tracks that the solved frames triangulate."""
        tracks = track_points(inputs, TrackingSettings(), self.track)
        return locate_frames(tracks, solved.world_T_camera, frames, solved.K, solved.still)[0]

    def _write_images(self, inputs: PriorInputs, root: Path) -> None:
        """Images by their number, and masks that are black where something moves."""
        (root / "images").mkdir()
        (root / "masks").mkdir()
        for i in range(len(inputs.frames)):
            cv2.imwrite(str(root / "images" / _name(i)), cv2.cvtColor(inputs.image(i), cv2.COLOR_RGB2BGR))
        if not self.mask_moving:
            return
        tracks = track_points(inputs, TrackingSettings(), self.track)
        for i, moving in enumerate(motion_masks(tracks, still_tracks(tracks)[0], inputs.frames.size)):
            cv2.imwrite(str(root / "masks" / f"{_name(i)}.png"), np.where(moving, 0, 255).astype(np.uint8))

    def _map(self, pycolmap: Any, root: Path, size: tuple[int, int], focal: float | None) -> Any:
        """The largest model that COLMAP finds; one thread and one seed, so that it is the same every time."""
        pycolmap.set_random_seed(0)
        pycolmap.logging.minloglevel = 2
        reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_PINHOLE")
        if focal is not None:
            reader.camera_params = f"{focal},{size[1] / 2},{size[0] / 2}"
        if self.mask_moving:
            reader.mask_path = root / "masks"
        extraction = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
        extraction.sift.max_num_features = self.features
        matching = pycolmap.FeatureMatchingOptions(num_threads=1, use_gpu=False)
        pairing = pycolmap.SequentialPairingOptions(overlap=self.overlap, quadratic_overlap=True, loop_detection=False)
        mapping = pycolmap.IncrementalPipelineOptions(
            num_threads=1, multiple_models=False, ba_refine_focal_length=focal is None, extract_colors=False
        )
        mapping.mapper.init_min_tri_angle = 4.0  # a video's neighbours see little parallax
        database, images = root / "database.db", root / "images"
        pycolmap.extract_features(
            database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
            extraction_options=extraction, device=pycolmap.Device.cpu,
        )  # fmt: skip
        pycolmap.match_sequential(
            database, matching_options=matching, pairing_options=pairing, device=pycolmap.Device.cpu
        )
        models = pycolmap.incremental_mapping(database, images, root / "models", options=mapping)
        if not models:
            raise ValueError(f"COLMAP found no two images to start from. {_OTHER}")
        return max(models.values(), key=lambda m: m.num_reg_images())

    def _cameras(self, model: Any, inputs: PriorInputs, focal: float | None) -> SolvedCameras:
        poses, found = np.tile(np.eye(4), (len(inputs.frames), 1, 1)), np.zeros(len(inputs.frames), bool)
        for image in model.images.values():
            if image.has_pose:
                i = int(Path(image.name).stem)
                poses[i, :3] = image.cam_from_world().inverse().matrix()
                found[i] = True
        if found.mean() < self.min_placed:
            raise ValueError(
                f"COLMAP placed {int(found.sum())} of {len(found)} images, expected at least "
                f"{100 * self.min_placed:.0f} %. {_OTHER}"
            )
        missing = tuple(int(i) for i in np.flatnonzero(~found))
        notes = [f"COLMAP placed {int(found.sum())} of {len(found)} images; the poses of the others are interpolated "
                 "between their neighbours."] if missing else []  # fmt: skip
        K = next(iter(model.cameras.values())).calibration_matrix()
        report = {
            "reprojection_error_px": round(float(model.compute_mean_reprojection_error()), 4),
            "points": model.num_points3D(),
            "focal_px": round(float(K[0, 0]), 3),
            "focal_from": "given" if focal is not None else "solved",
        }
        return SolvedCameras(interpolate_missing(poses, found), K, missing, False, report, tuple(notes))


def _name(i: int) -> str:
    return f"{i:06d}.png"


def _pycolmap() -> Any:
    try:
        import pycolmap
    except ImportError as error:
        raise ValueError(
            "The camera provider 'colmap' needs pycolmap, which cannot be imported. Install it with "
            "`pip install pycolmap`, or choose --cameras tracks."
        ) from error
    return pycolmap
