"""First hits of rays with the scene, and sharp images from them. Plain numpy, no rasterizer involved.

Evaluation against these images is therefore not circular: they share no code with what is trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from .cameras import Camera
from .scene import Scene
from .textures import encode


@dataclass(frozen=True)
class Hits:
    """First hits of n rays.

    Attributes:
        depth: ray parameter of the hit; the z-depth when directions have camera-space z = 1. ``inf`` for a miss.
        object_id: place of the object in ``Scene.objects``, -1 for a miss.
    """

    depth: Float[np.ndarray, "n"]
    object_id: Int[np.ndarray, "n"]


def cast(scene: Scene, t: float, origins: Float[np.ndarray, "#n 3"], directions: Float[np.ndarray, "n 3"]) -> Hits:
    """First hits at time t. A single origin may be shared by all rays. Computed in the directions' precision."""
    depth = np.full(len(directions), np.inf, directions.dtype)
    object_id = np.full(len(directions), -1, np.int16)
    for i, thing in enumerate(scene.objects):
        local = _local_rays(thing.motion.at(t), origins, directions)
        s = thing.shape.intersect(*local)
        closer = s < depth
        depth[closer], object_id[closer] = s[closer], i
    return Hits(depth, object_id)


def shade(
    scene: Scene,
    t: float,
    hits: Hits,
    origins: Float[np.ndarray, "#n 3"],
    directions: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n 3"]:
    """Linear-light RGB of hits; black for a miss."""
    colors = np.zeros_like(directions)
    origins = np.broadcast_to(origins, directions.shape)
    for i, thing in enumerate(scene.objects):
        rows = np.flatnonzero(hits.object_id == i)
        if len(rows) == 0:
            continue
        o, d = _local_rays(thing.motion.at(t), origins[rows], directions[rows])
        points = o + d * hits.depth[rows, None]
        colors[rows] = thing.texture.colors(points, thing.shape.normals(points))
    return colors


def render_linear(
    scene: Scene,
    camera: Camera,
    t: float,
    supersample: int = 3,
    lens: tuple[float, float] = (0.0, 0.0),
    focus_distance: float = 1.0,
) -> Float[np.ndarray, "h w 3"]:
    """A linear-light image: the mean of ``supersample`` x ``supersample`` rays per pixel.

    Args:
        lens: (x, y) of the point of the lens that rays pass through, in scene units from its centre. Rays through
            the same pixel meet at ``focus_distance`` wherever they cross the lens (thin lens).
        focus_distance: z-depth that is in focus.
    """
    single = np.float32
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    pixels = camera.pixel_grid()
    right, down = camera.world_T_camera[:3, 0], camera.world_T_camera[:3, 1]
    shift = lens[0] * right + lens[1] * down
    origins = (camera.world_T_camera[:3, 3] + shift)[None].astype(single)
    total = np.zeros((len(pixels), 3), np.float64)
    for dy in offsets:
        for dx in offsets:
            directions = (camera.directions(pixels + (dx, dy)) - shift / focus_distance).astype(single)
            hits = cast(scene, t, origins, directions)
            total += shade(scene, t, hits, origins, directions)
    return (total / supersample**2).reshape(camera.height, camera.width, 3)


def render_frame(scene: Scene, camera: Camera, t: float, supersample: int = 3) -> Float[np.ndarray, "h w 3"]:
    """The sharp image at time t as display values in [0,1]. Pixels are averaged in linear light."""
    return encode(render_linear(scene, camera, t, supersample))


def visible_from(
    scene: Scene, camera: Camera, t: float, points: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Where surface points appear in a camera, and whether they can be seen.

    Args:
        points: world points on surfaces of the scene at time t.

    Returns:
        pixel coordinates (integer centres), whether the point is inside the image, and whether it is inside and
        nothing stands before it: its own ray hits nothing closer (no depth map is interpolated).
    """
    pixels, z = camera.project(points)
    inside = camera.contains(pixels, z)
    visible = np.zeros(len(points), bool)
    origin = camera.world_T_camera[None, :3, 3]
    directions = (points[inside] - origin) / z[inside, None]
    visible[inside] = cast(scene, t, origin, directions).depth >= z[inside] * (1.0 - 1e-6)
    return pixels, inside, visible


def _local_rays(world_T_object, origins, directions):
    rotation = world_T_object[:3, :3].astype(directions.dtype)
    return (origins - world_T_object[:3, 3].astype(directions.dtype)) @ rotation, directions @ rotation
