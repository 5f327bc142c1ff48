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
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import DataManager, VanillaDataManager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from torch import Tensor

from dataparsers.auto import LayoutOptions, with_options
from dyngs_plugins import randomness
from dyngs_plugins.config import GrowingConfig
from dyngs_plugins.dataset import DynamicDataset, EvalFrames
from dyngs_plugins.frame_batches import ASKED_FOR, FrameBatches
from dyngs_plugins.host_cameras import rolled_for_spirals
from dyngs_plugins.packed import Packed, each_tensor
from dyngs_plugins.priors.cache import MemoryCache, cache_bytes
from dyngs_plugins.priors.clip_files import GroundTruthTracks, Keypoints
from dyngs_plugins.priors.pixels import composited
from dyngs_plugins.priors.undistort import undistorted_keypoints, undistorted_truth
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.read_ahead import ReadAhead


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
    memory_gb: float | None = None
    """Decoded images, depths and masks kept in memory, in GiB over all splits; what was used longest ago is read from
    its file again. None: an eighth of the memory that is free at the start, and 2 at least."""
    read_ahead: bool | None = None
    """Read the next batch while a step computes. None: only on a GPU, as on the CPU it would take the step's cores."""
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
        if config.memory_gb is not None and not config.memory_gb >= 0:
            raise ValueError(f"memory_gb is {config.memory_gb}; expected a number of GiB, 0 to keep nothing.")
        config.dataparser = with_options(config.dataparser, config.layout_options)
        self._cache = MemoryCache(cache_bytes(config.memory_gb))
        super().__init__(config, *args, **kwargs)
        self._undistort_ground_truth()
        self._pending_state: dict[str, Tensor] | None = None
        self._background = self.train_dataparser_outputs.alpha_color
        batches = FrameBatches(
            self.train_dataset, config.frames_per_batch, config.targets_per_frame, config.sampler_seed, self._background
        )
        on_gpu = torch.device(self.device).type == "cuda"
        ahead = on_gpu if config.read_ahead is None else config.read_ahead
        self._batches = ReadAhead(batches, ahead, pack=on_gpu)

    def want(self, kinds: Collection[str]) -> None:
        """Which of ``flow`` and ``normals`` the next batches hold; anything else in ``kinds`` is there anyway.

        Nothing of a kind is read from disk while nobody wants it.
        """
        self._batches.want(ASKED_FOR & frozenset(kinds))

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

        ``tracks`` is a :class:`TrackBatch`, or None for a clip without them.
        With :meth:`want`: ``normals [b,h,w,3]`` in the scene frame, 0 = unknown; ``flow_fwd [b,h,w,2]`` in pixels,
        ``flow_fwd_visible [b,h,w]``, ``flow_fwd_target`` (:class:`FlowTargets`), and the same as ``flow_bwd``.
        """
        self._restore_randomness()
        batch = self._batches.next()
        if isinstance(batch, Packed):
            batch = batch.on(self.device)
        else:
            batch = each_tensor(lambda tensor: tensor.to(self.device), batch)
        cameras = Cameras(**batch.pop("cameras"))
        if batch["image"].dtype == torch.uint8:
            batch["image"] = composited(batch["image"], self._background)
        return cameras, batch

    def get_extra_state(self) -> dict[str, Tensor]:
        """Sampler and generator states: with them, 50 + 50 steps draw what 100 steps draw."""
        if self._pending_state is not None:
            return self._pending_state  # of a resumed training that has drawn nothing yet
        return {
            **self._batches.state(),
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
        self._batches.load_state(state)
        self.eval_unseen_cameras = state["eval_order"].tolist()
        randomness.restore(state)
