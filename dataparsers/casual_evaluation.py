"""What a casual clip is measured against: its held-out views, and true tracks where somebody knows them.

::

    ROOT/eval/eval.json    views that are not trained on, with their cameras, images, masks and depths
    ROOT/eval/tracks.npz   where points of the training cameras truly are

Both are ours and optional. Without a list the loader holds frames of the clip out. See ``som_casual.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dataparsers.checks import check_maps, check_masks, common_image_size
from dataparsers.clip import Frame, clip_views
from dataparsers.layouts import CasualLayout
from dyngs_plugins.priors.clip_files import ClipInfo, GroundTruthTracks, read_eval_json, read_ground_truth_tracks
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.views import ClipViews, Priors


def frame_views(frames: Sequence[Frame], size: tuple[int, int], num_frames: int, layout: CasualLayout) -> ClipViews:
    """Frames of the clip as evaluation views; masks and depths only tell where to measure, so some may be missing."""
    masks = tuple(f.mask if f.mask and f.mask.is_file() else None for f in frames)
    depths = tuple(f.depth if f.depth and f.depth.is_file() else None for f in frames)
    check_masks([path for path in masks if path], size)
    check_maps([path for path in depths if path], size, "disparity")
    priors = Priors(
        depth_files=depths if any(depths) else None,
        mask_files=masks if any(masks) else None,
        depth_median=layout.depth_median or 1,
        mask_erosion=layout.mask_erosion,
    )
    return clip_views(frames, size, num_frames, priors)


def held_out_views(root: Path, info: ClipInfo, kept: range) -> tuple[ClipViews, str] | None:
    """The views of ``eval/eval.json`` at the kept time steps, and their protocol; None where there are none.

    Raises:
        FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
    """
    path = root / "eval" / "eval.json"
    if not optional_file(path, "evaluation list"):
        if (path.parent / "images").is_dir():
            raise FileNotFoundError(f"{path}: no such file, but there is a folder images/ beside it. Expected both: it "
                                    "lists the views that test. Restore it, or remove the folder.")  # fmt: skip
        return None
    protocol, listed = read_eval_json(path)
    outside = [view.frame for view in listed if not 0 <= view.frame < info.num_frames]
    if outside:
        raise ValueError(f"{path}: frames {outside[:5]} lie outside the clip's 0..{info.num_frames - 1}.")
    views = [view for view in listed if view.frame in kept]
    if not views:
        return None
    frames = [
        Frame(
            path.parent / view.image,
            torch.tensor(view.world_T_camera),
            torch.tensor(view.K),
            view.frame - kept.start,
            view.camera,
            path.parent / view.mask if view.mask else None,
            path.parent / view.depth if view.depth else None,
            info.time(view.frame, kept),
        )
        for view in views
    ]
    size = common_image_size([frame.image for frame in frames])
    masks, depths = tuple(f.mask for f in frames), tuple(f.depth for f in frames)
    check_masks([mask for mask in masks if mask], size)
    check_maps([depth for depth in depths if depth], size, "depth")
    priors = Priors(
        depth_files=depths if any(depths) else None,
        mask_files=masks if any(masks) else None,
        depth_kind="depth",
        depth_median=1,
        mask_erosion=1,
    )
    return clip_views(frames, size, len(kept), priors), protocol


def require_disjoint(root: Path, train: ClipViews, evaluation: ClipViews) -> None:
    """Refuse views of ``eval/eval.json`` that are trained on.

    Raises:
        ValueError: names the first.
    """
    shared = {path.resolve() for path in train.image_files} & {path.resolve() for path in evaluation.image_files}
    if shared:
        raise ValueError(
            f"{root / 'eval' / 'eval.json'}: {len(shared)} evaluation images are training images; the first is "
            f"{min(shared)}. Numbers on them would mean nothing. Remove them from one of the two."
        )


def ground_truth(root: Path, info: ClipInfo, kept: range) -> GroundTruthTracks | None:
    """True tracks at the kept time steps, if there are any and their camera is one that is trained on.

    Raises:
        FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
    """
    path = root / "eval" / "tracks.npz"
    if not optional_file(path, "ground-truth track file"):
        return None
    tracks = read_ground_truth_tracks(path)
    if tracks.points.shape[1] != info.num_frames:
        raise ValueError(f"{path}: tracks over {tracks.points.shape[1]} frames, expected {info.num_frames} as in the "
                         "clip. Write them anew, or delete the file to do without.")  # fmt: skip
    places: dict[str | int, int] = {name: i for i, name in enumerate(info.sequences)}
    camera = tracks.camera if isinstance(tracks.camera, int) else places.get(tracks.camera)
    if camera is None or camera >= len(info.sequences):
        return None
    steps = slice(kept.start, kept.stop)
    rows = torch.tensor([int(frame) in kept for frame in tracks.query_frame], dtype=torch.bool)
    return replace(
        tracks,
        points=tracks.points[rows, steps],
        xy=tracks.xy[rows, steps],
        visible=tracks.visible[rows, steps],
        moving=tracks.moving[rows],
        query_frame=tracks.query_frame[rows] - kept.start,
        object=None if tracks.object is None else tracks.object[rows],
        camera=camera,
    )
