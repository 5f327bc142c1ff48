"""The doctor's checks of names: which package is really imported, who provides it, which plugins collide or break."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dyngs_plugins.doctor import Finding
from dyngs_plugins.doctor_probe import run_jobs

OURS = "dyngs-plugins"
PACKAGES = ("dyngs_plugins", "method_configs", "dataparsers")
GROUPS = {
    "nerfstudio.method_configs": "methods",
    "nerfstudio.dataparser_configs": "dataparsers",
    "dyngs_plugins": "plugins",
}
VARIABLES = {"NERFSTUDIO_METHOD_CONFIGS": "methods", "NERFSTUDIO_DATAPARSER_CONFIGS": "dataparsers"}
SHARED = ("torch", "torchvision", "numpy", "cv2", "gsplat", "nerfstudio", "viser", "tyro", *PACKAGES)
"""Modules of which two copies would be trouble."""


def check_origins() -> Iterator[Finding]:
    """Whether our packages are imported from one place, and from the one that is installed."""
    origins = {name: _origin(name) for name in PACKAGES}
    for name, origin in origins.items():
        if origin is None:
            yield Finding("installation", name, "problem", "cannot be found", f"pip install {OURS}")
    home = origins["dyngs_plugins"]
    if home is None:
        return
    for name, origin in origins.items():
        if origin is not None and origin != home:
            text = (
                f"is imported from {origin}, but dyngs_plugins from {home}: another project has a folder of that name"
            )
            yield Finding(
                "installation", name, "problem", text, f"Start from another folder, or take {origin} off PYTHONPATH."
            )
    installed = _installed_at()
    if installed is None:
        text = "is imported but not installed, so ns-train does not know its methods"
        yield Finding("installation", OURS, "problem", text, f"pip install -e {home}")
    elif installed != home:
        text = f"is installed at {installed}, but imported from {home}"
        yield Finding("installation", OURS, "problem", text, f"Start from another folder, or pip install -e {home}.")
    else:
        yield Finding("installation", OURS, "ok", f"{importlib.metadata.version(OURS)} at {home}")


def _origin(name: str) -> Path | None:
    """The folder that a package is imported from."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.origin:
        return Path(spec.origin).resolve().parent.parent
    folders = list(spec.submodule_search_locations or ())  # a folder without __init__.py
    return Path(folders[0]).resolve().parent if folders else None


def _installed_at() -> Path | None:
    """Where the installed package lies: the checkout of an editable one, else site-packages."""
    try:
        package = importlib.metadata.distribution(OURS)
    except importlib.metadata.PackageNotFoundError:
        return None
    direct = package.read_text("direct_url.json")
    if direct:
        data = json.loads(direct)
        if data.get("dir_info", {}).get("editable"):
            return Path(data["url"].removeprefix("file://")).resolve()
    return Path(str(package.locate_file("."))).resolve()


def check_duplicates() -> Iterator[Finding]:
    """Modules that several packages provide, and packages that are installed twice."""
    providers: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[str]] = defaultdict(set)
    damaged = []
    for package in importlib.metadata.distributions():
        try:
            name = str(package.metadata["Name"]).lower().replace("_", "-")
            path = Path(str(getattr(package, "_path", name)))
            if path.suffix != ".egg-info" or path.parent.name == "site-packages":  # else: left by an editable install
                places[name].add(str(path))
            for module in _modules(package):
                providers[module].add(name)
        except Exception as error:  # any file in site-packages may be damaged
            damaged.append(f"{getattr(package, '_path', package)} ({type(error).__name__})")
    for module in SHARED:
        if len(providers[module]) > 1:
            names = sorted(providers[module])
            ours = module in PACKAGES
            yield Finding(
                "installation", module, "problem" if ours else "note",
                f"is provided by {' and '.join(names)}; the one installed last is used",
                f"pip uninstall the one that is not wanted, then install the other again: {', '.join(names)}",
            )  # fmt: skip
    for name, found in sorted(places.items()):
        if len(found) > 1 and name != "none":
            yield Finding("installation", name, "note", f"is installed {len(found)} times: {', '.join(sorted(found))}",
                          f"pip uninstall {name} until it is gone, then install it again")  # fmt: skip
    if damaged:
        yield Finding("installation", "metadata", "note", f"cannot be read: {', '.join(damaged[:5])}",
                      "Delete these folders or install their packages again.")  # fmt: skip


