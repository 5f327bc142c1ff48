"""Exact ground truth from the scene itself: depth, ids, normals, flow, tracks. Nothing is estimated or interpolated.

Every quantity follows points of surfaces: a pixel centre's ray gives the point, the object's motion carries it to
another time, the camera of that time projects it, and a ray from that camera says whether it is seen there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from .cameras import Camera
from .raycast import cast, visible_from
from .scene import Scene


@dataclass(frozen=True)
class Surfaces:
    """What the pixel centres of one picture see.

    Attributes:
        t: the time.
        depth: z-depth.
        object_id: place in ``Scene.objects``.
        points: world positions.
    """

    t: float
    depth: Float[np.ndarray, "h w"]
    object_id: Int[np.ndarray, "h w"]
    points: Float[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class PointTracks:
    """Surface points followed through all frames of one camera.

    Attributes:
        xy: pixel coordinates (integer centres), also where the point cannot be seen.
        inside: whether the point projects into the image.
        visible: whether it is inside and nothing stands before it.
        points: world positions.
    """

    xy: Float[np.ndarray, "t p 2"]
    inside: Bool[np.ndarray, "t p"]
    visible: Bool[np.ndarray, "t p"]
    points: Float[np.ndarray, "t p 3"]


@dataclass(frozen=True)
class ObjectFacts:
    """Measured facts about one moving object, in the first training camera.

    Attributes:
        image_motion: largest distance in pixels between where its centre appears and where the centre of the first
            frame would appear at the same time if the object had stood still. Camera motion does not count.
        rotation: largest angle to its first orientation, in degrees.
        hidden_frames: frames in which no pixel centre sees it.
        pixel_share: mean share of the image that it covers.
    """

    image_motion: float
    rotation: float
    hidden_frames: list[int]
    pixel_share: float


def surfaces(scene: Scene, camera: Camera, t: float) -> Surfaces:
    """Depth, ids and points at the pixel centres.

    Raises:
        ValueError: a pixel sees nothing at all.
    """
    directions, origin = camera.directions(camera.pixel_grid()), camera.world_T_camera[None, :3, 3]
    hits = cast(scene, t, origin, directions)
    if (hits.object_id < 0).any():
        raise ValueError(
            f"{int((hits.object_id < 0).sum())} pixels of the camera see no object at t={t:g}; "
            "ground truth needs a surface behind every pixel. Close the scene with a wall or turn the camera."
        )
    shape = (camera.height, camera.width)
    points = origin + directions * hits.depth[:, None]
    return Surfaces(t, hits.depth.reshape(shape), hits.object_id.reshape(shape), points.reshape(*shape, 3))


def normals(scene: Scene, seen: Surfaces, camera: Camera) -> Float[np.ndarray, "h w 3"]:
    """Unit normals of what a camera sees, in its own frame (OpenCV's axes), towards the camera."""
    world = np.zeros_like(seen.points)
    for i, thing in enumerate(scene.objects):
        rows = seen.object_id == i
        world_T_object = thing.motion.at(seen.t)
        local = (seen.points[rows] - world_T_object[:3, 3]) @ world_T_object[:3, :3]
        world[rows] = thing.shape.normals(local) @ world_T_object[:3, :3].T
    return world @ camera.world_T_camera[:3, :3]


def carry(
    scene: Scene, points: Float[np.ndarray, "n 3"], object_id: Int[np.ndarray, "n"], t: float, to: float
) -> Float[np.ndarray, "n 3"]:
    """World positions at time ``to`` of the surface points that are at ``points`` at time ``t``."""
    moved = points.copy()
    for i in scene.moving_ids:
        rows = object_id == i
        motion = scene.objects[i].motion
        now_T_then = motion.at(to) @ np.linalg.inv(motion.at(t))
        moved[rows] = points[rows] @ now_T_then[:3, :3].T + now_T_then[:3, 3]
    return moved


def flow(
    scene: Scene, seen: Surfaces, camera: Camera, t: float
) -> tuple[Float[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
    """Optical flow in pixels from a picture to the picture of ``camera`` at time t, and where it can be seen there."""
    height, width = seen.depth.shape
    moved = carry(scene, seen.points.reshape(-1, 3), seen.object_id.ravel(), seen.t, t)
    pixels, _, visible = visible_from(scene, camera, t, moved)
    y, x = np.mgrid[:height, :width]
    return pixels.reshape(height, width, 2) - np.stack([x, y], axis=-1), visible.reshape(height, width)


def query_pixels(mask: Bool[np.ndarray, "h w"], step: int) -> Int[np.ndarray, "p 2"]:
    """Pixels (x, y) of a mask whose coordinates are multiples of ``step``, in raster order."""
    y, x = np.nonzero(mask[::step, ::step])
    return np.stack([x, y], axis=1) * step


def track(
    scene: Scene,
    cameras: Sequence[Camera],
    times: Sequence[float],
    seen: Surfaces,
    pixels: Int[np.ndarray, "p 2"],
) -> PointTracks:
    """Follow what integer pixels of one picture see through the cameras of all times."""
    points = seen.points[pixels[:, 1], pixels[:, 0]]
    object_id = seen.object_id[pixels[:, 1], pixels[:, 0]]
    xy, inside, visible, world = [], [], [], []
    for camera, t in zip(cameras, times, strict=True):
        world.append(carry(scene, points, object_id, seen.t, t))
        for collected, values in zip((xy, inside, visible), visible_from(scene, camera, t, world[-1]), strict=True):
            collected.append(values)
    return PointTracks(np.stack(xy), np.stack(inside), np.stack(visible), np.stack(world))


def object_facts(
    scene: Scene,
    cameras: Sequence[Camera],
    times: Sequence[float],
    object_ids: Int[np.ndarray, "t h w"],
    which: int,
) -> ObjectFacts:
    """Measure how a moving object moves, turns and hides in one camera."""
    poses = np.stack([scene.objects[which].motion.at(t) for t in times])
    here = np.stack([camera.project(pose[None, :3, 3])[0] for camera, pose in zip(cameras, poses, strict=True)])
    stayed = np.stack([camera.project(poses[:1, :3, 3])[0] for camera in cameras])
    relative = poses[:, :3, :3] @ poses[0, :3, :3].T
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1.0) / 2.0
    covered = (object_ids == which).mean(axis=(1, 2))
    return ObjectFacts(
        image_motion=float(np.linalg.norm(here - stayed, axis=-1).max()),
        rotation=float(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))).max()),
        hidden_frames=np.flatnonzero(covered == 0).tolist(),
        pixel_share=float(covered.mean()),
    )
