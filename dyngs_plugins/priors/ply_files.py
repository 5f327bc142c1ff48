"""Point clouds in PLY: positions and colours of the element ``vertex``, ASCII or binary of either byte order.

Other elements and properties (faces, normals, opacities) may be there and are passed over.

Source: Turk, "The PLY Polygon File Format" (1994).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.files import atomic_file, existing

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_COLORS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class PlyPoints:
    """A point cloud."""

    xyz: Float[np.ndarray, "n 3"]
    rgb: UInt8[np.ndarray, "n 3"] | None
    """None where the file has no colours."""


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[tuple[str, str], ...]
    """Name and numpy type, without byte order."""
    lists: bool
    """Whether its rows have no fixed length."""


def read_ply(path: Path) -> PlyPoints:
    """Read the vertices of a PLY file.

    Raises:
        FileNotFoundError, ValueError: missing, no PLY file, without x, y, z, or shorter than its header says.
    """
    path = existing(Path(path), "PLY file", "")
    with open(path, "rb") as file:
        order, elements = _header(path, file)
        for element in elements:
            if element.name == "vertex":
                return _points(path, _rows(path, file, element, order))
            if element.lists:
                raise _error(path, f"the element {element.name!r} with lists comes before the vertices")
            _rows(path, file, element, order)
    raise _error(path, f"it has no element 'vertex' (it has {[element.name for element in elements]})")


def write_ply(
    path: Path, xyz: Float[np.ndarray, "n 3"], rgb: UInt8[np.ndarray, "n 3"] | None = None, ascii: bool = False
) -> None:
    """Write a cloud as float32 positions and 8-bit colours, little-endian binary or ASCII."""
    kinds = [(name, "<f4") for name in "xyz"] + ([] if rgb is None else [(name, "u1") for name in _COLORS[0]])
    rows = np.zeros(len(xyz), kinds)
    columns = [*np.asarray(xyz).T, *([] if rgb is None else np.asarray(rgb).T)]
    for (name, _), column in zip(kinds, columns, strict=True):
        rows[name] = column
    spelled = "\n".join(f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in kinds)
    encoding = "ascii" if ascii else "binary_little_endian"
    with atomic_file(path) as file:
        file.write(f"ply\nformat {encoding} 1.0\nelement vertex {len(rows)}\n{spelled}\nend_header\n".encode())
        if ascii:
            file.writelines((" ".join(repr(value.item()) for value in row) + "\n").encode() for row in rows)
        else:
            file.write(rows.tobytes())


def _header(path: Path, file: BinaryIO) -> tuple[str, list[_Element]]:
    start = file.read(_LONGEST_HEADER)
    end = re.search(rb"(?:^|\n)end_header[ \t]*\r?\n", start)
    if not re.match(rb"ply[ \t]*\r?\n", start) or end is None:
        raise _error(path, "it has no header from 'ply' to 'end_header'")
    file.seek(end.end())
    order, elements = None, []
    for line in start[: end.start()].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in _FORMATS:
            order = _FORMATS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isdigit():
            elements.append(_Element(words[1], int(words[2]), (), lists=False))
        elif words[0] == "property" and elements and len(words) == 3 and words[1] in _TYPES:
            last = elements[-1]
            elements[-1] = _Element(last.name, last.count, (*last.properties, (words[2], _TYPES[words[1]])), last.lists)
        elif words[0] == "property" and elements and len(words) == 5 and words[1] == "list":
            elements[-1] = _Element(elements[-1].name, elements[-1].count, elements[-1].properties, lists=True)
        else:
            raise _error(path, f"its header has the line {line!r}")
    if order is None:
        raise _error(path, "its header does not say its format")
    return order, elements


def _rows(path: Path, file: BinaryIO, element: _Element, order: str) -> np.ndarray:
    if element.lists:
        raise _error(path, f"the element {element.name!r} has lists, so its rows have no fixed length")
    names = [name for name, _ in element.properties]
    if len(set(names)) < len(names):
        raise _error(path, f"the element {element.name!r} has a property twice ({names})")
    if order:
        dtype = np.dtype([(name, order + kind) for name, kind in element.properties])
        data = file.read(dtype.itemsize * element.count)
        if len(data) < dtype.itemsize * element.count:
            raise _error(
                path, f"it ends after {len(data) // max(dtype.itemsize, 1)} of {element.count} rows of {element.name!r}"
            )
        return np.frombuffer(data, dtype)
    rows = np.zeros(element.count, [(name, "<f8") for name in names])
    for i in range(element.count):
        words = file.readline().split()
        if not words:
            raise _error(path, f"it ends after {i} of {element.count} rows of {element.name!r}")
        try:
            rows[i] = tuple(float(word) for word in words[: len(names)])
        except ValueError as error:
            raise _error(path, f"row {i} of {element.name} is no {len(names)} numbers ({error})") from error
    return rows


def _points(path: Path, rows: np.ndarray) -> PlyPoints:
    names = rows.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise _error(path, f"its vertices have {names}, without x, y and z")
    xyz = np.stack([rows[name].astype(np.float64) for name in "xyz"], axis=1)
    colors = next((kind for kind in _COLORS if set(kind) <= set(names)), None)
    if colors is None:
        return PlyPoints(xyz, None)
    values = np.stack([rows[name].astype(np.float64) for name in colors], axis=1)
    if len(values) and rows.dtype[colors[0]].kind == "f" and values.max() <= 1.0 and (values % 1.0).any():
        values = values * 255.0  # some writers store floats in [0, 1]
    return PlyPoints(xyz, values.round().clip(0, 255).astype(np.uint8))


def _error(path: Path, found: str) -> ValueError:
    return ValueError(
        f"{path}: cannot be read as a PLY file: {found}. Expected a complete PLY file whose vertices have x, y and z. "
        "Write it again, or remove it to start from other points."
    )
