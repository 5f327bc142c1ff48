"""Every protocol of every layout: nothing of a held-out view trains, unless the published protocol does it and says so.

Walks the scenes that our own writers write. A protocol that cannot be opened is an error here, not a skip.
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layout_scenes import WRITERS, write
from PIL import Image

from dataparsers.base import ClipDataParser
from dataparsers.clip import Clip
from dataparsers.protocols import Protocol
from dataparsers.registry import all_layouts, claims
from dyngs_plugins.priors.marbles_tracks import MarblesTrackFiles
from dyngs_plugins.priors.track_windows import WindowTrackFiles
from dyngs_plugins.priors.tracks import SomTrackFiles
from dyngs_plugins.priors.views import ClipViews, Priors

PROTOCOLS = [(command, p.name) for command, layout in all_layouts().items() for p in layout.protocols]

SAID_ANEW = {"multiview-video-data", "with-priors-data"}
"""Layouts whose clips have words of their own for their protocol: what solved the cameras, what the data set says."""

SHARED_IMAGES = {
    ("colmap-time-data", "all"): "the training images",
    ("llff-data", "all"): "the training images",
    ("deblur-nerf-data", "all"): "the training images",
}
"""Protocols that test on files that train, and how their ``tests`` say so."""
SHARED_VIEWS = SHARED_IMAGES | {
    ("nvidia-data", "dynamicnerf"): "IS training image 0",
    ("d2rf-data", "both"): "views that train",
    ("deblur-nerf-data", "deblurring"): "no novel views",
    ("stereo-blur-data", "deblurring"): "no novel views",
}
"""Protocols that test where and when a training image was taken (from other files, such as the sharp truth of a blurred
image), and how their ``tests`` say so."""

FIXED_POSES = {
    "given",
    "as the data set's protocol says",
    "given (COLMAP over the images of all splits)",
    "given (COLMAP over both cameras)",
    "given (for casual video solved on all frames)",
    "given (solved over blurred and sharp images); methods refine those of training images",
    "given; test views take the left camera's learned correction",
    "solved on all frames, with whatever tool made them",
    "the training images' own",
    "the training images' own, refined in training",
}
"""What protocols may say of poses: nothing here is fitted to a test image in training."""
FITTED_POSES = {
    ("stereo-blur-data", "mobgs"): "test views optimised on their own images, 100 steps",
    ("stereo-blur-data", "deblur4dgs"): "test views optimised on their own images, 500 steps",
}
"""Published protocols that align test views to their images before they are scored; never a default."""


@dataclass(frozen=True)
class Scene:
    """How a protocol's scene is made, where the layout's first writer with its defaults is not enough."""

    writer: str = ""
    write: Mapping[str, Any] = field(default_factory=dict)
    read: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None


def split_anew(root: Path) -> None:
    """DyCheck's splits of HyperNeRF's captures."""
    splits = root / "splits"
    train, val = (json.loads((splits / f"{name}.json").read_text()) for name in ("train", "val"))
    for name, content in (("train_mono", train), ("train_intl", train), ("val_common", val)):
        (splits / f"{name}.json").write_text(json.dumps(content))
    for name in ("train", "val"):
        (splits / f"{name}.json").unlink()
    (root / "covisible" / "2x" / "val").rename(root / "covisible" / "2x" / "val_common")


SCENES = {
    ("colmap-time-data", "first-camera"): Scene(write={"cameras": 2}),
    ("llff-data", "stereo"): Scene(write={"frames": 10}),
    ("enerf-outdoor-data", "enerf"): Scene(read={"crop_size": (48, 32)}),
    ("dycheck-iphone-data", "hypernerf-mono"): Scene(prepare=split_anew),
    ("dycheck-iphone-data", "hypernerf-intl"): Scene(prepare=split_anew),
    ("nvidia-data", "nsff"): Scene("write_nsff"),
    ("nvidia-data", "multiview"): Scene("write_nsff"),
    ("nerfies-data", "deformable"): Scene(write={"kind": "interp"}),
    ("multiview-video-data", "fourth-camera"): Scene(write={"kind": "st4dgs"}),
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what loaders say of tiny scenes


@functools.cache
def first_writer(command: str) -> str:
    """The first writer whose scene has this layout."""
    import tempfile

    for name in WRITERS:
        with tempfile.TemporaryDirectory() as folder:
            if command in [found.layout.command for found in claims(write(name, Path(folder) / "scene"))]:
                return name
    raise AssertionError(f"no writer of dyngs_plugins.sample.writers writes {command}'s layout")


def parser_of(command: str, protocol: str, root: Path) -> ClipDataParser:
    """The loader of a freshly written scene."""
    scene = SCENES.get((command, protocol), Scene())
    write(scene.writer or first_writer(command), root, **scene.write)
    if scene.prepare is not None:
        scene.prepare(root)
    parser = all_layouts()[command].config(data=root, protocol=protocol, **scene.read).setup()
    assert isinstance(parser, ClipDataParser)
    return parser


def held_out(clip: Clip) -> dict[str, ClipViews]:
    splits = {"test": clip.evaluation}
    return splits if clip.validation is None else splits | {"val": clip.validation}


def content_of(views: ClipViews) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in views.image_files}


def paths_of(views: ClipViews) -> set[Path]:
    return {path.resolve() for path in views.image_files}


def prior_files(views: ClipViews) -> dict[str, list[tuple[Path, Path]]]:
    """(image, prior) of every kind of file."""
    kinds = [f.name for f in fields(Priors) if f.name.endswith("_files")]
    return {
        kind: [(image, f) for image, f in zip(views.image_files, getattr(views.priors, kind), strict=True) if f]
        for kind in kinds
        if getattr(views.priors, kind) is not None
    }


def same_views(train: ClipViews, test: ClipViews) -> int:
    """How many test views have a training view's pose and time."""
    moved = (train.camera_T_world[:, None] - test.camera_T_world[None]).abs().flatten(2).amax(dim=-1)
    apart = (train.times[:, None] - test.times[None]).abs()
    return int(((moved < 1e-4) & (apart < 1e-6)).any(dim=0).sum())


