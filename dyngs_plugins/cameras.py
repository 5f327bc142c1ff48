"""Cameras between two worlds, and the time of a camera that does not say it.

nerfstudio keeps camera-to-world matrices with OpenGL axes (x right, y up, z backward); the rasterizer and everything
else here wants world-to-camera with OpenCV axes (x right, y down, z forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

OPENGL_TO_OPENCV = (1.0, -1.0, -1.0)


def camera_T_world_from_opengl(world_T_camera: Float[Tensor, "b 3 4"]) -> Float[Tensor, "b 4 4"]:
    """OpenCV world-to-camera matrices from nerfstudio's OpenGL camera-to-world ones."""
    right, up, back, centre = world_T_camera[:, :3].split(1, dim=2)
    inverse = torch.cat([right, -up, -back], dim=2).transpose(1, 2)
    # Made where the cameras are: numbers brought to a GPU one by one wait for it.
    bottom = torch.eye(4, dtype=centre.dtype, device=centre.device)[3:].expand(world_T_camera.shape[0], 1, 4)
    return torch.cat([torch.cat([inverse, -inverse @ centre], dim=2), bottom], dim=1)


def intrinsics_as_axes(
    camera_T_world: Float[Tensor, "b 4 4"], K: Float[Tensor, "b 3 3"]
) -> tuple[Float[Tensor, "b 4 4"], Float[Tensor, "b 3 3"]]:
    """The same cameras with intrinsics that need no gradient: what the rasterizer takes.

    It has gradients for cameras but none for intrinsics. ``K`` is a constant times a change of the camera's axes,
    ``K0 (K0^-1 K)``; the change is the identity in value and carries the gradient.
    """
    if not K.requires_grad:
        return camera_T_world, K
    constant = K.detach()
    change = torch.linalg.inv(constant) @ K
    return torch.cat([change @ camera_T_world[:, :3], camera_T_world[:, 3:]], dim=1), constant


@dataclass(frozen=True)
class TimedPath:
    """Camera poses of one physical camera of one split, in any order."""

    world_T_camera: Float[Tensor, "v 3 4"]
    times: Float[Tensor, "v"]
    views: Int[Tensor, "v"] | None = None
    """Which of the split's views they are; None: 0, 1, ..."""
    split: int = 0


@dataclass(frozen=True)
class Place:
    """A place between two views of a split that follow each other in time."""

    split: int
    before: int
    after: int
    share: float
    """How far it is from the one to the other, in [0, 1]."""
    time: float


class PathClock:
    """Tells the time of a pose that carries none, from its place on the known camera paths.

    ``ns-render interpolate`` drops times but walks straight from pose to pose: a pose on a segment between two known
    ones gets the time in between, so that interpolating the path plays the video.
    """

    def __init__(self, paths: Sequence[TimedPath], default: float = 0.0):
        starts, ends, t0, t1, views = [], [], [], [], []
        for path in paths:
            order = torch.argsort(path.times)
            poses, times = path.world_T_camera[order].detach().cpu().float(), path.times[order].detach().cpu().float()
            known = torch.arange(len(order)) if path.views is None else path.views.cpu()
            starts.append(poses[:-1])
            ends.append(poses[1:])
            t0.append(times[:-1])
            t1.append(times[1:])
            rows = known[order.cpu()]
            views.append(torch.stack([torch.full_like(rows[1:], path.split), rows[:-1], rows[1:]], dim=1))
        empty = torch.zeros(0, 3, 4)
        self._start, self._end = torch.cat([empty, *starts]), torch.cat([empty, *ends])
        self._t0, self._t1 = torch.cat([torch.zeros(0), *t0]), torch.cat([torch.zeros(0), *t1])
        self._views = torch.cat([torch.zeros(0, 3, dtype=torch.long), *views])
        self.default = default

    def time_of(self, world_T_camera: Float[Tensor, "3 4"]) -> float:
        """The time of the nearest place on the paths; ``default`` where the known cameras stand still."""
        place = self.place_of(world_T_camera)
        return self.default if place is None else place.time

    def place_of(self, world_T_camera: Float[Tensor, "3 4"]) -> Place | None:
        """The nearest place on the paths; None where the known cameras stand still."""
        if self._t0.numel() == 0:
            return None
        pose = world_T_camera.detach().cpu().float()
        a, b = self._start[:, :, 3], self._end[:, :, 3]
        # The viewing axis counts as a point one path step ahead, so that a camera that only turns has a path too.
        reach = (b - a).norm(dim=-1).mean().clamp_min(0.1)
        a6 = torch.cat([a, reach * self._start[:, :, 2]], dim=1)
        b6 = torch.cat([b, reach * self._end[:, :, 2]], dim=1)
        p6 = torch.cat([pose[:, 3], reach * pose[:, 2]])
        along = b6 - a6
        length = along.square().sum(1)
        s = (((p6 - a6) * along).sum(1) / length.clamp_min(1e-12)).clamp(0, 1)
        distance = (p6 - (a6 + s[:, None] * along)).norm(dim=1)
        best = int(distance.argmin())
        if length[best] < 1e-10:
            return None
        split, before, after = self._views[best].tolist()
        time = float(self._t0[best] + s[best] * (self._t1[best] - self._t0[best]))
        return Place(split, before, after, float(s[best]), time)
