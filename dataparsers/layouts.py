"""Which layout a folder has, which sequences lie in it, and what to pass instead where the guess fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dataparsers.checks import image_files
from dyngs_plugins.priors.clip_files import ClipInfo, read_clip_json
from dyngs_plugins.priors.files import optional_file

SEQUENCE_FLAG = "--sequence"


@dataclass(frozen=True)
class CasualLayout:
    """Folder names of a casual-video layout."""

    image_type: str
    mask_type: str
    res: str
    """A folder level between kind and sequence; empty for none."""
    mask_erosion: int
    depth_median: int | None = None
    """None goes by the image size: :func:`median_side`."""
    depth_types: tuple[str, ...] = ("aligned_depth_anything", "aligned_depth_anything_v2", "unidepth_disp")
    """The first of these that exists is used."""
    track_types: tuple[str, ...] = ("tracks", "bootstapir", "tapir")

    def folder(self, root: Path, kind: str, sequence: str = "") -> Path:
        """Where one kind of file lies."""
        return root / kind / self.res / sequence


CUSTOM = CasualLayout("images", "masks", res="", mask_erosion=7)
DAVIS = CasualLayout("JPEGImages", "Annotations", res="480p", mask_erosion=3)


def median_side(size: tuple[int, int]) -> int:
    """Side of the median filter on depth for images of (width, height): 11 px, less below 480 px.

    Shape of Motion's 11 pixels are meant for images of that size. On 160x120 they would move one in twenty depths of
    a small object by a tenth of its size, where 3 px do what the filter is for.
    """
    return min(11, 2 * int(11 * min(size) / 480 / 2) + 1)


def detect_layout(root: Path) -> str:
    """``custom``, ``davis`` or ``iphone``, by the folders that only one of them has.

    Raises:
        FileNotFoundError: no such folder, or none of the layouts; says which folder to pass if one is near.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a clip; pass its folder with --data.")
    found = _layout_of(root)
    if found is None:
        raise FileNotFoundError(
            f"{root}: no known layout. Expected images/SEQ/ (custom), JPEGImages/480p/SEQ/ (davis), or rgb/ and "
            f"camera/ (iphone); found {_names(root)}. {_nearby(root)}"
        )
    return found


def find_sequences(root: Path, layout: CasualLayout, wanted: str | None) -> ClipInfo:
    """The sequences to train on: those of ``clip.json``, else the only one there is, else the one asked for.

    Raises:
        FileNotFoundError, ValueError: none or several; lists what there is and how to pick.
    """
    base = layout.folder(root, layout.image_type)
    if not base.is_dir():
        raise FileNotFoundError(f"{base}: no such folder. Expected {layout.image_type}/SEQ/ here. {_nearby(root)}")
    present = sorted(p.name for p in base.iterdir() if p.is_dir() and image_files(p))
    if not present:
        raise FileNotFoundError(
            f"{base}: found 0 sequences with images in them. {_no_sequence_hint(root, base, layout)}"
        )
    described = root / "clip.json"
    info = read_clip_json(described) if optional_file(described, "clip description") else None
    if wanted is not None and wanted not in present:
        raise FileNotFoundError(
            f"{base / wanted}: no such sequence. Found {', '.join(present)}; pick with {SEQUENCE_FLAG}."
        )
    if info is not None:
        sequences = info.sequences if wanted is None else (wanted,)
        absent = [name for name in sequences if name not in present]
        if absent:
            raise FileNotFoundError(
                f"{described}: it names the sequences {absent}, but {base} has images only for {', '.join(present)}. "
                "Correct the file, or put the images there."
            )
        return replace(info, sequences=sequences)
    if wanted is None and len(present) > 1:
        raise ValueError(
            f"{base}: found {len(present)} sequences ({', '.join(present)}), expected one. Pick with "
            f"{SEQUENCE_FLAG} {present[0]}. If they are simultaneous cameras of one clip, list them in {described}."
        )
    sequence = wanted or present[0]
    return ClipInfo((sequence,), len(image_files(base / sequence)))


def _layout_of(folder: Path) -> str | None:
    if (folder / "JPEGImages").is_dir():
        return "davis"
    if (folder / "rgb").is_dir() and ((folder / "camera").is_dir() or (folder / "splits").is_dir()):
        return "iphone"
    return "custom" if (folder / "images").is_dir() else None


def _nearby(root: Path) -> str:
    """What to pass instead of ``root``: a child or a parent that has a layout."""
    if not root.is_dir():
        return ""
    below = sorted(str(child) for child in root.iterdir() if child.is_dir() and _layout_of(child))
    if below:
        return f"One level too high? Pass --data {below[0]}" + (f" (or one of {below[1:4]})." if below[1:] else ".")
    for parent in list(root.resolve().parents)[:3]:
        if _layout_of(parent):
            inside = root.resolve().relative_to(parent).parts
            pick = f" {SEQUENCE_FLAG} {inside[-1]}" if len(inside) > 1 else ""
            return f"Too deep? Pass --data {parent}{pick}."
    return "A folder of images/ and poses_bounds.npy becomes a clip with `dyngs process FOLDER --out CLIP`."


def _no_sequence_hint(root: Path, base: Path, layout: CasualLayout) -> str:
    loose = len(image_files(base))
    if loose and (root / "poses_bounds.npy").is_file():
        return (
            f"{loose} images lie in {base} itself, beside poses_bounds.npy: that is the LLFF layout. Put `llff-data` "
            "at the end of the command, or make a clip with priors by `dyngs process`."
        )
    if loose:
        return f"{loose} images lie in {base} itself. Expected {layout.image_type}/SEQ/NAME: move them one folder down."
    expected = f"Expected {layout.image_type}/SEQ/ with images"
    empty = sorted(str(folder) for folder in base.iterdir() if folder.is_dir())
    if empty:
        return (
            f"{expected}, but {' and '.join(empty[:3])} {'hold' if empty[1:] else 'holds'} none. Put the images there."
        )
    return f"{expected}, found {_names(base)}. {_nearby(root)}"


def _names(folder: Path, count: int = 6) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return f"{len(names)} entries ({', '.join(names[:count])}{', ...' if len(names) > count else ''})"
