"""Every class of damage on every layout: one clear error, or the very same scene; never another scene in silence.

The table of classes is in ``corruptions*.py``. Files are chosen among those that opening the clean scene reads; by
default one of them per class and layout, with ``-m slow`` the first and the last of every folder.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import pkgutil
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corruptions_models
import corruptions_numbers
import corruptions_pictures
import corruptions_text
import pytest
from corruptions import TABLE, Corruption, Inapplicable
from fuzz_opening import Opened, differences, fresh, open_scene, wrong_error

from dataparsers.base import Layout
from dataparsers.registry import all_layouts, claims
from dataparsers.som import SomDataParserConfig
from dataparsers.video_frames import VIDEO_SUFFIXES
from dyngs_plugins.sample import writers
from dyngs_plugins.sample.writers.davis import write_davis

AT_LEAST = 30
"""Distinct classes that every layout must meet."""
SMALL: dict[str, Any] = {"width": 48, "height": 32, "frames": 5, "cameras": 4, "held_out": 2}
"""Arguments of writers that have them."""
SETTINGS: dict[str, dict[str, Any]] = {
    "write_enerf": {"width": 32, "height": 24, "cameras": 9, "frames": (0, 1)},
    "write_colmap_time": {"cameras": 1},
    "write_dynamicnerf": {"frames": 12},
    "write_nerfies": {"kind": "vrig"},
}
DO_WITHOUT = {
    "timestamps": {"time"},
    "points3D": {"depth"},
    "0": {"depth"},
    **dict.fromkeys(("eval", "val", "images_test", "sparse_", "val_ids", "images_48x32"), None),
}
"""What a scene may lack altogether, and what is then another way by right; None: another split, size or other cameras.

