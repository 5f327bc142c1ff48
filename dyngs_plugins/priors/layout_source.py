"""`dyngs process DATASET --out OUT` for a data set of any layout: priors for its training views, and nothing else.

The data set is read by its own loader, through links, so that nothing is written into it. OUT holds priors in the clip
folder's convention and ``with_priors.json``; `dataparsers.with_priors` opens both together. What the data set ships is
used as it is and made anew only where --redo says so.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dataparsers.registry import claims
from dyngs_plugins.convert.source import Picture, Source, opened, pictures
from dyngs_plugins.priors.added_priors import AddedFrame, AddedPriors
from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.measures import measure
from dyngs_plugins.priors.missing_files import make_kind
from dyngs_plugins.priors.prepared import PreparedClip, claim, require_apart
from dyngs_plugins.priors.prior_kinds import KINDS
from dyngs_plugins.priors.process import flow_provider, kinds_of
from dyngs_plugins.priors.progress import Say, Track
from dyngs_plugins.priors.providers.base import PriorProvider
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.learned import refuse_unavailable
from dyngs_plugins.priors.redo import put_kind_aside
from dyngs_plugins.priors.sources import robust_bounds
from dyngs_plugins.priors.views import ClipViews, FlowWay

Read = Callable[[int, int], "np.ndarray | None"]
OWN = {"llff-data", "som-data", "with-priors-data"}
"""Layouts of which `dyngs process` makes a clip, or fills one in place."""


@dataclasses.dataclass(frozen=True)
class Film:
    """What one camera of a data set saw in training, in time."""

    name: str
    pictures: tuple[Picture, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the files of each image: its own, or its time step where those do not tell images apart or their order."""
        stems = tuple(picture.file.stem for picture in self.pictures)
        plain = len(set(stems)) == len(stems) and list(stems) == sorted(stems)
        return stems if plain else tuple(f"{picture.step:05d}" for picture in self.pictures)


def is_data_set(source: Path) -> bool:
    """Whether a folder is a data set with cameras that is to be left as it is."""
    found = {claim.layout.command for claim in claims(source)} if source.is_dir() else set()
    return bool(found - OWN) or (found == {"som-data"} and not (source / "images").is_dir())


