"""Running out of memory or of disk, told as what to change; and how much disk a clip will take."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from dyngs_plugins.priors.prior_kinds import PriorKind

BYTES_PER_PIXEL: Mapping[str, float] = {"images": 2.0, "flow": 18.0, "masks": 0.1, "depth": 4.0, "tracks": 6.0}
"""Disk that one frame takes, roughly; tracks at their default stride with a fifth of the image moving."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class OutOfSpace(OSError):
    """The disk is full; nothing half-written is left behind."""


class OutOfMemory(MemoryError):
    """A provider needs more memory than there is; says which setting to lower."""


@contextlib.contextmanager
def space_advice(folder: Path, still_needed: float) -> Iterator[None]:
    """Turn a full disk into a message that says how much is needed and where.

    Args:
        still_needed: bytes that the files to come will take, roughly.

    Raises:
        OutOfSpace: instead of the system's error.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, OutOfSpace) or not _is_full(error):
            raise
        free = shutil.disk_usage(_existing(folder)).free
        raise OutOfSpace(
            error.errno or errno.ENOSPC,
            f"{folder}: the disk is full ({_gigabytes(free)} free); about {_gigabytes(still_needed)} more are needed "
            "here. What is finished is kept and nothing half-written is left. Free some space and run the same command "
            "again: it continues where it stopped. Smaller images (--height) and fewer frames (--fps, --max-frames) "
            "need less.",
        ) from error


def _is_full(error: OSError) -> bool:
    """Whether the disk is full. numpy writes in C and tells only how much it could write, without a number of the error."""
    return error.errno in _FULL or (error.errno is None and "requested and" in str(error))


@contextlib.contextmanager
def memory_advice(who: str, advice: str) -> Iterator[None]:
    """Turn running out of memory into a message that says which settings to lower; of nested ones the innermost speaks.

    Args:
        who: whose memory it is, as "The flow provider 'raft'".
        advice: whole sentences on what needs less.

    Raises:
        OutOfMemory: instead of Python's, torch's or OpenCV's error.
    """
    try:
        yield
    except Exception as error:
        if not is_memory(error) or isinstance(error, OutOfMemory):
            raise
        raise OutOfMemory(
            f"{who} ran out of memory ({first_line(error)}). {advice} Then run the same command again: what is finished "
            "is kept."
        ) from error


def clip_advice(size: tuple[int, int], memory_gb: float) -> str:
    """What needs less memory whatever the provider is; ``size`` is the images' height and width."""
    return (
        f"Lower --memory-gb (now {memory_gb:g}) or the size of the images (now {size[1]}x{size[0]}, into another --out "
        "with a lower --height)."
    )


def clip_bytes(frames: int, size: tuple[int, int], kinds: Mapping[str, float] = BYTES_PER_PIXEL) -> float:
    """Disk that a clip of so many frames of (height, width) takes, roughly."""
    return frames * size[0] * size[1] * sum(kinds.values())


def space_warning(folder: Path, needed: float) -> str | None:
    """What to say before starting on a disk that will probably be too small."""
    free = shutil.disk_usage(_existing(folder)).free
    if free >= needed:
        return None
    return (f"{folder}: about {_gigabytes(needed)} will be needed here, and {_gigabytes(free)} are free. Free some space, or "
            "take smaller images (--height) or fewer frames (--fps, --max-frames).")  # fmt: skip


def bytes_to_come(kind: PriorKind, missing: int) -> float:
    """Disk that `missing` more frames of a kind take: as those that are there, else by a rule of thumb."""
    sizes = [path.stat().st_size for i in range(len(kind.stems)) for path in kind.paths(i).values() if path.is_file()]
    if sizes:
        return missing * sum(sizes) / len(sizes) * max(len(kind.paths(0)), 1)
    return clip_bytes(missing, kind.size, {kind.name: BYTES_PER_PIXEL.get(kind.name, 4.0)})


def first_line(error: BaseException) -> str:
    """The beginning of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out. Torch's and OpenCV's own kinds are told by name and text, so that neither has to be imported."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    cv2_failed = type(error).__module__ == "cv2" and "Insufficient memory" in text
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return cv2_failed or (isinstance(error, RuntimeError) and any(words in text for words in said))


def _existing(folder: Path) -> Path:
    return next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
