"""Measure the camera providers: trajectory against a reference, focal length, reprojection error, time.

    python scripts/bench_cameras.py IMAGES [--reference FILE] [--width 384] [--focal PIXELS] [--provider tracks]

IMAGES is a folder of images in time order. The reference is a poses_bounds.npy or a droid_recon file of the same
frames; without one only the figures that need none are printed.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tyro

from dyngs_plugins.hooks import find_provider
from dyngs_plugins.priors.cameras.rotation import trajectory_error
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.providers.camera_base import CameraProvider
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.som_files import read_cameras


def frame_sequence(images: Path, width: int | None, folder: Path) -> FrameSequence:
    """The frames at a width, written into `folder`; cameras unknown."""
    files = sorted(p for p in images.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    written = []
    for file in files:
        image = cv2.imread(str(file))
        w = width or image.shape[1]
        h = round(image.shape[0] * w / image.shape[1])
        written.append(folder / f"{file.stem}.png")
        cv2.imwrite(str(written[-1]), cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA))
    height, width = cv2.imread(str(written[0])).shape[:2]
    unknown = {"world_T_camera": None, "K": None}
    return FrameSequence("bench", tuple(written), tuple(range(len(written))), (height, width), **unknown)  # type: ignore[arg-type]


def reference_cameras(file: Path, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Poses and focal length in pixels of a reference file."""
    if file.name == "poses_bounds.npy":
        llff = read_poses_bounds(file)
        return llff.world_T_camera.astype(np.float64), float(llff.K(size[1], size[0])[0, 0, 0])
    som = read_cameras(file)
    return som.world_T_camera.astype(np.float64), float(som.K(size[1], size[0])[0, 0])


def main(
    images: tyro.conf.Positional[Path],
    reference: Path | None = None,
    width: int | None = None,
    focal: float | None = None,
    provider: str = "tracks",
) -> None:
    """Print the figures of one solution as JSON."""
    maker = find_provider("cameras", provider)()
    assert isinstance(maker, CameraProvider)
    with tempfile.TemporaryDirectory() as folder:
        frames = frame_sequence(images, width, Path(folder))
        start, cpu = time.perf_counter(), time.process_time()
        solved = maker.solve(PriorInputs(frames, DISFlow(), {}), focal)
        figures = {
            "frames": len(frames), "size": frames.size, "interpolated": len(solved.interpolated),
            "seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1),
            **dataclasses.asdict(solved)["report"], "still": solved.still, "notes": solved.notes,
        }  # fmt: skip
        if reference is not None:
            poses, true_focal = reference_cameras(reference, frames.size)
            error, length = trajectory_error(solved.world_T_camera, poses)
            figures |= {
                "ate_percent_of_path": round(100 * error / length, 3),
                "focal_error_percent": round(100 * (solved.K[0, 0] / true_focal - 1), 2),
            }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
