"""Classes of damage to JSON, lines of text and OpenCV's YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corruptions import PRIORS, Inapplicable, corruption, suffix

is_json = suffix(".json")
is_lines = suffix(".csv", ".txt")
is_yaml = suffix(".yml", ".yaml")
SIZES = re.compile(r"focal|^fl_|size|^[wh]$|width|height|fps|factor|scale|num_frames|camera_angle|ratio")
ROTATIONS = re.compile(r"orientation|matrix|world_T_camera")
MISSING, ESCAPE = "9_99999", "../../../../etc/passwd"

Place = tuple


def is_text(path: Path) -> bool:
    return is_json(path) or is_lines(path) or is_yaml(path)


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_bytes().decode()
    after = change(before)
    if after == before:
        raise Inapplicable
    path.write_bytes(after.encode())


def enter(name: str, applies: Callable[[Path], bool], change: Callable[[str], str], **details: Any) -> None:
    corruption(name, applies, **details)(lambda path: edit(path, change))


enter("lines that end as on Windows", is_text, lambda t: t.replace("\n", "\r\n"), recovers=True)
enter("empty lines at the end", is_text, lambda t: t + "\n\n", recovers=True)
enter("a mark of byte order", lambda p: is_json(p) or is_lines(p), lambda t: "\ufeff" + t, recovers=True)


@corruption("UTF-16", is_text)
def _utf16(path: Path) -> None:
    path.write_bytes(path.read_bytes().decode().encode("utf-16"))


@corruption("text that is not UTF-8", is_text)
def _latin(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff\xfe\xe9" + content[len(content) // 2 :])


@corruption("a zero byte in the text", is_text)
def _zero_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\0" + content[len(content) // 2 :])


# JSON -----------------------------------------------------------------------------------------------------------------

enter("JSON with a comma too many", is_json, lambda t: re.sub(r"\s*([}\]])\s*$", r",\1", t))
enter("JSON without a bracket", is_json, lambda t: t.rstrip()[:-1])
enter("JSON with comments", is_json, lambda t: "// written by hand\n" + t)
enter("JSON with single quotes", is_json, lambda t: t.replace('"', "'"))
enter("JSON twice", is_json, lambda t: t + t)
enter("JSON that is a list", is_json, lambda t: f"[{t}]")
enter("JSON that is null", is_json, lambda t: "null")
enter("JSON that is a number", is_json, lambda t: "3")
enter("JSON that is empty", is_json, lambda t: "{}", may_lose=PRIORS)
enter("JSON nested too deep", is_json, lambda t: '{"a":' * 100_000)
enter("a number of ten thousand digits", is_json, lambda t: re.sub(r"(?<=[ \[:])\d+", "9" * 10_000, t, count=1))


def walk(content: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of a document with its path."""
    yield place, content
    pairs = content.items() if isinstance(content, dict) else enumerate(content if isinstance(content, list) else ())
    for key, value in pairs:
        yield from walk(value, (*place, key))


def places(wanted: Callable[[Place, Any], bool]) -> Callable[[Path], list[Place]]:
    """The first place of every kind (paths that differ by names of frames and by list positions are one kind)."""

    def find(path: Path) -> list[Place]:
        kinds: dict[tuple, Place] = {}
        for place, value in walk(json.loads(path.read_text())):
            if place and wanted(place, value):
                kind = tuple("#" if isinstance(k, int) or any(c.isdigit() for c in str(k)) else k for k in place)
                kinds.setdefault(kind, place)
        return list(kinds.values())

    return find


