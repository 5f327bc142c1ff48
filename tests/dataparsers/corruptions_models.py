"""Classes of damage to COLMAP's models, PLY clouds and films."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from corruptions import Inapplicable, corruption, suffix
from PIL import Image

from dyngs_plugins.priors import colmap_binary, colmap_text
from dyngs_plugins.priors.colmap_types import ColmapPoints
from dyngs_plugins.priors.ply_files import read_ply
from dyngs_plugins.sample.writers.video import write_video

MODEL = {".bin": colmap_binary, ".txt": colmap_text}
is_ply = suffix(".ply")
is_film = suffix(".mp4")


def part(name: str) -> Callable[[Path], bool]:
    return lambda path: path.name in (f"{name}.bin", f"{name}.txt")


def cameras(name: str, change: Callable[[list], list], **details: Any) -> None:
    def spoil(path: Path) -> None:
        code = MODEL[path.suffix]
        code.write_cameras(path, change(list(code.read_cameras(path))))

    corruption(f"COLMAP: {name}", part("cameras"), **details)(spoil)


def images(name: str, change: Callable[[list], list], **details: Any) -> None:
    def spoil(path: Path) -> None:
        code = MODEL[path.suffix]
        code.write_images(path, change(list(code.read_images(path))))

    corruption(f"COLMAP: {name}", part("images"), **details)(spoil)


def points(name: str, change: Callable[[ColmapPoints], ColmapPoints], **details: Any) -> None:
    def spoil(path: Path) -> None:
        code = MODEL[path.suffix]
        code.write_points(path, change(code.read_points(path)))

    corruption(f"COLMAP: {name}", part("points3D"), **details)(spoil)


def with_param(place: int, value: float) -> Callable[[list], list]:
    def change(found: list) -> list:
        params = found[0].params.copy()
        params[place] = value
        return [replace(found[0], params=params), *found[1:]]

    return change


def with_first(**changes: Any) -> Callable[[list], list]:
    return lambda found: [replace(found[0], **changes), *found[1:]]


def with_pose(place: tuple[int, int], value: float) -> Callable[[list], list]:
    def change(found: list) -> list:
        pose = found[0].camera_T_world.copy()
        pose[place] = value
        return [replace(found[0], camera_T_world=pose), *found[1:]]

    return change


cameras("a focal length of zero", with_param(0, 0.0))
cameras("a negative focal length", with_param(0, -40.0))
cameras("a focal length of NaN", with_param(0, float("nan")))
cameras("an infinite centre", with_param(2, float("inf")))
cameras("a camera of another shape", with_first(width=480))
cameras("a camera without size", with_first(width=0))
cameras("a fisheye", with_first(model="OPENCV_FISHEYE", params=np.array([40.0, 40, 16, 12, 0.1, 0, 0, 0])))
cameras("no cameras", lambda found: [])
cameras("a camera twice", lambda found: [*found, found[0]])
images("a position of NaN", with_pose((0, 3), float("nan")))
images("an infinite position", with_pose((2, 3), float("inf")))
images("an unknown camera", with_first(camera_id=77))
images("no images", lambda found: [])
images("an image twice", lambda found: [*found, found[0]])
images("two images of one name", lambda found: [*found, replace(found[1], id=99, name=found[0].name)])
images("an image too few", lambda found: found[:-1])
images("an image that is not there", with_first(name="never_taken.png"))
images("an image outside the folder", with_first(name="../../../etc/passwd"))
images("an image without a name", with_first(name=""))
points("points of NaN", lambda cloud: replace(cloud, xyz=cloud.xyz * np.nan))
points("an infinite point", lambda cloud: replace(cloud, xyz=np.concatenate([[[np.inf, 0, 0]], cloud.xyz[1:]])))
points("no points", lambda c: ColmapPoints(c.ids[:0], c.xyz[:0], c.rgb[:0], c.error[:0], ()),
       may_lose=frozenset({"points"}), may_change=frozenset({"points", "depth"}))  # fmt: skip
points("a point twice", lambda cloud: replace(cloud, ids=np.r_[cloud.ids[1:2], cloud.ids[1:]]))


@corruption("COLMAP: a quaternion that is none", part("images"))
def _quaternion(path: Path) -> None:
    found = list(MODEL[path.suffix].read_images(path))
    MODEL[path.suffix].write_images(path, found)
    content = path.read_bytes()
    if path.suffix == ".bin":
        path.write_bytes(content[:12] + struct.pack("<d", 3.0) + content[20:])
        return
    lines = content.decode().split("\n")
    row = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    words = lines[row].split()
    lines[row] = " ".join([words[0], "3.0", *words[2:]])
    path.write_text("\n".join(lines))


@corruption("COLMAP: more records claimed than there are", suffix(".bin"))
def _claimed(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 10**12) + path.read_bytes()[8:])


# Clouds ---------------------------------------------------------------------------------------------------------------


def cloud(name: str, change: Callable[[np.ndarray, np.ndarray, Path], None], **details: Any) -> None:
    def spoil(path: Path) -> None:
        found = read_ply(path)
        assert found.rgb is not None
        change(found.xyz, found.rgb, path)

    corruption(f"PLY: {name}", is_ply, **details)(spoil)


def write_cloud(path: Path, xyz: np.ndarray, rgb: np.ndarray, order: str = "<", extra: str = "") -> None:
    kinds = [(axis, f"{order}f4") for axis in "xyz"] + ([("opacity", f"{order}f4")] if extra else [])
    rows = np.zeros(len(xyz), [*kinds, ("red", "u1"), ("green", "u1"), ("blue", "u1")])
    for axis, column in zip("xyz", xyz.T, strict=True):
        rows[axis] = column
    for color, column in zip(("red", "green", "blue"), rgb.T, strict=True):
        rows[color] = column
    spelled = "".join(f"property float {axis}\n" for axis, _ in kinds)
    spelled += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
    kind = "little" if order == "<" else "big"
    header = f"ply\nformat binary_{kind}_endian 1.0\n{extra}element vertex {len(rows)}\n{spelled}end_header\n"
    path.write_bytes(header.encode() + rows.tobytes())


def replaced(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    if old not in content:
        raise Inapplicable
    path.write_bytes(content.replace(old, new, 1))


def as_text(xyz: np.ndarray, rgb: np.ndarray, path: Path) -> None:
    rows = "".join(
        f"{' '.join(repr(float(v)) for v in p)} {' '.join(str(int(v)) for v in c)}\n"
        for p, c in zip(xyz, rgb, strict=True)
    )
    spelled = "".join(f"property float {axis}\n" for axis in "xyz")
    spelled += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex {len(xyz)}\n{spelled}end_header\n{rows}")


cloud("as text", as_text, recovers=True)
cloud("big-endian", lambda xyz, rgb, path: write_cloud(path, xyz, rgb, ">"), recovers=True)
cloud("a property more", lambda xyz, rgb, path: write_cloud(path, xyz, rgb, "<", "comment more\n"), recovers=True)
cloud("a vertex of NaN", lambda xyz, rgb, path: write_cloud(path, np.r_[xyz[:-1], xyz[-1:] * np.nan], rgb))
cloud("no vertices", lambda xyz, rgb, path: write_cloud(path, xyz[:0], rgb[:0]))
cloud("another world", lambda xyz, rgb, path: write_cloud(path, xyz + 1e6, rgb), may_change=frozenset({"points"}))


@corruption("PLY: more vertices claimed than there are", is_ply)
def _vertices(path: Path) -> None:
    replaced(path, b"element vertex ", b"element vertex 9")


@corruption("PLY: no coordinates", is_ply)
def _coordinates(path: Path) -> None:
    replaced(path, b" x\n", b" u\n")


@corruption("PLY: a format unknown", is_ply)
def _format(path: Path) -> None:
    replaced(path, b"binary_little_endian", b"binary_middle_endian")


@corruption("PLY: no end of the header", is_ply)
def _header(path: Path) -> None:
    replaced(path, b"end_header", b"end-header")


# Films ----------------------------------------------------------------------------------------------------------------


def film(name: str, change: Callable[[Path, list[np.ndarray]], None], **details: Any) -> None:
    def spoil(path: Path) -> None:
        with av.open(str(path)) as container:
            change(path, [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

    corruption(f"film: {name}", is_film, **details)(spoil)


film("a frame too few", lambda path, frames: write_video(path, frames[:-1]))
film("of another size", lambda path, frames: write_video(path, [np.repeat(f, 2, axis=0) for f in frames]))
film("turned", lambda path, frames: write_video(path, [np.rot90(f) for f in frames]))


@corruption("film: an upper-case suffix", is_film, recovers=True)
def _container(path: Path) -> None:
    path.rename(path.with_suffix(".MP4"))


@corruption("film: a picture in its place", is_film)
def _picture(path: Path) -> None:
    Image.new("RGB", (32, 24)).save(path, format="PNG")


@corruption("film: two of one camera", is_film)
def _two_films(path: Path) -> None:
    path.with_suffix(".mov").write_bytes(path.read_bytes())
