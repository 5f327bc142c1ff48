"""A camera provider that knows the sample's cameras, to test the pipeline without waiting for a solver."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from dyngs_plugins.hooks import registry
from dyngs_plugins.priors.providers.camera_base import CameraProvider, SolvedCameras
from dyngs_plugins.priors.som_files import read_cameras


@dataclasses.dataclass
class TrueCameras(CameraProvider):
    """Reads droid_recon/camera0.npy of the folder `truth`; every frame's name is its time step."""

    name: ClassVar[str] = "true"

    truth: str = ""
    still: bool = False

    def solve(self, inputs, focal):
        poses, K = self._read(inputs)
        inputs.flow(0, 1)  # what a solver would look at
        return SolvedCameras(
            poses, K, interpolated=(1,), still=self.still, report={"reprojection px": 0.25, "from": "truth"},
            notes=("The camera stands still: no depth can be triangulated from it.",) if self.still else (),
        )  # fmt: skip

    def locate(self, inputs, solved, frames):
        poses, _ = self._read(inputs)
        np.testing.assert_array_equal(poses[list(frames)], solved.world_T_camera)
        return poses

    def _read(self, inputs):
        known = read_cameras(Path(self.truth) / "droid_recon" / "camera0.npy")
        steps = [int(file.stem.split("_")[-1]) for file in inputs.frames.image_files]
        poses = known.world_T_camera[[0] * len(steps) if self.still else steps]
        return poses, known.K(inputs.frames.size[1], inputs.frames.size[0])


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """As long as it lasts, `--cameras true` is this provider."""
    providers: dict = registry().prior_providers  # type: ignore[assignment]
    before = providers.get("cameras")
    providers["cameras"] = {**(before or {}), "true": TrueCameras}
    try:
        yield
    finally:
        if before is None:
            del providers["cameras"]
        else:
            providers["cameras"] = before
