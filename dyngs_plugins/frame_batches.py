"""Batches of frames with their priors, drawn at random and read from their files: what one training step looks at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dyngs_plugins import randomness
from dyngs_plugins.dataset import DynamicDataset
from dyngs_plugins.priors.lifting import sample_known
from dyngs_plugins.priors.pixels import composited
from dyngs_plugins.priors.views import FlowWay

ASKED_FOR = frozenset({"flow", "normals"})
"""Kinds of priors that are read only for those who ask: see :attr:`FrameBatches.wanted`."""


@dataclass(frozen=True)
class FlowTargets:
    """The views that a batch's flow leads to. A frame without flow leads to itself, and none of it is visible."""

    view: Int[Tensor, "b"]
    """Places in the training views."""
    frame: Int[Tensor, "b"]
    time: Float[Tensor, "b"]
    camera_T_world: Float[Tensor, "b 4 4"]
    K: Float[Tensor, "b 3 3"]


@dataclass(frozen=True)
class TrackBatch:
    """The tracks of a batch: where the query pixels of its ``b`` frames are in ``n`` target frames of each.

    There are ``p`` query pixels in all, frame by frame; a frame may have none.
    """

    target_frames: Int[Tensor, "b n"]
    target_times: Float[Tensor, "b n"]
    target_views: Int[Tensor, "b n"]
    """Places in the training views."""
    target_camera_T_world: Float[Tensor, "b n 4 4"]
    target_K: Float[Tensor, "b n 3 3"]
    query: Int[Tensor, "p"]
    """Which of the batch's frames a query pixel is in."""
    query_xy: Int[Tensor, "p 2"]
    xy: Float[Tensor, "p n 2"]
    """Pixels, integer centres."""
    visible: Bool[Tensor, "p n"]
    confidence: Float[Tensor, "p n"]
    depth: Float[Tensor, "p n"]
    """Of the target frames at the points, scene units; 0 where unknown."""


