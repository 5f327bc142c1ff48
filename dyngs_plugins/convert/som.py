"""To Shape of Motion's layout for custom video, with ``clip.json`` and ``eval/`` of ours for what it cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dyngs_plugins.convert.images import lens_map, write_picture
from dyngs_plugins.convert.record import Converted, Progress
from dyngs_plugins.convert.source import Picture, Source, pictures
from dyngs_plugins.priors.clip_files import EvalView, write_ground_truth_tracks
from dyngs_plugins.priors.ingest import choose_keyframes
from dyngs_plugins.priors.providers.inputs import FrameSequence
from dyngs_plugins.priors.som_files import (
    write_cameras,
    write_clip_json,
    write_depth,
    write_disparity,
    write_eval_json,
    write_mask,
    write_track_pair,
)
from dyngs_plugins.priors.tracks import TrackObservations, TrackStore, track_rows
from dyngs_plugins.priors.undistort import undistorted_truth
from dyngs_plugins.priors.views import ClipViews

DEPTHS, TRACKS = "aligned_depth_anything", "bootstapir"
"""Where the loaders look first. The names are the layout's; what lies there is the source's."""


def write_som(source: Source, out: Path, track: Progress) -> Converted:
    """Write training views as one sequence per camera with what priors they have, and test views under ``eval/``.

    Raises:
        ValueError: a camera with several focal lengths, or with two images at one time.
    """
    clip, converted = source.clip, Converted()
    every = pictures(clip)
    train = [picture for picture in every if "train" in picture.splits]
    cameras = sorted({picture.camera for picture in train})
    sequences = {camera: f"camera{camera}" for camera in cameras}
    index = {}
    for camera, name in sequences.items():
        mine = sorted((p for p in train if p.camera == camera), key=lambda picture: picture.step)
        _require_one_camera(source, camera, mine)
        _write_sequence(out, name, mine, converted, track)
        index[name] = {f"{picture.step:05d}": picture.step for picture in mine}
    test = [picture for picture in every if picture.splits == ("test",) or picture.splits == ("test", "val")]
    words = str(clip.protocol)
    write_clip_json(out / "clip.json", list(index), clip.train.num_frames, clip.fps, index, words)
    if test:
        places = {camera: place for place, camera in enumerate(dict.fromkeys([*cameras, *(p.camera for p in test)]))}
        write_eval_json(out / "eval" / "eval.json", words, _write_test_views(out, test, places, converted, track))
    if clip.ground_truth_tracks is not None:
        truth = undistorted_truth(clip.ground_truth_tracks, clip.train)
        # A loader that follows one camera alone may name it; it is the first.
        camera = sequences[truth.camera if truth.camera in sequences else cameras[0]]  # type: ignore[index]
        write_ground_truth_tracks(out / "eval" / "tracks.npz", replace(truth, camera=camera))
    _say(converted, source, every, test)
    return converted


def _require_one_camera(source: Source, camera: int, mine: Sequence[Picture]) -> None:
    steps = [picture.step for picture in mine]
    if len(set(steps)) < len(steps):
        twice = next(step for step in steps if steps.count(step) > 1)
        raise ValueError(f"{source.root}: camera {camera} has {steps.count(twice)} training images of time step "
                         f"{twice}; expected one. Choose --to colmap or dnerf.")  # fmt: skip
    K = torch.stack([picture.K for picture in mine])
    if float((K - K[0]).abs().max()) > 1e-4 * float(K[0].max()):
        odd = mine[int((K - K[0]).abs().amax(dim=(1, 2)).argmax())]
        raise ValueError(
            f"{source.root}: camera {camera} has other intrinsics in {source.name(odd.file)} "
            f"({[round(v, 3) for v in odd.K.flatten().tolist()]}) than in {source.name(mine[0].file)} "
            f"({[round(v, 3) for v in mine[0].K.flatten().tolist()]}); expected the same in all of its images, because "
            "a sequence of Shape of Motion has one K. Choose --to colmap, or solve the cameras with one K."
        )


def _write_sequence(out: Path, name: str, mine: Sequence[Picture], converted: Converted, track: Progress) -> None:
    """Images, cameras, and the kinds of priors that all of them have."""
    views, stems = mine[0].views, [f"{picture.step:05d}" for picture in mine]
    for picture, stem in track(list(zip(mine, stems, strict=True)), f"{name}: images"):
        file = write_picture(picture, out / "images" / name / stem, lens_map(picture))
        converted.files[file.relative_to(out).as_posix()] = picture
        if _masked(views):
            write_mask(out / "masks" / name / f"{stem}.png", (views.dynamic(picture.index) > 0).numpy())
        if views.priors.depth_files is not None:
            depth = views.depth(picture.index)
            disparity = torch.where(depth > 0, 1.0 / depth.clamp_min(1e-12), 0.0)
            write_disparity(out / DEPTHS / name / f"{stem}.npy", disparity.numpy())
    poses, size = np.stack([picture.world_T_camera for picture in mine]), mine[0].size
    K = mine[0].K.numpy()
    write_cameras(
        out / "droid_recon" / f"{name}.npy", poses, (K[0, 0], K[1, 1], K[0, 2], K[1, 2]), size, _keyframes(mine, poses)
    )
    if views.tracks is not None:
        places = [picture.index for picture in mine]
        for query, stem in track(list(zip(places, stems, strict=True)), f"{name}: tracks"):
            _write_tracks(out / TRACKS / name, views.tracks, query, stem, dict(zip(places, stems, strict=True)))


def _masked(views: ClipViews) -> bool:
    """Whether every view has a mask; a mask file cannot say that nothing is known."""
    files = views.priors.mask_files
    return files is not None and all(file is not None for file in files)


def _keyframes(mine: Sequence[Picture], poses: np.ndarray) -> list[int]:
    """Places in the sequence: those of the source, else some along the camera's path."""
    known, places = mine[0].views.keyframes, {picture.index: i for i, picture in enumerate(mine)}
    chosen = sorted(places[k] for k in known or () if k in places)
    if chosen:
        return chosen
    files, steps = tuple(picture.file for picture in mine), tuple(picture.step for picture in mine)
    K = np.stack([picture.K.numpy() for picture in mine])
    return choose_keyframes(FrameSequence("", files, steps, mine[0].size, poses, K))