Without timestamps images are evenly spaced in time; without a COLMAP model disparities are scaled by the bounds."""
RESAMPLED = ("dpt", "disp")
"""Maps of networks, whose size is theirs and which are brought to that of the images."""
ON_DEMAND = {"flow", "flow_i1", "normals", "uni_normal"}
"""Folders of which only headers are looked at before a loss asks for them."""
COARSER = ("a row too many", "a row too few", "a column too few", "a map of another size",
            "a map in half precision")  # fmt: skip
FIXTURES = {"som custom": "clip", "som iphone": "iphone_capture"}
"""Scenes that other tests read too."""


def _written(name: str, **more: Any) -> Callable[[Path], Any]:
    """A writer with arguments that make a tiny scene."""
    function = WRITERS[name]
    known = inspect.signature(function).parameters
    wanted = {k: v for k, v in SMALL.items() if k in known and known[k].annotation == "int"}
    return lambda root: function(root, **(wanted | SETTINGS.get(name, {}) | more))


def _writers() -> dict[str, Callable]:
    found = {}
    for info in pkgutil.iter_modules(writers.__path__):
        module = importlib.import_module(f"{writers.__name__}.{info.name}")
        for name, function in vars(module).items():
            mine = getattr(function, "__module__", None) == module.__name__
            returns = getattr(function, "__annotations__", {}).get("return", "")
            if name.startswith("write_") and mine and str(returns).endswith("Truth"):
                found[name] = function
    return found


WRITERS = _writers()
SCENES: dict[str, Callable[[Path], Any]] = {
    **{name.removeprefix("write_"): _written(name) for name in WRITERS},
    "colmap_time as text": _written("write_colmap_time", binary=False, timestamps="csv", lens=True),
    "colmap_time with JSON": _written("write_colmap_time", timestamps="json"),
    "davis from COLMAP": _written("write_davis", cameras="colmap"),
    "davis from rows": _written("write_davis", cameras="llff", plain=True),
    "multiview_video transforms": _written("write_multiview_video", kind="transforms"),
    "multiview_video with flow": _written("write_multiview_video", kind="st4dgs"),
    "stereo_blur with normals": _written("write_stereo_blur", kind="mobgs"),
    "deblur_nerf rows": _written("write_deblur_nerf", kind="deblur-nerf", frames=6),
    "som davis": lambda root: write_davis(root, 48, 32, 5, priors=True),
}


@dataclass(frozen=True)
class Target:
    """One clean scene."""

    root: Path
    config: Any
    clean: Opened
    files: list[Path]
    """Those that are read, relative to the root."""


@dataclass(frozen=True)
class Case:
    """One class of damage at one place."""

    corruption: Corruption
    path: Path
    """Relative to the root."""
    place: Any = None

    def __str__(self) -> str:
        where = "" if self.place is None else f" at {'/'.join(map(str, self.place))}"
        return f"{self.corruption.name}: {self.path}{where}"


def layout_of(name: str, root: Path) -> Any:
    """The config that opens a written scene."""
    if name.startswith("som"):
        return SomDataParserConfig(data=root, camera_type="original")
    found: list[Layout] = [claim.layout for claim in claims(root)]
    assert len(found) == 1, f"{root} is claimed by {[layout.command for layout in found]}"
    return found[0].config(data=root)


@pytest.fixture
def target(request, tmp_path) -> Target:
    name, root = request.param, tmp_path / "clean" / "scene"
    root.parent.mkdir()
    if name in FIXTURES:
        request.getfixturevalue(FIXTURES[name]).rename(root)
    else:
        SCENES[name](root)
    config = layout_of(name, root)
    opened, copy = Opened(), copied(root, tmp_path / "opened")
    open_scene(fresh(config, copy), opened)
    read = {Path(file).relative_to(copy) for file in opened.read if Path(file).is_relative_to(copy)}
    films = {p.relative_to(root) for p in root.rglob("*") if p.suffix in VIDEO_SUFFIXES}  # read by other means
    files = sorted(file for file in read | films if (root / file).is_file())
    assert files
    return Target(root, config, opened, files)


def copied(root: Path, base: Path) -> Path:
    """The scene under ``base``, its files linked."""
    shutil.copytree(root, base / root.name, copy_function=os.link)
    return base / root.name


def representatives(target: Target) -> list[Path]:
    """First and last of the files of a kind: one suffix in folders whose names differ by numbers."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in target.files:
        lone = re.sub(r"\d", "", file.stem) if file.parent == Path() else ""
        groups.setdefault((re.sub(r"\d+", "#", str(file.parent)) + lone, file.suffix), []).append(file)
    return list(dict.fromkeys(file for files in groups.values() for file in (files[0], files[-1])))


def cases_of(corruption: Corruption, target: Target) -> list[Case]:
    """Where one class of damage applies in a scene."""
    files = representatives(target)
    folders = list(dict.fromkeys(file.parent for file in files if file.parent != Path()))
    paths = {"file": files, "folder": folders, "scene": [Path()]}[corruption.level]
    cases = []
    for path in paths:
        if corruption.applies(target.root / path):
            inside = [None] if corruption.places is None else corruption.places(target.root / path)
            cases += [Case(corruption, path, place) for place in inside]
    return cases


def chosen(target: Target, thorough: bool) -> Iterator[list[Case]]:
    """The cases of each class, of which the first that applies is run, or all of them."""
    for name, corruption in TABLE.items():
        cases = cases_of(corruption, target)
        if cases:
            turn = 0 if thorough else zlib.crc32(f"{target.files[0]}{name}".encode()) % len(cases)
            yield cases[turn:] + cases[:turn]


def run(case: Case, target: Target, base: Path) -> tuple[str, str | None]:
    """What came of a case (an error, the same scene, or less of it), and what is wrong with that."""
    root = copied(target.root, base)
    spoil(case, root)
    at = case.corruption.spoil(root) if case.corruption.level == "scene" else root
    opened = Opened()
    try:
        open_scene(fresh(target.config, at), opened)
    except Exception as error:
        return "error", wrong_refusal(case, error, at, opened)
    finally:
        ran = [*base.rglob(corruptions_numbers.CANARY)]
    if ran:
        return "ran", f"a file ran code and made {ran[0]}"
    return accepted(case, target, opened)