class FrameBatches:
    """Draws ``size`` frames without replacement within an epoch, each with target frames for its tracks.

    All of it in main memory. Only one thread at a time may ask for the next batch.
    """

    def __init__(
        self,
        dataset: DynamicDataset,
        size: int,
        targets_per_frame: int,
        seed: int | None,
        background: Float[Tensor, "3"] | None = None,
    ):
        self._dataset, self._views, self._background = dataset, dataset.views, background
        self._size, self._targets_per_frame = size, targets_per_frame
        self._generator = randomness.generator(seed)
        self._order: list[int] = []
        self._wanted: frozenset[str] = frozenset()

    @property
    def wanted(self) -> frozenset[str]:
        """Which of ``flow`` and ``normals`` the next batches hold."""
        return self._wanted

    def want(self, kinds: Collection[str]) -> None:
        """Choose them; anything else in ``kinds`` is there anyway."""
        self._wanted = ASKED_FOR & frozenset(kinds)

    def state(self) -> dict[str, Tensor]:
        """Where the drawing is."""
        return {"sampler": self._generator.get_state(), "order": torch.tensor(self._order, dtype=torch.long)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on drawing from there."""
        self._generator.set_state(state["sampler"].cpu().to(torch.uint8))
        self._order = state["order"].tolist()

    def next(self) -> dict[str, Any]:
        """The next batch: see :meth:`DynamicDataManager.next_train`.

        ``image`` may still be bytes, with alpha; ``cameras`` are the fields of the host's.
        """
        chosen = self._draw()
        items = [self._dataset.items[i] for i in chosen]
        batch: dict[str, Any] = {"view_index": torch.tensor(chosen), "image": self._images(chosen)}
        cameras = self._dataset.cameras[batch["view_index"]]
        batch["cameras"] = {field.name: getattr(cameras, field.name) for field in fields(cameras)}
        for key in ("depth", "dynamic", "valid"):
            if key in items[0]:
                batch[key] = torch.stack([item[key] for item in items])
        for key in ("frame_index", "camera_index"):
            batch[key] = torch.tensor([item[key] for item in items])
        with_tracks = self._views.tracks is not None and self._targets_per_frame > 0
        batch["tracks"] = self._tracks_of(chosen) if with_tracks else None
        if "flow" in self._wanted and self._views.priors.has_flow:
            batch |= self._flow_of(chosen, "fwd", "forward") | self._flow_of(chosen, "bwd", "backward")
        if "normals" in self._wanted and self._views.priors.normal_files is not None:
            batch["normals"] = torch.stack([self._views.normals(i) for i in chosen])
        return batch

    def _draw(self) -> list[int]:
        total = len(self._dataset)
        chosen: list[int] = []
        while len(chosen) < min(self._size, total):
            if not self._order:
                self._order = torch.randperm(total, generator=self._generator).tolist()
            candidate = self._order.pop()
            if candidate not in chosen:  # across the seam of two epochs
                chosen.append(candidate)
        return chosen

    def _images(self, chosen: list[int]) -> UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w 3"]:
        """Bytes, which travel to a device faster; colours where only some images have alpha."""
        pixels = [self._views.pixels(i) for i in chosen]
        if len({p.shape for p in pixels}) == 1:
            return torch.stack(pixels)
        return torch.stack([composited(p, self._background) for p in pixels])

    def _flow_of(self, chosen: list[int], name: str, way: FlowWay) -> dict[str, Any]:
        """Flow of one way of the frames of a batch."""
        views = self._views
        maps = [views.flow(i, way) for i in chosen]
        size = views.height, views.width
        targets = torch.tensor([i if m is None else m.target for i, m in zip(chosen, maps, strict=True)])
        return {
            f"flow_{name}": torch.stack([torch.zeros(*size, 2) if m is None else m.flow for m in maps]),
            f"flow_{name}_visible": torch.stack(
                [torch.zeros(size, dtype=torch.bool) if m is None else m.visible for m in maps]
            ),
            f"flow_{name}_target": FlowTargets(
                targets,
                views.frame_index[targets],
                views.times[targets],
                views.camera_T_world[targets],
                views.K[targets],
            ),
        }

    def _tracks_of(self, chosen: list[int]) -> TrackBatch:
        views, store = self._views, self._views.tracks
        assert store is not None
        candidates = [store.targets(view) for view in chosen]
        count = min(self._targets_per_frame, *(len(targets) for targets in candidates))
        drawn = [targets[torch.randperm(len(targets), generator=self._generator)[:count]] for targets in candidates]
        pixels = [store.query_points(view).round().long() for view in chosen]
        observed = [[store.observe(view, int(j)) for j in to] for view, to in zip(chosen, drawn, strict=True)]
        depth = [
            [self._depth_at(view, int(j), o.xy) for j, o in zip(to, seen, strict=True)]
            for view, to, seen in zip(chosen, drawn, observed, strict=True)
        ]

        def joined(parts: list[list[Tensor]]) -> Tensor:
            return torch.cat([torch.stack(part, dim=1) for part in parts])

        targets = torch.stack(drawn)
        return TrackBatch(
            target_frames=views.frame_index[targets],
            target_times=views.times[targets],
            target_views=targets,
            target_camera_T_world=views.camera_T_world[targets],
            target_K=views.K[targets],
            query=torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(xy) for xy in pixels])),
            query_xy=torch.cat(pixels),
            xy=joined([[o.xy for o in seen] for seen in observed]),
            visible=joined([[o.visible for o in seen] for seen in observed]),
            confidence=joined([[o.confidence for o in seen] for seen in observed]),
            depth=joined(depth),
        )

    def _depth_at(self, query: int, target: int, xy: Float[Tensor, "p 2"]) -> Float[Tensor, "p"]:
        """Depth of ``target`` where ``query``'s tracks are in it; sampled once per pair while memory lasts."""
        return self._views.cache.get(("depth at tracks", query, target), lambda: self._sample_depth(target, xy))

    def _sample_depth(self, view: int, xy: Float[Tensor, "p 2"]) -> Float[Tensor, "p"]:
        if self._views.priors.depth_files is None or xy.shape[0] == 0:
            return torch.zeros(xy.shape[0])
        depth = self._views.depth(view)
        values, known = sample_known(depth[..., None], depth > 0, xy)
        return torch.where(known, values[:, 0], 0.0)