def change_at(path: Path, place: Place, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = change(holder[place[-1]])
    path.write_text(json.dumps(content))


def at(name: str, wanted: Callable[[Place, Any], bool], change: Callable[[Any], Any], **details: Any) -> None:
    corruption(f"JSON: {name}", is_json, places=places(wanted), **details)(
        lambda path, place: change_at(path, place, change)
    )


def number(place: Place, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def key(place: Place, value: Any) -> bool:
    return isinstance(place[-1], str)


def sized(place: Place, value: Any) -> bool:
    return number(place, value) and any(SIZES.search(str(part)) for part in place)


def rotation(place: Place, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list) and bool(ROTATIONS.search(place[-1]))


def listing(place: Place, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str | dict)


def text(place: Place, value: Any) -> bool:
    return isinstance(value, str)


def vector(place: Place, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float)


def first(change: Callable[[Any], Any]) -> Callable[[list], list]:
    return lambda rows: [change(rows[0]), *rows[1:]]


HONEST = frozenset({*PRIORS, "keyframes", "fps"})
at("null", lambda p, v: True, lambda v: None, may_lose=HONEST)
at("text for a number", number, lambda v: "12x")
at("a number for a list", lambda p, v: isinstance(v, list), lambda v: 7, may_lose=HONEST)
at("a list for a number", number, lambda v: [v, v])
at("an object for a list", lambda p, v: isinstance(v, list), lambda v: {"values": v}, may_lose=HONEST)
at("a number for text", text, lambda v: 4)
at("an empty list", lambda p, v: isinstance(v, list), lambda v: [], may_lose=HONEST)
at("NaN", number, lambda v: float("nan"))
at("infinity", number, lambda v: float("inf"))
at("a size or rate of zero", sized, lambda v: 0)
at("a negative size or rate", sized, lambda v: -abs(v) - 1)
at("a fraction for a whole number", lambda p, v: number(p, v) and isinstance(v, int), lambda v: v + 0.5)
at("true for a number", number, lambda v: True, may_change=frozenset({"fps"}))
at("a stretched rotation", rotation, lambda m: [[1.4 * x for x in row[:3]] + row[3:] for row in m[:3]] + m[3:])
at("a mirrored rotation", rotation, lambda m: [[-row[0], *row[1:]] for row in m[:3]] + m[3:])
at("a matrix with a row too few", rotation, lambda m: m[:-1])
at("a matrix with uneven rows", rotation, first(lambda row: row[:-1]))
at("a matrix of text", rotation, first(lambda row: ["a", *row[1:]]))
at("a vector with a number too few", vector, lambda v: v[:-1])
at("an entry listed twice", listing, lambda v: [*v, v[0]])
at("an entry of null", listing, first(lambda v: None))
at("the name of a missing file", text, lambda v: MISSING + Path(v).suffix)
at("a name that leaves the folder", text, lambda v: ESCAPE)
at("an absolute name", text, lambda v: "/etc/hostname")
at("a name with a zero byte", text, lambda v: "a\0b")
at("an empty name", text, lambda v: "")


@corruption("JSON: a key is gone", is_json, places=places(key), may_lose=HONEST)
def _gone(path: Path, place: Place) -> None:
    content = json.loads(path.read_text())
    holder = content
    for part in place[:-1]:
        holder = holder[part]
    del holder[place[-1]]
    path.write_text(json.dumps(content))


# Lines ----------------------------------------------------------------------------------------------------------------


def on_line(which: int, change: Callable[[str], str | None]) -> Callable[[str], str]:
    def edit_line(content: str) -> str:
        lines = content.split("\n")
        full = [i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")]
        changed = change(lines[full[which]])
        lines[full[which] : full[which] + 1] = [] if changed is None else changed.split("\n")
        return "\n".join(lines)

    return edit_line


enter("a line too few", is_lines, on_line(-1, lambda line: None))
enter("a line twice", is_lines, on_line(-1, lambda line: f"{line}\n{line}"))
enter("a line of words", is_lines, on_line(-1, lambda line: "see the other file for this one"))
enter("a line with a field too many", is_lines, on_line(-1, lambda line: f"{line},7 7"))
enter("a last number of NaN", is_lines, on_line(-1, lambda line: re.sub(r"[-\d.e]+$", "nan", line)))
enter("comments between the lines", is_lines, on_line(-1, lambda line: f"# checked\n{line}"), recovers=True)

# YAML -----------------------------------------------------------------------------------------------------------------

enter("YAML without its first line", is_yaml, lambda t: t.split("\n", 1)[1])
enter("YAML with tabs", is_yaml, lambda t: t.replace("   ", "\t"))
enter(
    "YAML without a matrix",
    is_yaml,
    lambda t: re.sub(r"\n(K|T)_\w+: !!opencv-matrix.*?(?=\n\w)", "", t, count=1, flags=re.S),
)
enter("YAML with a matrix of other rows", is_yaml, lambda t: t.replace("rows: 3", "rows: 2", 1))
enter("YAML with a matrix of a kind unknown", is_yaml, lambda t: t.replace("dt: d", "dt: q", 1))
enter("YAML with NaN", is_yaml, lambda t: re.sub(r"data: \[ *[-\d.e+]+", "data: [ .Nan", t, count=1))
enter("YAML with text in a matrix", is_yaml, lambda t: re.sub(r"data: \[ *[-\d.e+]+", "data: [ abc", t, count=1))
enter("YAML with a camera twice", is_yaml, lambda t: re.sub(r'(names:\s*\n\s+- )(".*?")', r"\1\2\n   - \2", t, count=1))
enter("YAML with a camera too many", is_yaml, lambda t: re.sub(r"(names:\s*\n)", r'\1   - "99"\n', t, count=1))
enter("YAML with a stretched rotation", is_yaml, lambda t: _stretched(t))
enter(
    "YAML with a negative focal length", is_yaml, lambda t: re.sub(r"(K_.*?data: \[ *)", r"\1-", t, count=1, flags=re.S)
)


def _stretched(content: str) -> str:
    return re.sub(r"(Rot_.*?data: \[ *)[-\d.e+]+", r"\1 1.4", content, count=1, flags=re.S)
