"""The picture of ``dyngs inspect``: cameras from above and from the side, and a contact sheet of the images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from dyngs_plugins.inspection import Inspection, loose_images
from dyngs_plugins.inspection_facts import Opened
from dyngs_plugins.inspection_footage import Cameras
from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.footage import Choice
from dyngs_plugins.priors.normalise import rotation_onto_z
from dyngs_plugins.priors.previews import contact_sheet
from dyngs_plugins.priors.views import ClipViews

TRAIN, TEST = "#1f77b4", "#ff7f0e"
SHOWN = 24
"""Images on the contact sheet."""
ARROWS = 80
"""Viewing directions drawn of each split."""
POINTS = 3000
"""Seed points drawn."""
THUMBNAIL = 320
"""Longer side of a picture on the sheet, in pixels."""

Picture = UInt8[np.ndarray, "h w 3"]


def draw(inspection: Inspection, out: Path) -> bool:
    """Write the picture as a PNG; False where there is nothing to draw.

    Raises:
        ValueError: ``out`` lies in the folder that is inspected, or is no PNG.
    """
    check_out(inspection.root, out)
    opened = None if inspection.missing else inspection.opened
    pictures = _opened_pictures(opened) if opened else _loose_pictures(loose_images(inspection.root))
    if not pictures:
        return False
    sheet = contact_sheet(pictures)
    height = 12 * sheet.shape[0] / sheet.shape[1]
    figure = Figure(figsize=(12, height + (6.5 if opened else 1.0)), dpi=110, layout="constrained")
    figure.suptitle(f"{inspection.root.resolve().name}: {inspection.layout.title} ({inspection.layout.command})")
    if opened:
        grid = figure.add_gridspec(2, 2, height_ratios=[5.5, height])
        _draw_cameras(opened, figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]))
        axes = figure.add_subplot(grid[1, :])
    else:
        axes = figure.add_subplot()
    axes.imshow(sheet)
    axes.set_axis_off()
    with atomic_file(out) as file:
        figure.savefig(file, format="png")
    return True


def draw_footage(root: Path, cameras: Cameras, out: Path) -> None:
    """Write a contact sheet of footage as a PNG.

    Raises:
        ValueError: see :func:`draw`.
    """
    check_out(root, out)
    most, size = max(1, SHOWN // len(cameras)), cameras[0][1].size
    small = _thumbnail_size(size[1], size[0])
    pictures = []
    for name, footage in cameras:
        for i, taken in enumerate(footage.frames(Choice(max_frames=most))):
            text = taken.origin or (f"{taken.seconds:.2f} s" if taken.seconds is not None else f"{i}")
            label = text if len(cameras) == 1 else f"{name} {text}"
            pictures.append(_framed(np.ascontiguousarray(taken.pixels((small[1], small[0]))), "#808080", label))
    sheet = contact_sheet(pictures)
    figure = Figure(figsize=(12, 12 * sheet.shape[0] / sheet.shape[1] + 1.0), dpi=110, layout="constrained")
    figure.suptitle(f"{root.resolve().name}: no cameras")
    axes = figure.add_subplot()
    axes.imshow(sheet)
    axes.set_axis_off()
    with atomic_file(out) as file:
        figure.savefig(file, format="png")


def check_out(root: Path, out: Path) -> None:
    """The picture is no part of the data.

    Raises:
        ValueError: see :func:`draw`.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: expected a name that ends in .png. Choose another --out.")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"{out}: this is in the folder that is inspected, where loaders would find it. Choose another place, "
            f"such as --out {shlex.quote(str(root.resolve().parent / 'inspect.png'))}."
        )


