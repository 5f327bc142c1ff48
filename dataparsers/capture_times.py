"""When each image was taken: a file of timestamps, numbers in the names, or the order of the names."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dataparsers.checks import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Instants:
    """The time of every image, over all splits and cameras together."""

    steps: tuple[int, ...]
    """Integer steps from 0 on."""
    times: tuple[float, ...] | None
    """In [0, 1]; None: the steps are evenly spaced."""
    fps: float | None
    """Steps per second on average, where seconds are known."""

    @property
    def num_frames(self) -> int:
        return max(self.steps) + 1


def instants_of_order(files: Sequence[tuple[Path, int]]) -> list[int]:
    """Steps of (file, camera) by the order of the names: of all names that occur, or within each camera where the
    cameras' names differ.

    Raises:
        ValueError: cameras whose images neither share names nor are as many.
    """
    by_camera: dict[int, list[str]] = {}
    for path, camera in files:
        by_camera.setdefault(camera, []).append(path.stem)
    every = sorted({path.stem for path, _ in files})
    shared = set.intersection(*(set(mine) for mine in by_camera.values()))
    if 2 * len(shared) > len(every):  # an image that is missing from one camera leaves a gap there
        place = {stem: i for i, stem in enumerate(every)}
        return [place[path.stem] for path, _ in files]
    counts = [len(mine) for mine in by_camera.values()]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{files[0][0].parent.parent}: the cameras have {counts} images, whose names differ: which were taken at "
            "one time? Name simultaneous images alike, or write timestamps.csv with lines of name,seconds."
        )
    order = {camera: {stem: i for i, stem in enumerate(sorted(mine))} for camera, mine in by_camera.items()}
    return [order[camera][path.stem] for path, camera in files]


def instants_of_values(source: str, values: Sequence[float], seconds: bool) -> Instants:
    """Steps and times from numbers; equal numbers are simultaneous.

    Args:
        source: where they come from, for errors.
        seconds: whether the numbers are seconds.

    Raises:
        ValueError: all are equal.
    """
    different = sorted(set(values))
    first, span = different[0], different[-1] - different[0]
    if span <= 0:
        raise ValueError(
            f"{source}: all {len(values)} images have the time {first:g}. Expected times that differ: leave them out "
            "to go by the order of the names."
        )
    place = {value: i for i, value in enumerate(different)}
    times = tuple((value - first) / span for value in values)
    return Instants(tuple(place[v] for v in values), times, (len(different) - 1) / span if seconds else None)


def read_timestamps(path: Path, names: Sequence[str]) -> list[float]:
    """The seconds of each named image, from .csv (name,seconds), .txt (name seconds) or .json (object or list).

    Names may leave out the suffix or the folders.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, not finite, or without some of the images.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of timestamps. Expected lines of name,seconds.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: cannot be read as text ({error}). Expected lines of name,seconds.") from error
    pairs = _json_pairs(path, text) if path.suffix.lower() == ".json" else _line_pairs(path, text)
    table: dict[str, float] = {}
    for name, value in pairs:
        if not math.isfinite(value):
            raise ValueError(f"{path}: the time of {name!r} is {value}; expected seconds, a finite number.")
        if name in table:
            raise ValueError(f"{path}: {name!r} has two times, {table[name]} and {value}; expected one.")
        table[name] = value
    return _lookup(path, table, names)


def pattern_values(pattern: str, names: Sequence[str]) -> list[float]:
    """The number that a regular expression's group finds in each name: its group ``time``, or its only one.

    Raises:
        ValueError: no valid expression, no group, a name that it does not match, or no number.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"time_pattern is {pattern!r}, no regular expression ({error}). Expected one like "
                         r"'frame_(\d+)'.") from error  # fmt: skip
    if "time" not in compiled.groupindex and compiled.groups != 1:
        raise ValueError(f"time_pattern {pattern!r} has {compiled.groups} groups; expected one, or one named 'time' as "
                         r"in '(?P<time>\d+)'.")  # fmt: skip
    values = []
    for name in names:
        match = compiled.search(str(PurePosixPath(name).with_suffix("")))
        found = match.group("time" if "time" in compiled.groupindex else 1) if match else None
        try:
            value = float(found) if found is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"time_pattern {pattern!r} finds {found!r} in {name!r}; expected a number. Every image's "
                             "name must have one.")  # fmt: skip
        values.append(value)
    return values


def _json_pairs(path: Path, text: str) -> list[tuple[str, float]]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}). Correct it, or write lines of name,seconds into "
                         "a .csv.") from error  # fmt: skip
    if isinstance(content, Mapping):
        items = list(content.items())
    elif isinstance(content, list) and all(isinstance(item, Mapping) for item in content):
        items = [(item.get("name", item.get("file_path")), item.get("time", item.get("seconds"))) for item in content]
    else:
        items = [(None, None)]
    pairs = []
    for name, value in items:
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{path}: found {name!r} with the time {value!r}. Expected an object of names and "
                             'seconds, or a list of {"name": ..., "time": ...}.')  # fmt: skip
        pairs.append((name, float(value)))
    return pairs


def _line_pairs(path: Path, text: str) -> list[tuple[str, float]]:
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = next(csv.reader([line])) if "," in line else line.rsplit(maxsplit=1)
        words = [word.strip() for word in words]
        try:
            if len(words) != 2 or not words[0]:
                raise ValueError
            pairs.append((words[0], float(words[1])))
        except ValueError as error:
            if number == 1 and len(words) >= 2 and not any(c.isdigit() for c in line):
                continue  # a heading
            raise ValueError(f"{path}: line {number} is {line!r}. Expected name,seconds.") from error
    return pairs


def _lookup(path: Path, table: Mapping[str, float], names: Sequence[str]) -> list[float]:
    bare_table: dict[str, float] = {}
    for name, value in table.items():  # an image's suffix may be in upper case, or another one than when it was listed
        path_of = PurePosixPath(name)
        if path_of.suffix.lower() in IMAGE_SUFFIXES:
            bare_table.setdefault(str(path_of.with_suffix("")), value)
    table = bare_table | dict(table)
    values, missing = [], []
    for name in names:
        bare = PurePosixPath(name)
        keys = (name, str(bare.with_suffix("")), bare.name, bare.stem)
        found = next((table[key] for key in keys if key in table), None)
        values.append(found)
        if found is None:
            missing.append(name)
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(names)} images have no time; the first is {missing[0]}. Expected a line "
            "for every image (its name, with or without suffix)."
        )
    return [value for value in values if value is not None]