@pytest.fixture(params=PROTOCOLS, ids=lambda pair: f"{pair[0]}:{pair[1]}")
def case(request, tmp_path) -> tuple[tuple[str, str], ClipDataParser]:
    return request.param, parser_of(*request.param, tmp_path / "scene")


def test_nothing_held_out_trains(case):
    key, parser = case
    clip = parser.read()
    protocol = all_layouts()[key[0]].protocol(key[1])
    stated = protocol.tests
    if isinstance(clip.protocol, Protocol) and key[0] not in SAID_ANEW:
        assert clip.protocol.poses == protocol.poses
    assert len(clip.train) > 0
    for split, views in held_out(clip).items():
        assert len(views) > 0
        if key in SHARED_IMAGES:
            assert SHARED_IMAGES[key] in stated
            assert paths_of(clip.train) & paths_of(views), f"{split}: no image is shared; take it off the list"
        else:
            assert not paths_of(clip.train) & paths_of(views), split
            assert not content_of(clip.train) & content_of(views), f"{split}: copies of training images"
        if key in SHARED_VIEWS:
            assert SHARED_VIEWS[key] in stated
            assert same_views(clip.train, views), f"{split}: no view is shared; take it off the list"
        else:
            assert same_views(clip.train, views) == 0, f"{split}: views of training images, and `tests` does not say so"
        check_priors(clip.train, views, key in SHARED_IMAGES)


def check_priors(train: ClipViews, views: ClipViews, shared: bool) -> None:
    """Priors of training belong to training images, each to its own, and to no held-out image."""
    stems = {path.stem for path in train.image_files}
    forbidden = set() if shared else paths_of(views) - paths_of(train)
    if not shared:
        forbidden |= {prior.resolve() for pairs in prior_files(views).values() for _, prior in pairs}
    for kind, pairs in prior_files(train).items():
        for image, prior in pairs:
            assert prior.is_file(), f"{kind}: {prior}"
            assert prior.resolve() not in forbidden, f"{kind}: {prior} belongs to a held-out image"
            assert prior.stem == image.stem, f"{kind}: {prior} is that of {image}?"
    check_flow(train)
    tracks = train.priors.tracks
    if tracks is None:
        return
    if isinstance(tracks, SomTrackFiles | WindowTrackFiles):
        assert set(tracks.names) <= stems
    else:
        assert isinstance(tracks, MarblesTrackFiles), f"teach this test where {type(tracks).__name__} reads"
        for image, path in zip(train.image_files, tracks.files, strict=True):  # track_00003 of 4_00003
            assert image.stem.endswith(path.stem.removeprefix("track")), f"{path} is that of {image}?"


