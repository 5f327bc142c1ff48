"""Classes of damage to a scene's files, by kind of file: what each does, and which outcomes are right.

A class is either ``refused`` (one clear error, or the very same scene where the spoilt part does not matter) or it
``recovers`` (the same scene, always). ``may_lose`` and ``may_change`` name the parts of a scene that may honestly be
absent or different afterwards: an optional prior whose file is gone, a picture that was made grey.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PRIORS = frozenset({"depth", "dynamic", "valid", "covisible", "tracks", "points", "flow", "normals"})
NOTHING: frozenset[str] = frozenset()
IMAGES = (".png", ".jpg", ".jpeg")
MASK = re.compile(r"mask|annotation|covisible|segmentation", re.IGNORECASE)


class Inapplicable(Exception):
    """This file has nothing that this class could spoil."""


@dataclass(frozen=True)
class Corruption:
    """One class of damage."""

    name: str
    applies: Callable[[Path], bool]
    """To a file, a folder of files, or the scene's folder: see ``level``."""
    spoil: Callable[..., None]
    """Given the path, and a place inside it where ``places`` lists some."""
    level: Literal["file", "folder", "scene"] = "file"
    recovers: bool = False
    may_lose: frozenset[str] = NOTHING
    may_change: frozenset[str] = NOTHING
    lossy: bool = False
    """Colours may differ a little: the picture was compressed or quantised."""
    late: bool = False
    """Whether the damage shows only where a picture is decoded, which is not before it is needed."""
    places: Callable[[Path], Sequence[Any]] | None = None
    """Where inside the file the damage may be; None: there is one place."""


TABLE: dict[str, Corruption] = {}


def corruption(name: str, applies: Callable[[Path], bool], **details: Any) -> Callable:
    """Enter the decorated function as a class of damage."""

    def enter(spoil: Callable[..., None]) -> Callable[..., None]:
        if name in TABLE:
            raise ValueError(f"two classes of damage are called {name!r}")
        TABLE[name] = Corruption(name, applies, spoil, **details)
        return spoil

    return enter


def suffix(*endings: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in endings


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES


def is_mask(path: Path) -> bool:
    return is_image(path) and any(MASK.search(part) for part in path.parts[-4:-1])


def is_photo(path: Path) -> bool:
    return is_image(path) and not is_mask(path)


def anything(path: Path) -> bool:
    return path.is_file()


# Any file -------------------------------------------------------------------------------------------------------------


@corruption("missing", anything, may_lose=PRIORS)
def _missing(path: Path) -> None:
    path.unlink()


@corruption("empty", anything)
def _empty(path: Path) -> None:
    path.write_bytes(b"")


@corruption("cut in half", anything, late=True)
def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@corruption("last bytes lost", anything, late=True)
def _last_bytes(path: Path) -> None:
    if path.suffix in (".txt", ".csv"):  # a number that lost digits is a number
        raise Inapplicable
    path.write_bytes(path.read_bytes()[:-3])


@corruption("only the first bytes", anything)
def _first_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:7])