def spoil(case: Case, root: Path) -> None:
    """Damage a copied scene; the whole scene's classes move it instead."""
    if case.corruption.level == "scene":
        return
    path = root / case.path
    if path.is_file():  # another inode than the clean scene's
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    case.corruption.spoil(path, *([] if case.place is None else [case.place]))


def wrong_refusal(case: Case, error: Exception, root: Path, opened: Opened) -> str | None:
    if case.corruption.recovers:
        return f"expected to open, but: {error}"
    late = case.corruption.late or ON_DEMAND & set(case.path.parts)
    if opened.parsed and not late:
        return f"found only when it was read, after parsing: {error}"
    wrong = wrong_error(error, root)
    return None if wrong is None else f"{wrong}: {error!r}"


def accepted(case: Case, target: Target, opened: Opened) -> tuple[str, str | None]:
    found = differences(target.clean, opened, case.corruption.lossy)
    if not found:
        return "same", None
    rules = case.corruption
    allowed = rules.may_change | {f"-{part}" for part in rules.may_lose}
    if rules.may_lose:
        lacks = case.path.stem if case.place is None else str(case.place[-1])
        if DO_WITHOUT.get(lacks, set()) is None:
            return "less", None
        allowed |= (DO_WITHOUT.get(lacks) or set()) | ({"points"} & rules.may_lose)
    if case.path.parent.name in RESAMPLED and case.corruption.name in COARSER:
        allowed |= {"depth"}
    wrong = {part: what for part, what in found.items() if part not in allowed}
    said = [text for text in opened.warned if str(target.root.name) in text]
    if said and all(part[0] in "+-" or part in ("points", "time", "steps") for part in wrong):
        return "less", None  # fewer views or points, and it says so; those that are left are as they were
    return "less", f"another scene in silence: {wrong}" if wrong else None


def fuzz(target: Target, tmp_path: Path, thorough: bool) -> tuple[set[str], list[str], int]:
    """Names of the classes that the layout met, what went wrong, and how many cases were run."""
    met, wrong, numbers = set(), [], itertools.count()
    for cases in chosen(target, thorough):
        for case in cases:
            base = tmp_path / f"{next(numbers)}"
            try:
                outcome, problem = run(case, target, base)
            except Inapplicable:
                continue
            finally:
                shutil.rmtree(base, ignore_errors=True)
            if problem is not None:
                wrong.append(f"{case}: {problem}")
            elif outcome in ("error", "less") or case.corruption.recovers:
                met.add(case.corruption.name)
            if not thorough:
                break
    return met, wrong, next(numbers)


EVERY = [*SCENES, *FIXTURES]


@pytest.mark.parametrize("target", EVERY, indirect=True)
def test_damage_is_refused_or_undone(target, tmp_path):
    met, wrong, _ = fuzz(target, tmp_path, thorough=False)
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong)
    assert len(met) >= AT_LEAST, sorted(met)


@pytest.mark.slow
@pytest.mark.parametrize("target", EVERY, indirect=True)
def test_damage_anywhere_is_refused_or_undone(target, tmp_path):
    met, wrong, count = fuzz(target, tmp_path, thorough=True)
    assert not wrong, f"{len(wrong)} of {count} cases:\n" + "\n".join(wrong)
    assert len(met) >= AT_LEAST, sorted(met)


def test_every_layout_is_fuzzed(tmp_path):
    commands = set()
    for name in WRITERS:
        root = tmp_path / name
        SCENES[name.removeprefix("write_")](root)
        commands |= {claim.layout.command for claim in claims(root)}
    assert commands == set(all_layouts())


def test_the_table_has_its_parts():
    for module in (corruptions_models, corruptions_numbers, corruptions_pictures, corruptions_text):
        assert any(c.spoil.__module__ == module.__name__ for c in TABLE.values()), module.__name__
