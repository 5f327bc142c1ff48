"""Classes of damage to arrays: maps, tables of cameras, point clouds, tracks, and SLAM's pickled cameras."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corruptions import Inapplicable, bytes_of, corruption

CANARY = "dyngs-fuzz-canary"
"""Name, beside the spoilt file, of what a payload would make if it ran."""


class Payload:
    """Pickles to a call."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path.with_name(CANARY)),)


def array_of(path: Path) -> np.ndarray | None:
    """The numbers of a file; None for other kinds."""
    if path.suffix != ".npy":
        return None
    try:
        return np.load(path, allow_pickle=False)
    except ValueError:
        return None


def is_array(path: Path) -> bool:
    return array_of(path) is not None


def is_table(path: Path) -> bool:
    array = array_of(path)
    return array is not None and array.ndim == 2 and array.shape[1] == 17


def is_cloud(path: Path) -> bool:
    array = array_of(path)
    return array is not None and array.ndim == 2 and array.shape[1] == 3


def is_map(path: Path) -> bool:
    array = array_of(path)
    if array is None or array.ndim < 2 or array.dtype.kind != "f" or is_table(path) or is_cloud(path):
        return False
    if array.ndim > 2 and 1 not in array.shape:  # of vectors: flow, normals
        return False
    return path.parent.name not in ("bootstapir", "tracks") and min(array.shape[:2]) >= 8


def is_normals(path: Path) -> bool:
    array = array_of(path)
    return array is not None and "normal" in str(path.parent)


def is_count_free(path: Path) -> bool:
    """An array of another number of rows is as good: a point cloud."""
    return is_array(path) and not is_cloud(path)


def is_solved(path: Path) -> bool:
    return path.suffix == ".npy" and path.parent.name == "droid_recon"


def rewrite(path: Path, change: Callable[[np.ndarray], Any]) -> None:
    array = np.load(path, allow_pickle=False)
    try:
        changed = change(array.copy())
    except IndexError as error:  # a single number has no rows
        raise Inapplicable from error
    np.save(path, changed, allow_pickle=False)


def enter(name: str, applies: Callable[[Path], bool], change: Callable[[np.ndarray], Any], **details: Any) -> None:
    corruption(name, applies, **details)(lambda path: rewrite(path, change))


def put(index: Any, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            array = array.astype(np.float64)
        array[index] = value
        return array

    return change


def times(index: Any, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[index] *= factor
        return array

    return change


FIRST = (0, 0)
enter("NaN in the first row", is_array, put(FIRST, np.nan))
enter("infinity in the last row", is_array, put((-1, -1), np.inf))
enter("text for numbers", is_array, lambda a: a.astype("U8"))
enter("bytes for numbers", is_array, lambda a: a.astype("S8"))
enter("complex numbers", is_array, lambda a: a.astype(np.complex64))
enter("dates for numbers", is_array, lambda a: np.zeros(a.shape, "datetime64[s]"))
enter("flattened", is_array, lambda a: a.reshape(-1))
enter("transposed", is_count_free, lambda a: a.T.copy())
enter("a single number", is_array, lambda a: np.float32(1.0))
enter("an axis too many", is_array, lambda a: a[None, None])
enter("a row too many", is_count_free, lambda a: np.concatenate([a, a[-1:]]))
enter("a row too few", is_count_free, lambda a: a[:-1])
enter("a column too few", is_array, lambda a: a[..., :-1] if a.ndim > 1 else a[:, 0])
enter("no rows", is_array, lambda a: a[:0])
enter("in Fortran's order", is_array, np.asfortranarray, recovers=True)
enter("big-endian", is_array, lambda a: a.astype(a.dtype.newbyteorder(">")), recovers=True)
enter("in double precision", is_array, lambda a: a.astype(np.float64), recovers=True)
enter("a map in half precision", is_map, lambda a: a.astype(np.float16), recovers=True, lossy=True)
enter("a trailing axis of one", is_map, lambda a: a.reshape(*a.shape[:2], 1), recovers=True)
enter("a map of another size", is_map, lambda a: np.repeat(a, 2, axis=0))
enter("a map of negative values", is_map, lambda a: -a, may_change=frozenset({"depth"}))
enter("a negative value in a map", is_map, put(FIRST, -1.0), recovers=True, may_change=frozenset({"depth"}))
enter("normals of the other sign", is_normals, lambda a: -a)
enter("normals as a picture has them", is_normals, lambda a: np.round(127.5 * (a + 1)))
enter("a map of booleans", is_map, lambda a: a > 0)
enter("poses in whole numbers", is_table, lambda a: a.astype(np.int32))
enter("a stretched rotation", is_table, times(([0, 0, 0], [0, 5, 10]), 1.4))
enter("a mirrored rotation", is_table, times(([0, 0, 0], [2, 7, 12]), -1.0))
enter("a skewed rotation", is_table, put((0, 1), 0.9))
enter("NaN as a position", is_table, put((-1, 3), np.nan))
enter("a focal length of zero", is_table, put((0, 14), 0.0))
enter("a negative focal length", is_table, put((0, 14), -50.0))
enter("an infinite focal length", is_table, put((0, 14), np.inf))
enter("a focal length of NaN", is_table, put((-1, 14), np.nan))
enter("cameras of another shape", is_table, lambda a: a[:, [0, 1, 2, 3, 9, 5, 6, 7, 8, 4, *range(10, 17)]])
enter("cameras without bounds", is_table, lambda a: a[:, :15])
enter("bounds of NaN", is_table, put((0, 15), np.nan))
enter("bounds the wrong way round", is_table, lambda a: np.concatenate([a[:, :15], a[:, 16:], a[:, 15:16]], axis=1))
enter("negative bounds", is_table, put((0, 15), -1.0))
enter("points of NaN", is_cloud, put(slice(None), np.nan))


@corruption("an array that runs code", lambda path: is_array(path) or is_solved(path))
def _code(path: Path) -> None:
    np.save(path, np.array(Payload(path), dtype=object), allow_pickle=True)


@corruption("a pickle that runs code", lambda path: is_array(path) or is_solved(path))
def _bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(path)))