@corruption("zeros in its place", anything)
def _zeros(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


@corruption("a web page in its place", anything)
def _web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404: Not Found</body></html>\n")


@corruption("a pointer of git-lfs in its place", anything)
def _pointer(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")


@corruption("still compressed by gzip", anything)
def _gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


@corruption("a folder in its place", anything, may_lose=PRIORS)
def _folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


@corruption("a link to nowhere", anything, may_lose=PRIORS)
def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("moved-away"))


@corruption("a link to itself", anything, may_lose=PRIORS)
def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@corruption("a link to the file elsewhere", anything, recovers=True)
def _linked(path: Path) -> None:
    elsewhere = path.parents[1] / f"elsewhere-{path.name}.data"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


# Folders --------------------------------------------------------------------------------------------------------------


def folder(path: Path) -> bool:
    return path.is_dir()


def folder_of_images(path: Path) -> bool:
    return path.is_dir() and any(is_image(p) for p in path.iterdir())


@corruption("no such folder", folder, level="folder", may_lose=PRIORS)
def _no_folder(path: Path) -> None:
    shutil.rmtree(path)


@corruption("an empty folder", folder, level="folder", may_lose=PRIORS)
def _empty_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@corruption("a file in place of the folder", folder, level="folder", may_lose=PRIORS)
def _file_for_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("folder\n")


@corruption("hidden files of file managers", folder, level="folder", recovers=True)
def _hidden(path: Path) -> None:
    present = sorted(p for p in path.iterdir() if p.is_file())
    for junk in (".DS_Store", "Thumbs.db", "desktop.ini", *(f"._{p.name}" for p in present[:2])):
        (path / junk).write_bytes(b"\0junk")


@corruption("somebody's notes", folder, level="folder", recovers=True)
def _notes(path: Path) -> None:
    for name in ("README.md", "notes.txt~", "copy.log"):
        (path / name).write_text("do not forget\n")


@corruption("a backup inside", folder, level="folder")
def _backup(path: Path) -> None:
    (path / "backup").mkdir()
    for file in sorted(p for p in path.iterdir() if p.is_file())[:2]:
        shutil.copy(file, path / "backup" / file.name)


@corruption("a picture too many", folder_of_images, level="folder")
def _extra(path: Path) -> None:
    last = max(p for p in path.iterdir() if is_image(p))
    shutil.copy(last, last.with_stem(f"{last.stem}9"))


@corruption("a file lost from the middle", folder, level="folder", may_lose=PRIORS)
def _middle(path: Path) -> None:
    files = sorted(p for p in path.iterdir() if p.is_file())
    if len(files) < 3:
        raise Inapplicable
    files[len(files) // 2].unlink()


@corruption("all suffixes in upper case", folder_of_images, level="folder", recovers=True)
def _all_upper(path: Path) -> None:
    for file in [p for p in path.iterdir() if is_image(p)]:
        file.rename(file.with_suffix(file.suffix.upper()))


# The whole scene: the function gives the folder to open ---------------------------------------------------------------


def moved(name: str) -> Callable[[Path], Path]:
    def move(root: Path) -> Path:
        target = root.with_name(name) / root.name
        target.parent.mkdir()
        root.rename(target)
        return target

    return move


corruption("a path of other alphabets", folder, level="scene", recovers=True)(moved("szene \u2603 \u30b7\u30fc\u30f3"))
corruption("a path with spaces", folder, level="scene", recovers=True)(moved("my  scene (1)"))
corruption("a path with wildcards", folder, level="scene", recovers=True)(moved("take [1] * ? {2}"))
corruption("a path with a pattern of numbers", folder, level="scene", recovers=True)(moved("take%05d%s"))


@corruption("a linked scene", folder, level="scene", recovers=True)
def _linked_scene(root: Path) -> Path:
    link = root.with_name("link") / root.name
    link.parent.mkdir()
    link.symlink_to(root)
    return link


@corruption("a relative path", folder, level="scene", recovers=True)
def _relative(root: Path) -> Path:
    return Path(os.path.relpath(root))


@corruption("no such scene", folder, level="scene")
def _no_scene(root: Path) -> Path:
    return root.with_name("nowhere")


@corruption("a file as the scene", folder, level="scene")
def _file_scene(root: Path) -> Path:
    file = root.with_name("scene.zip")
    file.write_bytes(b"PK\3\4")
    return file


@corruption("an empty scene", folder, level="scene")
def _empty_scene(root: Path) -> Path:
    root.with_name("empty").mkdir()
    return root.with_name("empty")


@corruption("one level too high", folder, level="scene")
def _too_high(root: Path) -> Path:
    return root.parent


@corruption("one level too deep", folder, level="scene")
def _too_deep(root: Path) -> Path:
    below = sorted(p for p in root.iterdir() if p.is_dir())
    if not below:
        raise Inapplicable
    return below[0]


def bytes_of(write: Callable[[io.BytesIO], None]) -> bytes:
    """What a writer of streams writes."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()
