"""The host's cameras as views to render, and as paths that tell the time."""

from __future__ import annotations

from copy import deepcopy

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from dyngs_plugins.cameras import PathClock, TimedPath, camera_T_world_from_opengl
from dyngs_plugins.scene import Views


def views_of(
    cameras: Cameras,
    clock: PathClock,
    device: torch.device,
    index: Tensor | None = None,
    size: tuple[int, int] | None = None,
) -> Views:
    """Cameras ``[b]`` as views; those without times get theirs from the clock.

    Args:
        index: which training views they are, while training.
        size: height and width in pixels, where they are known: reading them from a GPU waits for all it has to do.
    """
    poses = cameras.camera_to_worlds
    if cameras.times is None:
        times = torch.tensor([clock.time_of(pose) for pose in poses])
    else:
        times = cameras.times.reshape(-1).clamp(0, 1)  # the host's camera-path splines overshoot
    height, width = size or (int(cameras.height.flatten()[0]), int(cameras.width.flatten()[0]))
    return Views(
        camera_T_world=camera_T_world_from_opengl(poses).float().to(device),
        K=_intrinsics(cameras).float().to(device),
        time=times.float().to(device),
        width=width,
        height=height,
        index=index,
    )


def _intrinsics(cameras: Cameras) -> Float[Tensor, "b 3 3"]:
    """What ``get_intrinsics_matrices`` gives, where the cameras are: it fills a matrix of the CPU with numbers of a GPU."""
    zero, one = torch.zeros_like(cameras.fx), torch.ones_like(cameras.fx)
    rows = [cameras.fx, zero, cameras.cx, zero, cameras.fy, cameras.cy, zero, zero, one]
    return torch.cat(rows, dim=-1).unflatten(-1, (3, 3))


def timed_paths(splits: list[Cameras]) -> list[TimedPath]:
    """The path of every physical camera of every split (splits without times have none)."""
    paths = []
    for split, cameras in enumerate(splits):
        if cameras.times is None:
            continue
        metadata = cameras.metadata or {}
        camera_index = metadata.get("camera_index", torch.zeros(len(cameras), 1)).reshape(-1)
        for index in camera_index.unique():
            rows = (camera_index == index).nonzero().flatten()
            times = cameras.times.reshape(-1)[rows]
            paths.append(TimedPath(cameras.camera_to_worlds[rows], times, rows, split))
    return paths


def rolled_for_spirals(cameras: Cameras) -> Cameras:
    """One camera, turned about its optical axis so that ``ns-render spiral`` around it shows the scene upright.

    The host takes the world coordinates of the optical axis for the camera's own coordinates of up, which turns its
    spirals about that axis: upside down where the camera looks along +y. Turning the camera the other way leaves the
    axis, and so the host's mistake, as it is. A camera that looks along z (where the host's up says nothing) is not
    turned.
    """
    poses = cameras.camera_to_worlds
    taken_for_up = poses[..., :2, 2]
    roll = torch.pi / 2 - torch.atan2(taken_for_up[..., 1], taken_for_up[..., 0])
    roll = torch.where(taken_for_up.norm(dim=-1) > 1e-3, roll, torch.zeros_like(roll))
    turned = poses.clone()
    turned[..., 0] = poses[..., 0] * roll.cos()[..., None] + poses[..., 1] * roll.sin()[..., None]
    turned[..., 1] = poses[..., 1] * roll.cos()[..., None] - poses[..., 0] * roll.sin()[..., None]
    upright = deepcopy(cameras)
    upright.camera_to_worlds = turned
    return upright