def _modules(package: importlib.metadata.Distribution) -> set[str]:
    """Top-level modules of a package."""
    listed = package.read_text("top_level.txt")
    if listed:
        return set(listed.split())
    return {file.parts[0] for file in package.files or [] if file.suffix == ".py" and len(file.parts) > 1}


def check_entry_points() -> Iterator[Finding]:
    """Whether every entry point loads (one that does not stops all ns-* commands), and which names collide."""
    found = []
    for package in importlib.metadata.distributions():
        try:
            name = str(package.metadata["Name"])
            found += [
                (entry.group, entry.name, entry.value, name) for entry in package.entry_points if entry.group in GROUPS
            ]
        except Exception:  # reported by `check_duplicates`
            continue
    found = sorted(set(found))
    jobs = [{"do": "entry", "value": value} for _, _, value, _ in found] + [{"do": "host"}]
    *answers, host = run_jobs(jobs)
    for group, title in GROUPS.items():
        mine = [entry for entry, answer in zip(found, answers, strict=True) if entry[0] == group and entry[3] == OURS and answer["ok"]]  # fmt: skip
        if mine or title != "plugins":
            yield Finding("entry points", title, "ok" if mine else "note", f"{len(mine)} of ours load")
    for (group, name, value, package), answer in zip(found, answers, strict=True):
        if answer["ok"]:
            if package != OURS:
                yield Finding("entry points", name, "ok", f"{GROUPS[group]}, from {package} ({value})")
            continue
        stops = group != "dyngs_plugins"
        text = f"{value}, from {package}, does not load: {answer['error']}" + (", so no ns-* command starts" if stops else "; it is skipped")  # fmt: skip
        fix = f"pip install --upgrade {package}, or pip uninstall {package}"
        yield Finding("entry points", name, "problem" if stops else "note", text, fix)
    yield from _collisions(found, host)


def _collisions(found: list[tuple[str, str, str, str]], host: dict) -> Iterator[Finding]:
    """Names that several plugins have, or that are nerfstudio's own."""
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group, name, value, package in found:
        owners[group, name].add(f"{package} ({value})")
    built_in = {"nerfstudio.method_configs": set(host.get("methods", ())),
                "nerfstudio.dataparser_configs": set(host.get("dataparsers", ()))}  # fmt: skip
    for (group, name), packages in owners.items():
        own = {"nerfstudio itself"} if name in built_in.get(group, ()) else set()
        if len(packages | own) > 1:
            text = f"this name in {GROUPS[group]} belongs to {' and '.join(sorted(packages | own))}; only one of them is used"
            yield Finding("entry points", name, "problem" if len(packages) > 1 else "note", text,
                          "Uninstall the one that is not wanted.")  # fmt: skip


def check_variables() -> Iterator[Finding]:
    """Environment variables that add methods and loaders or change what commands do."""
    for variable, title in VARIABLES.items():
        for definition in filter(None, os.environ.get(variable, "").split(",")):
            name, _, value = definition.partition("=")
            if not name or ":" not in value:
                yield Finding("entry points", variable, "problem", f"{definition!r} is not NAME=MODULE:ATTRIBUTE",
                              f"unset {variable}")  # fmt: skip
                continue
            (answer,) = run_jobs([{"do": "entry", "value": value}])
            state = "note" if answer["ok"] else "problem"
            text = f"adds {name} to the {title}" if answer["ok"] else f"{name}={value} does not load: {answer['error']}"
            yield Finding("entry points", variable, state, text, "" if answer["ok"] else f"unset {variable}")
    for variable in sorted(os.environ):
        if variable.startswith("DYNGS_"):
            yield Finding("entry points", variable, "note", f"is set to {os.environ[variable]!r}")
