"""Scenes to convert, and converted folders as their own loaders see them."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dataparsers.registry import named_layout
from dyngs_plugins.convert.command import TARGETS
from dyngs_plugins.convert.source import Picture, as_stored, pictures
from dyngs_plugins.sample.cameras import Camera
from dyngs_plugins.sample.shots import take_shot
from dyngs_plugins.sample.writers.colmap import write_colmap_time
from dyngs_plugins.sample.writers.davis import write_davis
from dyngs_plugins.sample.writers.dnerf import write_dnerf
from dyngs_plugins.sample.writers.dycheck import write_dycheck
from dyngs_plugins.sample.writers.enerf import write_enerf
from dyngs_plugins.sample.writers.llff import write_llff
from dyngs_plugins.sample.writers.marbles import write_marbles
from dyngs_plugins.sample.writers.nerfies import write_nerfies
from dyngs_plugins.sample.writers.neu3d import write_neu3d
from dyngs_plugins.sample.writers.nvidia import write_dynamicnerf
from dyngs_plugins.sample.writers.som import write_som_clip
from dyngs_plugins.sample.writers.truth import Truth

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

SOURCES: dict[str, Callable[[Path], Truth]] = {
    "colmap": functools.partial(write_colmap_time, frames=5),
    "colmap-lens": functools.partial(write_colmap_time, frames=5, lens=True, timestamps="csv"),
    "colmap-rig": functools.partial(write_colmap_time, frames=4, cameras=2),
    "davis": functools.partial(write_davis, frames=5, priors=True),
    "dnerf": write_dnerf,
    "dycheck": functools.partial(write_dycheck, frames=4),
    "enerf": write_enerf,
    "llff": functools.partial(write_llff, frames=5),
    "marbles": write_marbles,
    "nerfies-vrig": functools.partial(write_nerfies, frames=4),
    "nerfies-interp": functools.partial(write_nerfies, frames=6, kind="interp"),
    "neu3d": functools.partial(write_neu3d, frames=3),
    "nvidia": functools.partial(write_dynamicnerf, frames=4),
    "som": functools.partial(write_som_clip, frames=4),
    "som-rig": functools.partial(write_som_clip, frames=3, cameras=2),
}


@dataclass(frozen=True)
class Written:
    """A scene on disk."""

    root: Path
    truth: Truth


@dataclass(frozen=True)
class Reopened:
    """A converted folder as its own loader sees it, and the source that it should be, picture by picture."""

    target: str
    record: dict
    outputs: dict
    pairs: list[tuple[Picture, Picture]]
    """Reopened and original."""
    truth: Truth
    """Of the reopened images, by ray-casting where these were resampled."""
    resampled: bool

    def says(self, text: str) -> bool:
        return any(text in sentence for sentence in (*self.record["changed"], *self.record["cannot_say"]))


def loader(command_name: str, root: Path):
    """A loader in the files' frame, with nothing held out on its own."""
    config = named_layout(command_name).config()
    given = {"data": root, "scene_normalisation": False, "required_priors": ()}
    known = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in given.items() if name in known}).setup()


def reopen(written: Written, target: str, out: Path, tmp_path: Path) -> Reopened:
    record = json.loads((out / "converted.json").read_text())
    parser = loader(TARGETS[target].loader, out)
    reopened = {p.file: p for p in pictures(as_stored(parser.parsed()[0]))}
    copy = tmp_path / "copy" / written.root.name  # a loader may write beside its files
    shutil.copytree(written.root, copy)
    original_clip = as_stored(loader(record["source"]["layout"], copy).parsed()[0])
    originals = {p.file: p for p in pictures(original_clip)}
    entries = record["images"]
    assert len({entry["source"] for entry in entries}) == len(entries)
    assert {out / entry["file"] for entry in entries} == set(reopened)
    pairs = [(reopened[out / entry["file"]], originals[copy / entry["source"]]) for entry in entries]
    resampled = any(word in change for change in record["changed"] for word in ("resampled", "undistorted"))
    shots = {}
    for (new, _), entry in zip(pairs, entries, strict=True):
        shot = written.truth.shot(written.root / entry["source"])
        if resampled:
            camera = Camera(new.views.width, new.views.height, new.K.numpy(), shot.camera.world_T_camera)
            shot = take_shot(written.truth.scene, camera, shot.time)
        shots[new.file] = shot
    outputs = {split: parser.get_dataparser_outputs(split) for split in ("train", "test", "val")}
    return Reopened(target, record, outputs, pairs, Truth(written.truth.scene, shots), resampled)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(root)): (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}
