"""The scene frame of nerf-pytorch and its descendants: the average camera at the origin, the nearest bound at 4/3.

Their steps scale positions by ``1 / (bd_factor nearest)``, move them into the average camera, and for captures around
an object once more into its own frame. All of it is one rigid motion and one scale, which is how it is given here.

Source: Mildenhall et al., "Local Light Field Fusion" (2019) and "NeRF" (2020), the code for LLFF scenes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float

from dyngs_plugins.priors.llff_files import LlffCameras
from dyngs_plugins.priors.normalise import SceneNormalisation

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def llff_frame(
    cameras: LlffCameras,
    bd_factor: float | None = 0.75,
    recenter: bool = True,
    spherify: bool = False,
    bounds_percentile: float = 0.0,
) -> SceneNormalisation:
    """The frame of all cameras, held-out ones included: the published recipe, under which poses are known to all.

    Args:
        bd_factor: the nearest bound comes to lie at ``1 / bd_factor``; None leaves the units.
        recenter: put the average camera at the origin, looking along -z with y up.
        spherify: for captures around an object: its centre at the origin, up along +z, cameras at RMS distance 1.
        bounds_percentile: which percentile of the near bounds is the nearest one; 0 the smallest of all.

    Raises:
        ValueError: bounds that are not positive, or cameras that all stand at one place.
    """
    world_T_camera = cameras.world_T_camera.astype(np.float64) @ _OPENGL
    frame_T_world = np.linalg.inv(average_pose(world_T_camera)) if recenter else np.eye(4)
    if spherify:
        inner = frame_T_world @ world_T_camera
        frame_T_world = np.linalg.inv(object_frame(inner)) @ frame_T_world
        radius = float(np.sqrt(np.square((frame_T_world @ world_T_camera)[:, :3, 3]).sum(axis=1).mean()))
        return SceneNormalisation(radius, torch.from_numpy(frame_T_world).float())
    scale = 1.0
    if bd_factor is not None:
        nearest = float(np.percentile(cameras.bounds[:, 0], bounds_percentile))
        if not (np.isfinite(cameras.bounds).all() and nearest > 0 and bd_factor > 0):
            raise ValueError(
                f"poses_bounds.npy has the nearest bound {nearest:g} and bd_factor is {bd_factor:g}; expected positive "
                "numbers. Write the bounds again, or leave the units with `bd_factor None`."
            )
        scale = nearest * bd_factor
    return SceneNormalisation(scale, torch.from_numpy(frame_T_world).float())


def average_pose(world_T_camera: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "4 4"]:
    """The mean camera of OpenGL poses: mean position, summed backward axis, and x from the summed up axis."""
    backward = _unit(world_T_camera[:, :3, 2].sum(axis=0), "the cameras' viewing directions cancel out")
    up = world_T_camera[:, :3, 1].sum(axis=0)
    x = _unit(np.cross(up, backward), "the cameras' up is their viewing direction")
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(backward, x), backward], axis=1)
    pose[:3, 3] = world_T_camera[:, :3, 3].mean(axis=0)
    return pose


def object_frame(world_T_camera: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "4 4"]:
    """The frame of what OpenGL cameras look at: the point nearest to all optical axes, z from it to the cameras."""
    origins, axes = world_T_camera[:, :3, 3], world_T_camera[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # projections along the axes
    normal = across.sum(axis=0)
    if np.linalg.cond(normal) > 1e8:
        raise ValueError(
            "The cameras of poses_bounds.npy all look the same way, so they have no point in common to look at. "
            "Expected a capture around an object: leave spherify off for forward-facing scenes."
        )
    center = np.linalg.solve(normal, (across @ origins[:, :, None]).sum(axis=0)[:, 0])
    up = _unit((origins - center).mean(axis=0), "the cameras stand evenly all around")
    x = _unit(np.cross([0.1, 0.2, 0.3], up), "the cameras' mean direction is (1, 2, 3)")
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(up, x), up], axis=1)
    pose[:3, 3] = center
    return pose


def faces_forward(
    world_T_camera: Float[np.ndarray, "n 4 4"],
    K: Float[np.ndarray, "n 3 3"],
    size: tuple[int, int],
    near: Float[np.ndarray, "n"],
) -> bool:
    """Whether normalised device coordinates make sense for OpenGL cameras in an LLFF frame.

    They do if every ray of every camera runs along -z, and if what is nearest to each camera on its axis, at its
    ``near`` bound, lies behind the near plane at z = -1. Cameras that look down on an object from all sides pass the
    first test and not the second: the plane would cut the object.
    """
    width, height = size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
    x = (corners[None, :, 0] - K[:, None, 0, 2]) / K[:, None, 0, 0]
    y = (K[:, None, 1, 2] - corners[None, :, 1]) / K[:, None, 1, 1]
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1) @ world_T_camera[:, :3, :3].transpose(0, 2, 1)
    forward: Bool[np.ndarray, "n 4"] = directions[..., 2] < -1e-3
    nearest = world_T_camera[:, 2, 3] - near * world_T_camera[:, 2, 2]
    return bool(forward.all() and (world_T_camera[:, 2, 3] > -1.0).all() and (nearest < -1.0).all())


def _unit(vector: Float[np.ndarray, "3"], otherwise: str) -> Float[np.ndarray, "3"]:
    length = np.linalg.norm(vector)
    if not length > 1e-6:
        raise ValueError(
            f"poses_bounds.npy has no average camera: {otherwise}. Expected views of one side; for a capture all "
            "around an object turn recentring off and spherify on, or leave the LLFF frame off."
        )
    return vector / length
