"""What the mask page can do to masks, without the page: add a region, paint, erase, carry on along flow, undo, save.

Masks are changed in memory; `save` writes the changed ones, each complete or not at all, and keeps what was there
before the first change in `masks_before_editing/SEQ/NAME.png`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dyngs_plugins.priors.files import atomic_file
from dyngs_plugins.priors.prior_kinds import KINDS, FlowKind, MaskKind
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.flow_math import round_trip_error, warp
from dyngs_plugins.priors.providers.inputs import read_rgb
from dyngs_plugins.priors.providers.masks_epipolar import clean, grab_cut
from dyngs_plugins.priors.sources import IMAGE_SUFFIXES, image_files

BACKUP = "masks_before_editing"
UNDO_STEPS = 100
_ROUND_TRIP_PX = 1.5
_SPECK = 0.0005  # of the image; smaller specks and holes of a carried mask are removed

Pixel = tuple[int, int]
Segmenter = Callable[[UInt8[np.ndarray, "h w 3"], Pixel], Bool[np.ndarray, "h w"]]
"""The object under a pixel (x, y) of an image."""


def sequences(root: Path) -> list[str]:
    """Names of a clip's sequences.

    Raises:
        FileNotFoundError: when the folder is no clip.
    """
    images = root / "images"
    found = sorted(folder.name for folder in images.iterdir() if folder.is_dir()) if images.is_dir() else []
    if not found:
        raise FileNotFoundError(
            f"{root}: no images/SEQ/ in it. Expected a clip folder, as `dyngs process` makes one from a video."
        )
    return found


class MaskEditor:
    """The masks of one sequence of a clip while they are edited.

    Args:
        root: the clip folder.
        sequence: name of the sequence.
        segment: finds the object under a click; None is `region_by_colour`.
    """

    def __init__(self, root: Path, sequence: str, segment: Segmenter | None = None) -> None:
        folder = root / "images" / sequence
        self.files = image_files(folder)
        if not self.files:
            raise FileNotFoundError(f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) in it.")
        self.root, self.sequence, self.segment = root, sequence, segment or region_by_colour
        stems = tuple(file.stem for file in self.files)
        height, width = read_rgb(self.files[0]).shape[:2]
        self.size = (height, width)
        self.kind = MaskKind(root, sequence, stems, self.size)
        self._flow = FlowKind(root, sequence, stems, self.size)
        self._masks: dict[int, np.ndarray] = {}  # packed
        self._stored: dict[int, np.ndarray] = {}  # as they are in their files
        self._undo: list[dict[int, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.files)

    @property
    def changed(self) -> tuple[int, ...]:
        """Frames whose mask differs from its file."""
        return tuple(sorted(i for i, mask in self._masks.items() if not np.array_equal(mask, self._stored[i])))

    def image(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_rgb(self.files[i])

    def mask(self, i: int) -> Bool[np.ndarray, "h w"]:
        """The mask of frame i as it is now; nothing moves where there is no file."""
        if i not in self._masks:
            stored = self.kind.read(i, i)
            self._masks[i] = self._stored[i] = np.packbits(np.zeros(self.size, bool) if stored is None else stored)
        return np.unpackbits(self._masks[i], count=self.size[0] * self.size[1]).reshape(self.size).astype(bool)

    def overlay(self, i: int, strength: float = 0.5) -> UInt8[np.ndarray, "h w 3"]:
        """The image with its mask in red, its outline in yellow."""
        image, mask = self.image(i).astype(np.float32), self.mask(i)
        red = np.array([255.0, 40.0, 40.0], np.float32)
        image[mask] = (1 - strength) * image[mask] + strength * red
        edge = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        image[edge & mask] = (255.0, 230.0, 0.0)
        return image.round().astype(np.uint8)

    def add_region(self, i: int, at: Pixel) -> None:
        """Add the object under a pixel."""
        self._check(i, at)
        self._replace({i: self.mask(i) | self.segment(self.image(i), at)})

    def paint(self, i: int, at: Pixel, radius: int, value: bool = True) -> None:
        """Add (or with `value` False remove) a disc of pixels."""
        self._check(i, at)
        disc = _disc(self.size, at, max(int(radius), 0))
        self._replace({i: self.mask(i) | disc if value else self.mask(i) & ~disc})

    def erase_region(self, i: int, at: Pixel) -> None:
        """Remove the connected part of the mask under a pixel."""
        self._check(i, at)
        mask = self.mask(i)
        _, parts = cv2.connectedComponents(mask.astype(np.uint8))
        self._replace({i: mask & (parts != parts[at[1], at[0]])})

    def clear(self, i: int) -> None:
        """Nothing moves in frame i."""
        self._replace({i: np.zeros(self.size, bool)})

    def propagate(self, i: int, count: int, forward: bool = True) -> int:
        """Carry the mask of frame i along flow to the next (or the previous) `count` frames, whose masks it replaces.

        Returns:
            the last frame that was reached.
        """
        step = 1 if forward else -1
        last = min(max(i + step * count, 0), len(self) - 1)
        new: dict[int, np.ndarray] = {}
        current = self.mask(i)
        for j in range(i + step, last + step, step):
            new[j] = current = carried_mask(current, self._flow_between(j, j - step), self._flow_between(j - step, j))
        if new:
            self._replace(new)
        return last

    def undo(self) -> tuple[int, ...]:
        """Take back the last change; the frames that it had changed."""
        if not self._undo:
            return ()
        before = self._undo.pop()
        self._masks.update(before)
        return tuple(sorted(before))

    def save(self) -> list[Path]:
        """Write the changed masks; the files written. What was there before any editing is kept under BACKUP."""
        written = []
        for i in self.changed:
            path = self.kind.paths(i)["mask"]
            backup = self.root / BACKUP / self.sequence / path.name
            if path.is_file() and not backup.exists():
                with open(path, "rb") as source, atomic_file(backup) as target:
                    shutil.copyfileobj(source, target)
            self.kind.write(path, self.mask(i))
            self._stored[i] = self._masks[i]
            written.append(path)
        return written

    def stale(self) -> list[str]:
        """Kinds of priors beside the masks that are made from masks, so that they are older now."""
        made_from_masks = {name: kind.folder_name for name, kind in KINDS.items() if "masks" in kind.needs}
        return [name for name, folder in made_from_masks.items() if (self.root / folder / self.sequence).is_dir()]

    def _replace(self, masks: dict[int, np.ndarray]) -> None:
        before = {}
        for i, mask in masks.items():
            self.mask(i)  # reads the file on first use
            before[i] = self._masks[i]
            self._masks[i] = np.packbits(mask)
        self._undo.append(before)
        del self._undo[:-UNDO_STEPS]

    def _flow_between(self, i: int, j: int) -> Float[np.ndarray, "h w 2"]:
        """Flow from frame i to its neighbour j: the clip's, else estimated."""
        stored = self._flow.read(i, j)
        return DISFlow().estimate(self.image(i), self.image(j)) if stored is None else stored

    def _check(self, i: int, at: Pixel) -> None:
        x, y = at
        if not (0 <= i < len(self) and 0 <= x < self.size[1] and 0 <= y < self.size[0]):
            raise ValueError(
                f"Pixel ({x}, {y}) of image {i} does not exist; expected images 0 to {len(self) - 1} of "
                f"{self.size[1]}x{self.size[0]} pixels."
            )


