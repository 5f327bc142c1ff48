"""Some of a split's views, with their priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch

from dyngs_plugins.priors.split_priors import Flows
from dyngs_plugins.priors.track_windows import open_tracks
from dyngs_plugins.priors.views import ClipViews, Priors


def subset_views(views: ClipViews, keep: Sequence[int]) -> ClipViews:
    """The views at some places, in that order; flow to a view that is left out is left out too.

    Raises:
        ValueError: tracks of a kind that knows its views by their places.
    """
    place = {old: new for new, old in enumerate(keep)}
    index = torch.tensor(list(keep), dtype=torch.long)
    keyframes = None if views.keyframes is None else tuple(place[k] for k in views.keyframes if k in place)
    return replace(
        views,
        camera_T_world=views.camera_T_world[index],
        K=views.K[index],
        frame_index=views.frame_index[index],
        camera_index=views.camera_index[index],
        image_files=tuple(views.image_files[i] for i in keep),
        priors=_subset_priors(views.priors, keep, place),
        keyframes=keyframes or None,
        time_values=None if views.time_values is None else views.time_values[index],
        distortion=None if views.distortion is None else views.distortion[index],
    )


def _subset_priors(priors: Priors, keep: Sequence[int], place: dict[int, int]) -> Priors:
    def flows(files: Flows | None) -> Flows | None:
        kept = [None if files is None else files[i] for i in keep]
        moved = tuple(None if f is None or f.target not in place else replace(f, target=place[f.target]) for f in kept)
        return moved if any(moved) else None

    kinds = [f.name for f in fields(Priors) if f.name.endswith("_files") and getattr(priors, f.name) is not None]
    tracks = priors.tracks
    if tracks is not None:
        folders, names = getattr(tracks, "folders", None), getattr(tracks, "names", None)
        if folders is None or names is None:
            raise ValueError(f"Tracks of {type(tracks).__name__} know their views by their places; expected files by name. "
                             "Take all training views, without --views.")  # fmt: skip
        tracks = open_tracks([folders[i] for i in keep], [names[i] for i in keep])
    return replace(
        priors,
        flow_forward=flows(priors.flow_forward),
        flow_backward=flows(priors.flow_backward),
        tracks=tracks,
        **{name: tuple(getattr(priors, name)[i] for i in keep) for name in kinds},
    )
