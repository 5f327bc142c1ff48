"""The host seam for data: a datamanager that draws batches of frames.

nerfstudio's full-image datamanager hands out one image a step; the methods here want several frames with their masks,
depths and tracks. Everything else of the host (evaluation, viewer, ``ns-render``) sees the datamanager it knows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import DataManager, VanillaDataManager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from torch import Tensor

from dataparsers.auto import LayoutOptions, with_options
from dyngs_plugins import randomness
from dyngs_plugins.config import GrowingConfig
from dyngs_plugins.dataset import DynamicDataset, EvalFrames
from dyngs_plugins.host_cameras import rolled_for_spirals
from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.clip_files import GroundTruthTracks, Keypoints
from dyngs_plugins.priors.lifting import sample_known
from dyngs_plugins.priors.pixels import composited
from dyngs_plugins.priors.undistort import undistorted_keypoints, undistorted_truth
from dyngs_plugins.priors.views import ClipViews, FlowWay

ASKED_FOR = frozenset({"flow", "normals"})
"""Kinds of priors that are read only for those who ask: see :meth:`DynamicDataManager.want`."""


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
    """The tracks of one frame of a batch: where its ``p`` query pixels are in ``n`` target frames."""

    query_xy: Int[Tensor, "p 2"]
    target_frames: Int[Tensor, "n"]
    target_times: Float[Tensor, "n"]
    target_views: Int[Tensor, "n"]
    target_camera_T_world: Float[Tensor, "n 4 4"]
    target_K: Float[Tensor, "n 3 3"]
    xy: Float[Tensor, "n p 2"]
    """Pixels, integer centres."""
    visible: Bool[Tensor, "n p"]
    invisible: Bool[Tensor, "n p"]
    """Surely hidden; a point that is neither is uncertain."""
    confidence: Float[Tensor, "n p"]
    depth: Float[Tensor, "n p"]
    """Of the target frames at the points, scene units; 0 where unknown."""


@dataclass
class DynamicDataManagerConfig(GrowingConfig, FullImageDatamanagerConfig):
    """Batches of full frames with priors."""

    _target: type = field(default_factory=lambda: DynamicDataManager)
    frames_per_batch: int = 8
    """Frames rendered in one training step."""
    targets_per_frame: int = 4
    """Frames in which each batch frame's tracks are compared."""
    sampler_seed: int | None = None
    """Seed of the order of frames and targets. None: that of ``--machine.seed``."""
    memory_gb: float = 2.0
    """Decoded images, depths and masks kept in memory, in GiB over all splits; what was used longest ago is read from
    its file again."""
    layout_options: Annotated[LayoutOptions, tyro.conf.Suppress] = field(default_factory=dict)
    """What the method wants otherwise than a layout's own defaults, whether the layout is recognised or its loader is
    named: ``{"som-data": {"mask_erosion": 3}}``. What the user sets comes first."""
    cache_images: Literal["cpu", "gpu"] = "cpu"
    """Without effect: images are kept in main memory as ``memory_gb`` says, and put on the device by the batch."""


class _SpiralBridge(VanillaDataManager):
    """``ns-render spiral`` insists on a vanilla datamanager and asks it for one eval camera; this answers."""

    def __init__(self, *args, **kwargs):
        DataManager.__init__(self)

    @property
    def eval_dataloader(self):
        return self

    def get_camera(self, image_idx: int = 0) -> tuple[Cameras, None]:
        """One evaluation camera, as the host's eval dataloader returns it, but for its roll."""
        return rolled_for_spirals(self.eval_dataset.cameras[image_idx : image_idx + 1]), None


