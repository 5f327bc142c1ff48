"""From 2-D priors to 3-D points: tracks lifted by depth, and points of the static background.

Points are in the frame of the views' cameras. Pixel coordinates have integer centres, K has them at +0.5.
Source: Shape of Motion, track lifting and background initialisation (the method sheet, 1.4 and 1.5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.priors.vector_maps import pixel_grid
from dyngs_plugins.priors.views import ClipViews


@dataclass(frozen=True)
class Tracks3D:
    """Points followed through a clip. Frames without an image: not visible, confidence 0, position 0."""

    points: Float[Tensor, "n t 3"]
    visible: Bool[Tensor, "n t"]
    invisible: Bool[Tensor, "n t"]
    """Surely hidden: the position is that of whatever hides the point, along its ray."""
    confidence: Float[Tensor, "n t"]
    colors: Float[Tensor, "n 3"]
    query_frame: Int[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.points)

    def select(self, rows: Tensor) -> Tracks3D:
        """Some of the tracks, by index or by a boolean mask."""
        return Tracks3D(**{name: value[rows] for name, value in vars(self).items()})


def lift_tracks(views: ClipViews, num: int, generator: torch.Generator, step: int = 1) -> Tracks3D:
    """Lift about ``num`` random tracks of the moving things into 3-D.

    An equal share of random query pixels from every view; in each other view of the same camera the depth at the
    tracked pixel gives the point. Flags hold only where the tracked pixel lies on surely moving pixels of known depth
    (all neighbours that bilinear sampling uses); tracks are kept if they do so at their own query, and are visible in
    more than the least visible ones: at least min(5 % of the frames, the 10 % quantile).

    Args:
        step: use every ``step``-th time step only, for queries and targets alike.

    Raises:
        ValueError: the clip lacks tracks, depth or masks.
    """
    if views.tracks is None:
        raise ValueError("This clip has no tracks to lift. Make them with `dyngs process`.")
    used = every_nth_frame(views, step)
    queries, rows = _draw_queries(views, used, num, generator)
    tracks = _empty(len(queries), views)
    xy = _observe(views, used, queries, rows, tracks)
    on_moving = _lift(views, used, queries, xy, tracks)
    counts = tracks.visible.sum(dim=1)
    at_query = on_moving[torch.arange(len(queries)), tracks.query_frame]
    if not bool(at_query.any()):
        return tracks.select(at_query)
    bar = min(math.floor(0.05 * len(used)), float(torch.quantile(counts.float(), 0.1)))
    return tracks.select(at_query & (counts >= bar))


def background_points(
    views: ClipViews, num: int, generator: torch.Generator
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """At most ``num`` points of the static background with normals (0 where unknown) and colours.

    With key-frames (casual video): each in turn adds at most ``max(num / 8, 64)`` random static pixels outside the
    bounding box of what the earlier ones' points cover. Without them (iPhone), or where no key-frame has enough
    pixels left, every view gives an equal share.

    Raises:
        ValueError: the clip has no depth.
    """
    parts = [] if views.keyframes is None else _from_keyframes(views, num, generator)
    if views.keyframes is not None and not parts:
        warnings.warn("No key-frame has enough static pixels of known depth; background points are taken from "
                      "every frame.", stacklevel=2)  # fmt: skip
    if not parts:
        share = math.ceil(num / len(views))
        parts = [_static_sample(views, i, _static_pixels(views, i), share, generator) for i in range(len(views))]
    points, normals, colors = (torch.cat(values) for values in zip(*parts, strict=True))
    if len(points) == 0:
        warnings.warn("The clip has no static pixel of known depth: there are no background points.", stacklevel=2)
    keep = torch.randperm(len(points), generator=generator)[:num]
    return points[keep], normals[keep], colors[keep]


def foreground_points(views: ClipViews, num: int, generator: torch.Generator, step: int = 1) -> Float[Tensor, "m 3"]:
    """At most about ``num`` random points of the moving things, from depth and masks of every ``step``-th frame."""
    used = every_nth_frame(views, step)
    share = math.ceil(num / max(len(used), 1))
    points = []
    for i in used:
        places = torch.nonzero((views.dynamic(i) == 1).flatten() & (views.depth(i) > 0).flatten()).flatten()
        places = places[torch.randperm(len(places), generator=generator)[:share]]
        points.append(unproject_map(views, i).reshape(-1, 3)[places])
    return torch.cat(points) if points else torch.zeros(0, 3)


def unproject(xy: Float[Tensor, "*n 2"], depth: Float[Tensor, "*n"], K: Float[Tensor, "3 3"]) -> Float[Tensor, "*n 3"]:
    """Camera points of pixels (integer centres) at a z-depth."""
    x = (xy[..., 0] + 0.5 - K[0, 2]) / K[0, 0]
    y = (xy[..., 1] + 0.5 - K[1, 2]) / K[1, 1]
    return torch.stack([x * depth, y * depth, depth], dim=-1)


def project(
    points: Float[Tensor, "n 3"], camera_T_world: Float[Tensor, "4 4"], K: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """Pixels (integer centres) and z-depths of world points; the inverse of :func:`unproject`."""
    camera = points @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
    z = camera[:, 2]
    pixels = camera[:, :2] / z[:, None] * torch.stack([K[0, 0], K[1, 1]]) + K[:2, 2] - 0.5
    return pixels, z


def unproject_map(views: ClipViews, index: int) -> Float[Tensor, "h w 3"]:
    """World points of all pixels of a view (those of unknown depth end at the camera)."""
    camera = unproject(pixel_grid((views.height, views.width)), views.depth(index), views.K[index])
    return _to_world(camera, views.camera_T_world[index])


def sample_known(
    values: Float[Tensor, "h w c"], known: Bool[Tensor, "h w"], xy: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n c"], Bool[Tensor, "n"]]:
    """Bilinear samples at pixels (border padded), and whether every neighbour that counts is known.

    Neighbours of weight 0 do not count, so a sample at a pixel's centre needs that pixel alone.
    """
    height, width = known.shape
    x, y = xy[:, 0].clamp(0, width - 1), xy[:, 1].clamp(0, height - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    fx, fy = x - left, y - top
    total, sure = torch.zeros(len(xy), values.shape[-1]), torch.ones(len(xy), dtype=torch.bool)
    for column, wx in ((left, 1 - fx), (right, fx)):
        for row, wy in ((top, 1 - fy), (bottom, fy)):
            weight = wx * wy
            total += weight[:, None] * values[row, column]
            sure &= known[row, column] | (weight == 0)
    return total, sure


def every_nth_frame(views: ClipViews, step: int) -> list[int]:
    """The views of every ``step``-th time step that has views (held-out steps have none and do not count)."""
    chosen = views.frame_index.unique()[::step]
    return torch.nonzero(torch.isin(views.frame_index, chosen)).flatten().tolist()


# Tracks --------------------------------------------------------------------------------------------------------------


def _draw_queries(
    views: ClipViews, used: Sequence[int], num: int, generator: torch.Generator
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Which view and which row of its query pixels each track starts from."""
    share = math.ceil(num / max(len(used), 1))
    queries, rows = [], []
    for query in used:
        chosen = torch.randperm(len(views.tracks.query_points(query)), generator=generator)[:share]  # type: ignore
        queries.append(torch.full_like(chosen, query))
        rows.append(chosen)
    if not queries:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    return torch.cat(queries)[:num], torch.cat(rows)[:num]


