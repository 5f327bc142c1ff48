"""The sample scene: what stands where, what moves how, and how it is painted.

World axes are OpenCV's (x right, y down, z forward), the ground is y = 0, units are about metres. A camera near
the origin looks along +z. Time t runs over [0,1]; trajectories are smooth and continue a little beyond.

Two objects move on the ground: a crate slides to the right, comes closer and turns; an egg moves to the left
behind a pillar, turning the other way and rocking. Everything else stands still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float

from .cameras import rotation_x, rotation_y, rotation_z
from .shapes import Box, Cylinder, Ellipsoid, Plane, Shape
from .textures import NoisyChecker, Texture


class Motion(Protocol):
    """A rigid trajectory."""

    def at(self, t: float) -> Float[np.ndarray, "4 4"]:
        """world_T_object at time t."""
        ...


@dataclass(frozen=True)
class Still:
    """A pose that does not change."""

    world_T_object: Float[np.ndarray, "4 4"]

    def at(self, t: float) -> Float[np.ndarray, "4 4"]:
        return self.world_T_object


@dataclass(frozen=True)
class OnGround:
    """A shape that moves over the ground y = 0, turns about the vertical, rocks, and always touches the ground.

    Attributes:
        start, end: (x, z) at t = 0 and t = 1.
        bow: (x, z) by which the path bends away from the straight line, at t = 1/2.
        heading: yaw at t = 0, in degrees.
        turn: yaw travelled from t = 0 to t = 1, in degrees.
        rock: amplitude of one full rocking period about the object's z axis, in degrees.
    """

    shape: Shape
    start: tuple[float, float]
    end: tuple[float, float]
    bow: tuple[float, float] = (0.0, 0.0)
    heading: float = 0.0
    turn: float = 0.0
    rock: float = 0.0

    def at(self, t: float) -> Float[np.ndarray, "4 4"]:
        yaw, tilt = np.deg2rad(self.heading + self.turn * t), np.deg2rad(self.rock * np.sin(2.0 * np.pi * t))
        start, end, bow = (np.asarray(v) for v in (self.start, self.end, self.bow))
        x, z = start + (end - start) * t + bow * np.sin(np.pi * t)
        pose = np.eye(4)
        pose[:3, :3] = rotation_y(yaw) @ rotation_z(tilt)
        # The lowest point of the turned shape lies at the height of its support in the direction down (+y).
        pose[:3, 3] = x, -self.shape.support(pose[1, :3]), z
        return pose


@dataclass(frozen=True)
class SceneObject:
    """One painted rigid thing. Its colours belong to its own frame and never change."""

    name: str
    shape: Shape
    texture: Texture
    motion: Motion

    @property
    def moving(self) -> bool:
        """Whether it belongs to the moving-object masks."""
        return not isinstance(self.motion, Still)


@dataclass(frozen=True)
class Scene:
    """Objects; the place of an object in the tuple is its id in every id image."""

    objects: tuple[SceneObject, ...]

    @property
    def moving_ids(self) -> list[int]:
        """Ids of the objects that move."""
        return [i for i, thing in enumerate(self.objects) if thing.moving]


def build_scene(seed: int = 0, still: bool = False) -> Scene:
    """The sample scene. The seed picks the noise in the textures; geometry and motion are always the same.

    Args:
        still: stop what moves where it is at t = 1/2.
    """
    paint = _Paint(np.random.SeedSequence(seed).generate_state(16).tolist())
    # In this order: every texture takes the next noise.
    enclosure, standing, moving = _enclosure(paint), _standing(paint), _moving(paint)
    if still:
        moving = [replace(thing, motion=Still(thing.motion.at(0.5))) for thing in moving]
    return Scene((*enclosure, *standing, *moving))


class _Paint:
    """Makes textures, each with a noise of its own."""

    def __init__(self, seeds: list[int]):
        self.seeds = iter(seeds)

    def __call__(self, dark, light, stain, checker, noise, octaves=3, shade=0.45) -> Texture:
        return NoisyChecker(dark, light, stain, checker, noise, octaves, next(self.seeds), shade)


def _enclosure(paint: _Paint) -> list[SceneObject]:
    """Ground and back wall: behind every pixel there is a surface."""
    ground, wall = np.eye(4), np.eye(4)
    ground[:3, :3] = rotation_x(-np.pi / 2)  # takes the plane's normal -z to -y, which is up
    wall[2, 3] = 7.2
    grass = paint((0.36, 0.42, 0.30), (0.66, 0.68, 0.50), (0.55, 0.40, 0.28), 0.9, 0.9, shade=0.1)
    sky = paint((0.34, 0.42, 0.58), (0.60, 0.70, 0.80), (0.72, 0.66, 0.74), 0.8, 1.0, shade=0.1)
    return [SceneObject("ground", Plane(), grass, Still(ground)), SceneObject("wall", Plane(), sky, Still(wall))]


def _standing(paint: _Paint) -> list[SceneObject]:
    """What gives the background its relief, and the pillar that hides the egg for a while."""

    def stone(checker, noise):
        return paint((0.62, 0.56, 0.46), (0.80, 0.76, 0.66), (0.45, 0.40, 0.42), checker, noise)

    def still(name, shape, texture, x, z, yaw=0.0, sunk=0.0):
        pose = np.eye(4)
        pose[:3, :3] = rotation_y(np.deg2rad(yaw))
        pose[:3, 3] = x, sunk - shape.support(np.array([0.0, 1.0, 0.0])), z
        return SceneObject(name, shape, texture, Still(pose))

    ledge = still("ledge", Box((0.9, 0.55, 0.5)), stone(0.5, 0.8), -2.6, 6.7)
    tower = still("tower", Box((0.45, 1.3, 0.45)), stone(0.45, 0.7), -0.9, 6.75, yaw=20.0)
    block = still("block", Box((0.8, 0.8, 0.4)), stone(0.55, 0.8), 1.75, 6.8, yaw=-12.0)
    moss = paint((0.26, 0.22, 0.32), (0.68, 0.62, 0.72), (0.40, 0.52, 0.42), 0.45, 0.5)
    boulder = still("boulder", Ellipsoid((0.7, 0.42, 0.5)), moss, -2.2, 3.5, sunk=0.42)  # half in the ground
    brick = paint((0.40, 0.30, 0.28), (0.74, 0.64, 0.56), (0.52, 0.56, 0.50), 0.4, 0.5)
    pillar = still("pillar", Cylinder(0.46, 0.76), brick, 0.6, 3.8)
    return [ledge, tower, block, boulder, pillar]


def _moving(paint: _Paint) -> list[SceneObject]:
    """The crate comes closer from the left, the egg crosses behind the pillar; they turn opposite ways."""
    crate, egg = Box((0.54, 0.48, 0.54)), Ellipsoid((0.47, 0.6, 0.55))
    crate_motion = OnGround(crate, start=(-2.0, 5.0), end=(-1.0, 4.1), bow=(0.0, -0.15), heading=-15.0, turn=70.0)
    egg_motion = OnGround(egg, start=(1.95, 4.9), end=(-0.25, 5.4), bow=(0.0, 0.3), heading=10.0, turn=-80.0, rock=14.0)
    fire = paint((0.72, 0.16, 0.10), (0.98, 0.80, 0.36), (0.62, 0.22, 0.42), 0.27, 0.34, octaves=2)
    sea = paint((0.05, 0.38, 0.45), (0.75, 0.95, 0.75), (0.10, 0.15, 0.50), 0.32, 0.36, octaves=2)
    return [SceneObject("crate", crate, fire, crate_motion), SceneObject("egg", egg, sea, egg_motion)]