def carried_mask(
    mask: Bool[np.ndarray, "h w"], back: Float[np.ndarray, "h w 2"], forth: Float[np.ndarray, "h w 2"]
) -> Bool[np.ndarray, "h w"]:
    """The mask of a frame in its neighbour.

    What a moving object uncovers looks back at where the object was, so only pixels whose round trip closes count;
    the small gaps that this leaves are closed.

    Args:
        back: flow from the neighbour to the frame of the mask.
        forth: flow from the frame of the mask to the neighbour.
    """
    carried = (warp(mask.astype(np.float32), back) > 0.5) & (round_trip_error(back, forth) < _ROUND_TRIP_PX)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(np.pad(carried, 4).astype(np.uint8), cv2.MORPH_CLOSE, kernel)[4:-4, 4:-4]
    return clean(closed > 0, _SPECK)


def region_by_colour(
    image: UInt8[np.ndarray, "h w 3"], at: Pixel, reach: float = 0.25, core: float = 0.08, tolerance: int = 14
) -> Bool[np.ndarray, "h w"]:
    """The object under a pixel without learned weights: what lies close and what has its colour, cut out with GrabCut.

    On four frames of the DAVIS video "camel" with a click amid the animal it finds 70 to 81 % of it at a precision of
    91 to 99 %; brush and eraser do the rest.

    Args:
        reach: how far the object may extend from the pixel, as a share of the longer side.
        core: within this distance pixels are thought to be of the object, likewise.
        tolerance: as far as this the colours of the object may differ from the pixel's for a start, 0 to 255.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    smooth = cv2.medianBlur(np.ascontiguousarray(image), 5)
    flooded = np.zeros((height + 2, width + 2), np.uint8)
    flags = 8 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (255 << 8)
    cv2.floodFill(smooth, flooded, at, (0, 0, 0), (tolerance,) * 3, (tolerance,) * 3, flags)
    near = _disc((height, width), at, max(int(reach * longer), 3))
    seed = ((flooded[1:-1, 1:-1] > 0) | _disc((height, width), at, max(int(core * longer), 2))) & near
    labels = np.where(near, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    labels[seed] = cv2.GC_PR_FGD
    labels[_disc((height, width), at, max(int(0.01 * longer), 2))] = cv2.GC_FGD
    cut = grab_cut(image, labels, iterations=3)
    _, parts = cv2.connectedComponents(cut.astype(np.uint8))
    return parts == parts[at[1], at[0]] if cut[at[1], at[0]] else seed


def _disc(size: tuple[int, int], at: Pixel, radius: int) -> Bool[np.ndarray, "h w"]:
    disc = np.zeros(size, np.uint8)
    cv2.circle(disc, at, radius, (1,), thickness=-1)
    return disc > 0


def region_by_sam(provider_settings: Iterable[tuple[str, object]] = ()) -> Segmenter | None:
    """SAM under a click, or None where its weights are not on this machine."""
    from dyngs_plugins.priors.providers.mask_prompts import ObjectPrompt
    from dyngs_plugins.priors.providers.masks_sam import SamMasks

    provider = SamMasks(**dict(provider_settings))  # type: ignore[arg-type]
    if provider.unavailable() is not None:
        return None

    def segment(image: UInt8[np.ndarray, "h w 3"], at: Pixel) -> Bool[np.ndarray, "h w"]:
        prompt = ObjectPrompt(0, ((float(at[0]), float(at[1])),), (1,))
        (_, mask), *_ = provider.video().follow(lambda i: image, 1, (prompt,))
        return mask

    return segment