def _empty(count: int, views: ClipViews) -> Tracks3D:
    shape = (count, views.num_frames)
    return Tracks3D(
        points=torch.zeros(*shape, 3),
        visible=torch.zeros(shape, dtype=torch.bool),
        invisible=torch.zeros(shape, dtype=torch.bool),
        confidence=torch.zeros(shape),
        colors=torch.zeros(count, 3),
        query_frame=torch.zeros(count, dtype=torch.long),
    )


def _observe(views: ClipViews, used: Sequence[int], queries: Tensor, rows: Tensor, tracks: Tracks3D) -> Tensor:
    """Fill the flags from the track files, each read once; returns where every track is seen, ``[n, t, 2]``."""
    store = views.tracks
    assert store is not None
    xy, wanted = torch.zeros(*tracks.visible.shape, 2), set(used)
    for query in torch.unique(queries).tolist():
        mine = torch.nonzero(queries == query).flatten()
        tracks.query_frame[mine] = views.frame_index[query]
        for target in store.targets(query).tolist():
            if target not in wanted:
                continue
            frame, seen = int(views.frame_index[target]), store.observe(query, target, rows[mine])
            xy[mine, frame] = seen.xy
            tracks.visible[mine, frame] = seen.visible
            tracks.invisible[mine, frame] = seen.invisible
            tracks.confidence[mine, frame] = seen.confidence
    return xy


