"""Shape of Motion's layouts for casual video, ``custom`` and ``davis``: one set of folders with other names.

::

    ROOT/{image_type}/{res}/{SEQ}/NAME.png       ROOT/{mask_type}/{res}/{SEQ}/NAME.png
    ROOT/{depth_type}/{res}/{SEQ}/NAME.npy       ROOT/{track_type}/{res}/{SEQ}/NAME.npz or {Q}_{T}.npy
    ROOT/flow/{res}/{SEQ}/NAME_{fwd,bwd}.npy     ROOT/normals/{res}/{SEQ}/NAME.npy (ours; optional)
    ROOT/droid_recon/{SEQ}.npy                   ROOT/flow3d_preprocessed/{res}/{SEQ}/scene_norm_dict.pth (optional)

and of ours, all optional: ``clip.json`` (several sequences are simultaneous cameras), ``eval/`` (held-out views).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dataparsers.casual_evaluation import frame_views, ground_truth, held_out_views, require_disjoint
from dataparsers.casual_maps import with_flow_and_normals
from dataparsers.checks import (
    check_maps,
    check_masks,
    check_tracks,
    common_image_size,
    companions,
    either_case,
    require_images,
)
from dataparsers.clip import Clip, Frame, clip_views, hold_out, nearest_views
from dataparsers.layouts import CasualLayout, find_sequences, median_side
from dyngs_plugins.priors.clip_files import ClipInfo, read_json
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.normalise import read_scene_norm
from dyngs_plugins.priors.som_files import read_cameras
from dyngs_plugins.priors.track_windows import open_tracks
from dyngs_plugins.priors.views import Priors


@dataclass(frozen=True)
class CasualOptions:
    """What to read of a clip, beside its layout."""

    sequence: str | None = None
    start: int = 0
    end: int | None = None
    eval_interval: int = 8
    eval_offset: int | None = None
    required: tuple[str, ...] = ("depth", "masks", "tracks")
    """Kinds of priors without which the clip is refused."""


@dataclass(frozen=True)
class PriorFolders:
    """Where the priors of one sequence lie; None where it has none."""

    depth: Path | None
    masks: Path | None
    tracks: Path | None


def load_casual(root: Path, layout: CasualLayout, options: CasualOptions) -> Clip:
    """Read everything but pixels: cameras, splits, and the names of all files, checked.

    Raises:
        FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
    """
    info = find_sequences(root, layout, options.sequence)
    folders = {name: _prior_folders(root, layout, name, options.required) for name in info.sequences}
    kept = range(info.num_frames)[options.start : options.end]
    if not kept:
        raise ValueError(f"start {options.start} and end {options.end} leave 0 of the clip's {info.num_frames} frames.")
    frames, keyframes = _read_frames(root, layout, info, folders, kept)
    size = common_image_size([frame.image for frame in frames])
    layout = replace(layout, depth_median=layout.depth_median or median_side(size))

    evaluation = held_out_views(root, info, kept)
    held, protocol = hold_out(len(kept), options.eval_interval, options.eval_offset)
    if evaluation is not None:
        held, protocol = set(), evaluation[1]
    train = [frame for frame in frames if frame.frame not in held]
    priors = _training_priors(train, size, layout, folders, info)
    priors = with_flow_and_normals(priors, root, layout, info.sequences, train, size)
    train_views = clip_views(train, size, len(kept), priors, nearest_views(keyframes, train) or None)
    if evaluation is not None:
        eval_views = evaluation[0]
        require_disjoint(root, train_views, eval_views)
    else:
        eval_views = frame_views([f for f in frames if f.frame in held] or train, size, len(kept), layout)
    stored = layout.folder(root, "flow3d_preprocessed", info.sequences[0]) / "scene_norm_dict.pth"
    has_frame = optional_file(stored, "scene frame") and len(info.sequences) == 1
    return Clip(
        train=train_views,
        evaluation=eval_views,
        protocol=protocol,
        stored_frame=read_scene_norm(stored) if has_frame else None,
        fps=info.fps,
        ground_truth_tracks=ground_truth(root, info, kept),
    )


def _prior_folders(root: Path, layout: CasualLayout, sequence: str, required: tuple[str, ...]) -> PriorFolders:
    kinds = {"depth": layout.depth_types, "masks": (layout.mask_type,), "tracks": layout.track_types}
    found: dict[str, Path | None] = {}
    for kind, names in kinds.items():
        candidates = [layout.folder(root, name, sequence) for name in names]
        found[kind] = next((folder for folder in candidates if folder.is_dir()), None)
        if found[kind] is None and kind in required:
            also = f" (or {', '.join(names[1:])} beside it)" if names[1:] else ""
            ours = layout.image_type == "images"  # the one layout that `dyngs process` reads and fills
            make = f"Make its files with `dyngs process {shlex.quote(str(root))}`" if ours else "Compute them"
            others = "".join(f" {other}" for other in required if other != kind)
            raise FileNotFoundError(
                f"{candidates[0]}: no such folder{also}. Expected the clip's {kind}. {make}, name another folder with "
                f"som-data --{kind.removesuffix('s')}-type, or train a method without: som-data --required-priors{others}"
            )
    return PriorFolders(**found)


def _read_frames(
    root: Path, layout: CasualLayout, info: ClipInfo, folders: Mapping[str, PriorFolders], kept: range
) -> tuple[list[Frame], list[tuple[int, int]]]:
    """All images of the kept time steps with their cameras, and the key-frames as (camera, time step)."""
    frames: list[Frame] = []
    keyframes: list[tuple[int, int]] = []
    for camera, sequence in enumerate(info.sequences):
        images = require_images(layout.folder(root, layout.image_type, sequence))
        size = common_image_size(images)
        solved = read_cameras(root / "droid_recon" / f"{sequence}.npy", len(images))
        K, poses = torch.from_numpy(solved.K(*size)), torch.from_numpy(solved.world_T_camera)
        steps, where = _time_steps(root, info, sequence, images), folders[sequence]
        for i, image in enumerate(images):
            if steps[i] in kept:
                mask = either_case(where.masks / f"{image.stem}.png") if where.masks else None
                depth = either_case(where.depth / f"{image.stem}.npy") if where.depth else None
                time = info.time(steps[i], kept)
                frames.append(Frame(image, poses[i], K, steps[i] - kept.start, camera, mask, depth, time))
        keyframes += [(camera, steps[k] - kept.start) for k in solved.keyframes if steps[k] in kept]
    return frames, keyframes


def _time_steps(root: Path, info: ClipInfo, sequence: str, images: Sequence[Path]) -> list[int]:
    """The time step of each image: what ``clip.json`` says, else the place in name order."""
    listed = info.frame_index.get(sequence)
    if listed is None:
        if len(images) > info.num_frames:
            raise ValueError(f"{root / 'clip.json'}: num_frames is {info.num_frames}, but {sequence} has {len(images)} "
                             "images. Correct the file, or remove the extra images.")  # fmt: skip
        return list(range(len(images)))
    missing = [image.stem for image in images if image.stem not in listed]
    if missing:
        raise ValueError(
            f"{root / 'clip.json'}: frame_index of {sequence} lacks {len(missing)} of {len(images)} images; the first "
            f"is {missing[0]!r}. Add their time steps, or remove the images."
        )
    return [listed[image.stem] for image in images]


def _training_priors(
    train: Sequence[Frame],
    size: tuple[int, int],
    layout: CasualLayout,
    folders: Mapping[str, PriorFolders],
    info: ClipInfo,
) -> Priors:
    """Check every file that training will read, and name them. Held-out images have no part in it."""
    kinds = [kind for kind in ("depth", "masks", "tracks") if all(getattr(f, kind) for f in folders.values())]
    for camera, sequence in enumerate(info.sequences):
        images = [frame.image for frame in train if frame.camera == camera]
        where = folders[sequence]
        if "masks" in kinds and where.masks and images:
            check_masks(companions(images, where.masks, ".png", "mask"), size)
        if "depth" in kinds and where.depth and images:
            check_maps(companions(images, where.depth, ".npy", "disparity map"), size, "disparity")
        if "tracks" in kinds and where.tracks and images:
            check_tracks(where.tracks, [image.stem for image in images])
    track_folders = tuple(folders[info.sequences[frame.camera]].tracks for frame in train)
    return Priors(
        depth_files=tuple(frame.depth for frame in train) if "depth" in kinds else None,
        mask_files=tuple(frame.mask for frame in train) if "masks" in kinds else None,
        depth_median=layout.depth_median or 1,
        mask_erosion=layout.mask_erosion,
        tracks=open_tracks(track_folders, tuple(f.name for f in train)) if "tracks" in kinds else None,  # type: ignore
        providers=_providers({kind: getattr(folders[info.sequences[0]], kind) for kind in kinds}),
    )


def _providers(folders: Mapping[str, Path]) -> dict[str, str]:
    """Who made each kind, from the ``provider.json`` beside it."""
    records = {kind: folder / "provider.json" for kind, folder in folders.items()}
    present = {
        kind: read_json(path, "provider record")
        for kind, path in records.items()
        if optional_file(path, "provider record")
    }
    return {kind: str(record.get("provider", "unknown")) for kind, record in present.items()}
