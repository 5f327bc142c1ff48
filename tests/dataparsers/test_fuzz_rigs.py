"""Captures and rigs with one thing spoilt at random: they open, or one clear error names a file of theirs."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from dataparsers.dycheck import DycheckDataParserConfig
from dataparsers.enerf import EnerfDataParserConfig
from dataparsers.multiview_video import MultiviewVideoDataParserConfig
from dataparsers.nerfies import NerfiesDataParserConfig
from dataparsers.neu3d import Neu3dDataParserConfig
from dyngs_plugins.sample.writers.dycheck import write_dycheck
from dyngs_plugins.sample.writers.enerf import write_enerf
from dyngs_plugins.sample.writers.multiview_video import write_multiview_video
from dyngs_plugins.sample.writers.nerfies import write_nerfies
from dyngs_plugins.sample.writers.neu3d import write_neu3d

LAYOUTS = {
    "nerfies": (NerfiesDataParserConfig, lambda root: write_nerfies(root, 16, 12, 3)),
    "dycheck": (DycheckDataParserConfig, lambda root: write_dycheck(root, 32, 24, 3)),
    "neu3d": (Neu3dDataParserConfig, lambda root: write_neu3d(root, 32, 24, 2)),
    "transforms": (
        MultiviewVideoDataParserConfig, lambda root: write_multiview_video(root, "transforms", 32, 24, 2)),
    "hustvl": (MultiviewVideoDataParserConfig, lambda root: write_multiview_video(root, "hustvl", 32, 24, 2)),
    "enerf": (EnerfDataParserConfig, lambda root: write_enerf(root, 32, 24, 9, (0, 1))),
}  # fmt: skip
ODD = [None, "x", "", -1, 0, 0.5, 1e30, 10**30, float("inf"), float("nan"), [], {}, [[1]], True, "../../etc"]
BINARY = (".npy", ".ply", ".yml", ".bin", ".mp4", ".png", ".jpg")
ROUNDS = 60


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a JSON document."""
    yield path
    for key, value in (
        content.items() if isinstance(content, dict) else enumerate(content if isinstance(content, list) else ())
    ):
        yield from places(value, (*path, key))


def spoil_json(text: str, dice: random.Random) -> str:
    content = json.loads(text)
    *outer, last = dice.choice(list(places(content))[1:])
    holder = content
    for key in outer:
        holder = holder[key]
    if dice.random() < 0.3:
        holder.pop(last)
    else:
        holder[last] = dice.choice(ODD)
    return json.dumps(content)


def spoil_bytes(content: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.4:
        return content[: dice.randrange(len(content))]
    spoilt = bytearray(content)
    for _ in range(dice.randrange(1, 6)):
        spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
    return bytes(spoilt)


def refusal(config: Any) -> str | None:
    """What the user is told, or None where the scene opens; any other kind of error fails the test."""
    try:
        parser = config.setup()
        for split in ("train", "test"):
            parser.get_dataparser_outputs(split)
    except (ValueError, OSError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore")
def test_one_spoilt_file_gives_one_clear_error(layout, tmp_path):
    config, write = LAYOUTS[layout]
    root, dice, refused = tmp_path / "scene", random.Random(layout), 0
    write(root)
    files = sorted(p for p in root.rglob("*") if p.suffix in (".json", *BINARY))
    kinds = sorted({(p.suffix, p.parent.name) for p in files})
    for _ in range(ROUNDS):
        suffix, folder = dice.choice(kinds)
        file = dice.choice([p for p in files if (p.suffix, p.parent.name) == (suffix, folder)])
        before = file.read_bytes()
        if suffix == ".json":
            file.write_text(spoil_json(before.decode(), dice))
        else:
            file.write_bytes(spoil_bytes(before, dice))
        said = refusal(config(data=root))
        refused += said is not None
        assert said is None or str(root) in said, f"{file}: {said} names no file"
        file.write_bytes(before)
        for made in root.glob("frames_*"):
            shutil.rmtree(made)
    assert refused >= ROUNDS // 10