@corruption("an archive of arrays", is_array)
def _archive(path: Path) -> None:
    array = np.load(path, allow_pickle=False)
    path.write_bytes(bytes_of(lambda stream: np.savez(stream, a=array)))


@corruption("rows with named fields", is_array)
def _fields(path: Path) -> None:
    np.save(path, np.zeros(3, [("x", "f4"), ("y", "f4")]))


@corruption("a header that claims a billion rows", is_array)
def _claims(path: Path) -> None:
    array = np.load(path, allow_pickle=False)
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": (10**9, *array.shape[1:])}
    path.write_bytes(bytes_of(lambda s: np.lib.format.write_array_header_1_0(s, header)) + array.tobytes())


@corruption("bytes left over", lambda path: is_array(path) or path.suffix == ".bin")
def _left_over(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 24)


# SLAM's cameras -------------------------------------------------------------------------------------------------------


def solve(name: str, change: Callable[[dict], Any], **details: Any) -> None:
    def spoil(path: Path) -> None:
        content = np.load(path, allow_pickle=True).item()
        changed = change(content)
        np.save(path, np.array(content if changed is None else changed, dtype=object), allow_pickle=True)

    corruption(f"SLAM: {name}", is_solved, **details)(spoil)


def poses(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], None]:
    return lambda content: content.update(traj_c2w=change(np.array(content["traj_c2w"])))


def without(key: str) -> Callable[[dict], dict]:
    return lambda content: {name: value for name, value in content.items() if name != key}


solve("no poses", without("traj_c2w"))
solve("no intrinsics", without("intrinsics"))
solve("no size", without("img_shape"))
solve("no key-frames", without("tstamps"), may_lose=frozenset({"keyframes"}))
solve("a pose of NaN", poses(put((0, 0, 3), np.nan)))
solve("a stretched pose", poses(times((0, slice(0, 3), slice(0, 3)), 1.3)))
solve("a mirrored pose", poses(times((-1, slice(0, 3), 0), -1.0)))
solve("another last row", poses(put((0, 3, 0), 0.5)))
solve("a pose too many", poses(lambda a: np.concatenate([a, a[-1:]])))
solve("a pose too few", poses(lambda a: a[:-1]))
solve("no pose at all", poses(lambda a: a[:0]))
solve("poses of 3x4", poses(lambda a: a[:, :3]))
solve("poses in double precision", poses(lambda a: a.astype(np.float64)), recovers=True)
solve("poses of text", lambda c: c.update(traj_c2w="see the other file"))
solve("poses of complex numbers", poses(lambda a: a.astype(np.complex64)))
solve("poses of uneven rows", lambda c: c.update(traj_c2w=[[1.0, 2.0], [3.0]]))
solve("a negative focal length", lambda c: c.update(intrinsics=[-50.0, 50.0, 8.0, 6.0]))
solve("an infinite focal length", lambda c: c.update(intrinsics=[np.inf, 50.0, 8.0, 6.0]))
solve("a focal length of NaN", lambda c: c.update(intrinsics=[np.nan, 50.0, 8.0, 6.0]))
solve("three intrinsics", lambda c: c.update(intrinsics=[50.0, 8.0, 6.0]))
solve("intrinsics of text", lambda c: c.update(intrinsics="50 50 8 6"))
solve("a size of zero", lambda c: c.update(img_shape=[0, 16]))
solve("a size of NaN", lambda c: c.update(img_shape=[np.nan, 16]))
solve("key-frames outside", lambda c: c.update(tstamps=[0, 999]))
solve("key-frames of NaN", lambda c: c.update(tstamps=[0.0, np.nan]))
solve("key-frames of text", lambda c: c.update(tstamps="all"))
solve("a list for a dictionary", lambda c: [*c.items()])
solve("more entries than known", lambda c: c.update(notes="solved twice", version=3), recovers=True)


@corruption("SLAM: a plain array of poses", is_solved)
def _plain_poses(path: Path) -> None:
    np.save(path, np.load(path, allow_pickle=True).item()["traj_c2w"])