def check_flow(train: ClipViews) -> None:
    """Flow leads from training images to their neighbours in time that train too, and its file is that of this pair."""
    for files, step in ((train.priors.flow_forward, 1), (train.priors.flow_backward, -1)):
        for i, file in enumerate(files or ()):
            if file is None:
                continue
            assert int(train.frame_index[file.target] - train.frame_index[i]) == step
            here, there = train.image_files[i].stem, train.image_files[file.target].stem
            named = {f"{here}_{'fwd' if step > 0 else 'bwd'}", there}  # ST-4DGS names the image that is reached
            assert file.path.stem in named, f"{file.path} is flow of {here} to {there}?"


@pytest.mark.parametrize("key", PROTOCOLS, ids=":".join)
def test_poses_are_not_fitted_to_held_out_images(key):
    """What is handed out is read from files; a protocol that has the evaluation fit test views says so, word by word."""
    poses = all_layouts()[key[0]].protocol(key[1]).poses
    if key in FITTED_POSES:
        assert poses == FITTED_POSES[key]
    else:
        assert poses in FIXED_POSES


@pytest.mark.parametrize("command", all_layouts())
def test_a_layouts_default_is_honest(command):
    layout = all_layouts()[command]
    default = (command, layout.protocols[0].name)
    assert default not in SHARED_VIEWS
    assert default not in FITTED_POSES


@pytest.mark.parametrize("command", all_layouts())
def test_training_does_not_depend_on_held_out_images(command, tmp_path):
    """With every held-out image and prior made black, training's cameras, points, depth and scene frame are the same."""
    protocol = all_layouts()[command].protocols[0].name
    parser = parser_of(command, protocol, tmp_path / "scene")
    clip, frame = parser.parsed()
    kept = paths_of(clip.train) | {p.resolve() for pairs in prior_files(clip.train).values() for _, p in pairs}
    blackened = 0
    for views in held_out(clip).values():
        files = [*views.image_files, *(prior for pairs in prior_files(views).values() for _, prior in pairs)]
        for path in {path.resolve() for path in files} - kept:
            blackened += blacken(path)
    assert blackened >= len(clip.evaluation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again, frame_again = parser.config.setup().parsed()  # type: ignore[attr-defined]
    assert again.train.image_files == clip.train.image_files
    assert frame_again.scale == frame.scale
    torch.testing.assert_close(frame_again.normalised_T_world, frame.normalised_T_world, rtol=0, atol=0)
    torch.testing.assert_close(again.train.camera_T_world, clip.train.camera_T_world, rtol=0, atol=0)
    assert (again.points is None) == (clip.points is None)
    if clip.points is not None and again.points is not None:
        torch.testing.assert_close(again.points.xyz, clip.points.xyz, rtol=0, atol=0)
    if clip.train.priors.depth_files is not None:
        torch.testing.assert_close(again.train.depth(0), clip.train.depth(0), rtol=0, atol=0)


def blacken(path: Path) -> bool:
    """Overwrite an image (keeping what alpha says) or a map with nothing; whether it was one."""
    if path.suffix == ".npy":
        np.save(path, np.full_like(np.load(path), 1.0))
        return True
    with Image.open(path) as image:
        image.load()
        mode, size, alpha = image.mode, image.size, image.getchannel("A") if "A" in image.getbands() else None
    black = Image.new(mode, size)
    if alpha is not None:
        black.putalpha(alpha)
    black.save(path)
    return True


def test_the_lists_name_protocols_that_exist():
    for key in (*SHARED_VIEWS, *FITTED_POSES, *SCENES):
        assert key in PROTOCOLS
