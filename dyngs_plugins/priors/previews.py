"""Contact sheets of frames and priors, to see at a glance whether they are sound: summary/{frames,flow,...}.jpg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.som_files import write_image

FOLDER = "summary"
Picture = UInt8[np.ndarray, "h w 3"]


def write_previews(root: Path, inputs: PriorInputs, suffix: str = "", max_frames: int = 24) -> list[Path]:
    """Write the sheets of one camera: the same frames in all of them.

    Args:
        suffix: added to the file names, to tell cameras apart.
        max_frames: that many frames are shown, evenly spread.
    """
    count = len(inputs.frames)
    height, width = inputs.frames.size
    shown = full_grid(min(count, max_frames), height, width)
    frames = sorted({int(i) for i in np.linspace(0, count - 1, shown).round()})
    draw: dict[str, Callable[[int], Picture]] = {
        "frames": lambda i: labelled(brightened(inputs.image(i)), str(inputs.frames.frame_index[i])),
        "flow": lambda i: flow_picture(inputs.flow(i, i + 1) if i + 1 < count else -inputs.flow(i, i - 1)),
        "masks": lambda i: _mask_picture(inputs, i),
        "depth": _depth_painter(inputs, frames),
        "tracks": lambda i: _track_picture(inputs, i),
    }
    files = []
    for name, paint in draw.items():
        file = root / FOLDER / f"{name}{suffix}.jpg"
        write_image(file, contact_sheet([paint(i) for i in frames]))
        files.append(file)
    return files


def labelled(image: Picture, text: str) -> Picture:
    """The image with a text in its upper left corner."""
    scale = max(image.shape[0] / 240, 0.4)
    place, thickness = (int(6 * scale), int(22 * scale)), max(int(round(2 * scale)), 1)
    picture = np.ascontiguousarray(image)
    for colour, width in (((0, 0, 0), 2 * thickness + 1), ((255, 255, 255), thickness)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * scale, colour, width, cv2.LINE_AA)
    return picture


def flow_picture(flow: Float[np.ndarray, "h w 2"]) -> Picture:
    """Direction as hue, length as saturation: white rests, full colours move as far as the fastest percent."""
    length = np.linalg.norm(flow, axis=-1)
    angle = np.arctan2(flow[..., 1], flow[..., 0])
    hue = (angle / (2 * np.pi) % 1.0 * 180.0).astype(np.uint8)
    saturation = np.clip(length / max(float(np.percentile(length, 99)), 0.5) * 255.0, 0, 255).astype(np.uint8)
    value = np.full_like(hue, 255)
    return cv2.cvtColor(np.stack([hue, saturation, value], axis=-1), cv2.COLOR_HSV2RGB)


def contact_sheet(pictures: list[Picture], max_width: int = 2000) -> Picture:
    """Pictures of one size in a grid that is about as wide as high."""
    columns = _columns(len(pictures), *pictures[0].shape[:2])
    blank = np.zeros_like(pictures[0])
    padded = [*pictures, *[blank] * (-len(pictures) % columns)]
    sheet = np.vstack([np.hstack(padded[k : k + columns]) for k in range(0, len(padded), columns)])
    if sheet.shape[1] > max_width:
        size = max_width, round(sheet.shape[0] * max_width / sheet.shape[1])
        sheet = cv2.resize(sheet, size, interpolation=cv2.INTER_AREA)
    return sheet


def full_grid(most: int, height: int, width: int) -> int:
    """The largest number of pictures up to `most` that leaves no gap in the grid."""
    return next(n for n in range(most, 0, -1) if n % _columns(n, height, width) == 0)


def _columns(count: int, height: int, width: int) -> int:
    return min(max(1, round((count * height / width) ** 0.5 * 1.2)), count)


def brightened(image: Picture) -> Picture:
    """The image with its brightest percent at white, so that dark clips can be judged."""
    high = max(float(np.percentile(image, 99.0)), 32.0)
    return np.clip(image.astype(np.float32) * (255.0 / high), 0, 255).astype(np.uint8)


def _mask_picture(inputs: PriorInputs, i: int) -> Picture:
    picture, mask = brightened(inputs.image(i)), inputs.mask(i)
    picture[mask] = (picture[mask] * 0.5 + np.array([255.0, 0.0, 0.0]) * 0.5).astype(np.uint8)
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture, list(outline), -1, (255, 255, 0), 1)


def _depth_painter(inputs: PriorInputs, frames: list[int]) -> Callable[[int], Picture]:
    """Disparity in colours that mean the same in all frames: red is near, blue is far, black is unknown."""
    known = np.concatenate([d[d > 0][::7] for d in (inputs.disparity(i) for i in frames)])
    low, high = np.quantile(known, [0.02, 0.98]) if known.size else (0.0, 1.0)

    def paint(i: int) -> Picture:
        disparity = inputs.disparity(i)
        level = np.clip((disparity - low) / max(high - low, 1e-9) * 255.0, 0, 255).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
        colours[disparity <= 0] = 0
        return colours

    return paint


def _track_picture(inputs: PriorInputs, i: int, tail: int = 8, max_points: int = 120) -> Picture:
    """Where points of the key frames before and after this one are now, each with its way over the last frames.

    Filled: visible. Hollow: hidden. Key frames are 16 frames apart, so that most windows of tracks hold them.
    """
    picture = (brightened(inputs.image(i)) * 0.6).astype(np.uint8)
    for query in sorted({i // 16 * 16, min((i // 16 + 1) * 16, len(inputs.frames) - 1)}):
        start = inputs.tracks(query, query)
        if not len(start):
            continue
        chosen = np.unique(np.linspace(0, len(start) - 1, max_points).astype(int))
        span = np.ptp(start[chosen, 1]) + 1e-6
        hue = ((start[chosen, 1] - start[chosen, 1].min()) / span * 150).astype(np.uint8)
        colours = cv2.cvtColor(np.stack([hue, hue * 0 + 255, hue * 0 + 255], -1)[None], cv2.COLOR_HSV2RGB)[0].tolist()
        path = np.stack([inputs.tracks(query, t)[chosen] for t in range(max(i - tail, 0), i + 1)])
        known = (path[..., 3] < 20.0).all(0)  # outside of a window nothing is
        for point, colour in zip(path.transpose(1, 0, 2)[known], np.array(colours)[known].tolist(), strict=True):
            line = (point[:, None, :2] * 8).round().astype(np.int32)
            cv2.polylines(picture, [line], False, colour, 1, cv2.LINE_AA, shift=3)
            centre = (int(point[-1, 0].round()), int(point[-1, 1].round()))
            cv2.circle(picture, centre, 2, colour, -1 if point[-1, 2] < 0 else 1)
    return picture
