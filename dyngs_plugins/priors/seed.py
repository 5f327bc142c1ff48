"""Points to start from where a clip has no depth: its point cloud, or random places in front of its cameras.

Points are in the frame of the views' cameras.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.priors.lifting import project, unproject
from dyngs_plugins.priors.views import ClipViews

LOOK = 32
"""Views that vote on which random points are seen in common; more would only cost time."""
DRAWN = 4
"""Random candidates per point that is kept."""
UNSEEN = 0.5
"""Colour of a point that no view shows."""


def cloud_points(
    views: ClipViews, num: int, generator: torch.Generator
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """At most ``num`` random points of the clip's cloud and their colours, read from the images if it has none."""
    assert views.points is not None
    keep = torch.randperm(len(views.points), generator=generator)[:num]
    points = views.points[keep].float()
    if views.point_colors is not None:
        return points, views.point_colors[keep].float() / 255.0
    return points, colors_from_images(views, points)


def colors_from_images(views: ClipViews, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The colour of each point in the view that has it nearest to its middle; grey where none shows it.

    Nothing says what hides a point, so a point behind something takes the colour of what is in front.
    """
    best = torch.full((len(points),), float("inf"))
    colors = torch.full((len(points), 3), UNSEEN)
    middle = torch.tensor([views.width, views.height]) / 2 - 0.5
    for i in range(len(views)):
        pixels, seen = _seen(views, i, points)
        off = (pixels - middle).norm(dim=-1)
        rows = torch.nonzero(seen & (off < best)).flatten()
        if len(rows) == 0:
            continue
        x, y = pixels[rows].round().long().unbind(-1)
        colors[rows] = views.image(i)[y.clamp(0, views.height - 1), x.clamp(0, views.width - 1)]
        best[rows] = off[rows]
    return colors


def random_points(
    views: ClipViews, num: int, generator: torch.Generator
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """``num`` random points that as many views as possible see, with the colours of the pixels they lie behind.

    Along each ray between the clip's near and far where it says them, else from half to one and a half times the
    distance to what the cameras look at, evenly in disparity.
    """
    chosen = torch.randint(len(views), (DRAWN * num,), generator=generator)
    size = torch.tensor([float(views.width), float(views.height)])
    pixels = torch.rand(len(chosen), 2, generator=generator) * size - 0.5
    near, far = _depth_range(views)
    share = torch.rand(len(chosen), generator=generator)
    depth = 1.0 / (share / near[chosen] + (1 - share) / far[chosen])
    points = torch.zeros(len(chosen), 3)
    for i in chosen.unique().tolist():
        mine = chosen == i
        pose = views.world_T_camera[i]
        points[mine] = unproject(pixels[mine], depth[mine], views.K[i]) @ pose[:3, :3].T + pose[:3, 3]
    voters = torch.linspace(0, len(views) - 1, min(LOOK, len(views))).round().long()
    votes = sum((_seen(views, i, points)[1].long() for i in voters.tolist()), start=torch.zeros(len(points)))
    kept = (-votes).argsort(stable=True)[:num]
    # Half of the views are enough: the very middle alone would leave out the rim of every image.
    common = torch.nonzero(votes >= len(voters) / 2).flatten()
    if len(common) >= num:
        kept = common[:num]
    return points[kept], _pixel_colors(views, chosen[kept], pixels[kept])


def focus_point(views: ClipViews) -> Float[Tensor, "3"] | None:
    """The point nearest to all optical axes; None where they are (nearly) parallel, or it lies behind cameras."""
    poses = views.world_T_camera.double()
    axes, centers = poses[:, :3, 2], poses[:, :3, 3]
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]
    total = across.sum(dim=0)
    if float(torch.linalg.eigvalsh(total)[0]) < 1e-3 * len(views):  # axes within about two degrees of each other
        return None
    focus = torch.linalg.solve(total, (across @ centers[..., None]).sum(dim=0))[:, 0]
    ahead = ((focus - centers) * axes).sum(dim=-1) > 0
    return focus.float() if bool(ahead.all()) else None


def _depth_range(views: ClipViews) -> tuple[Float[Tensor, "v"], Float[Tensor, "v"]]:
    """Nearest and farthest depth of random points, per view."""
    if views.near_far is not None:
        near, far = (torch.full((len(views),), float(depth)) for depth in views.near_far)
        return near, far
    centers, axes = views.world_T_camera[:, :3, 3], views.world_T_camera[:, :3, 2]
    focus = focus_point(views)
    if focus is None:  # a scene frame has a size of about one; a path's length says no more than that
        spread = (centers - centers.mean(dim=0)).norm(dim=-1).max()
        distance = torch.full((len(views),), max(1.0, 3.0 * float(spread)))
    else:
        distance = ((focus - centers) * axes).sum(dim=-1)
    return 0.5 * distance, 1.5 * distance


def _seen(views: ClipViews, index: int, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, "n"]]:
    pixels, z = project(points, views.camera_T_world[index], views.K[index])
    edge = torch.tensor([views.width, views.height]) - 0.5
    return pixels, (z > 1e-6) & ((pixels >= -0.5) & (pixels <= edge)).all(dim=-1)


def _pixel_colors(views: ClipViews, chosen: Int[Tensor, "n"], pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    colors = torch.zeros(len(chosen), 3)
    x = pixels[:, 0].round().long().clamp(0, views.width - 1)
    y = pixels[:, 1].round().long().clamp(0, views.height - 1)
    for i in chosen.unique().tolist():
        mine = chosen == i
        colors[mine] = views.image(i)[y[mine], x[mine]]
    return colors