def _lift(views: ClipViews, used: Sequence[int], queries: Tensor, xy: Tensor, tracks: Tracks3D) -> Bool[Tensor, "n t"]:
    """Fill points and colours, clear flags off the moving mask; returns where a track is on it."""
    on_moving = torch.zeros_like(tracks.visible)
    camera_of_track = views.camera_index[queries]
    for target in used:
        mine = torch.nonzero(camera_of_track == views.camera_index[target]).flatten()
        frame, depth = int(views.frame_index[target]), views.depth(target)
        pixels = xy[mine, frame]
        z, sure = sample_known(depth[..., None], (views.dynamic(target) == 1) & (depth > 0), pixels)
        camera = unproject(pixels, torch.where(sure, z[:, 0], 0.0), views.K[target])
        world = _to_world(camera, views.camera_T_world[target])
        tracks.points[mine, frame] = torch.where(sure[:, None], world, 0.0)
        tracks.visible[mine, frame] &= sure
        tracks.invisible[mine, frame] &= sure
        tracks.confidence[mine, frame] *= sure
        on_moving[mine, frame] = sure
        own = torch.nonzero(queries == target).flatten()
        image = views.image(target)
        tracks.colors[own] = sample_known(image, torch.ones(image.shape[:2], dtype=torch.bool), xy[own, frame])[0]
    return on_moving


# Background ----------------------------------------------------------------------------------------------------------


def _from_keyframes(views: ClipViews, num: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    # Shape of Motion's least share, 64 pixels, is meant for images of DAVIS' size.
    fewest = max(8, min(64, round(64 * views.width * views.height / (854 * 480))))
    for index in views.keyframes or ():
        candidates = _static_pixels(views, index)
        if parts:
            covered = torch.cat([points for points, _, _ in parts])
            candidates &= ~_covered_box(views, index, covered)
        if int(candidates.sum()) >= fewest:
            parts.append(_static_sample(views, index, candidates, max(num // 8, 64), generator))
    return parts


def _static_pixels(views: ClipViews, index: int) -> Bool[Tensor, "h w"]:
    known, priors = views.depth(index) > 0, views.priors
    if priors.mask_files is not None:
        return known & (views.dynamic(index) == -1)
    return known if priors.valid_files is None else known & views.valid(index)


def _covered_box(views: ClipViews, index: int, points: Float[Tensor, "n 3"]) -> Bool[Tensor, "h w"]:
    """The pixels inside the bounding box of earlier points seen from this view, cut at the image's border."""
    pixels, z = project(points, views.camera_T_world[index], views.K[index])
    box = torch.zeros(views.height, views.width, dtype=torch.bool)
    pixels = pixels[z > 0]
    if len(pixels):
        low = pixels.amin(dim=0).round().long().clamp(min=0).tolist()
        high = pixels.amax(dim=0).round().long().tolist()
        box[low[1] : max(high[1] + 1, 0), low[0] : max(high[0] + 1, 0)] = True
    return box


def _static_sample(
    views: ClipViews, index: int, candidates: Bool[Tensor, "h w"], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    places = torch.nonzero(candidates.flatten()).flatten()
    places = places[torch.randperm(len(places), generator=generator)[:count]]
    world = unproject_map(views, index)
    normals = surface_normals(world, views.depth(index) > 0, views.world_T_camera[index, :3, 3])
    return world.reshape(-1, 3)[places], normals.reshape(-1, 3)[places], views.image(index).reshape(-1, 3)[places]


def surface_normals(
    world: Float[Tensor, "h w 3"], known: Bool[Tensor, "h w"], camera_position: Float[Tensor, "3"]
) -> Float[Tensor, "h w 3"]:
    """Unit normals of an unprojected depth map, towards the camera, from central differences.

    0 on the image's border and beside pixels of unknown depth.
    """
    normals = torch.zeros_like(world)
    across = world[1:-1, 2:] - world[1:-1, :-2]
    down = world[2:, 1:-1] - world[:-2, 1:-1]
    inner = torch.linalg.cross(down, across, dim=-1)
    towards = ((camera_position - world[1:-1, 1:-1]) * inner).sum(dim=-1, keepdim=True)
    inner = torch.nn.functional.normalize(torch.where(towards < 0, -inner, inner), dim=-1)
    neighbours = known[1:-1, 2:] & known[1:-1, :-2] & known[2:, 1:-1] & known[:-2, 1:-1] & known[1:-1, 1:-1]
    normals[1:-1, 1:-1] = torch.where(neighbours[..., None], inner, 0.0)
    return normals


def _to_world(camera_points: Float[Tensor, "*n 3"], camera_T_world: Float[Tensor, "4 4"]) -> Float[Tensor, "*n 3"]:
    rotation, translation = camera_T_world[:3, :3], camera_T_world[:3, 3]
    return (camera_points - translation) @ rotation