def _draw_cameras(opened: Opened, top: Axes, side: Axes) -> None:
    """Both views in a frame whose third axis is up, which is the mean of the cameras' up."""
    poses = [views.world_T_camera for views in (opened.train, opened.test)]
    up = -torch.cat(poses)[:, :3, 1].double().mean(dim=0)
    turn = rotation_onto_z(up / up.norm()).float() if float(up.norm()) > 1e-6 else torch.eye(3)
    centers = [(pose[:, :3, 3] @ turn.T).numpy() for pose in poses]
    looks = [(pose[:, :3, 2] @ turn.T).numpy() for pose in poses]
    reach = float(np.ptp(np.concatenate(centers), axis=0).max())
    points = opened.clip.points
    cloud = np.zeros((0, 3), np.float32)
    if points is not None and len(points.xyz) > 0:
        chosen = _spread(len(points.xyz), POINTS)
        cloud = (opened.frame.points(points.xyz[chosen].float()) @ turn.T).numpy()
        low, high = np.quantile(cloud, [0.05, 0.95], axis=0)
        margin = 0.5 * (high - low)  # stray points would make everything else small
        cloud = cloud[((cloud >= low - margin) & (cloud <= high + margin)).all(axis=1)]
        reach = max(reach, float((high - low).max()))
    arrow = 0.12 * (reach or 1.0)
    for axes, second, title, labels in (
        (top, 1, "from above", ("x", "y")),
        (side, 2, "from the side", ("x", "up")),
    ):
        axes.scatter(
            cloud[:, 0], cloud[:, second], s=1, c="#bbbbbb", label=f"{len(cloud)} points" if len(cloud) else None
        )
        for name, colour, views, center, look in zip(
            ("train", "test"), (TRAIN, TEST), (opened.train, opened.test), centers, looks, strict=True
        ):
            _draw_split(axes, center[:, [0, second]], look[:, [0, second]] * arrow, colour, f"{len(views)} {name}")
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(alpha=0.3)
    top.legend(loc="best", fontsize=8)


def _draw_split(
    axes: Axes, centers: Float[np.ndarray, "v 2"], looks: Float[np.ndarray, "v 2"], colour: str, label: str
) -> None:
    axes.scatter(*centers.T, s=10, c=colour, label=label, zorder=3)
    chosen = _spread(len(centers), ARROWS)
    axes.quiver(
        *centers[chosen].T, *looks[chosen].T, color=colour, alpha=0.6, width=0.003,
        angles="xy", scale_units="xy", scale=1.0, zorder=2,
    )  # fmt: skip
    axes.update_datalim(centers[chosen] + looks[chosen])  # quiver counts its tails alone


def _opened_pictures(opened: Opened) -> list[Picture]:
    """Images of both splits, in time's order, framed in the colour of their split."""
    views = [(opened.train, TRAIN, "train"), (opened.test, TEST, "test")]
    tests = min(
        len(opened.test), max(SHOWN // 4, round(SHOWN * len(opened.test) / (len(opened.train) + len(opened.test))))
    )
    counts = (SHOWN - tests, tests)
    listed = sorted(
        (float(part.times[i]), int(part.camera_index[i]), int(i), where)
        for where, (part, _, _) in enumerate(views)
        for i in _spread(len(part), counts[where])
    )
    size = _thumbnail_size(opened.train.width, opened.train.height)
    pictures = []
    for time, camera, i, where in listed:
        part, colour, name = views[where]
        pixels = cv2.resize(_pixels(part, i), size, interpolation=cv2.INTER_AREA)
        pictures.append(_framed(pixels, colour, f"{name} camera {camera} t {time:.2f}"))
    return pictures


def _spread(count: int, most: int) -> Int[np.ndarray, "n"]:
    """At most that many of ``count`` indices, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _pixels(views: ClipViews, index: int) -> Picture:
    return (views.image(index).clamp(0, 1) * 255).round().byte().numpy()


def _framed(picture: Picture, colour: str, text: str, border: int = 4) -> Picture:
    rgb = tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))
    framed = cv2.copyMakeBorder(picture, border, border, border, border, cv2.BORDER_CONSTANT, value=rgb)
    for ink, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(framed, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, width, cv2.LINE_AA)
    return framed


def _loose_pictures(files: Sequence[Path]) -> list[Picture]:
    """Images without cameras, letterboxed to the first one's size."""
    if not files:
        return []
    pictures, size = [], None
    for path in (files[k] for k in _spread(len(files), SHOWN)):
        try:
            with Image.open(path) as image:
                size = size or _thumbnail_size(*image.size)
                pixels = np.asarray(ImageOps.pad(image.convert("RGB"), size))
        except OSError:
            continue  # a broken image is for the loader to complain about
        pictures.append(_framed(np.ascontiguousarray(pixels), "#808080", path.name))
    return pictures


def _thumbnail_size(width: int, height: int) -> tuple[int, int]:
    factor = THUMBNAIL / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))