def process_data_set(
    source: Path, out: Path | None, providers: Mapping[str, PriorProvider], track: Track, say: Say, *, views: str = "",
    protocol: str = "", downscale_factor: int | None = None, redo: Iterable[str] = (), memory_gb: float = 2.0,
) -> list[KindReport]:  # fmt: skip
    """Make the priors that a data set's training views lack.

    Args:
        views: text in the names of the training images to take, such as left; empty takes all.
        protocol: name of the split; empty takes the layout's first.
        redo: kinds that are made anew, also those that the data set ships.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: with what was found, expected and what to try.
    """
    if out is None:
        raise ValueError(f"{source}: --out FOLDER is needed; nothing is written into a data set.")
    require_apart(source, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with opened(source, out, protocol=protocol, downscale_factor=downscale_factor) as data:
        films = films_of(data, views)
        request = {"source": str(data.root), "layout": data.layout.command, "protocol": data.protocol, "views": views,
                   "downscale_factor": downscale_factor}  # fmt: skip
        claim(source, out, request)
        with _linked(films, out) as sequences:
            frames = tuple(_frames(film, files, data) for film, files in zip(films, sequences, strict=True))
            clip = PreparedClip(out, frames, frames, str(data.clip.protocol), request)
            say(f"{data.root}: {data.layout.title} ({data.layout.command}), {data.why}; "
                f"{sum(map(len, frames))} training views, {data.protocol}")  # fmt: skip
            reports = _make(clip, films, data.clip.train, providers, track, say, set(redo), memory_gb)
    made = tuple(kind for kind in KINDS if any(report.kind == kind for report in reports))
    listed = {
        film.name: tuple(AddedFrame(n, p.camera, p.step) for n, p in zip(film.names, film.pictures, strict=True))
        for film in films
    }
    AddedPriors(source, data.layout.command, data.protocol, downscale_factor, listed, made).write(out)
    return reports


def films_of(data: Source, views: str = "") -> list[Film]:
    """The training views by camera; one film where every time step has one view, whatever camera that is.

    Raises:
        ValueError: no view has the text in its name, a camera has two views at one time, a film of one view, or a lens.
    """
    train = [picture for picture in pictures(data.clip) if "train" in picture.splits]
    chosen = [picture for picture in train if views in data.name(picture.file)]
    if not chosen and views in getattr(data.clip.protocol, "trains", ""):
        chosen = train  # the protocol's words: all that trains are the left camera's images
    if not chosen:
        raise ValueError(f"{data.root}: no training image has {views!r} in its name; there are "
                         f"{', '.join(data.name(p.file) for p in train[:3])}, ... Correct --views.")  # fmt: skip
    if any(bool(picture.lens.any()) for picture in chosen):
        raise ValueError(
            f"{data.root}: its images are those of a lens ({data.name(chosen[0].file)}), and providers expect pinholes. "
            "Make a clip of undistorted images with `dyngs convert --to som`, and process that."
        )
    steps = [picture.step for picture in chosen]
    alone = len(set(steps)) == len(steps)
    films = []
    for number in [0] if alone else sorted({picture.camera for picture in chosen}):
        mine = sorted((p for p in chosen if alone or p.camera == number), key=lambda picture: picture.step)
        if len({p.step for p in mine}) < len(mine):
            raise ValueError(f"{data.root}: camera {number} has two training images at one time step. Expected one; name "
                             "those to take with --views.")  # fmt: skip
        if len(mine) < 2:
            raise ValueError(f"{data.root}: {len(mine)} training view of camera {number}; expected at least 2, for "
                             "priors come from pairs of images.")  # fmt: skip
        films.append(Film(f"camera{number}", tuple(mine)))
    return films


@contextmanager
def _linked(films: Sequence[Film], out: Path) -> Iterator[list[tuple[Path, ...]]]:
    """The images of each film under the names of its files, as links in a folder that vanishes."""
    holder = Path(tempfile.mkdtemp(prefix=f".{out.name}.images-", dir=out.parent))
    try:
        linked = []
        for film in films:
            (holder / film.name).mkdir()
            files = []
            for name, picture in zip(film.names, film.pictures, strict=True):
                files.append(holder / film.name / f"{name}{picture.file.suffix}")
                files[-1].symlink_to(picture.file.resolve())
            linked.append(tuple(files))
        yield linked
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _frames(film: Film, files: tuple[Path, ...], data: Source) -> FrameSequence:
    """Cameras in the world of the data set's files, so that depth is in its units."""
    bounds = np.array([data.bounds[p.file] for p in film.pictures if p.file in data.bounds], float).reshape(-1, 2)
    return FrameSequence(
        film.name,
        files,
        tuple(picture.step for picture in film.pictures),
        film.pictures[0].size,
        np.stack([picture.world_T_camera for picture in film.pictures]),
        np.stack([picture.K.numpy() for picture in film.pictures]),
        robust_bounds(bounds),
    )


def _make(
    clip: PreparedClip, films: Sequence[Film], train: ClipViews, providers: Mapping[str, PriorProvider], track: Track,
    say: Say, redo: set[str], memory_gb: float,
) -> list[KindReport]:  # fmt: skip
    """Every kind that is lacking or to be redone, for every film; a kind is shipped only if all views have it."""
    shipped = {kind for kind in shipped_kinds(train) if kind not in redo}
    wanted = [kind for kind in KINDS if kind not in shipped]
    if shipped:
        say(f"Used as the data set ships them: {', '.join(sorted(shipped))}. To make them anew: --redo KIND.")
    flow = flow_provider(providers)
    for kind in wanted:
        refuse_unavailable(providers[kind], [])
    reports = []
    for film, frames in zip(films, clip.training, strict=True):
        kinds = kinds_of(clip, frames)
        read: dict[str, Read] = {kind: kinds[kind].read for kind in wanted}
        read |= {kind: reader for kind, reader in readers(film, train).items() if kind in shipped}
        inputs = PriorInputs(frames, flow, read, memory_gb)
        for kind in wanted:
            if kind in redo:
                put_kind_aside(kinds[kind], say)
            report = make_kind(kinds[kind], providers[kind], inputs, track, say)
            report.measures = measure(kind, inputs, kinds[kind])
            reports.append(report)
    return reports


def shipped_kinds(train: ClipViews) -> set[str]:
    """The kinds of priors that every training view of a data set has."""
    priors = train.priors
    files = {"masks": priors.mask_files, "depth": priors.depth_files}
    whole = {kind for kind, paths in files.items() if paths is not None and all(path is not None for path in paths)}
    return whole | ({"flow"} if priors.has_flow else set()) | ({"tracks"} if train.tracks is not None else set())


def readers(film: Film, train: ClipViews) -> dict[str, Read]:
    """How providers read what a data set ships, by kind; indices are places in the film."""
    place = [picture.index for picture in film.pictures]

    def flow(i: int, j: int) -> np.ndarray | None:
        way: FlowWay = "forward" if j > i else "backward"
        found = train.flow(place[i], way) if abs(i - j) == 1 else None
        return None if found is None or found.target != place[j] else found.flow.numpy()

    def disparity(i: int, _: int) -> np.ndarray:
        depth = train.depth(place[i]).numpy()
        return np.where(depth > 0, 1.0 / np.maximum(depth, 1e-12), 0.0).astype(np.float32)

    return {
        "masks": lambda i, _: (train.dynamic(place[i]) > 0).numpy(),
        "depth": disparity,
        "flow": flow,
    }