def _write_tracks(folder: Path, store: TrackStore, query: int, stem: str, stems: dict[int, str]) -> None:
    """One file per target; where the tracker did not look, nothing is sure."""
    reached, points = set(store.targets(query).tolist()), store.query_points(query)
    nothing = torch.zeros(len(points), dtype=torch.bool)
    for target, name in stems.items():
        seen = store.observe(query, target) if target in reached else None
        seen = seen or TrackObservations(points, nothing, nothing, nothing.float())
        write_track_pair(folder / f"{stem}_{name}.npy", track_rows(seen))


def _write_test_views(
    out: Path, test: Sequence[Picture], places: dict[int, int], converted: Converted, track: Progress
) -> list[EvalView]:
    listed, names = [], set()
    for picture in track(test, "test views"):
        stem = f"camera{picture.camera}_{picture.step:05d}"
        stem = stem if stem not in names else f"{stem}_{len(names)}"
        names.add(stem)
        file = write_picture(picture, out / "eval" / "images" / stem, lens_map(picture))
        converted.files[file.relative_to(out).as_posix()] = picture
        views, priors, i = picture.views, picture.views.priors, picture.index
        mask = depth = None
        if priors.mask_files is not None and priors.mask_files[i] is not None:
            mask = f"masks/{stem}.png"
            write_mask(out / "eval" / mask, (views.dynamic(i) > 0).numpy())
        if priors.depth_files is not None and priors.depth_files[i] is not None:
            depth = f"depths/{stem}.npy"
            write_depth(out / "eval" / depth, views.depth(i).numpy())
        pose = picture.world_T_camera.tolist()
        image = f"images/{file.name}"
        listed.append(EvalView(image, places[picture.camera], picture.step, picture.K.tolist(), pose, mask, depth))
    return listed


def _say(converted: Converted, source: Source, every: Sequence[Picture], test: Sequence[Picture]) -> None:
    train = source.clip.train
    if any(bool(picture.lens.any()) for picture in every):
        converted.changed.append("images, masks, depths and tracks are undistorted; where a lens drew nothing, images "
                                 "are black, and no mask says so")  # fmt: skip
    if not test:
        converted.lost.append("what to test on: the protocol tests on training images; som-data holds out every 8th "
                              "time step of this folder (--eval-interval 0: none)")  # fmt: skip
    shared = [picture for picture in every if "train" in picture.splits and "test" in picture.splits]
    if test and shared:
        converted.lost.append(f"that {len(shared)} training images test too: eval/ holds the other test views")
    left = [picture for picture in every if picture.splits == ("val",)]
    if left:
        converted.lost.append(f"the {len(left)} validation views, which are left out: eval/ holds test views")
    last = max(train.num_frames - 1, 1)
    if any(abs(picture.time - picture.step / last) > 1e-6 for picture in every):
        converted.lost.append("times that are not evenly spaced: time steps are kept")
    missing = [kind for kind, there in (("depth", train.priors.depth_files is not None), ("masks", _masked(train)),
               ("tracks", train.tracks is not None)) if not there]  # fmt: skip
    if missing:
        converted.lost.append(f"{', '.join(missing)}: the source has none for all images. Make them with "
                              "`dyngs process` on the new folder")  # fmt: skip
    kept = ["depths", "tracks", "frame rate", "true tracks", "cameras' numbers"]
    converted.lose(source, kept=[*kept, *(["masks"] if _masked(train) else [])])