class DynamicDataManager(FullImageDatamanager[DynamicDataset], _SpiralBridge):
    """Draws ``frames_per_batch`` frames without replacement within an epoch, each with target frames for its tracks."""

    config: DynamicDataManagerConfig

    def __init__(self, config: DynamicDataManagerConfig, *args, **kwargs):
        if config.data is not None:
            config.data = Path(config.data)
        if not config.memory_gb >= 0:
            raise ValueError(f"memory_gb is {config.memory_gb}; expected a number of GiB, 0 to keep nothing.")
        config.dataparser = with_options(config.dataparser, config.layout_options)
        self._cache = MemoryCache(int(config.memory_gb * 2**30))
        super().__init__(config, *args, **kwargs)
        self._undistort_ground_truth()
        self._generator = randomness.generator(config.sampler_seed)
        self._order: list[int] = []
        self._pending_state: dict[str, Tensor] | None = None
        self._wanted: frozenset[str] = frozenset()

    def want(self, kinds: Collection[str]) -> None:
        """Which of ``flow`` and ``normals`` the next batches hold; anything else in ``kinds`` is there anyway.

        Nothing of a kind is read from disk while nobody wants it.
        """
        self._wanted = ASKED_FOR & frozenset(kinds)

    def create_train_dataset(self) -> DynamicDataset:
        return DynamicDataset(
            self.train_dataparser_outputs, self.config.camera_res_scale_factor, self._cache.part("train")
        )

    def create_eval_dataset(self) -> DynamicDataset:
        outputs = self.dataparser.get_dataparser_outputs(split=self.test_split)
        return DynamicDataset(outputs, self.config.camera_res_scale_factor, self._cache.part("eval"))

    @property
    def views(self) -> ClipViews:
        """The training views with their priors, in the scene frame."""
        return self.train_dataset.views

    # The host decodes and undistorts all images of a split at once; these read them from the same cache one by one.

    @property
    def cached_train(self) -> Sequence[Mapping[str, Any]]:  # type: ignore[override]
        """The training images, read as they are looked at."""
        return self.train_dataset.items

    @property
    def cached_eval(self) -> Sequence[Mapping[str, Any]]:  # type: ignore[override]
        """The evaluation images, read as they are looked at."""
        return self.eval_dataset.items

    @property
    def fixed_indices_eval_dataloader(self) -> Sequence[tuple[Cameras, dict[str, Any]]]:  # type: ignore[override]
        return EvalFrames(self.eval_dataset, self.device)

    def _undistort_ground_truth(self) -> None:
        """What people marked or a renderer knows is in pixels of the images on disk, as everything else."""
        metadata = self.eval_dataset.metadata
        if isinstance(metadata.get("ground_truth_tracks"), GroundTruthTracks):
            metadata["ground_truth_tracks"] = undistorted_truth(metadata["ground_truth_tracks"], self.views)
        if isinstance(metadata.get("keypoints"), Keypoints):
            metadata["keypoints"] = undistorted_keypoints(metadata["keypoints"], self.views)

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """A batch of frames (contract: ``image [b,h,w,3]``, ``depth``, ``dynamic``, indices, and ``tracks``).

        With :meth:`want`: ``normals [b,h,w,3]`` in the scene frame, 0 = unknown; ``flow_fwd [b,h,w,2]`` in pixels,
        ``flow_fwd_visible [b,h,w]``, ``flow_fwd_target`` (:class:`FlowTargets`), and the same as ``flow_bwd``.
        """
        self._restore_randomness()
        chosen = self._draw()
        items = [self.cached_train[i] for i in chosen]
        indices = torch.tensor(chosen)
        cameras = self.train_dataset.cameras[indices].to(self.device)
        batch: dict[str, Any] = {"view_index": indices.to(self.device)}
        batch["image"] = self._images(chosen)
        for key in ("depth", "dynamic", "valid"):
            if key in items[0]:
                batch[key] = torch.stack([item[key] for item in items]).to(self.device)
        for key in ("frame_index", "camera_index"):
            batch[key] = torch.tensor([item[key] for item in items], device=self.device)
        store = self.views.tracks
        wanted = store is not None and self.config.targets_per_frame > 0
        batch["tracks"] = [self._tracks_of(i) for i in chosen] if wanted else None
        if "flow" in self._wanted and self.views.priors.has_flow:
            batch |= self._flow_of(chosen, "fwd", "forward") | self._flow_of(chosen, "bwd", "backward")
        if "normals" in self._wanted and self.views.priors.normal_files is not None:
            batch["normals"] = torch.stack([self.views.normals(i) for i in chosen]).to(self.device)
        return cameras, batch

    def _flow_of(self, chosen: list[int], name: str, way: FlowWay) -> dict[str, Any]:
        """Flow of one way of the frames of a batch."""
        views = self.views
        maps = [views.flow(i, way) for i in chosen]
        size = views.height, views.width
        targets = torch.tensor([i if m is None else m.target for i, m in zip(chosen, maps, strict=True)])
        leads = FlowTargets(
            targets, views.frame_index[targets], views.times[targets], views.camera_T_world[targets], views.K[targets]
        )
        flow = torch.stack([torch.zeros(*size, 2) if m is None else m.flow for m in maps])
        visible = torch.stack([torch.zeros(size, dtype=torch.bool) if m is None else m.visible for m in maps])
        return {
            f"flow_{name}": flow.to(self.device),
            f"flow_{name}_visible": visible.to(self.device),
            f"flow_{name}_target": FlowTargets(**{k: v.to(self.device) for k, v in vars(leads).items()}),
        }

    def _images(self, chosen: list[int]) -> Float[Tensor, "b h w 3"]:
        """Colours, which travel to the device as bytes."""
        pixels = [self.views.pixels(i) for i in chosen]
        background = self.train_dataparser_outputs.alpha_color
        if len({p.shape for p in pixels}) == 1:
            return composited(torch.stack(pixels).to(self.device), background)
        return torch.stack([composited(p.to(self.device), background) for p in pixels])  # some have alpha

    def _draw(self) -> list[int]:
        total = len(self.train_dataset)
        size = min(self.config.frames_per_batch, total)
        chosen: list[int] = []
        while len(chosen) < size:
            if not self._order:
                self._order = torch.randperm(total, generator=self._generator).tolist()
            candidate = self._order.pop()
            if candidate not in chosen:  # across the seam of two epochs
                chosen.append(candidate)
        return chosen

    def _tracks_of(self, view: int) -> TrackBatch:
        views, store = self.views, self.views.tracks
        assert store is not None
        candidates = store.targets(view)
        count = min(self.config.targets_per_frame, candidates.numel())
        targets = candidates[torch.randperm(candidates.numel(), generator=self._generator)[:count]]
        observed = [store.observe(view, int(target)) for target in targets]
        depth = torch.stack([self._depth_at(view, int(j), o.xy) for j, o in zip(targets, observed, strict=True)])
        frames = views.frame_index[targets]
        batch = TrackBatch(
            query_xy=store.query_points(view).round().long(),
            target_frames=frames,
            target_times=views.times[targets],
            target_views=targets,
            target_camera_T_world=views.camera_T_world[targets],
            target_K=views.K[targets],
            xy=torch.stack([o.xy for o in observed]),
            visible=torch.stack([o.visible for o in observed]),
            invisible=torch.stack([o.invisible for o in observed]),
            confidence=torch.stack([o.confidence for o in observed]),
            depth=depth,
        )
        if torch.device(self.device).type == "cpu":
            return batch
        return TrackBatch(**{name: value.to(self.device) for name, value in vars(batch).items()})

    def _depth_at(self, query: int, target: int, xy: Float[Tensor, "p 2"]) -> Float[Tensor, "p"]:
        """Depth of ``target`` where ``query``'s tracks are in it; sampled once per pair while memory lasts."""
        return self.views.cache.get(("depth at tracks", query, target), lambda: self._sample_depth(target, xy))

    def _sample_depth(self, view: int, xy: Float[Tensor, "p 2"]) -> Float[Tensor, "p"]:
        item = self.cached_train[view]
        if "depth" not in item or xy.shape[0] == 0:
            return torch.zeros(xy.shape[0])
        depth = item["depth"].cpu()
        values, known = sample_known(depth[..., None], depth > 0, xy)
        return torch.where(known, values[:, 0], 0.0)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Sampler and generator states: with them, 50 + 50 steps draw what 100 steps draw."""
        return {
            "sampler": self._generator.get_state(),
            "order": torch.tensor(self._order, dtype=torch.long),
            "eval_order": torch.tensor(self.eval_unseen_cameras, dtype=torch.long),
            **randomness.capture(),
        }

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        # Applied at the first training step: building viewers and writers in between also draws random numbers.
        self._pending_state = state

    def _restore_randomness(self) -> None:
        if self._pending_state is None:
            return
        state, self._pending_state = self._pending_state, None
        self._generator.set_state(state["sampler"].cpu().to(torch.uint8))
        self._order = state["order"].tolist()
        self.eval_unseen_cameras = state["eval_order"].tolist()
        randomness.restore(state)
