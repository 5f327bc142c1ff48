"""All layouts of this package, and which of them a folder has."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import dataparsers
from dataparsers.base import Layout
from dyngs_plugins.priors.film import FILM_SUFFIXES
from dyngs_plugins.priors.footage_hints import hint, is_film

SCENE_SUFFIXES = (".json", ".npy", ".yml", ".yaml", ".bin", ".png", ".jpg")
"""Of files that lie in scenes; one given in place of its folder is answered with the folder."""
MOST_NEIGHBOURS = 200
"""How many folders beside a wrong one are looked into for a hint."""


@dataclass(frozen=True)
class Recognised:
    """The layout of a folder."""

    layout: Layout
    why: str
    """In words."""


@functools.cache
def all_layouts() -> dict[str, Layout]:
    """Every ``LAYOUT`` of the modules in ``dataparsers``, by its command, in alphabetical order."""
    modules = (importlib.import_module(f"dataparsers.{m.name}") for m in pkgutil.iter_modules(dataparsers.__path__))
    layouts = [module.LAYOUT for module in modules if isinstance(getattr(module, "LAYOUT", None), Layout)]
    return {layout.command: layout for layout in sorted(layouts, key=lambda layout: layout.command)}


def claims(root: Path) -> list[Recognised]:
    """Every layout that claims a folder, with its reason."""
    found = ((layout, layout.recognise(root)) for layout in all_layouts().values())
    return [Recognised(layout, why) for layout, why in found if why]


def recognise(root: Path) -> Recognised:
    """The one layout that claims a folder.

    Raises:
        FileNotFoundError: no such folder, or no layout claims it: says what each looked for and which folder is near.
        ValueError: a file in place of a folder, or several layouts claim it: names them.
    """
    root = Path(root)
    if root.is_file():
        raise ValueError(_file_for_a_folder(root))
    if not root.is_dir():
        here = "" if root.is_absolute() else f" This path starts where you are, {Path.cwd()}; a run keeps it as given."
        raise FileNotFoundError(
            f"{root}: no such file or folder. Expected a film or a scene's folder; pass it with --data.{here}"
        )
    found = claims(root)
    if not found:
        raise FileNotFoundError(
            f"{root}: no known layout; found {_names(root)}. Looked for (and found here of it):\n{looked_for(root)}\n"
            f"{nearby(root)}{'' if root.name else ' Without --data the folder you are in is meant: pass --data FOLDER.'}"
        )
    if len(found) > 1:
        candidates = "\n".join(f"  {f.layout.command} ({f.layout.title}): {f.why}" for f in found)
        raise ValueError(
            f"{root}: {len(found)} layouts claim this folder, expected one:\n{candidates}\nName the one to use at the "
            f"end of the command, e.g. `{found[0].layout.command}`, or move the files of the other away."
        )
    return found[0]


def named_layout(name: str) -> Layout:
    """The layout of a command; its ending ``-data`` may be left out.

    Raises:
        ValueError: no such layout; lists what there is.
    """
    layouts = all_layouts()
    for command in (name, f"{name}-data"):
        if command in layouts:
            return layouts[command]
    known = "\n".join(f"  {layout.command} ({layout.title})" for layout in layouts.values())
    raise ValueError(f"layout is {name!r}; expected one of\n{known}\nor nothing, to recognise it.")


def looked_for(root: Path) -> str:
    """What every layout expects, a line each; those of which most is here come first."""
    lines = []
    for layout in all_layouts().values():
        here = [name for name in _first_names(layout.expects) if (root / name).exists()]
        seen = f" [here: {', '.join(here)}]" if here else ""
        lines.append((-len(here), f"  {layout.command} ({layout.title}): {layout.expects}{seen}"))
    return "\n".join(line for _, line in sorted(lines, key=lambda line: line[0]))


def nearby(root: Path) -> str:
    """Which folder to pass instead, or how to get cameras for images that have none."""
    return neighbour(root) or (
        f"{hint(root)} ".lstrip()
        + "Images alone have no cameras. `dyngs process FOLDER --out CLIP` solves them and makes a clip with depth, masks and "
        "tracks, as it does of a film."
    )


def neighbour(root: Path) -> str | None:
    """A child or a parent of ``root`` that has a layout, in words; None where there is none."""
    try:
        children = [child for child in sorted(root.iterdir()) if child.is_dir()]
    except OSError:
        children = []
    below = [str(child) for child in children[:MOST_NEIGHBOURS] if claims(child)]
    if below:
        more = f" (or one of {', '.join(below[1:4])}{', ...' if below[4:] else ''})" if below[1:] else ""
        return f"One level too high? Pass --data {below[0]}{more}."
    for parent in list(root.resolve().parents)[:3]:
        found = claims(parent)
        if found:
            return f"Too deep? Pass --data {parent} ({found[0].layout.command}: {found[0].why})."
    return None


def _file_for_a_folder(path: Path) -> str:
    if is_film(path):
        return (
            f"{path}: this is a film, expected a scene's folder. Make a clip of it with `dyngs process "
            f"{shlex.quote(str(path))} --out CLIP` and pass --data CLIP."
        )
    inner = path.suffix.lower() in SCENE_SUFFIXES and path.parent.name
    scene = f" Pass --data {path.parent}." if inner else ""
    return f"{path}: this is a file, expected a scene's folder or a film ({', '.join(FILM_SUFFIXES[:4])}, ...).{scene}"


def _first_names(expects: str) -> list[str]:
    """The names at the start of each path that a layout mentions: ``rgb`` of ``rgb/{n}x``, ``dataset.json``."""
    paths = re.findall(r"[A-Za-z_][\w./]*[\w/]", expects)
    names = (path.split("/")[0] for path in paths if "/" in path or "." in path)
    return list(dict.fromkeys(name for name in names if name))


def _names(folder: Path, count: int = 6) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return f"{len(names)} entries ({', '.join(names[:count])}{', ...' if len(names) > count else ''})"
