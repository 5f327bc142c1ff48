"""The scene frame: up along +z, the moving things at the origin and about one unit in size.

Source: Shape of Motion, scene normalisation (the method sheet, 1.3).
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.clip_files import GroundTruthTracks
from dyngs_plugins.priors.lifting import Tracks3D, background_points, foreground_points, lift_tracks
from dyngs_plugins.priors.views import ClipViews

MIN_POINTS = 100
"""Fewer points than this say nothing about the size of a scene: a mask's stray pixels would blow it up."""

PASSING_BYTES = 256 << 20
"""Memory for images and depths while a clip is normalised."""

T = TypeVar("T")


@dataclass(frozen=True)
class SceneNormalisation:
    """A rigid motion followed by a division: ``x_scene = (normalised_T_world x_world) / scale``."""

    scale: float
    """World units per scene unit."""
    normalised_T_world: Float[Tensor, "4 4"]
    """Rigid; the scale is not baked in."""

    def points(self, world: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """World points in the scene frame."""
        rigid = self.normalised_T_world
        return (world @ rigid[:3, :3].T + rigid[:3, 3]) / self.scale

    def cameras(self, camera_T_world: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
        """World-to-camera matrices as scene-to-camera ones, in scene units: no reprojection changes."""
        moved = camera_T_world @ torch.linalg.inv(self.normalised_T_world)
        moved[..., :3, 3] /= self.scale
        return moved

    def views(self, views: ClipViews) -> ClipViews:
        """Cameras and every prior in metric units, in the scene frame."""
        return views.rescaled(self.cameras(views.camera_T_world), 1.0 / self.scale)

    def tracks(self, tracks: GroundTruthTracks) -> GroundTruthTracks:
        """Ground-truth tracks in the scene frame."""
        return replace(tracks, points=self.points(tracks.points))


IDENTITY = SceneNormalisation(1.0, torch.eye(4))


def scene_normalisation(
    points: Tracks3D | Float[Tensor, "n 3"], camera_T_world: Float[Tensor, "v 4 4"]
) -> SceneNormalisation:
    """Centre, orientation and scale from points (of tracks: where they are visible) and the cameras' up.

    Centre: the mean point. Scale: half the largest axis-aligned 5-95 % width. Up: minus the mean of the cameras' y
    axes (image down), turned onto +z about the axis perpendicular to both.

    Raises:
        ValueError: no points, or points without any extent.
    """
    points = points.points[points.visible] if isinstance(points, Tracks3D) else points
    if len(points) == 0:
        raise ValueError("A scene cannot be normalised without points: found none.")
    points = points.double()
    center = points.mean(dim=0)
    low, high = (_quantile(points, q) for q in (0.05, 0.95))
    scale = float((high - low).max()) / 2
    if not scale > 0:
        raise ValueError(f"A scene cannot be normalised by {len(points)} points that all lie at one place.")
    rotation = rotation_onto_z(_mean_up(camera_T_world.double()))
    rigid = torch.eye(4, dtype=torch.float64)
    rigid[:3, :3] = rotation
    rigid[:3, 3] = -rotation @ center
    return SceneNormalisation(scale, rigid.float())


def normalise_clip(views: ClipViews, num_tracks: int, seed: int) -> SceneNormalisation:
    """The scene frame of a clip in the world of its files: from lifted tracks if it has them, else from less.

    Without tracks that are visible on the moving mask, moving pixels with known depth are used; without those, the
    background's. Each step down is said in a warning. Deterministic for a seed.
    """
    generator = torch.Generator().manual_seed(seed)
    step = max(1, views.num_frames // 10)
    attempts = []
    views = views.cached_in(MemoryCache(PASSING_BYTES))  # the loader keeps the views, but nobody looks again
    if views.tracks is not None and views.priors.depth_files is not None and views.priors.mask_files is not None:
        tracks = lift_tracks(views, num_tracks, generator, step)
        attempts.append(("visible tracks on the moving mask", tracks.points[tracks.visible]))
    if not _enough(attempts) and views.priors.depth_files is not None:
        if views.priors.mask_files is not None:
            attempts.append(("moving pixels of known depth", foreground_points(views, num_tracks, generator, step)))
        if not _enough(attempts):
            attempts.append(("background pixels of known depth", background_points(views, num_tracks, generator)[0]))
    name, points = attempts[-1] if attempts else ("", torch.zeros(0, 3))
    if len(points) < MIN_POINTS:
        warnings.warn(
            "The scene is left in the frame of its camera files: there are no points of known depth to normalise it "
            "by. Learning rates and thresholds expect a scene of about one unit.",
            stacklevel=2,
        )
        return IDENTITY
    if len(attempts) > 1:
        found = "; ".join(f"{len(p)} {n}" for n, p in attempts[:-1])
        warnings.warn(f"The scene frame is taken from {len(points)} {name}, because there are too few better points "
                      f"({found}).", stacklevel=2)  # fmt: skip
    return scene_normalisation(points, views.camera_T_world)


def read_scene_norm(path: Path) -> SceneNormalisation:
    """Read Shape of Motion's ``scene_norm_dict.pth`` {scale, transfm}; only tensors are unpickled.

    Raises:
        ValueError: not such a dictionary, or not a rigid transform with a positive scale.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        scale = float(content["scale"])
        rigid = torch.as_tensor(content["transfm"], dtype=torch.float32).reshape(4, 4)
    except pickle.UnpicklingError as error:  # torch's own message suggests to load it without protection
        raise ValueError(
            f"{path}: refused. It holds more than tensors and numbers, or is damaged; nothing of it was executed. "
            "Delete the file; the frame is then computed anew."
        ) from error
    except Exception as error:  # torch.load raises many kinds; each means the same to the user
        raise ValueError(
            f"{path}: cannot be read as a scene normalisation ({type(error).__name__}: {error}). Expected a dictionary "
            "of tensors, {scale: float, transfm: 4x4}. Delete the file; the frame is then computed anew."
        ) from error
    rotation = rigid[:3, :3]
    is_rigid = bool(torch.isfinite(rigid).all()) and torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-3)
    if not (scale > 0 and is_rigid):
        raise ValueError(f"{path}: scale {scale} and transfm {rigid.tolist()} are not a positive scale and a rigid "
                         "transform. Delete the file; the frame is then computed anew.")  # fmt: skip
    return SceneNormalisation(scale, rigid)


def rotation_onto_z(direction: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The rotation about ``direction x z`` that turns a unit direction onto +z.

    Rodrigues' formula in sine and cosine. Where the axis vanishes it is the identity, or half a turn about x.
    """
    x, y, cosine = direction
    axis = torch.stack([y, -x, torch.zeros_like(x)])  # direction x z; its length is the sine
    sine_squared = axis.square().sum()
    if sine_squared < 1e-12:
        return torch.diag(torch.ones_like(direction)) if cosine > 0 else torch.diag(direction.new_tensor([1, -1, -1]))
    cross = direction.new_zeros(3, 3)
    cross[0, 2], cross[2, 0] = axis[1], -axis[1]
    cross[1, 2], cross[2, 1] = -axis[0], axis[0]
    return torch.eye(3, dtype=direction.dtype) + cross + cross @ cross * ((1 - cosine) / sine_squared)


def _mean_up(camera_T_world: Float[Tensor, "v 4 4"]) -> Float[Tensor, "3"]:
    ups = -camera_T_world[:, 1, :3]
    mean = ups.mean(dim=0)
    if mean.norm() < 1e-3:  # cameras that roll all the way round cancel; the first one is as good as any
        mean = ups[0]
    return mean / mean.norm()


def _quantile(points: Float[Tensor, "n 3"], q: float) -> Float[Tensor, "3"]:
    """Linear-interpolation quantiles per axis, of any number of points (torch.quantile stops at 16 million)."""
    ordered = points.sort(dim=0).values
    place = q * (len(points) - 1)
    low = int(place)
    high = min(low + 1, len(points) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _enough(attempts: list[tuple[str, Tensor]]) -> bool:
    return bool(attempts) and len(attempts[-1][1]) >= MIN_POINTS
