"""Nerfies' camera files, ``camera/NAME.json``: of Nerfies, HyperNeRF, NeRF-DS and DyCheck's captures.

Source: Park et al., "Nerfies: Deformable Neural Radiance Fields" (2021), the capture format of its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.files import check_poses, number, whole


@dataclass(frozen=True)
class NerfiesCamera:
    """One camera, for images at full size (the folder ``1x``). World coordinates are those of the files."""

    world_T_camera: Float[Tensor, "4 4"]
    """OpenCV axes."""
    K: Float[Tensor, "3 3"]
    """Pixel centres at +0.5."""
    distortion: Float[Tensor, "6"]
    """k1, k2, k3, k4, p1, p2, nerfstudio's order."""
    size: tuple[int, int] | None
    """Width and height of the full-size image, where the file says so."""

    def reduced_K(self, path: Path, image: Path, size: tuple[int, int], factor: int) -> Float[Tensor, "3 3"]:
        """K for an image of ``size`` (width, height) that lies in the folder ``{factor}x``.

        Raises:
            ValueError: the image is not 1/factor of the size that the camera file says.
        """
        if self.size is None:
            return torch.diag(torch.tensor([1.0 / factor, 1.0 / factor, 1.0])) @ self.K
        expected = self.size[0] / factor, self.size[1] / factor
        if max(abs(size[0] - expected[0]), abs(size[1] - expected[1])) > 1.0:
            raise ValueError(
                f"{image}: the image is {size[0]}x{size[1]}, expected about {expected[0]:.0f}x{expected[1]:.0f} (width "
                f"x height): {path} says {self.size[0]}x{self.size[1]} at full size, and the folder is {factor}x. Put "
                "images of that size there, or pick the folder with --downscale-factor."
            )
        return torch.diag(torch.tensor([size[0] / self.size[0], size[1] / self.size[1], 1.0])) @ self.K


def read_nerfies_camera(path: Path) -> NerfiesCamera:
    """Read one camera file.

    ``orientation`` is the rotation from world to camera, ``position`` the centre; ``pixel_aspect_ratio`` is fy / fx;
    coefficients of distortion do not depend on the image's size.

    Raises:
        FileNotFoundError, ValueError: missing, not JSON, incomplete, not finite, not rigid, or skewed.
    """
    camera = read_json(path, "camera file")
    try:
        rotation = np.array([[number(x) for x in row] for row in camera["orientation"]]).reshape(3, 3)
        center = np.array([number(x) for x in camera["position"]]).reshape(3)
        focal, (cx, cy) = number(camera["focal_length"]), map(number, camera["principal_point"])
        aspect, skew = number(camera["pixel_aspect_ratio"]), number(camera.get("skew", 0.0))
        radial, tangential = camera["radial_distortion"], camera.get("tangential_distortion", camera.get("tangential"))
        k1, k2, k3 = _coefficients(radial, 3, 3)
        p1, p2, *_ = _coefficients(tangential, 2, 3)
        size = camera.get("image_size")
        if size is not None and not (len(size) == 2 and all(whole(side, least=1) for side in size)):
            raise ValueError(f"image_size {size!r}")
        size = None if size is None else (size[0], size[1])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: not a Nerfies camera ({error!r}). Expected orientation (3x3), position (3), "
                         f"focal_length, principal_point (2), pixel_aspect_ratio, radial_distortion (3), tangential_distortion (2); found {sorted(camera)}.") from error  # fmt: skip
    numbers = np.array([focal, cx, cy, aspect, skew, k1, k2, k3, p1, p2])
    if not np.isfinite(numbers).all() or focal <= 0 or aspect <= 0:
        raise ValueError(
            f"{path}: focal_length {focal}, principal_point {(cx, cy)}, pixel_aspect_ratio {aspect}, distortion "
            f"{(k1, k2, k3, p1, p2)}. Expected finite numbers and a positive focal length. Solve this camera again."
        )
    if abs(skew) > 1e-3 * focal:
        raise ValueError(f"{path}: skew is {skew}; expected 0. Rectify the images, for no renderer here has skew.")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, center
    check_poses(path, pose[None], "orientation and position")
    return NerfiesCamera(
        world_T_camera=torch.from_numpy(pose).float(),
        K=torch.tensor([[focal, 0.0, cx], [0.0, focal * aspect, cy], [0.0, 0.0, 1.0]]),
        distortion=torch.tensor([k1, k2, k3, 0.0, p1, p2]),
        size=size,
    )


def read_original_camera(path: Path, factor: int = 1) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    """Pose (camera-to-world, OpenCV) and K of a camera file, for images reduced by ``factor``.

    Distortion is left out, as Shape of Motion does; DyCheck's captures have none.
    """
    camera = read_nerfies_camera(path)
    return camera.world_T_camera, torch.diag(torch.tensor([1.0 / factor, 1.0 / factor, 1.0])) @ camera.K


def _coefficients(values: Any, least: int, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) < least:
        raise ValueError(f"coefficients of distortion {values!r}; expected a list of at least {least}")
    numbers = [number(value) for value in values]
    if any(numbers[count:]):
        raise ValueError(f"{len(numbers)} coefficients of distortion, {numbers}; expected at most {count}")
    return (numbers + [0.0] * count)[:count]
