"""What the user points at: clicks and boxes on images, one set for each object to follow.

Settings are plain tuples, so that they can be given on the command line and stored:

    click=(120, 80)                         one object, one click
    click=((120, 80), (300, 40))            two objects, one click each
    click=(((120, 80), (125, 90)), (300, 40))   the first object has two clicks
    exclude=(140, 60)                       pixels that belong to none of the objects
    box=(90, 40, 180, 150)                  x0, y0, x1, y1; several boxes are several objects
    frame=0   or   frame=(0, 12)            which image they were made on, for all or for each object

With both clicks and boxes, the first click belongs to the first box, and so on. Pixels have integer centres.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ObjectPrompt:
    """One object on one image."""

    frame: int
    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    """1: this pixel belongs to the object, 0: it does not."""
    box: tuple[float, float, float, float] | None = None


def parse_prompts(
    click: Any, exclude: Any, box: Any, frame: Any, size: tuple[int, int], count: int
) -> tuple[ObjectPrompt, ...]:
    """The objects that the settings name; none if there is neither a click nor a box.

    Args:
        size: height and width of the images.
        count: number of images.

    Raises:
        ValueError: for settings of another form, or positions outside of the images.
    """
    clicks = _per_object(click, size)
    boxes = _boxes(box, size)
    outside = tuple(point for points in _per_object(exclude, size, "exclude") for point in points)
    number = max(len(clicks), len(boxes))
    if clicks and boxes and len(clicks) != len(boxes):
        raise ValueError(
            f"masks.click names {len(clicks)} objects and masks.box {len(boxes)}; expected the same number, or only "
            "one of the two settings."
        )
    if outside and not number:
        raise ValueError("masks.exclude alone names no object; expected masks.click or masks.box beside it.")
    frames = _frames(frame, number, count)
    prompts = []
    for k in range(number):
        inside = clicks[k] if clicks else ()
        labels = (1,) * len(inside) + (0,) * len(outside)
        prompts.append(ObjectPrompt(frames[k], (*inside, *outside), labels, boxes[k] if boxes else None))
    return tuple(prompts)


def prompts_from_mask(mask: Bool[np.ndarray, "h w"], frame: int, min_share: float = 0.1) -> tuple[ObjectPrompt, ...]:
    """A box around each connected part of a mask; parts below `min_share` of the largest one do not count."""
    number, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if number < 2:
        return ()
    x, y, w, h = (stats[1:, c] for c in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT))
    area = stats[1:, cv2.CC_STAT_AREA]
    keep = np.flatnonzero(area >= min_share * area.max())
    return tuple(
        ObjectPrompt(frame, box=(float(x[k]), float(y[k]), float(x[k] + w[k] - 1), float(y[k] + h[k] - 1)))
        for k in keep
    )


def groups(prompts: Sequence[ObjectPrompt]) -> list[list[ObjectPrompt]]:
    """Objects that one run of a network can follow together: same image, all with or all without a box."""
    keys = sorted({(prompt.frame, prompt.box is None) for prompt in prompts})
    return [[p for p in prompts if (p.frame, p.box is None) == key] for key in keys]


def _per_object(value: Any, size: tuple[int, int], name: str = "click") -> list[tuple[Point, ...]]:
    if value is None or (isinstance(value, Sequence) and not value):
        return []
    if _is_numbers(value, 2):
        return [(_point(value, size, name),)]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"masks.{name}={value!r} is not understood; expected (x, y) or ((x, y), (x, y), ...).")
    objects = []
    for item in value:
        points = [item] if _is_numbers(item, 2) else item
        if not isinstance(points, Sequence) or isinstance(points, str) or not all(_is_numbers(p, 2) for p in points):
            raise ValueError(f"masks.{name}: {item!r} is not understood; expected (x, y), or several of them in ().")
        objects.append(tuple(_point(point, size, name) for point in points))
    return objects


def _boxes(value: Any, size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    if value is None or (isinstance(value, Sequence) and not value):
        return []
    values = [value] if _is_numbers(value, 4) else value
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(_is_numbers(v, 4) for v in values):
        raise ValueError(f"masks.box={value!r} is not understood; expected (x0, y0, x1, y1) or several of them in ().")
    boxes = []
    for x0, y0, x1, y1 in values:
        _point((x0, y0), size, "box")
        _point((x1, y1), size, "box")
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"masks.box={(x0, y0, x1, y1)} is empty; expected x0 < x1 and y0 < y1.")
        boxes.append((float(x0), float(y0), float(x1), float(y1)))
    return boxes


def _frames(value: Any, number: int, count: int) -> list[int]:
    frames = [value] * max(number, 1) if isinstance(value, int) else list(value)
    if number and len(frames) != number:
        raise ValueError(f"masks.frame names {len(frames)} images for {number} objects; expected one number for all, or one each.")  # fmt: skip
    for frame in frames:
        if not isinstance(frame, int) or not -count <= frame < count:
            raise ValueError(f"masks.frame={frame!r}: expected the index of an image, 0 to {count - 1} here.")
    return [frame % count for frame in frames]


def _is_numbers(value: Any, length: int) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == length
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def _point(value: Sequence[float], size: tuple[int, int], name: str) -> Point:
    x, y = float(value[0]), float(value[1])
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        raise ValueError(
            f"masks.{name}: ({value[0]}, {value[1]}) lies outside of the images of {size[1]}x{size[0]} pixels. Expected "
            "x, y in pixels of the clip's images, which may be smaller than the video's."
        )
    return x, y
